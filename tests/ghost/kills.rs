//! `kill -9` of each process of a ghost, at each step of its making and its end: nothing is left, and the next pull works.

use crate::attacks::victim::{Ghost, Start, inhabitant_that, ours, plain_command, pull_command};
use harness::binary::tazpod;
use harness::process::{Pid, alive, companions, family, is_outside, name};
use harness::stage::{OWNER, Stage, within};
use nix::sys::signal::{Signal, kill};
use std::collections::BTreeSet;
use std::fs;
use std::process::Stdio;
use std::time::Duration;

fn kill_hard(pid: Pid) {
    kill(nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGKILL).ok();
}

/// The mounts of the stage, one per line.
fn mounts() -> String {
    let table = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    // Mount numbers change; the places do not.
    let places =
        table.lines().map(|line| line.split(' ').skip(3).take(2).collect::<Vec<_>>().join(" "));
    places.collect::<Vec<_>>().join("\n")
}

/// Asserts that no process and no mount is left, and that a new ghost can be made.
fn assert_nothing_left(stage: &Stage, members: &BTreeSet<Pid>, before: &str, what: &str) {
    let gone = within(15, || !members.iter().any(|pid| alive(*pid)));
    let left: Vec<_> = members.iter().filter(|pid| alive(**pid)).map(|pid| name(*pid)).collect();
    assert!(gone, "{what}: {left:?} live on");
    let next = pull_command(stage, Start::Sudo, "cat ~/secrets/kept").output();
    assert!(
        next.status.success(),
        "{what}: the next pull fails: {}",
        String::from_utf8_lossy(&next.stderr)
    );
    assert_eq!(next.stdout, b"kept\n", "{what}: what was written before is there");
    assert!(within(30, || mounts() == before), "{what}: mounts are left: {}", mounts());
}

fn prepare(stage: &Stage) -> String {
    let before = mounts();
    let keep = "echo kept >~/secrets/kept; sync ~/secrets/kept";
    let made = pull_command(stage, Start::Sudo, keep).output();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    before
}

#[test]
fn any_process_of_an_open_ghost_may_be_killed() {
    Stage::run(&[tazpod()], |stage| {
        // The usual way, with somebody in the background: the vault stays mounted for as long as that one likes.
        let script = inhabitant_that("setsid sleep 72001 &");
        let plain = Ghost::inhabit(&plain_command(stage, OWNER, &script));
        assert!(within(60, || !harness::process::running("sleep 72001").is_empty()));
        kill_hard(plain.id());
        let staying = *harness::process::running("sleep 72001").first().unwrap();
        std::thread::sleep(Duration::from_millis(300));
        assert!(alive(staying));
        let table = fs::read_to_string(format!("/proc/{staying}/mountinfo")).unwrap();
        assert!(
            table.contains("tzowner/secrets"),
            "the plain ghost's mount is gone, so this test shows nothing"
        );
        kill_hard(staying);
        drop(plain);

        let before = prepare(stage);
        let count = ours(stage, Start::Sudo).members.len();
        assert!(count >= 7, "only {count} processes");
        for index in 0..count {
            let ghost = ours(stage, Start::Sudo);
            let members = ghost.members.clone();
            let Some(victim) = members.iter().copied().nth(index) else { break };
            let what = format!(
                "number {index}, {} ({})",
                name(victim),
                if is_outside(victim) { "outside" } else { "inside" }
            );
            kill_hard(victim);
            // A child of the shell is nobody special: the ghost stays open until its input ends.
            drop(ghost);
            assert_nothing_left(stage, &members, &before, &what);
        }
    });
}

#[test]
fn all_processes_outside_may_be_killed_at_once() {
    Stage::run(&[tazpod()], |stage| {
        let before = prepare(stage);
        let ghost = ours(stage, Start::Sudo);
        let members = ghost.members.clone();
        for pid in members.iter().filter(|pid| is_outside(**pid)) {
            kill_hard(*pid);
        }
        drop(ghost);
        assert_nothing_left(stage, &members, &before, "all outside");
    });
}

/// Kills one of the processes some milliseconds after the start: while it is made, while it works, while it ends.
#[test]
fn a_ghost_may_be_killed_at_any_step_of_its_making_and_its_end() {
    Stage::run(&[tazpod()], |stage| {
        let before = prepare(stage);
        let mut seen = BTreeSet::new();
        for moment in 0..16_u64 {
            for choice in [0, 1, 2, 3] {
                let mut command = pull_command(stage, Start::Sudo, "true").command();
                let mut child = command
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()
                    .unwrap();
                std::thread::sleep(Duration::from_millis(moment * 40));
                let mut members = family(child.id());
                let inside: Vec<Pid> =
                    members.iter().copied().filter(|pid| !is_outside(*pid)).collect();
                members.extend(inside.into_iter().flat_map(companions));
                // Young and old alike: the first, the last, and two in between.
                let position = choice * members.len().saturating_sub(1) / 3;
                let victim = members.iter().copied().nth(position).unwrap();
                seen.insert(members.len());
                kill_hard(victim);
                within(15, || child.try_wait().unwrap().is_some());
                child.kill().ok();
                child.wait().unwrap();
                if choice == 3 || moment % 4 == 0 {
                    let what = format!("{moment} × 40 ms, process {position} of {}", members.len());
                    assert_nothing_left(stage, &members, &before, &what);
                }
            }
        }
        assert!(seen.len() > 1, "always the same moment was met: {seen:?}");
    });
}
