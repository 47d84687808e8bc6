//! What a neighbour tries from a second `docker exec`, in a container that would allow it and in the usual one.

use crate::attacks::leftovers::{self, Poison};
use crate::attacks::victim::{Ghost, Start, inhabitant_that, pull_command};
use crate::attacks::{mounts, reading, terminal};
use crate::lab::{Lab, seccomp};

#[test]
fn no_process_of_a_ghost_in_a_container_can_be_read_by_its_own_uid() {
    let lab = Lab::permissive();
    reading::shows_that_a_plain_ghost_can_be_read(&lab);
    reading::holds_against_its_own_uid(&lab);
    reading::holds_against_its_own_uid(&Lab::usual());
}

#[test]
fn no_process_of_a_ghost_in_a_container_can_be_read_by_another_uid() {
    let lab = Lab::permissive();
    reading::shows_that_a_plain_ghost_can_be_read(&lab);
    reading::holds_against_another_uid(&lab);
    reading::holds_against_another_uid(&Lab::usual());
}

#[test]
fn namespaces_of_a_ghost_in_a_container_cannot_be_joined_unless_it_is_rootless() {
    let lab = Lab::permissive();
    reading::shows_that_a_plain_rootless_ghost_can_be_joined(&lab);
    reading::holds_against_joining(&lab);
    reading::shows_that_a_rootless_ghost_is_open_to_its_uid(&lab, "join");
    reading::shows_that_root_may_join(&lab);
    let usual = Lab::usual();
    reading::holds_against_joining(&usual);
    // The profile keeps everybody from joining, not from reading memory.
    reading::shows_that_a_rootless_ghost_is_open_to_its_uid(&usual, "mem");
}

#[test]
fn the_mount_point_in_a_container_cannot_be_moved() {
    let lab = Lab::permissive();
    mounts::shows_that_a_plain_mount_point_can_be_moved(&lab);
    mounts::holds_the_mount_point_in_place(&lab);
    mounts::leaves_the_mount_point_free_after_the_end(&lab);
    mounts::holds_the_mount_point_in_place(&Lab::usual());
}

#[test]
fn a_ghost_without_a_placeholder_ends_when_its_mount_point_is_moved() {
    let lab = Lab::start(&[&seccomp(), "--security-opt=systempaths=unconfined"]);
    let script = inhabitant_that("read word; sleep 5; echo \"$token\" >\"$HOME/secrets/late\"");
    let mut ghost = Ghost::inhabit(&pull_command(&lab, Start::Sudo, &script));
    let (moved, late) = mounts::move_away_and_look(&lab, &mut ghost);
    assert!(moved, "something holds the mount point, so this test shows nothing");
    assert_eq!(late, "");
    assert!(!ghost.end().success(), "the ghost went on without its mount point");
}

#[test]
fn a_link_in_place_of_the_mount_point_in_a_container_is_not_followed() {
    let lab = Lab::permissive();
    mounts::put_a_link_in_place(&lab);
    mounts::shows_that_a_plain_ghost_follows_a_link(&lab);
    mounts::holds_against_a_link(&lab);
}

#[test]
fn the_mount_does_not_propagate_to_the_container() {
    let lab = Lab::permissive();
    lab.container.prepare("mount --make-rshared /");
    mounts::shows_that_a_plain_mount_can_propagate(&lab);
    mounts::holds_its_mounts_back(&lab);
    mounts::holds_its_mounts_back(&Lab::usual());
}

#[test]
fn a_terminal_multiplexer_in_a_container_cannot_be_reached() {
    let lab = Lab::permissive();
    terminal::shows_that_a_plain_multiplexer_can_be_reached(&lab);
    terminal::holds_its_multiplexer_back(&lab);
    terminal::holds_its_multiplexer_back(&Lab::usual());
}

#[test]
fn the_terminal_in_a_container_cannot_be_opened_while_the_passphrase_is_typed() {
    let lab = Lab::permissive();
    terminal::shows_that_a_plain_prompt_can_be_read(&lab);
    terminal::holds_the_terminal_of_the_prompt(&lab);
    terminal::holds_the_terminal_of_the_prompt(&Lab::usual());
}

#[test]
fn keys_pushed_in_a_container_do_not_arrive_in_the_outer_shell() {
    let lab = Lab::permissive();
    terminal::shows_that_keys_can_be_pushed_from_a_plain_ghost(&lab);
    terminal::holds_pushed_keys_back(&lab);
    terminal::holds_pushed_keys_back(&Lab::usual());
}

#[test]
fn nothing_in_the_background_of_a_container_outlives_the_shell() {
    let lab = Lab::permissive();
    leftovers::shows_that_programs_outlive_a_plain_ghost(&lab);
    leftovers::holds_programs_to_its_end(&lab);
    leftovers::holds_programs_to_its_end(&Lab::usual());
    // With the container's own /proc, where processes go by other numbers.
    leftovers::holds_programs_to_its_end(&Lab::start(&[seccomp()]));
}

#[test]
fn a_crash_in_a_container_leaves_no_core_file() {
    let lab = Lab::permissive();
    leftovers::shows_that_a_crash_leaves_a_core_file(&lab);
    leftovers::holds_core_files_back(&lab);
    leftovers::holds_core_files_back(&Lab::usual());
}

#[test]
fn programs_from_a_poisoned_path_in_a_container_never_run_as_root() {
    for lab in [Lab::permissive(), Lab::usual()] {
        let poison = Poison::lay(&lab);
        poison.shows_that_it_works_under_the_usual_rule(&lab);
        poison.holds(&lab);
    }
}

#[test]
fn the_users_own_dotfiles_run_in_a_ghost_in_a_container() {
    leftovers::shows_that_the_users_own_dotfiles_run(&Lab::usual());
}
