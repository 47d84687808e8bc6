//! What is true of luks vaults alone, in a kernel that has dm-crypt.
//!
//! Runs under `tests/luks/in-kernel`, together with the tests that serve both backends.
#![allow(clippy::unwrap_used)]

#[path = "../lifecycle/ghost.rs"]
#[allow(dead_code, reason = "shared with the tests that serve both backends, which use all of it")]
mod ghost;

#[path = "../lifecycle/traced.rs"]
#[allow(dead_code, reason = "shared as that is")]
mod traced;

mod by_hand;
mod keyring;
mod leftovers;
mod making;
mod migrate;
mod steps;
mod together;
mod verbs;
