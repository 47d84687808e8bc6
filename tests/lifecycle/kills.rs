//! `kill -9` of each process of a ghost, at any moment of its making, its life and its end.
#![allow(clippy::unwrap_used)]

use crate::ghost::{Project, finish, kill, wait_until};
use std::time::{Duration, Instant};

/// Kills at random moments; `TAZPOD_KILLS` asks for more.
const KILLS: u64 = 40;

/// A ghost of about this length is killed somewhere in it.
const SPAN: u64 = 800;

/// Mixes a counter into something without a pattern (splitmix64).
fn mixed(seed: u64) -> u64 {
    let mut x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[test]
fn kill_of_any_process_at_any_moment_leaves_nothing_and_the_next_pull_works() {
    let kills =
        std::env::var("TAZPOD_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(KILLS);
    let base = u64::from(std::process::id());
    println!("seed {base}");
    let project = Project::with_vault();
    for turn in 0..kills {
        let seed = mixed(base + turn);
        let child = project.pull("sleep 0.3; cat ~/secrets/kept").spawn().unwrap();
        std::thread::sleep(Duration::from_millis(seed % SPAN));
        let victims = project.processes();
        let count = u64::try_from(victims.len()).unwrap();
        if count > 0 {
            let victim = victims[usize::try_from((seed >> 32) % count).unwrap()];
            kill(victim, "KILL");
        }
        let output = finish(child);
        println!("turn {turn}: {} ms, of {count}: {:?}", seed % SPAN, output.status);
        project.assert_nothing_left();
        if turn % 4 == 3 {
            project.assert_vault_whole();
        }
    }
    project.assert_vault_whole();
    project.assert_nothing_left();
}

#[test]
fn each_process_of_an_open_ghost_can_be_killed() {
    let project = Project::with_vault();
    // Keeper, supervisor, init, server, shell and its child.
    let mut last = 0;
    for index in 0..6 {
        let child = project.start("sleep 100; exit 1");
        let processes = project.whole(6);
        last = processes.len();
        let Some(victim) = processes.get(index) else { continue };
        kill(*victim, "KILL");
        let output = finish(child);
        assert!(!output.status.success(), "{index}: {output:?}");
        project.assert_nothing_left();
        project.assert_vault_whole();
    }
    assert_eq!(last, 6, "the ghost has other processes than this test knows");
}

#[test]
fn making_a_vault_can_be_killed_and_begun_again() {
    let base = u64::from(std::process::id());
    for turn in 0..10 {
        let project = Project::new();
        let mut child = project.pull("true").spawn().unwrap();
        std::thread::sleep(Duration::from_millis(mixed(base + turn) % 900));
        for victim in project.processes() {
            kill(victim, "KILL");
        }
        let _ = child.kill();
        let _ = child.wait();
        wait_until("its processes are gone", || project.processes().is_empty());
        let again = project.run("echo kept > ~/secrets/kept");
        assert!(again.status.success(), "{again:?}");
        project.assert_nothing_left();
        project.assert_vault_whole();
    }
}

#[test]
fn all_processes_at_once_are_swept_by_the_next_pull() {
    let project = Project::with_vault();
    let started = Instant::now();
    let mut child = project.start("sleep 100");
    let victims = project.processes();
    for victim in &victims {
        kill(*victim, "KILL");
    }
    child.wait().unwrap();
    wait_until("its processes are gone", || project.processes().is_empty());
    assert!(started.elapsed() < Duration::from_secs(90));
    project.assert_vault_whole();
    project.assert_nothing_left();
}
