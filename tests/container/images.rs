//! The images of the verticals: built here from distribution packages, and a ghost run in one from end to end.

use crate::attacks::screen::Screen;
use crate::lab::seccomp;
use harness::binary::tazpod;
use harness::engine::{Container, Engine, said};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// A folder as a build has it, with a lock file of one tool.
struct Tools {
    folder: TempDir,
    sum: String,
}

const CONTENT: &[u8] = b"#!/bin/sh\necho it works\n";

impl Tools {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let digest = Sha256::digest(CONTENT);
        let sum = digest.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        fs::create_dir(folder.path().join("artifacts")).unwrap();
        let tools = Self { folder, sum };
        let lines = ["amd64", "arm64"].map(|arch| {
            // Where nobody answers.
            format!("tool 1.0 {arch} {} - https://localhost:1/tool\n", tools.sum)
        });
        fs::write(tools.path("tools.lock"), lines.concat()).unwrap();
        tools
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn lie_ready(&self, content: &[u8]) {
        fs::write(self.path("artifacts").join(&self.sum), content).unwrap();
    }

    fn install(&self, name: &str) -> Output {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../images/common/install-tool");
        let mut command = Command::new(script);
        command.env("BIN", self.folder.path()).env("MISSING", self.path("missing"));
        command.arg(self.folder.path()).arg(name).output().unwrap()
    }
}

#[test]
fn pinned_tool_is_installed_from_the_local_folder() {
    let tools = Tools::new();
    tools.lie_ready(CONTENT);
    let output = tools.install("tool");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(said(&mut Command::new(tools.path("tool"))), "it works\n");
}

#[test]
fn tool_with_another_sum_is_refused_whatever_may_be_missing() {
    let tools = Tools::new();
    tools.lie_ready(b"#!/bin/sh\necho something else\n");
    fs::write(tools.path("allow-missing"), "").unwrap();
    let output = tools.install("tool");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("another SHA-256"), "{output:?}");
    assert!(!tools.path("tool").exists());
}

#[test]
fn tool_that_cannot_be_had_ends_the_build_unless_it_may_be_missing() {
    let tools = Tools::new();
    for name in ["tool", "unknown"] {
        let output = tools.install(name);
        assert!(!output.status.success());
        assert!(String::from_utf8_lossy(&output.stderr).contains("hint: "), "{output:?}");
    }
    fs::write(tools.path("allow-missing"), "").unwrap();
    for name in ["tool", "unknown"] {
        assert!(tools.install(name).status.success());
    }
    assert_eq!(fs::read_to_string(tools.path("missing")).unwrap(), "tool\nunknown\n");
}

/// Builds a vertical by our own command on the tests' engine.
fn build(engine: &Engine, vertical: &str) -> Output {
    engine.debian();
    let mut command = engine.with_client(&tazpod().display().to_string());
    // Release pages cannot be reached from everywhere, and the image says what it lacks.
    command.args(["image", "build", vertical, "--allow-missing"]).output().unwrap()
}

/// A container of one of our images, granted what `up` grants.
fn started(engine: &'static Engine, image: &str) -> Container<'static> {
    let mut options = vec![
        "--device=/dev/fuse".to_owned(),
        seccomp(),
        "--security-opt=systempaths=unconfined".to_owned(),
        "--ulimit=core=1:1".to_owned(),
    ];
    for name in ["secrets", ".infisical", "infisical-keyring"] {
        options.push(format!("--tmpfs=/home/tazpod/{name}:ro,uid=1000,gid=1000,mode=0500"));
    }
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    engine.idle(image, &options)
}

/// What a line says in the container as its user; it must work.
fn says(container: &Container<'_>, line: &str) -> String {
    said(container.exec("tazpod", false, "bash").args(["-c", line]))
}

const PULL: &str = "cd /workspace && tazpod pull --backend fuse --kdf-memory 64M --kdf-time 1 --passphrase-file ~/.cache/passphrase";

#[test]
fn every_vertical_builds_and_a_ghost_runs_in_the_last_from_end_to_end() {
    let engine = Engine::shared();
    let built = build(engine, "gemini");
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stdout).to_string()
            + &String::from_utf8_lossy(&built.stderr)
    );
    let container = started(engine, "tazpod:gemini");

    assert_eq!(says(&container, "id -u; id -un; pwd"), "1000\ntazpod\n/workspace\n");
    assert!(
        !says(&container, "sudo -n -l").contains("ALL) "),
        "more than the helper may run as root"
    );
    says(&container, "! sudo -n true 2>/dev/null");
    says(
        &container,
        "kubectl version --client && kustomize version && tmux -V && starship --version && eza --version && bat --version",
    );
    // What could not be had is said, and nothing else is missing.
    says(
        &container,
        "for tool in infisical talosctl yazi zellij; do command -v $tool || grep -x $tool /etc/tazpod/missing || exit 1; done",
    );

    // The editor starts at once and complains about nothing.
    assert_eq!(says(&container, "timeout 20 nvim --headless +q 2>&1"), "");

    // A ghost: its content, its editor's and its shell's traces, and what a neighbour sees meanwhile.
    says(&container, "umask 077; echo 'correct horse battery staple' >~/.cache/passphrase");
    says(&container, &format!("{PULL} -- sh -c 'echo canary >~/secrets/file'"));
    assert_eq!(says(&container, "ls -A ~/secrets"), "");
    let inside = says(
        &container,
        &format!(
            "{PULL} -- bash -ic 'cat ~/secrets/file; echo $HISTFILE; nvim --headless \"+lua print(vim.o.swapfile, vim.o.undofile)\" +q 2>&1' 2>/dev/null"
        ),
    );
    assert_eq!(inside, "canary\n/home/tazpod/secrets/.bash_history\nfalse false");
    let mut person = container.exec("tazpod", true, "script");
    person.args(["--quiet", "--return", "--flush", "--command", PULL, "/dev/null"]);
    let mut screen = Screen::show(person);
    screen.wait_for("(ghost) ");
    screen.press("alias ls; exit 5\n");
    screen.wait_for("eza --group");
    assert_eq!(screen.end(), Some(5));

    // The latch.
    says(&container, "! gemini --version 2>/dev/null");
    says(&container, "! TAZPOD_GHOST=1 gemini --version 2>/dev/null");
    let version = says(&container, &format!("{PULL} -- gemini --version"));
    assert!(version.trim().starts_with(|first: char| first.is_ascii_digit()), "{version}");

    let format = "{{json .Config.Healthcheck}}{{json .Config.Labels}}{{json .Config.Env}}";
    let about = said(engine.docker().args(["inspect", "--format", format, "tazpod:gemini"]));
    assert!(
        about.contains("tazpod --version") && about.contains(r#""dev.tazpod.vertical":"gemini""#),
        "{about}"
    );
    says(
        &container,
        "tazpod --version >/dev/null && sudo -n --list /usr/local/bin/tazpod internal-ghost",
    );
}

#[test]
fn base_that_is_no_name_is_refused_before_anything_is_built() {
    let mut command = Engine::shared().with_client(&tazpod().display().to_string());
    let output = command.args(["image", "build", "base", "--base", "x\nRUN id"]).output().unwrap();
    assert_eq!(output.status.code(), Some(64), "{output:?}");
}
