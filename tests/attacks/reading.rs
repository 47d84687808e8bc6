//! Reading the ghost's processes: through `/proc`, as a debugger, by taking descriptors, by joining.

use super::attack::{READS, assert_leaks, assert_refused, attack};
use super::scene::Scene;
use super::victim::{Start, ours, plain, plain_rootless};
use harness::binary::backend;
use harness::process::Pid;
use harness::stage::{OWNER, ROOT, STRANGER};
use std::collections::BTreeSet;
use std::fs;

/// The processes that a neighbour may not touch: all but the client, which is the caller's own and holds nothing.
fn protected(scene: &dyn Scene, members: &BTreeSet<Pid>) -> Vec<Pid> {
    let is_client = |pid: Pid| scene.is_outside(pid) && belongs_to_owner(pid);
    members.iter().copied().filter(|pid| !is_client(*pid)).collect()
}

fn belongs_to_owner(pid: Pid) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| {
        line.starts_with("Uid:")
            && line.split_whitespace().skip(1).all(|id| id == OWNER.id.to_string())
    })
}

fn serves_fuse(pid: Pid) -> bool {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    files.filter_map(|file| fs::read_link(file.path()).ok()).any(|target| target.ends_with("fuse"))
}

pub(crate) fn shows_that_a_plain_ghost_can_be_read(scene: &dyn Scene) {
    let plain = plain(scene);
    for name in READS {
        assert_leaks(scene, OWNER, name, &plain);
    }
    assert!(plain.end().success());
}

pub(crate) fn holds_against_its_own_uid(scene: &dyn Scene) {
    let ghost = ours(scene, Start::Sudo);
    let targets = protected(scene, &ghost.members);
    let server = backend() == "fuse";
    assert!(!server || targets.iter().any(|pid| serves_fuse(*pid)), "the server is a target");
    let least = if server { 4 } else { 3 };
    assert!(ghost.inside(scene).len() >= least, "init, server, shell and its children are");
    assert_readable_by_the_machines_root(&ghost);
    for name in READS {
        assert_refused(scene, OWNER, name, &ghost, targets.iter().copied());
    }
    // The client may be debugged by its owner, and knows nothing.
    let client = ghost.members.iter().copied().filter(|pid| !targets.contains(pid));
    for outcome in client.flat_map(|pid| attack(scene, OWNER, "mem", [pid])) {
        assert!(!outcome.output.contains(&ghost.token), "the client holds the token");
    }
    assert!(ghost.end().success());
}

/// What the attackers are refused is there, where they look.
fn assert_readable_by_the_machines_root(ghost: &super::victim::Ghost) {
    let holds = |pid: &Pid| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        String::from_utf8_lossy(&environment).contains(&ghost.token)
    };
    assert!(ghost.members.iter().any(holds), "no process has the token in its environment");
}

pub(crate) fn holds_against_another_uid(scene: &dyn Scene) {
    let ghost = ours(scene, Start::Sudo);
    for name in READS.iter().chain(&["join"]) {
        assert_refused(scene, STRANGER, name, &ghost, ghost.members.iter().copied());
    }
    assert!(ghost.end().success());
}

pub(crate) fn shows_that_a_plain_rootless_ghost_can_be_joined(scene: &dyn Scene) {
    let plain = plain_rootless(scene);
    assert_leaks(scene, OWNER, "join", &plain);
    assert!(plain.end().success());
}

pub(crate) fn holds_against_joining(scene: &dyn Scene) {
    let ghost = ours(scene, Start::Sudo);
    assert_refused(scene, OWNER, "join", &ghost, protected(scene, &ghost.members));
    assert!(ghost.end().success());
}

/// Not stopped, and said so: a user namespace that the uid made itself is open to that uid, by `attack` for one.
pub(crate) fn shows_that_a_rootless_ghost_is_open_to_its_uid(scene: &dyn Scene, attack: &str) {
    if backend() != "fuse" {
        // Nobody opens another kind of vault without root.
        return;
    }
    let rootless = ours(scene, Start::Rootless);
    assert_leaks(scene, OWNER, attack, &rootless);
    assert_refused(scene, STRANGER, attack, &rootless, rootless.members.iter().copied());
    assert!(rootless.end().success());
}

/// Not stopped by the kernel: who is root may join on purpose.
pub(crate) fn shows_that_root_may_join(scene: &dyn Scene) {
    let ghost = ours(scene, Start::Sudo);
    let outcomes = attack(scene, ROOT, "join", ghost.inside(scene));
    assert!(outcomes.iter().any(|outcome| outcome.is_leak(&ghost.token)));
    assert!(ghost.end().success());
}
