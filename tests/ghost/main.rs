//! Is the ghost really private? Every row of the threat table, tried from outside.
//!
//! Each attack first succeeds, in the same test, against a *plain* ghost: the usual `unshare -m`, mount, setuid, shell. A
//! test that cannot see a leak proves nothing.
#![allow(clippy::unwrap_used)]

mod attack;
mod kills;
mod leftovers;
mod mounts;
mod reading;
mod screen;
mod terminal;
mod victim;
