//! Syscall wrappers, each safe to call; the only place where unsafe code may stand, each block with
//! the reason why it is sound here. Touches nothing of ours.
#![allow(unsafe_code)]

pub(crate) mod allocation;
pub(crate) mod block;
pub(crate) mod descriptor;
pub(crate) mod folder;
pub(crate) mod identity;
pub(crate) mod keyring;
pub(crate) mod memory;
pub(crate) mod mount;
pub(crate) mod output;
pub(crate) mod process;
pub(crate) mod program;
pub(crate) mod signals;
pub(crate) mod socket;
pub(crate) mod terminal;
