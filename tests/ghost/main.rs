//! Is the ghost really private? Every row of the threat table, tried from outside, on a machine in miniature.
//!
//! Each attack first succeeds, in the same test, against a *plain* ghost: the usual `unshare -m`, mount, setuid, shell. A
//! test that cannot see a leak proves nothing. The attacks themselves are in `tests/attacks`.
#![allow(clippy::unwrap_used)]

#[path = "../attacks/mod.rs"]
mod attacks;

mod kills;
mod neighbours;
