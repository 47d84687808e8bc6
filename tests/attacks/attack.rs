//! Runs the neighbour against every process of a ghost.

use super::scene::{Scene, program};
use super::victim::{Ghost, vault};
use harness::process::{Pid, name, writable_memory};
use harness::stage::User;

/// Attacks that read through the kernel's interfaces to another process.
pub(crate) const READS: &[&str] =
    &["root", "cwd", "fd", "environ", "maps", "mem", "vm-read", "ptrace", "seize", "pidfd-getfd"];

/// What one attack on one process brought.
pub(crate) struct Outcome {
    pub(crate) pid: Pid,
    pub(crate) output: String,
    got_in: bool,
}

impl Outcome {
    /// Whether the attacker learnt the token, or could do as it liked with the process.
    pub(crate) fn is_leak(&self, token: &str) -> bool {
        self.got_in && (self.output.contains(token) || self.output.contains("entered"))
    }
}

/// One attack by `user` on each of the processes.
pub(crate) fn attack(
    scene: &dyn Scene,
    user: User,
    attack: &str,
    targets: impl IntoIterator<Item = Pid>,
) -> Vec<Outcome> {
    targets.into_iter().map(|pid| attack_one(scene, user, attack, pid)).collect()
}

fn attack_one(scene: &dyn Scene, user: User, attack: &str, pid: Pid) -> Outcome {
    let number = scene.number(pid).to_string();
    let mut action = scene.action(user, program("neighbour")).args([attack, &number]).arg(vault());
    if matches!(attack, "mem" | "vm-read") {
        action = action.args(writable_memory(pid));
    }
    let output = action.output();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Outcome { pid, output: text, got_in: output.status.success() }
}

/// Asserts that the attack works on some process of the ghost.
pub(crate) fn assert_leaks(scene: &dyn Scene, user: User, name: &str, ghost: &Ghost) {
    let outcomes = attack(scene, user, name, ghost.members.iter().copied());
    assert!(
        outcomes.iter().any(|outcome| outcome.is_leak(&ghost.token)),
        "'{name}' cannot see a leak where there is one: {}",
        describe(&outcomes)
    );
}

/// Asserts that the attack fails on each of these processes.
pub(crate) fn assert_refused(
    scene: &dyn Scene,
    user: User,
    name: &str,
    ghost: &Ghost,
    targets: impl IntoIterator<Item = Pid>,
) {
    let outcomes = attack(scene, user, name, targets);
    assert!(!outcomes.is_empty(), "nobody was attacked");
    let leaks: Vec<_> =
        outcomes.into_iter().filter(|outcome| outcome.is_leak(&ghost.token)).collect();
    assert!(leaks.is_empty(), "'{name}' got through: {}", describe(&leaks));
}

fn describe(outcomes: &[Outcome]) -> String {
    let lines = outcomes
        .iter()
        .map(|one| format!("{} ({}): {}", one.pid, name(one.pid), one.output.trim()));
    lines.collect::<Vec<_>>().join("; ")
}
