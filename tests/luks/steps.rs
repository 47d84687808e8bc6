//! `kill -9` at each step of making and ending a ghost of a luks vault, and of making the vault.
//!
//! After each the kernel is looked at: no process, mount, mapping or loop device is left, at once where one process was
//! killed, after the next pull where nobody was left to clean up.

use crate::by_hand::by_hand;
use crate::traced::{Death, Scene, Step, Traced, kill_at_each_step};

/// A scene with a vault that costs little to open.
fn cheap() -> Scene {
    let scene = Scene::by_root();
    let line = "printf %s \"$pass\" | cryptsetup luksConvertKey --batch-mode --key-file - \
                --pbkdf pbkdf2 --pbkdf-force-iterations 1000 vault.img";
    by_hand(&scene.project, line);
    scene
}

#[test]
fn kill_of_any_process_at_each_step_leaves_nothing_and_the_next_pull_works() {
    kill_at_each_step(&cheap(), Death::OfOne, |_| true);
}

#[test]
fn kill_of_all_at_once_at_each_step_is_swept_by_the_next_pull() {
    kill_at_each_step(&cheap(), Death::OfAll, has_to_do_with_devices);
}

#[test]
fn kill_at_each_step_of_making_a_vault_leaves_nothing_and_the_next_pull_makes_it() {
    kill_at_each_step(&Scene::making(), Death::OfOne, has_to_do_with_devices);
}

#[test]
fn kill_of_all_at_once_at_each_step_of_making_a_vault_is_swept_by_the_next_pull() {
    kill_at_each_step(&Scene::making(), Death::OfAll, has_to_do_with_devices);
}

fn has_to_do_with_devices(role: &str) -> bool {
    role.ends_with("holder")
}

/// `cryptsetup` is born, and the holder is dead before it has asked to die with it: no signal tells it.
#[test]
fn cryptsetup_that_was_bound_too_late_does_nothing() {
    let scene = cheap();
    let steps = Traced::undisturbed(&scene).steps;
    let mut own = steps.iter().filter(|(role, ..)| role == "holder");
    let makes = |step: &&Step| ["fork", "clone", "clone3"].contains(&step.1);
    own.find(makes).expect("it starts cryptsetup");
    // By then it has written the passphrase.
    let next = own.next().expect("it goes on");
    let traced = Traced::holding(&scene, next, "child 1 of holder");
    assert!(traced.met, "{next:?}");
    scene.project.assert_nothing_left();
    scene.assert_whole(&format!("{next:?}"));
}
