//! Attacks on the mount point: moving it away, putting a link in its place, waiting for the mount to propagate.

use super::victim::{Ghost, INHABITANT, Start, inhabitant_that, ours, plain_command, pull_command};
use harness::binary::tazpod;
use harness::stage::{OWNER, Stage, replace_by_link, within};
use std::fs;
use std::path::Path;
use std::process::Stdio;

/// Waits for a word, then writes the token where the vault is believed to be.
const LATE_WRITER: &str = r#"read word; echo "$token" >"$HOME/secrets/late""#;

/// What the neighbour finds outside after it moved the mount point away and made a folder of its own.
fn move_away_and_look(stage: &Stage, ghost: &mut Ghost) -> (bool, String) {
    let secrets = OWNER.secrets();
    let removed =
        run(stage, &format!("rmdir '{0}'; mv '{0}' '{0}-moved'; mkdir '{0}'", secrets.display()));
    ghost.tell("go");
    let late = secrets.join("late");
    within(2, || fs::read_to_string(&late).is_ok_and(|text| !text.is_empty()));
    (removed, fs::read_to_string(late).unwrap_or_default())
}

/// Runs a line as the neighbour; says whether its last command worked.
fn run(stage: &Stage, line: &str) -> bool {
    let mut command = stage.command(OWNER, "sh");
    command.args(["-c", line]).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().unwrap().success()
}

#[test]
fn the_mount_point_cannot_be_moved_so_that_secrets_are_written_beside_it() {
    Stage::run(&[tazpod()], |stage| {
        let script = inhabitant_that(LATE_WRITER);
        let mut plain = Ghost::inhabit(plain_command(stage, OWNER, &script));
        let (moved, late) = move_away_and_look(stage, &mut plain);
        assert!(moved && late.contains(&plain.token), "the attack does not work: {moved} {late:?}");
        plain.end();
        fs::remove_file(OWNER.secrets().join("late")).unwrap();

        let mut ghost = Ghost::inhabit(pull_command(stage, Start::Sudo, &script));
        let (moved, late) = move_away_and_look(stage, &mut ghost);
        assert!(!moved && late.is_empty(), "got through: {moved} {late:?}");
        assert_eq!(
            fs::read_dir(OWNER.secrets()).unwrap().count(),
            0,
            "seen from outside it is empty"
        );
        assert!(ghost.end().success());
        assert!(
            run(stage, &format!("rmdir {}", OWNER.secrets().display())),
            "free again after the end"
        );
    });
}

#[test]
fn a_link_in_place_of_the_mount_point_is_not_followed() {
    Stage::run(&[tazpod()], |stage| {
        let target = Path::new("/srv/target");
        fs::create_dir(target).unwrap();
        fs::write(target.join("original"), "here").unwrap();
        replace_by_link(&OWNER.secrets(), target).unwrap();
        let look = "test -e /srv/target/original || echo covered";

        let plain = plain_command(stage, OWNER, look).output().unwrap();
        assert_eq!(plain.stdout, b"covered\n", "the attack does not work");

        let refused = pull_command(stage, Start::Sudo, look).output().unwrap();
        assert_ne!(String::from_utf8_lossy(&refused.stdout), "covered\n");
        assert!(!refused.status.success(), "a ghost was made over a link");
        assert!(target.join("original").exists());
        assert!(String::from_utf8_lossy(&refused.stderr).contains("hint: "), "{refused:?}");
    });
}

#[test]
fn the_mount_does_not_propagate_to_the_machine() {
    Stage::run(&[tazpod()], |stage| {
        let mut command = plain_command(stage, OWNER, INHABITANT);
        let words: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        let mut leaky = stage.command(harness::stage::ROOT, command.get_program());
        leaky.args(
            words.iter().map(|word| {
                if word == "private" { "unchanged".as_ref() } else { word.as_os_str() }
            }),
        );
        leaky.env("HOME", OWNER.home()).current_dir(OWNER.project());
        command = leaky;
        let marker = OWNER.secrets().join("marker");
        let plain = Ghost::inhabit(command);
        assert!(
            fs::read_to_string(&marker).is_ok_and(|text| text.contains(&plain.token)),
            "the attack does not work"
        );
        plain.end();
        let lazily = std::process::Command::new("umount").arg(OWNER.secrets()).status().unwrap();
        assert!(lazily.success());

        let before = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        let ghost = ours(stage, Start::Sudo);
        assert!(!marker.exists());
        let during = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        let new = |line: &&str| line.contains("- fuse.tazpod") && !before.contains(*line);
        assert_eq!(during.lines().find(new), None, "a mount leaked");
        assert!(ghost.end().success());
        let after = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        assert_eq!(after.lines().find(|line| line.contains("/srv/home/tzowner/secrets ")), None);
    });
}
