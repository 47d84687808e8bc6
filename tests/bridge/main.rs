//! Secrets on their way into a vault, and what of them could stay outside.
//!
//! Runs as root, with `/dev/fuse`.

mod folders;
#[allow(dead_code, reason = "shared with the lifecycle suite, which uses all of it")]
#[path = "../lifecycle/ghost.rs"]
mod ghost;
mod pull;
mod shells;
mod source;
mod traces;
