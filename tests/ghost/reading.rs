//! Reading the ghost's processes: through `/proc`, as a debugger, by taking descriptors, by joining.

use super::attack::{READS, assert_leaks, assert_refused, neighbour};
use super::victim::{plain, plain_rootless};
use harness::stage::{OWNER, STRANGER, Stage};

#[test]
fn a_plain_ghost_hides_nothing_from_its_uid() {
    Stage::run(&[neighbour()], |stage| {
        let ghost = plain(stage);
        for attack in READS {
            assert_leaks(stage, OWNER, attack, &ghost);
        }
        for attack in READS {
            assert_refused(stage, STRANGER, attack, &ghost, ghost.members.iter().copied());
        }
        assert!(ghost.end().success());
        let rootless = plain_rootless(stage);
        assert_leaks(stage, OWNER, "join", &rootless);
    });
}
