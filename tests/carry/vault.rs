//! A throwaway vault and what is done to it, through the real program.

use harness::binary::tazpod;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A folder of one test, with a home and as many vaults as it makes.
pub struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    /// Lies where the build does: not every `/tmp` takes extended attributes.
    pub fn new() -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        fs::create_dir(dir.path().join("home")).unwrap();
        fs::write(dir.path().join("p"), "passphrase\n").unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(dir.path().join("p"), private).unwrap();
        Self { dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes a folder.
    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir(&path).unwrap();
        path
    }

    /// Makes an empty vault.
    pub fn vault(&self, name: &str) {
        let made = self.vault_verb(name, "create", &["--kdf-memory", "64M", "--kdf-time", "1"]);
        assert_ok(&made);
    }

    /// A verb on a vault, with the passphrase.
    pub fn vault_verb(&self, vault: &str, verb: &str, arguments: &[&str]) -> Output {
        self.command(vault, verb, arguments).output().unwrap()
    }

    /// Copies a vault, which needs no passphrase.
    pub fn backup(&self, vault: &str, target: &str) -> Output {
        self.backup_command(vault, target).output().unwrap()
    }

    pub fn backup_command(&self, vault: &str, target: &str) -> Command {
        let mut command = self.program();
        command.args(["vault", "backup", "--image"]).arg(self.path(vault)).arg(target);
        command
    }

    /// Compares two vaults.
    pub fn diff(&self, before: &str, after: &str) -> Output {
        let mut command = self.program();
        command.args(["vault", "diff", before, after, "--passphrase-file"]).arg(self.path("p"));
        command.output().unwrap()
    }

    fn program(&self) -> Command {
        let mut command = Command::new(tazpod());
        command.current_dir(self.dir.path()).env_clear().env("HOME", self.path("home"));
        command.stdin(Stdio::null());
        command
    }

    pub fn command(&self, vault: &str, verb: &str, arguments: &[&str]) -> Command {
        let mut command = self.program();
        command.args(["vault", verb, "--image"]).arg(self.path(vault));
        command.arg("--passphrase-file").arg(self.path("p")).args(arguments);
        command
    }

    /// Runs a shell line in the folder.
    pub fn sh(&self, line: &str) -> String {
        let output = Command::new("bash")
            .args(["-ec", &format!("set -o pipefail; {line}")])
            .env("LC_ALL", "C.UTF-8")
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_ok(&output);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Everything that an archive must keep of a tree, sorted.
    pub fn manifest(&self, folder: &Path) -> Vec<String> {
        let tool = concat!(env!("CARGO_MANIFEST_DIR"), "/carry/tools/manifest");
        let text = self.sh(&format!("{tool} {} | sort", folder.display()));
        text.lines().map(str::to_owned).collect()
    }

    /// Fills a new folder with one of everything.
    pub fn furnished(&self, name: &str) -> PathBuf {
        let folder = self.folder(name);
        let tool = concat!(env!("CARGO_MANIFEST_DIR"), "/carry/tools/furnish");
        self.sh(&format!("{tool} {}", folder.display()));
        folder
    }

    /// Unpacks a vault by GNU tar into a new folder.
    pub fn unpacked(&self, vault: &str, name: &str) -> PathBuf {
        let folder = self.folder(name);
        let archive = format!("{name}.tar");
        assert_ok(&self.vault_verb(vault, "export", &[&archive]));
        self.sh(&format!(
            "tar -C {name} --xattrs --xattrs-include='*' --acls --numeric-owner -pxf {archive}"
        ));
        folder
    }
}

pub fn assert_ok(output: &Output) {
    assert!(output.status.success(), "{}", said(output));
}

/// Both streams of a program, as text.
pub fn said(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}
