//! Public test suites, run as they come: pjdfstest (POSIX rules, as root and as users), fsx (random reads, writes,
//! maps, holes and truncations of one file) and stress-ng (many kinds of work at once).
//!
//! `tests/run` installs them; by hand: `cargo install pjdfstest fsx` and Debian's package `stress-ng`.

mod common;

use common::Vault;
use std::fs;
use std::process::{Command, Output};

/// Runs a suite's program and returns what it said.
fn suite(command: &mut Command) -> (Output, String) {
    let var = |name| std::env::var(name).unwrap_or_default();
    let home = std::env::var("CARGO_HOME").unwrap_or_else(|_| format!("{}/.cargo", var("HOME")));
    let path = format!("{}:{home}/bin", var("PATH"));
    let output = command.env("PATH", path).output();
    let output =
        output.unwrap_or_else(|error| panic!("{command:?}: {error}; tests/run installs it"));
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    (output, text)
}

const PJDFSTEST: &str = r#"
[features]
posix_fallocate = {}
rename_ctime = {}
utime_now = {}
utimensat = {}
[settings]
naptime = 0.02
allow_remount = false
[dummy_auth]
entries = [["nobody", "nogroup"], ["daemon", "daemon"]]
"#;

/// Skipped: tests that remount read-only (`session.rs` has one of ours), or want a file system with a known link limit.
#[test]
fn pjdfstest_finds_no_fault() {
    let vault = Vault::new();
    let config = vault.outside("config").join("pjdfstest.toml");
    fs::write(&config, PJDFSTEST).expect("written");
    fs::create_dir(vault.path("suite")).expect("made");
    let mut program = Command::new("pjdfstest");
    program.arg("-c").arg(&config).arg("-p").arg(vault.path("suite"));
    program.arg("-s").arg(vault.outside("elsewhere"));
    let (output, text) = suite(program.current_dir(vault.path("suite")));
    let failed: Vec<&str> = text.lines().filter(|line| line.ends_with("FAILED")).collect();
    let summary = text
        .lines()
        .find(|line| line.contains("Summary:"))
        .unwrap_or_else(|| panic!("no summary:\n{text}"));
    let number = |word: &str| -> usize {
        let words: Vec<&str> = summary.split_whitespace().collect();
        let at =
            words.iter().position(|found| found.trim_end_matches(',') == word).expect("counted");
        words[at - 1].parse().expect("a number")
    };
    assert!(output.status.success() && failed.is_empty(), "{failed:#?}\n{summary}");
    assert!(number("passed") >= 382 && number("skipped") <= 16, "{summary}");
}

const FSX: &str = "
flen = 2097152
[opsize]
max = 131072
[weights]
close_open = 1
invalidate = 1
truncate = 5
fsync = 1
fdatasync = 1
read = 10
write = 10
mapread = 10
mapwrite = 10
copy_file_range = 3
punch_hole = 5
posix_fallocate = 3
sendfile = 3
";

#[test]
fn fsx_reads_what_it_wrote() {
    let vault = Vault::new();
    let config = vault.outside("config").join("fsx.toml");
    fs::write(&config, FSX).expect("written");
    for seed in 1..=3 {
        let mut program = Command::new("fsx");
        program.arg("-f").arg(&config).args(["-N", "4000", "-S", &seed.to_string(), "-P"]);
        program.arg(vault.outside("artifacts")).arg(vault.path(&format!("file-{seed}")));
        let (output, text) = suite(&mut program);
        assert!(output.status.success() && text.contains("A-OK"), "seed {seed}\n{text}");
    }
}

const STRESSORS: [&str; 24] = [
    "access",
    "chmod",
    "chown",
    "copy-file",
    "dentry",
    "dir",
    "dirdeep",
    "fallocate",
    "fcntl",
    "flock",
    "fpunch",
    "fstat",
    "getdent",
    "hdd",
    "iomix",
    "link",
    "lockf",
    "mknod",
    "open",
    "rename",
    "symlink",
    "touch",
    "utime",
    "xattr",
];

#[test]
fn stress_ng_verifies_what_it_does() {
    let mut vault = Vault::new();
    let mut program = Command::new("stress-ng");
    program.args([
        "--verify",
        "--timeout",
        "20s",
        "--hdd-bytes",
        "32M",
        "--iomix-bytes",
        "16M",
        "--temp-path",
    ]);
    program.arg(vault.root());
    for stressor in STRESSORS {
        program.args([&format!("--{stressor}"), "1"]);
    }
    let (output, text) = suite(&mut program);
    let said: Vec<&str> =
        text.lines().filter(|line| line.contains(" fail") || line.contains("error")).collect();
    assert!(output.status.success(), "{said:#?}\n{text}");
    vault.remount();
    common::shell(&vault.root(), "rm -rf ./*; test -z \"$(ls -A)\"");
}
