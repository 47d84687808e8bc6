//! What the documents say about the program and its tests is so.

use super::Folder;
use harness::binary::tazpod;
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("target") {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

/// Returns the names of all functions that are marked as tests, and of those in suites with a
/// runner of their own.
fn functions() -> BTreeSet<String> {
    let mut paths = Vec::new();
    for folder in ["vault-core", "vault-fuse", "cli", "tests"] {
        sources(&root().join(folder), &mut paths);
    }
    let texts = paths.iter().map(|path| fs::read_to_string(path).unwrap());
    let names = |text: String| {
        let after = |line: &str| {
            line.trim()
                .strip_prefix("fn ")
                .or(line.trim().strip_prefix("pub fn "))
                .map(str::to_owned)
        };
        let found = text
            .lines()
            .filter_map(after)
            .filter_map(|rest| Some(rest.split_once('(')?.0.to_owned()));
        found.collect::<Vec<_>>()
    };
    texts.flat_map(names).collect()
}

#[test]
fn every_test_that_security_md_names_exists() {
    let text = fs::read_to_string(root().join("SECURITY.md")).unwrap();
    let functions = functions();
    let quoted = text.split('`').skip(1).step_by(2);
    let is_sentence = |name: &&str| {
        name.matches('_').count() >= 3
            && name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    let named: Vec<_> = quoted.clone().filter(is_sentence).collect();
    assert!(named.len() > 40, "the names are gone: {named:?}");
    let missing: Vec<_> = named.into_iter().filter(|name| !functions.contains(*name)).collect();
    assert!(missing.is_empty(), "SECURITY.md names tests that do not exist: {missing:?}");
    for transcript in quoted.filter(|name| name.starts_with("transcripts/")) {
        assert!(root().join("tests/cli").join(transcript).is_file(), "{transcript}");
    }
}

#[test]
fn every_command_of_the_readme_exists() {
    let text = fs::read_to_string(root().join("README.md")).unwrap();
    let folder = Folder::new();
    let table = text.split("## Commands").nth(1).unwrap().split("## ").next().unwrap();
    let mut tried = 0;
    for line in table.lines().filter(|line| line.starts_with("| `")) {
        let cell = line.split('|').nth(1).unwrap();
        let mut group = "";
        for words in cell.split('`').skip(1).step_by(2) {
            let is_verb = |word: &&str| word.starts_with(|letter: char| letter.is_lowercase());
            let words = words.split(' ').take_while(is_verb).collect::<Vec<_>>().join(" ");
            let parents = ["vault slot", "vault header", "vault"];
            group = parents.into_iter().find(|parent| words.starts_with(parent)).unwrap_or(group);
            let full =
                if words.starts_with(group) { words.clone() } else { format!("{group} {words}") };
            let said = folder.run(&format!("tazpod {full} --help"));
            assert!(!said.contains("error:") && said.contains("Usage: tazpod"), "{full}: {said}");
            tried += 1;
        }
    }
    assert!(tried >= 15, "{tried} commands");
}

/// No assertion: this machine is shared. The number is for the reader of the log.
#[test]
fn time_that_help_takes() {
    let run = || {
        let start = Instant::now();
        let status = Command::new(tazpod()).arg("--help").stdout(Stdio::null()).status().unwrap();
        assert!(status.success());
        start.elapsed()
    };
    // The best of many, since other tests run beside this one.
    let best = (0..30).map(|_| run()).min().unwrap();
    // Past the test runner, which keeps what passing tests print.
    let _ = writeln!(std::io::stderr(), "measured: tazpod --help: {best:.1?} (best of 30)");
}

/// A file that was begun stayed when the program was told to end at its question.
#[test]
fn export_has_begun_no_file_while_it_waits_for_a_passphrase() {
    let folder = Folder::new();
    folder.run(
        "umask 077; echo one > p; mkfifo asked
        tazpod -q vault create --image v.img --passphrase-file p --kdf-memory 64M --kdf-time 1",
    );
    let mut export = folder.command(tazpod().to_str().unwrap());
    export.args(["vault", "export", "--image", "v.img", "--passphrase-file", "asked", "o.tar"]);
    let mut export = export.spawn().unwrap();
    // This returns once somebody reads at the other end.
    let pipe = folder.dir.path().join("project/asked");
    let answer = fs::OpenOptions::new().write(true).open(pipe).unwrap();
    let meanwhile = folder.run("ls");
    export.kill().unwrap();
    export.wait().unwrap();
    drop(answer);
    assert_eq!([meanwhile, folder.run("ls")], ["asked\np\nv.img\n"; 2]);
}
