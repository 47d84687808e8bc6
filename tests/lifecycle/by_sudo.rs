//! Ghosts of a user who is not root, made through a sudo rule for the helper alone; and rootless.
#![allow(clippy::unwrap_used)]

use crate::ghost::{Project, User, finish, kill, wait_until};
use harness::binary::backend;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::Stdio;

#[test]
fn one_sudo_rule_for_the_helper_is_enough_and_the_shell_is_the_users() {
    let user = User::new("one");
    let project = Project::of(&user);
    let output = project.run(
        "id -u; echo mine > ~/secrets/file; stat -c %u ~/secrets/file ~/secrets
         grep -E 'Cap(Prm|Eff|Inh|Amb)' /proc/self/status | sort -u -k2 | cut -f2; sudo -n id -u",
    );
    let uid = user.uid;
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said, format!("{uid}\n{uid}\n{uid}\n0000000000000000\n"), "{output:?}");
    project.assert_nothing_left();
    let image = project.path().join("project/.tazpod/vault/vault.img");
    assert_eq!(fs::metadata(image).unwrap().uid(), uid);
    if backend() == "fuse" {
        let witnesses = project.path().join("home/.local/state/tazpod/witnesses");
        for witness in fs::read_dir(witnesses).unwrap() {
            assert_eq!(witness.unwrap().metadata().unwrap().uid(), uid);
        }
    }
}

/// sudo says that it is root who calls, and an environment may name a home that is none.
#[test]
fn programs_of_a_ghost_are_told_whose_it_is_and_where_the_vault_is() {
    let user = User::new("whose");
    let project = Project::of(&user);
    user.live_in(&project.path().join("home"));
    let uid = user.uid.to_string();
    for home in ["/root", "/nonexistent", "relative", ""] {
        let mut pull = project.pull("echo $HOME $USER $LOGNAME; id -un; echo x > ~/secrets/x");
        pull.uid(0).gid(0).env("SUDO_UID", &uid).env("SUDO_GID", &uid);
        pull.env("USER", "root").env("LOGNAME", "root").env("HOME", home);
        let output = finish(pull.spawn().unwrap());
        let (home, name) = (project.path().join("home"), "tazpod-test-whose");
        let expected = format!("{} {name} {name}\n{name}\n", home.display());
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{output:?}");
        assert!(output.status.success(), "{output:?}");
    }
    project.assert_nothing_left();
}

/// Who comes second joins, also when it notices only behind sudo that another came first.
#[test]
fn two_pulls_at_once_through_sudo_share_one_ghost() {
    let user = User::new("five");
    let project = Project::of(&user);
    assert!(project.run("echo kept > ~/secrets/kept").status.success());
    for round in 0..4 {
        // The one whose ghost it is ends the other's session: only after both have spoken.
        let [one, two] = ["one", "two"].map(|name| {
            let met = ["one", "two"].map(|name| format!("-e met-{round}-{name}")).join(" -a ");
            let line = format!(
                "readlink /proc/self/ns/mnt; touch met-{round}-{name}
                 until [ {met} ]; do sleep 0.05; done"
            );
            project.pull(&line).spawn().unwrap()
        });
        let [one, two] = [finish(one), finish(two)];
        assert!(one.status.success() || two.status.success(), "{one:?} {two:?}");
        assert!(one.stdout.starts_with(b"mnt:"), "{one:?} {two:?}");
        assert_eq!(one.stdout, two.stdout, "{one:?} {two:?}");
        project.assert_vault_whole();
    }
}

#[test]
fn kill_of_any_process_of_a_sudo_ghost_leaves_nothing() {
    let user = User::new("two");
    let project = Project::of(&user);
    assert!(project.run("echo kept > ~/secrets/kept").status.success());
    let mut count = 1;
    let mut index = 0;
    while index < count {
        let child = project.start("sleep 100; exit 1");
        let processes = project.whole(8);
        count = processes.len();
        kill(processes[index], "KILL");
        let output = finish(child);
        assert!(!output.status.success(), "{index} of {count}: {output:?}");
        project.assert_nothing_left();
        project.assert_vault_whole();
        index += 1;
    }
    // Client, sudo, keeper, supervisor, init, server, shell and its child; some sudos are two.
    assert!(count >= 8, "{count}");
}

#[test]
fn helper_takes_nothing_but_the_request_of_its_own_client() {
    let user = User::new("three");
    let project = Project::of(&user);
    for stdin in ["", "\x01\x00\x00\x00\x02\x00\x00\x00{}"] {
        let mut child = project
            .command("sudo", &["-n", "--", user.binary(), "internal-ghost"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), stdin.as_bytes()).unwrap();
        let output = finish(child);
        assert_eq!(output.status.code(), Some(64), "{output:?}");
    }
    let refused = project.command("sudo", &["-n", "--", user.binary(), "status"]).output().unwrap();
    assert!(!refused.status.success(), "the rule is for the helper alone");
}

/// One test for both, since `/dev/fuse` is opened for everybody meanwhile.
#[test]
fn rootless_ghost_says_what_it_does_not_promise_and_ends_when_its_mount_point_is_moved() {
    let user = User::new("four");
    let project = Project::of(&user);
    let _fuse = OpenFuse::new();
    let rootless = |line: &str| project.verb("pull", &["--rootless", "--", "sh", "-c", line]);
    let output =
        rootless("echo x > ~/secrets/file; cat ~/secrets/file; id -u; exit 6").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("x\n{}\n", user.uid), "{output:?}");
    assert_eq!(output.status.code(), Some(6));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("every program that runs as you can"), "{said}");
    project.assert_nothing_left();

    let child = rootless("echo late > ~/secrets/late; touch open; sleep 100").spawn().unwrap();
    wait_until("the ghost is open", || project.path().join("project/open").exists());
    fs::rename(project.secrets(), project.path().join("home/moved")).unwrap();
    let output = finish(child);
    assert_eq!(output.status.code(), Some(69), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("moved or removed"), "{output:?}");
    let output = rootless("cat ~/secrets/late").output().unwrap();
    assert_eq!(output.stdout, b"late\n", "{output:?}");

    // A ghost of root's leaves alone what it made and a rootless one stands on.
    let other = project.another_of(&user);
    let by_sudo = other.start("until [ -e end ]; do sleep 0.05; done");
    let line = "touch open; until [ -e end ]; do sleep 0.05; done; echo x > ~/.infisical/mine";
    let child = rootless(line).spawn().unwrap();
    wait_until("the ghost is open", || project.path().join("project/open").exists());
    fs::write(other.path().join("project/end"), "").unwrap();
    assert!(finish(by_sudo).status.success());
    fs::write(project.path().join("project/end"), "").unwrap();
    let output = finish(child);
    assert!(output.status.success(), "{output:?}");
    let plain = project.path().join("home/.infisical");
    assert_eq!(fs::read_dir(plain).map_or(0, Iterator::count), 0, "it went into the vault");
    // What it left goes with the next one.
    assert!(other.run("true").status.success());
    other.assert_nothing_left();
}

/// `/dev/fuse` for everybody, as udev makes it, until dropped.
struct OpenFuse(u32);

impl OpenFuse {
    fn new() -> Self {
        let mode = fs::metadata("/dev/fuse").unwrap().mode() & 0o7777;
        set_mode(0o666);
        Self(mode)
    }
}

impl Drop for OpenFuse {
    fn drop(&mut self) {
        set_mode(self.0);
    }
}

fn set_mode(mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions("/dev/fuse", fs::Permissions::from_mode(mode)).unwrap();
}
