//! How a ghost in a container ends when what it hangs on is taken away.

use crate::attacks::scene::Scene;
use crate::attacks::victim::{Start, ours, pull_command};
use crate::lab::Lab;
use harness::process::{Pid, alive, name};
use harness::stage::within;
use nix::sys::signal::{Signal, kill};
use std::collections::BTreeSet;

fn kill_hard(pid: Pid) {
    kill(nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGKILL).ok();
}

fn keep(lab: &Lab) {
    let made =
        pull_command(lab, Start::Sudo, "echo kept >~/secrets/kept; sync ~/secrets/kept").output();
    assert!(made.status.success(), "{made:?}");
}

fn assert_next_pull_works(lab: &Lab, what: &str) {
    let next = pull_command(lab, Start::Sudo, "cat ~/secrets/kept").output();
    assert!(next.status.success(), "{what}: the next pull fails: {next:?}");
    assert_eq!(next.stdout, b"kept\n", "{what}");
    // A helper of `docker exec` may still be on its way out.
    assert!(within(60, || lab.bystanders().len() == 2), "{what}: {:?}", names(&lab.bystanders()));
}

fn names(pids: &BTreeSet<Pid>) -> Vec<String> {
    pids.iter().map(|pid| name(*pid)).collect()
}

#[test]
fn a_killed_docker_exec_ends_its_ghost() {
    let lab = Lab::usual();
    keep(&lab);
    let ghost = ours(&lab, Start::Sudo);
    let members = ghost.members.clone();
    kill_hard(ghost.id());
    assert!(within(60, || !members.iter().any(|pid| alive(*pid))), "{:?}", names(&members));
    drop(ghost);
    assert_next_pull_works(&lab, "docker exec");
}

#[test]
fn any_process_of_a_ghost_in_a_container_may_be_killed() {
    let lab = Lab::usual();
    keep(&lab);
    let count = ours(&lab, Start::Sudo).members.len();
    assert!(count >= 7, "only {count} processes");
    for index in 0..count {
        let ghost = ours(&lab, Start::Sudo);
        let members = ghost.members.clone();
        let Some(victim) = members.iter().copied().nth(index) else { break };
        let what = format!("number {index}, {}", name(victim));
        kill_hard(victim);
        drop(ghost);
        assert!(
            within(60, || !members.iter().any(|pid| alive(*pid))),
            "{what} left {:?}",
            names(&members)
        );
        assert_next_pull_works(&lab, &what);
    }
}

#[test]
fn a_container_may_be_killed_while_a_ghost_is_open_in_it() {
    let mut lab = Lab::usual();
    keep(&lab);
    let ghost = ours(&lab, Start::Sudo);
    let members = ghost.members.clone();
    assert!(lab.container.docker(&["kill"]).status.success());
    assert!(within(60, || !members.iter().any(|pid| alive(*pid))), "{:?}", names(&members));
    drop(ghost);
    lab.restart();
    assert_next_pull_works(&lab, "a killed container");
}
