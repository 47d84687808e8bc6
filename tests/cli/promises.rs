//! What the documents say about the program and its tests is so.

use super::Folder;
use harness::binary::tazpod;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
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
            let words = words.split(" [").next().unwrap();
            let parents = ["vault slot", "vault"];
            group = parents.into_iter().find(|parent| words.starts_with(parent)).unwrap_or(group);
            let full = if words.starts_with(group) {
                words.to_owned()
            } else {
                format!("{group} {words}")
            };
            let said = folder.run(&format!("tazpod {full} --help"));
            assert!(!said.contains("error:") && said.contains("Usage: tazpod"), "{full}: {said}");
            tried += 1;
        }
    }
    assert!(tried >= 15, "{tried} commands");
}

#[test]
fn help_is_there_within_10_ms() {
    let run = || {
        let start = Instant::now();
        let status = Command::new(tazpod()).arg("--help").stdout(Stdio::null()).status().unwrap();
        assert!(status.success());
        start.elapsed()
    };
    // The best of many, since other tests run beside this one.
    let best = (0..30).map(|_| run()).min().unwrap();
    assert!(best < Duration::from_millis(10), "{best:?}");
}
