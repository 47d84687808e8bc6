//! Attacks on the mount point: moving it away, putting a link in its place, waiting for the mount to propagate.

use super::scene::Scene;
use super::victim::{Ghost, INHABITANT, Start, inhabitant_that, ours, plain_command, pull_command};
use harness::stage::{OWNER, ROOT, replace_by_link, within};
use std::fs;
use std::path::Path;
use std::process::Stdio;

/// Waits for a word, then writes the token where the vault is believed to be.
const LATE_WRITER: &str = r#"read word; echo "$token" >"$HOME/secrets/late""#;

/// What the neighbour finds outside after it moved the mount point away and made a folder of its own: whether that worked,
/// and what the inhabitant wrote into it.
pub(crate) fn move_away_and_look(scene: &dyn Scene, ghost: &mut Ghost) -> (bool, String) {
    let secrets = OWNER.secrets();
    let removed =
        run(scene, &format!("rmdir '{0}'; mv '{0}' '{0}-moved'; mkdir '{0}'", secrets.display()));
    ghost.tell("go");
    let late = secrets.join("late");
    within(10, || !scene.read(&late).is_empty());
    (removed, scene.read(&late))
}

/// Runs a line as the neighbour; says whether its last command worked.
fn run(scene: &dyn Scene, line: &str) -> bool {
    let mut command = scene.action(OWNER, "sh").args(["-c", line]).command();
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
}

pub(crate) fn shows_that_a_plain_mount_point_can_be_moved(scene: &dyn Scene) {
    let script = inhabitant_that(LATE_WRITER);
    let mut plain = Ghost::inhabit(&plain_command(scene, OWNER, &script));
    let (moved, late) = move_away_and_look(scene, &mut plain);
    assert!(moved && late.contains(&plain.token), "the attack does not work: {moved} {late:?}");
    plain.end();
    fs::remove_file(scene.seen(&OWNER.secrets().join("late"))).unwrap();
}

pub(crate) fn holds_the_mount_point_in_place(scene: &dyn Scene) {
    let script = inhabitant_that(LATE_WRITER);
    let mut ghost = Ghost::inhabit(&pull_command(scene, Start::Sudo, &script));
    let (moved, late) = move_away_and_look(scene, &mut ghost);
    assert!(!moved && late.is_empty(), "got through: {moved} {late:?}");
    let entries = fs::read_dir(scene.seen(&OWNER.secrets())).unwrap().count();
    assert_eq!(entries, 0, "seen from outside it is empty");
    assert!(ghost.end().success());
}

pub(crate) fn leaves_the_mount_point_free_after_the_end(scene: &dyn Scene) {
    assert!(run(scene, &format!("rmdir {}", OWNER.secrets().display())));
}

const LOOK: &str = "test -e /srv/target/original || echo covered";

/// Puts a link to a folder with something in it in place of the mount point.
pub(crate) fn put_a_link_in_place(scene: &dyn Scene) {
    let target = Path::new("/srv/target");
    fs::create_dir(scene.seen(target)).unwrap();
    fs::write(scene.seen(&target.join("original")), "here").unwrap();
    replace_by_link(&scene.seen(&OWNER.secrets()), target).unwrap();
}

pub(crate) fn shows_that_a_plain_ghost_follows_a_link(scene: &dyn Scene) {
    let plain = plain_command(scene, OWNER, LOOK).output();
    assert_eq!(plain.stdout, b"covered\n", "the attack does not work");
}

pub(crate) fn holds_against_a_link(scene: &dyn Scene) {
    let refused = pull_command(scene, Start::Sudo, LOOK).output();
    assert_ne!(String::from_utf8_lossy(&refused.stdout), "covered\n");
    assert!(!refused.status.success(), "a ghost was made over a link");
    assert_eq!(scene.read(Path::new("/srv/target/original")), "here");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("hint: "), "{refused:?}");
}

pub(crate) fn shows_that_a_plain_mount_can_propagate(scene: &dyn Scene) {
    let mut leaky = plain_command(scene, OWNER, INHABITANT);
    for word in &mut leaky.words {
        if *word == "private" {
            *word = "unchanged".into();
        }
    }
    let marker = OWNER.secrets().join("marker");
    let plain = Ghost::inhabit(&leaky);
    assert!(scene.read(&marker).contains(&plain.token), "the attack does not work");
    plain.end();
    assert!(scene.action(ROOT, "umount").arg(OWNER.secrets()).status().success());
}

pub(crate) fn holds_its_mounts_back(scene: &dyn Scene) {
    let before = scene.mounts();
    let ghost = ours(scene, Start::Sudo);
    assert_eq!(scene.read(&OWNER.secrets().join("marker")), "");
    let during = scene.mounts();
    let new = |line: &&str| {
        (line.contains("- fuse.tazpod") || line.contains("- ext4")) && !before.contains(*line)
    };
    assert_eq!(during.lines().find(new), None, "a mount leaked");
    assert!(ghost.end().success());
    assert_eq!(scene.mounts().lines().count(), before.lines().count(), "a mount is left");
}
