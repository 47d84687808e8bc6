//! What a container must grant for a ghost to be made in it: one row of flags after another.

use crate::attacks::victim::{Start, pull_command};
use crate::lab::{Lab, placeholders, seccomp};

/// In a new `/proc` the shell goes by the number that it knows itself by.
const LOOK: &str = r#"echo kept >~/secrets/file && id -u && cat ~/secrets/file &&
if [ "$(cut -d " " -f 4 /proc/self/stat)" = $$ ]; then echo new /proc; else echo old /proc; fi"#;

const NEW: &str = "64101\nkept\nnew /proc\n";
const OLD: &str = "64101\nkept\nold /proc\n";

/// What a ghost that was started so says, on standard output and error; `None` where none is made.
fn tried(lab: &Lab, start: Start) -> Option<(String, String)> {
    let output = pull_command(lab, start, LOOK).output();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (answer, remarks) = (said(&output.stdout), said(&output.stderr));
    if output.status.success() {
        return Some((answer, remarks));
    }
    assert!(remarks.contains("hint: "), "no way out is named: {remarks}");
    assert_eq!(answer, "", "{remarks}");
    None
}

fn assert_made(lab: &Lab, start: Start, answer: &str) -> String {
    let (seen, remarks) = tried(lab, start).unwrap();
    assert_eq!(seen, answer, "{remarks}");
    let said = remarks.contains("/proc");
    assert_eq!(said, answer == OLD, "whether the old /proc stays must be said: {remarks}");
    remarks
}

#[test]
fn default_container_has_no_room_for_a_ghost() {
    let lab = Lab::start::<&str>(&[]);
    assert_eq!(tried(&lab, Start::Sudo), None);
    assert_eq!(tried(&lab, Start::Rootless), None);
}

#[test]
fn sys_admin_alone_makes_a_ghost_that_keeps_the_old_proc() {
    let lab = Lab::start(&["--cap-add=SYS_ADMIN"]);
    assert_made(&lab, Start::Sudo, OLD);
    assert_made(&lab, Start::Rootless, OLD);
}

#[test]
fn profile_alone_makes_a_ghost_that_keeps_the_old_proc() {
    let lab = Lab::start(&[seccomp()]);
    let remarks = assert_made(&lab, Start::Sudo, OLD);
    assert!(remarks.contains("could not be held in place"), "{remarks}");
    assert_made(&lab, Start::Rootless, OLD);
}

#[test]
fn profile_and_system_paths_make_a_whole_ghost_without_any_added_capability() {
    let lab = Lab::usual();
    let remarks = assert_made(&lab, Start::Sudo, NEW);
    assert!(!remarks.contains("could not be held in place"), "{remarks}");
    assert_made(&lab, Start::Rootless, NEW);
}

#[test]
fn three_capabilities_are_enough_when_all_others_are_dropped() {
    let lab = Lab::usual();
    // The container's own preparation needs more than its later life does.
    let image = format!("{}-prepared", lab.container.name);
    lab.container.commit(&image);
    let mut options = crate::lab::usual();
    options.extend(["--device=/dev/fuse", "--cap-drop=ALL"].map(str::to_owned));
    options.extend(
        ["SETUID", "SETGID", "SETFCAP", "AUDIT_WRITE"].map(|one| format!("--cap-add={one}")),
    );
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let lab = Lab::around(lab.container.engine().idle(&image, &options));
    assert_made(&lab, Start::Sudo, NEW);
}

#[test]
fn no_new_privileges_leaves_a_rootless_ghost_only() {
    let lab = Lab::start(&["--cap-add=SYS_ADMIN", "--security-opt=no-new-privileges"]);
    assert_eq!(tried(&lab, Start::Sudo), None);
    assert_made(&lab, Start::Rootless, OLD);
}

#[test]
fn placeholder_without_system_paths_holds_the_mount_point() {
    let lab = Lab::start(&[vec![seccomp()], placeholders()].concat());
    let remarks = assert_made(&lab, Start::Sudo, OLD);
    assert!(!remarks.contains("could not be held in place"), "{remarks}");
}
