//! A copy of the vault is a vault, also one that was made while programs wrote.

use crate::vault::{Place, assert_ok, said};
use std::process::{Child, Stdio};
use std::time::Duration;

/// A project with a vault and a ghost in which `line` runs, with a pipe to end it by.
fn ghost(place: &Place, line: &str) -> Child {
    place.sh("mkdir -p project/.tazpod/vault && mv v project/.tazpod/vault/vault.img");
    let mut pull = std::process::Command::new(harness::binary::tazpod());
    pull.args(["-q", "pull", "--passphrase-file"]).arg(place.path("p"));
    pull.args(["--", "bash", "-c", line]).current_dir(place.path("project"));
    pull.env_clear().env("HOME", place.path("home")).env("PATH", std::env::var_os("PATH").unwrap());
    pull.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

fn first_line(ghost: &mut Child) {
    use std::io::BufRead;
    let mut line = String::new();
    std::io::BufReader::new(ghost.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
}

#[test]
fn backup_of_a_closed_vault_opens_and_holds_the_same() {
    let place = Place::new();
    place.furnished("in");
    place.vault("v");
    assert_ok(&place.vault_verb("v", "import", &["in"]));
    let made = place.backup("v", "copy");
    assert_ok(&made);
    assert!(said(&made).contains("--accept-generation"), "{}", said(&made));
    assert_ok(&place.vault_verb("copy", "check", &[]));
    assert_ok(&place.diff("v", "copy"));
    // Nothing is replaced, and a full disk leaves nothing.
    let refused = place.backup("v", "copy");
    assert_eq!(refused.status.code(), Some(64), "{}", said(&refused));
    place.sh("mkdir small && mount -t tmpfs -o size=64k none small");
    let refused = place.backup("v", "small/copy");
    let left = place.sh("ls -A small; umount small");
    assert_eq!((refused.status.code(), left.as_str()), (Some(69), ""), "{}", said(&refused));
}

/// Somebody writes all the time; each backup holds one state, with every file in it whole.
#[test]
fn backups_of_an_open_vault_are_whole_states() {
    let place = Place::new();
    place.vault("v");
    let line = "cd ~/secrets; for n in $(seq 100); do head -c 20000 /dev/urandom > $n; done; sync -f .; \
        (for n in $(seq 100000); do head -c 30000 /dev/urandom > $((n % 100 + 1)); sleep 0.01; done) & \
        echo ready; read -r _; kill %1";
    let mut ghost = ghost(&place, line);
    first_line(&mut ghost);
    for n in 0..3 {
        let copy = format!("copy-{n}");
        let made = place.backup("project/.tazpod/vault/vault.img", &copy);
        assert_ok(&made);
        assert!(said(&made).contains("the open vault's generation"), "{}", said(&made));
    }
    drop(ghost.stdin.take());
    assert!(ghost.wait().unwrap().success());
    for n in 0..3 {
        // The newest state is known here, and a copy is older: on purpose.
        let copy = format!("copy-{n}");
        let refused = place.vault_verb(&copy, "export", &["-"]);
        let said = said(&refused);
        if refused.status.code() == Some(76) {
            let taken = said.split("generation ").nth(1).unwrap();
            let number: String = taken.chars().take_while(char::is_ascii_digit).collect();
            let export = place.vault_verb(&copy, "export", &["--accept-generation", &number, "-"]);
            assert_ok(&export);
        } else {
            assert_ok(&refused);
        }
        // On a machine that knows nothing of the vault, every block of the copy proves itself.
        let mut check = place.command(&copy, "check", &[]);
        let checked = check.env("XDG_STATE_HOME", place.path("elsewhere")).output().unwrap();
        assert_ok(&checked);
    }
}

/// Interrupted at any moment: who is told that there is no backup finds none, and what is found is whole.
#[test]
fn interrupted_backup_says_what_is_true() {
    let place = Place::new();
    place.vault("v");
    place.sh("mkdir in && head -c 3000000 /dev/urandom > in/noise");
    assert_ok(&place.vault_verb("v", "import", &["in"]));
    let mut delay = Duration::from_millis(5);
    for _ in 0..60 {
        place.sh("rm -f copy*");
        let mut backup = place.backup_command("v", "copy");
        let backup = backup.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(delay);
        place.sh(&format!("kill -INT {} || true", backup.id()));
        let ended = backup.wait_with_output().unwrap();
        let found = place.path("copy").exists();
        if said(&ended).contains("no backup was written") {
            let left = place.sh("ls copy* || true");
            assert_eq!((found, left.as_str()), (false, ""), "{delay:?}: {}", said(&ended));
            delay += Duration::from_millis(1);
        } else if found {
            assert_ok(&place.diff("v", "copy"));
            delay = delay.saturating_sub(Duration::from_millis(2));
        } else {
            delay += Duration::from_millis(2);
        }
    }
}

/// A plain copy of an image in use is what `backup` exists for not to be.
#[test]
fn restored_backup_is_taken_on_purpose_only() {
    let place = Place::new();
    place.vault("v");
    place.sh("mkdir one two && echo 1 > one/a && echo 2 > two/b");
    assert_ok(&place.vault_verb("v", "import", &["one"]));
    let made = place.backup("v", "copy");
    assert_ok(&made);
    let said_made = said(&made);
    let number = said_made.split("--accept-generation ").nth(1).unwrap().trim().to_owned();
    assert_ok(&place.vault_verb("v", "import", &["two"]));
    let differs = place.diff("copy", "v");
    assert_eq!((differs.status.code(), said(&differs).as_str()), (Some(1), "+ b\n"));
    place.sh("mv copy v");
    let refused = place.vault_verb("v", "export", &["-"]);
    assert_eq!(refused.status.code(), Some(76), "{}", said(&refused));
    assert_ok(&place.vault_verb("v", "export", &["--accept-generation", &number, "-"]));
}
