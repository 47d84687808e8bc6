//! The attacks of the threat table, one body each for a machine and for a container.
//!
//! An attack has two halves. `shows_…` proves on a *plain* ghost (the usual `unshare -m`, mount, setuid, shell) that the
//! attack works, and so that the test can see a leak; `holds_…` tries the same on ours. A container in which nobody may
//! make a plain ghost runs the second halves only.

mod attack;
pub(crate) mod leftovers;
pub(crate) mod mounts;
pub(crate) mod reading;
pub(crate) mod scene;
pub(crate) mod screen;
pub(crate) mod terminal;
pub(crate) mod victim;
