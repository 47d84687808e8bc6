//! Reading the ghost's processes: through `/proc`, as a debugger, by taking descriptors, by joining.

use super::attack::{READS, assert_leaks, assert_refused, attack, neighbour};
use super::victim::{Start, ours, plain, plain_rootless};
use harness::binary::tazpod;
use harness::process::{Pid, is_outside};
use harness::stage::{OWNER, ROOT, STRANGER, Stage};
use std::fs;

/// The processes that a neighbour may not touch: all but the client, which is the caller's own and holds nothing.
fn protected(members: &std::collections::BTreeSet<Pid>) -> Vec<Pid> {
    members.iter().copied().filter(|pid| !(is_outside(*pid) && belongs_to_owner(*pid))).collect()
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

#[test]
fn no_process_of_a_ghost_can_be_read_by_its_own_uid() {
    Stage::run(&[neighbour(), tazpod()], |stage| {
        let plain = plain(stage);
        for name in READS {
            assert_leaks(stage, OWNER, name, &plain);
        }
        assert!(plain.end().success());

        let ghost = ours(stage, Start::Sudo);
        let targets = protected(&ghost.members);
        assert!(targets.iter().any(|pid| serves_fuse(*pid)), "the server is among the targets");
        assert!(ghost.inside().count() >= 4, "init, server, shell and its children are");
        // Root sees the token where the attackers look: what they are refused is there.
        let seen = attack(stage, ROOT, "environ", ghost.inside());
        assert!(seen.iter().any(|outcome| outcome.is_leak(&ghost.token)));
        for name in READS {
            assert_refused(stage, OWNER, name, &ghost, targets.iter().copied());
        }
        // The client may be debugged by its owner, and knows nothing.
        let client = ghost.members.iter().copied().filter(|pid| !targets.contains(pid));
        for outcome in client.flat_map(|pid| attack(stage, OWNER, "mem", [pid])) {
            assert!(!outcome.output.contains(&ghost.token), "the client holds the token");
        }
        assert!(ghost.end().success());
    });
}

#[test]
fn no_process_of_a_ghost_can_be_read_by_another_uid() {
    Stage::run(&[neighbour(), tazpod()], |stage| {
        let plain = plain(stage);
        for name in READS {
            assert_leaks(stage, OWNER, name, &plain);
        }
        assert!(plain.end().success());
        let ghost = ours(stage, Start::Sudo);
        for name in READS.iter().chain(&["join"]) {
            assert_refused(stage, STRANGER, name, &ghost, ghost.members.iter().copied());
        }
        assert!(ghost.end().success());
    });
}

#[test]
fn namespaces_of_a_ghost_cannot_be_joined_unless_it_is_rootless() {
    Stage::run(&[neighbour(), tazpod()], |stage| {
        let plain = plain_rootless(stage);
        assert_leaks(stage, OWNER, "join", &plain);
        assert!(plain.end().success());

        let ghost = ours(stage, Start::Sudo);
        assert_refused(stage, OWNER, "join", &ghost, protected(&ghost.members));
        assert!(ghost.end().success());

        // Not stopped, and said so: a user namespace that the uid made itself is open to that uid.
        let rootless = ours(stage, Start::Rootless);
        assert_leaks(stage, OWNER, "join", &rootless);
        assert_refused(stage, STRANGER, "join", &rootless, rootless.members.iter().copied());
        assert!(rootless.end().success());
    });
}
