//! Vaults that people made themselves, with `cryptsetup` and `mkfs.ext4`.

use crate::ghost::Project;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs a line of shell as a person would; the passphrase is in `$pass`.
pub(crate) fn by_hand(project: &Project, line: &str) -> String {
    let vault = image(project);
    fs::create_dir_all(vault.parent().unwrap()).unwrap();
    let output = Command::new("sh")
        .args(["-ec", &format!("pass='a passphrase'; {line}")])
        .current_dir(vault.parent().unwrap())
        .env("DM_DISABLE_UDEV", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

pub(crate) fn image(project: &Project) -> PathBuf {
    project.path().join("project/.tazpod/vault/vault.img")
}

/// The cheapest key derivation that there is.
const CHEAP: &str = "--type luks2 --pbkdf argon2id --pbkdf-memory 1024 --pbkdf-force-iterations 4";

/// What every instruction on the net says, with cheap parameters.
fn make(project: &Project, kind: &str, size: &str, mkfs: &str) {
    let line = format!(
        "truncate -s {size} vault.img; disk=$(losetup --find --show vault.img)
         printf %s \"$pass\" | cryptsetup luksFormat --batch-mode {kind} --key-file - $disk
         printf %s \"$pass\" | cryptsetup open --key-file - $disk by-hand
         {mkfs} /dev/mapper/by-hand; mkdir tree; mount /dev/mapper/by-hand tree
         echo kept >tree/kept; umount tree; rmdir tree; cryptsetup close by-hand; losetup --detach $disk"
    );
    by_hand(project, &line);
}

/// A project with a small vault that costs little to open, with `kept` in it.
pub(crate) fn cheap(size: &str) -> Project {
    let project = Project::new();
    // As for a large one, whose blocks hold longer attributes.
    make(&project, CHEAP, size, "mkfs.ext4 -q -b 4096");
    project
}

fn opens_unchanged(kind: &str) {
    let project = Project::new();
    make(&project, kind, "48M", "mkfs.ext4 -q");
    let header = || fs::read(image(&project)).unwrap()[..4096].to_vec();
    let before = header();
    // No backend is named: the image says what it is.
    let pass = project.path().join("pass");
    let pull = |line: &str| {
        let arguments =
            ["pull", "--passphrase-file", pass.to_str().unwrap(), "--", "sh", "-c", line];
        project.tazpod(&arguments).output().unwrap()
    };
    let output =
        pull("cat ~/secrets/kept; ls -A ~/secrets | grep -v infisical; echo more >~/secrets/more");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "kept\nkept\nlost+found\n", "{output:?}");
    project.assert_nothing_left();
    let output = pull("cat ~/secrets/more");
    assert_eq!(output.stdout, b"more\n", "{output:?}");
    assert_eq!(header(), before, "opening changed the header");
    fs::write(&pass, "another\n").unwrap();
    assert_eq!(pull("true").status.code(), Some(77));
    project.assert_nothing_left();
}

#[test]
fn luks2_made_by_hand_opens_unchanged() {
    opens_unchanged(CHEAP);
}

#[test]
fn luks1_made_by_hand_opens_unchanged() {
    opens_unchanged("--type luks1 --pbkdf-force-iterations 1000");
}

#[test]
fn container_without_a_file_system_is_named_and_let_go() {
    let project = Project::new();
    by_hand(
        &project,
        "truncate -s 24M vault.img; printf %s \"$pass\" | cryptsetup luksFormat --batch-mode --type luks2 \
         --pbkdf argon2id --pbkdf-memory 1024 --pbkdf-force-iterations 4 --key-file - vault.img",
    );
    let output = project.run("true");
    assert_eq!(output.status.code(), Some(69), "{output:?}");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(words.contains("no ext4 is inside"), "{words}");
    project.assert_nothing_left();
}

#[test]
fn vault_made_here_opens_by_hand() {
    let project = Project::with_vault();
    let found = by_hand(
        &project,
        "disk=$(losetup --find --show vault.img); printf %s \"$pass\" | cryptsetup open --key-file - $disk by-hand
         mkdir tree; mount /dev/mapper/by-hand tree; cat tree/kept; stat -c %a tree
         umount tree; rmdir tree; cryptsetup close by-hand; losetup --detach $disk",
    );
    assert_eq!(found, "kept\n700");
    assert!(Path::new("/sys/class/block").is_dir());
}
