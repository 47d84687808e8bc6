//! New vaults: what they are, and what a failure leaves.

use crate::by_hand::{by_hand, image};
use crate::ghost::{Project, finish};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

#[test]
fn new_vault_is_luks2_with_argon2id_sparse_and_the_callers_alone() {
    let project = Project::with_vault();
    let header = by_hand(&project, "cryptsetup luksDump vault.img");
    for part in ["Version:       \t2", "PBKDF:      argon2id", "cipher: aes-xts-plain64"] {
        assert!(header.contains(part), "{part}: {header}");
    }
    let sizes = by_hand(&project, "stat -c '%s %b' vault.img");
    let (length, blocks) = sizes.split_once(' ').unwrap();
    assert_eq!(length, (512_u64 << 20).to_string());
    assert!(blocks.parse::<u64>().unwrap() * 512 < 128 << 20, "not sparse: {sizes}");
    let output = project.run("stat -c %a ~/secrets; ls -A ~/secrets | grep -v infisical");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "700\nkept\n");
}

/// `pull` where another file stands in the place of a program.
fn pull_with(project: &Project, program: &str, instead: &Path) -> Output {
    let path = by_hand(project, &format!("readlink -f $(command -v {program})"));
    let pull = project.pull("true");
    let words: Vec<String> =
        pull.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    let line = format!(
        "mount --bind {instead} {path} && exec {tazpod} \"$@\"",
        instead = instead.display(),
        tazpod = pull.get_program().to_string_lossy(),
    );
    let mut unshare = project.command("unshare", &["--mount", "sh", "-c", &line, "sh"]);
    finish(unshare.args(words).spawn().unwrap())
}

#[test]
fn missing_program_is_named_and_nothing_is_made() {
    for program in ["mkfs.ext4", "cryptsetup"] {
        let project = Project::new();
        // Nothing that could be run.
        let output = pull_with(&project, program, Path::new("/dev/null"));
        assert_eq!(output.status.code(), Some(69), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            said.contains(&format!("missing: '{program}'")) && said.contains("hint:"),
            "{said}"
        );
        assert_eq!(fs::read_dir(image(&project).parent().unwrap()).unwrap().count(), 0);
        assert!(!project.secrets().exists() && project.devices().is_empty());
    }
}

#[test]
fn failing_program_leaves_no_image_and_its_words_are_shown() {
    for (program, words) in
        [("mkfs.ext4", "make the file system"), ("cryptsetup", "cryptsetup failed")]
    {
        let project = Project::new();
        let broken = project.path().join("broken");
        fs::write(&broken, "#!/bin/sh\necho broken on purpose >&2\nexit 9\n").unwrap();
        fs::set_permissions(&broken, fs::Permissions::from_mode(0o755)).unwrap();
        let output = pull_with(&project, program, &broken);
        assert_eq!(output.status.code(), Some(69), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(words) && said.contains("broken on purpose"), "{said}");
        let vault = image(&project);
        assert_eq!(fs::read_dir(vault.parent().unwrap()).unwrap().count(), 0);
        project.assert_nothing_left();
    }
}

#[test]
fn full_vault_says_so_and_keeps_what_it_has() {
    let project = Project::new();
    let small = |line: &str| {
        let mut command = project.tazpod(&["pull", "--backend", "luks", "--size", "24M"]);
        command.args(["--kdf-memory", "64M", "--passphrase-file"]).arg(project.path().join("pass"));
        finish(command.args(["--", "sh", "-c", line]).spawn().unwrap())
    };
    let output = small("echo kept >~/secrets/kept; cp /dev/zero ~/secrets/zeros; echo $?");
    assert_eq!(output.stdout, b"1\n", "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("No space left"), "{output:?}");
    assert!(output.status.success());
    project.assert_nothing_left();
    let output = small("rm ~/secrets/zeros; cat ~/secrets/kept; echo again >~/secrets/again");
    assert_eq!(output.stdout, b"kept\n", "{output:?}");
    project.assert_nothing_left();
    let output = finish(
        Project::new()
            .tazpod(&["pull", "--backend", "luks", "--size", "8M", "--passphrase-file"])
            .arg(project.path().join("pass"))
            .args(["--", "true"])
            .spawn()
            .unwrap(),
    );
    assert_eq!(output.status.code(), Some(64), "{output:?}");
}

#[test]
fn check_tells_a_sound_vault_from_a_damaged_one_and_changes_neither() {
    let project = Project::with_vault();
    let pass = project.path().join("pass");
    let check = || {
        let mut command = project.tazpod(&["vault", "check", "--passphrase-file"]);
        finish(command.arg(&pass).spawn().unwrap())
    };
    let sound = check();
    assert!(sound.status.success(), "{sound:?}");
    project.assert_nothing_left();
    // A file whose inode is empty.
    by_hand(
        &project,
        "disk=$(losetup --find --show vault.img); printf %s \"$pass\" | cryptsetup open --key-file - $disk by-hand
         debugfs -w -R 'clri kept' /dev/mapper/by-hand 2>/dev/null
         cryptsetup close by-hand; losetup --detach $disk",
    );
    let before = fs::read(image(&project)).unwrap();
    let damaged = check();
    assert_eq!(damaged.status.code(), Some(2), "{damaged:?}");
    assert!(String::from_utf8_lossy(&damaged.stdout).contains("damaged"), "{damaged:?}");
    assert!(before == fs::read(image(&project)).unwrap(), "checking changed the image");
    project.assert_nothing_left();
}
