//! `kill -9` of each process of a ghost at each named step of its making and its end.
#![allow(clippy::unwrap_used)]

use crate::ghost::{Project, User};
use crate::traced::{Death, Scene, Step, Traced, kill_at_each_step};

#[test]
fn kill_of_the_keeper_at_each_step_leaves_nothing_and_the_next_pull_works() {
    kill_at_each_step(&Scene::by_root(), Death::OfOne, |role| role == "client");
}

#[test]
fn kill_of_the_supervisor_at_each_step_leaves_nothing_and_the_next_pull_works() {
    kill_at_each_step(&Scene::by_root(), Death::OfOne, |role| role == "supervisor");
}

/// Init is born, and its parent is dead before init does anything: no signal tells it, only the end of their link.
#[test]
fn init_that_was_bound_too_late_ends_with_its_supervisor() {
    let scene = Scene::by_root();
    let steps = Traced::undisturbed(&scene).steps;
    let mut own = steps.iter().filter(|(role, ..)| role == "supervisor");
    let makes = |step: &&Step| ["fork", "clone", "clone3"].contains(&step.1);
    own.find(makes).expect("it makes init");
    let next = own.next().expect("it goes on");
    let traced = Traced::holding(&scene, next, "init");
    assert!(traced.met, "{next:?}");
    scene.assert_whole(&format!("{next:?}"));
}

#[test]
fn kill_of_init_at_each_step_leaves_nothing_and_the_next_pull_works() {
    kill_at_each_step(&Scene::by_root(), Death::OfOne, |role| role == "init");
}

#[test]
fn kill_of_the_server_at_each_step_leaves_nothing_and_the_next_pull_works() {
    kill_at_each_step(&Scene::by_root(), Death::OfOne, |role| role == "server");
}

#[test]
fn kill_of_any_other_at_each_step_leaves_nothing_and_the_next_pull_works() {
    let named = ["client", "supervisor", "init", "server"];
    kill_at_each_step(&Scene::by_root(), Death::OfOne, |role| !named.contains(&role));
}

#[test]
fn kill_of_all_at_once_at_each_step_is_swept_by_the_next_pull() {
    kill_at_each_step(&Scene::by_root(), Death::OfAll, |_| true);
}

#[test]
fn kill_at_each_step_of_making_a_vault_leaves_nothing_and_the_next_pull_makes_it() {
    kill_at_each_step(&Scene::making(), Death::OfOne, |role| !["client", "shell"].contains(&role));
}

#[test]
fn kill_of_all_at_once_at_each_step_of_making_a_vault_is_swept_by_the_next_pull() {
    kill_at_each_step(&Scene::making(), Death::OfAll, |role| !["client", "shell"].contains(&role));
}

mod by_sudo {
    use super::*;
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};
    use nix::sys::stat::{Mode, SFlag, mknod};
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    #[test]
    fn kill_of_whoever_makes_a_ghost_by_sudo_leaves_nothing_at_each_step() {
        let user = User::new("steps");
        let scene = Scene::new(Project::of(&user), &[], true);
        // What is inside is the same whoever made it.
        let outside = |role: &str| !["init", "server", "shell"].contains(&role);
        kill_at_each_step(&scene, Death::OfOne, |role| outside(role) && !role.ends_with("of init"));
    }

    /// Shows the calling thread, and whom it starts, a `/dev/fuse` that is open to all, as udev leaves it.
    fn open_fuse_to_all() -> tempfile::TempDir {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let node = folder.path().join("fuse");
        let device = fs::metadata("/dev/fuse").unwrap().rdev();
        mknod(&node, SFlag::S_IFCHR, Mode::empty(), device).unwrap();
        fs::set_permissions(&node, PermissionsExt::from_mode(0o666)).unwrap();
        mount(Some(&node), "/dev/fuse", none, MsFlags::MS_BIND, none).unwrap();
        folder
    }

    #[test]
    fn kill_of_any_process_of_a_rootless_ghost_leaves_nothing_at_each_step() {
        let _fuse = open_fuse_to_all();
        let user = User::new("rootless-steps");
        let scene = Scene::new(Project::of(&user), &["--rootless"], false);
        kill_at_each_step(&scene, Death::OfOne, |_| true);
    }
}
