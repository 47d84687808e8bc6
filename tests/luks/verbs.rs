//! Verbs of `vault` on luks images that need the kernel, or the header as a whole.

use crate::by_hand::{by_hand, cheap, image};
use crate::ghost::{Project, finish};
use std::fs;
use std::process::Output;

fn vault(project: &Project, words: &[&str]) -> Output {
    let pass = project.path().join("pass");
    let mut command = project.tazpod(&[&["vault"], words].concat());
    finish(command.arg("--passphrase-file").arg(pass).spawn().unwrap())
}

fn assert_ok(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn size_changes_both_ways_and_what_does_not_fit_is_refused_untouched() {
    let project = cheap("128M");
    let sum = project.run("head -c 20000000 /dev/urandom | tee ~/secrets/much | sha256sum").stdout;
    let length = || fs::metadata(image(&project)).unwrap().len();
    let before = by_hand(&project, "sha256sum vault.img");
    let refused = vault(&project, &["resize", "32M"]);
    assert_eq!(refused.status.code(), Some(64), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("holds too much"), "{refused:?}");
    assert_eq!(by_hand(&project, "sha256sum vault.img"), before);
    for (size, mebibytes) in [("72M", 72), ("160M", 160)] {
        let resized = vault(&project, &["resize", size]);
        assert_ok(&resized);
        assert!(String::from_utf8_lossy(&resized.stdout).contains("may grow to"), "{resized:?}");
        assert_eq!(length(), mebibytes << 20);
        project.assert_nothing_left();
        let seen = project.run(
            "sha256sum <~/secrets/much; df --output=size -BM ~/secrets | tail -n 1 | tr -dc 0-9",
        );
        let found = seen.stdout.strip_prefix(&sum[..]).unwrap();
        let found: u64 = String::from_utf8_lossy(found).parse().unwrap();
        // Header, journal and inode tables are no part of it; those were made for a larger file system.
        assert!(found < mebibytes && found >= mebibytes / 2, "{found} of {mebibytes}");
    }
    assert!(!project.path().join("project/.tazpod/vault/vault.img.new").exists());
    project.assert_vault_whole();
}

#[test]
fn header_is_backed_up_and_put_back_and_anothers_is_refused() {
    let project = cheap("48M");
    let (backup, other) = (project.path().join("header"), project.path().join("other"));
    let [backup, other] = [&backup, &other].map(|path| path.to_str().unwrap());
    assert_ok(&vault(&project, &["header", "backup", backup]));
    assert_eq!(by_hand(&project, &format!("stat -c %a {backup}")), "600");
    assert_eq!(vault(&project, &["header", "backup", backup]).status.code(), Some(64));
    by_hand(&project, "dd if=/dev/zero of=vault.img bs=1M count=1 conv=notrunc status=none");
    assert_ne!(project.run("true").status.code(), Some(0));
    assert_ok(&vault(&project, &["header", "restore", "--yes", backup]));
    project.assert_vault_whole();
    // A header of the same size and passphrase, and not of this vault.
    let stranger = cheap("48M");
    assert_ok(&vault(&stranger, &["header", "backup", other]));
    let before = by_hand(&project, "sha256sum vault.img");
    let refused = vault(&project, &["header", "restore", "--yes", other]);
    assert_eq!(refused.status.code(), Some(64), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("is not a header of"), "{refused:?}");
    assert_eq!(by_hand(&project, "sha256sum vault.img"), before);
    project.assert_vault_whole();
}
