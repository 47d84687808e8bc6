//! The person sees the right words: transcripts of commands, compared whole.
//!
//! A transcript is a file of commands after `$ `, each followed by everything that it prints, both
//! streams as they come, and by `[status]` unless that is 0. `[..]` stands for anything within a
//! line, `<dir>` for the folder that holds home and project. Every transcript runs in a project folder of its own, without a terminal. `UPDATE=1` writes
//! down what is printed instead of comparing; read the difference before you commit it. `ONLY=NAME,NAME`
//! replays those transcripts alone.
#![allow(clippy::unwrap_used)]

mod mended;
mod ownership;
mod promises;
mod rekey;
mod terminal;

use harness::binary::tazpod;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Every error that a person can make or meet, word by word.
#[test]
fn transcripts_read_as_written_down() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cli/transcripts");
    let mut paths: Vec<PathBuf> =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() > 5, "the transcripts are gone");
    if let Ok(only) = std::env::var("ONLY") {
        let wanted =
            |path: &PathBuf| only.split(',').any(|part| path.ends_with(format!("{part}.txt")));
        paths.retain(wanted);
    }
    let differing: Vec<_> = paths.iter().filter_map(|path| difference(path)).collect();
    assert!(differing.is_empty(), "\n{}", differing.join("\n"));
}

fn difference(path: &Path) -> Option<String> {
    let expected = fs::read_to_string(path).unwrap();
    let actual = replay(&expected);
    if matches(&expected, &actual) {
        return None;
    }
    if std::env::var_os("UPDATE").is_some() {
        fs::write(path, keep_placeholders(&expected, &actual)).unwrap();
        return None;
    }
    Some(format!("{}:\n--- expected\n{expected}\n--- printed\n{actual}", path.display()))
}

/// Puts the lines with placeholders back where they still stand for what is printed.
fn keep_placeholders(expected: &str, actual: &str) -> String {
    let open: Vec<_> = expected.lines().filter(|line| line.contains("[..]")).collect();
    let kept = |line| open.iter().find(|open| line_matches(open, line)).map_or(line, |open| open);
    actual.lines().map(kept).flat_map(|line| [line, "\n"]).collect()
}

/// Runs the commands of a transcript and writes down what comes out, in the same form.
fn replay(transcript: &str) -> String {
    let folder = Folder::new();
    let mut actual = String::new();
    for line in transcript.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            writeln!(actual, "{line}").unwrap();
            actual += &folder.run(command);
        } else if line.starts_with('#') {
            writeln!(actual, "{line}").unwrap();
        }
    }
    actual
}

/// A throwaway home with a project in it.
struct Folder {
    dir: tempfile::TempDir,
}

impl Folder {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("home")).unwrap();
        fs::create_dir_all(dir.path().join("project")).unwrap();
        Self { dir }
    }

    /// Prepares a shell that knows nothing but this folder and the program.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let tools = concat!(env!("CARGO_MANIFEST_DIR"), "/cli/tools");
        let binary = tazpod().parent().unwrap().to_str().unwrap();
        command
            .env_clear()
            .env("PATH", format!("{binary}:{tools}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"))
            .env("HOME", self.dir.path().join("home"))
            .env("LANG", "C.UTF-8")
            .current_dir(self.dir.path().join("project"));
        command
    }

    /// Runs one line of a transcript without a terminal.
    fn run(&self, line: &str) -> String {
        // A session of its own, since a developer's terminal must not be asked.
        let mut shell = self.command("setsid");
        shell.args(["--wait", "sh", "-c", &format!("{{ {line}\n}} 2>&1")]);
        let output = shell.stdin(std::process::Stdio::null()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let mut text = text.replace(self.dir.path().to_str().unwrap(), "<dir>");
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        match output.status.code() {
            Some(0) => {}
            Some(status) => writeln!(text, "[{status}]").unwrap(),
            None => writeln!(text, "[killed]").unwrap(),
        }
        text
    }
}

/// Whether each line is as written down, `[..]` standing for anything.
fn matches(expected: &str, actual: &str) -> bool {
    let expected: Vec<_> = expected.trim_end().lines().collect();
    let actual: Vec<_> = actual.trim_end().lines().collect();
    expected.len() == actual.len()
        && expected.iter().zip(&actual).all(|(expected, actual)| line_matches(expected, actual))
}

fn line_matches(expected: &str, actual: &str) -> bool {
    let mut parts = expected.split("[..]");
    let Some(mut rest) = actual.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let parts: Vec<_> = parts.collect();
    let Some((last, middle)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[test]
fn the_comparison_sees_every_difference() {
    assert!(matches("a [..] c\n", "a b b c\n"));
    assert!(matches("a [..]-[..].\n", "a b-c-d.\n"));
    for (expected, actual) in [
        ("a\n", "b\n"),
        ("a\n", "a\nb\n"),
        ("a\nb\n", "a\n"),
        ("a[..]c\n", "a b\n"),
        ("a\n", "ab\n"),
    ] {
        assert!(!matches(expected, actual), "{expected:?} {actual:?}");
    }
}

/// Two pulls at once used to fail one of them with "try again in a moment".
#[test]
fn two_pulls_at_once_share_one_ghost() {
    let folder = Folder::new();
    let make = "umask 077; echo one > p
        tazpod -q vault create --passphrase-file p --kdf-memory 64M --kdf-time 1";
    assert!(folder.run(make).starts_with("made"));
    for _ in 0..5 {
        // Whoever opens the ghost ends the other's session with it, after both have spoken.
        let both = "tazpod -q pull --passphrase-file p -- sh -c 'echo first; sleep 1' & \
            tazpod -q pull --passphrase-file p -- sh -c 'echo second; sleep 1'; wait $!; true";
        let said = folder.run(both);
        let mut lines: Vec<_> = said.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["first", "second"]);
    }
}
