//! What a neighbour tries, on a stage.

use crate::attacks::leftovers::{self, Poison};
use crate::attacks::{mounts, reading, terminal};
use harness::binary::tazpod;
use harness::stage::Stage;
use std::path::Path;

fn on_a_stage(play: impl FnOnce(&Stage) + Send) {
    Stage::run(&[Path::new(env!("CARGO_BIN_EXE_neighbour")), tazpod()], play);
}

#[test]
fn no_process_of_a_ghost_can_be_read_by_its_own_uid() {
    on_a_stage(|stage| {
        reading::shows_that_a_plain_ghost_can_be_read(stage);
        reading::holds_against_its_own_uid(stage);
    });
}

#[test]
fn no_process_of_a_ghost_can_be_read_by_another_uid() {
    on_a_stage(|stage| {
        reading::shows_that_a_plain_ghost_can_be_read(stage);
        reading::holds_against_another_uid(stage);
    });
}

#[test]
fn namespaces_of_a_ghost_cannot_be_joined_unless_it_is_rootless() {
    on_a_stage(|stage| {
        reading::shows_that_a_plain_rootless_ghost_can_be_joined(stage);
        reading::holds_against_joining(stage);
        reading::shows_that_a_rootless_ghost_is_open_to_its_uid(stage, "join");
        reading::shows_that_root_may_join(stage);
    });
}

#[test]
fn the_mount_point_cannot_be_moved_so_that_secrets_are_written_beside_it() {
    on_a_stage(|stage| {
        mounts::shows_that_a_plain_mount_point_can_be_moved(stage);
        mounts::holds_the_mount_point_in_place(stage);
        mounts::leaves_the_mount_point_free_after_the_end(stage);
    });
}

#[test]
fn a_link_in_place_of_the_mount_point_is_not_followed() {
    on_a_stage(|stage| {
        mounts::put_a_link_in_place(stage);
        mounts::shows_that_a_plain_ghost_follows_a_link(stage);
        mounts::holds_against_a_link(stage);
    });
}

#[test]
fn the_mount_does_not_propagate_to_the_machine() {
    on_a_stage(|stage| {
        mounts::shows_that_a_plain_mount_can_propagate(stage);
        mounts::holds_its_mounts_back(stage);
    });
}

#[test]
fn a_terminal_multiplexer_in_the_ghost_cannot_be_reached() {
    on_a_stage(|stage| {
        terminal::shows_that_a_plain_multiplexer_can_be_reached(stage);
        terminal::holds_its_multiplexer_back(stage);
    });
}

#[test]
fn the_terminal_cannot_be_opened_while_the_passphrase_is_typed() {
    on_a_stage(|stage| {
        terminal::shows_that_a_plain_prompt_can_be_read(stage);
        terminal::holds_the_terminal_of_the_prompt(stage);
    });
}

#[test]
fn keys_pushed_in_the_ghost_do_not_arrive_in_the_outer_shell() {
    on_a_stage(|stage| {
        terminal::shows_that_keys_can_be_pushed_from_a_plain_ghost(stage);
        terminal::holds_pushed_keys_back(stage);
    });
}

#[test]
fn nothing_in_the_background_outlives_the_shell() {
    on_a_stage(|stage| {
        leftovers::shows_that_programs_outlive_a_plain_ghost(stage);
        leftovers::holds_programs_to_its_end(stage);
    });
}

#[test]
fn a_crash_leaves_no_core_file() {
    on_a_stage(|stage| {
        leftovers::shows_that_a_crash_leaves_a_core_file(stage);
        leftovers::holds_core_files_back(stage);
    });
}

#[test]
fn programs_from_a_poisoned_path_never_run_as_root() {
    on_a_stage(|stage| {
        let poison = Poison::lay(stage);
        poison.shows_that_it_works_under_the_usual_rule(stage);
        poison.holds(stage);
    });
}

#[test]
fn the_users_own_dotfiles_run_in_the_ghost() {
    on_a_stage(|stage| leftovers::shows_that_the_users_own_dotfiles_run(stage));
}
