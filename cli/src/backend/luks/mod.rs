//! LUKS: the image on a loop device, opened by `cryptsetup`, with ext4 inside.
//!
//! The kernel reads the image itself, and its file systems cannot be mounted in a user namespace.
//! So a process of root outside of the ghost, the **holder**, opens and mounts the vault, attached
//! nowhere, and hands the mount to init by descriptor. It works in a **workshop**: a mount namespace
//! of its own with a `/dev` of its own, so that no device node of an open vault ever stands in a
//! folder that others see.
//!
//! What is promised (GHOST.md, section 10):
//! - every device is named after the vault's UUID and is recognised by the image that it stands on;
//! - once mounted, the mapping and the loop device belong to the mount: the kernel removes them with
//!   it, however its last process ends;
//! - what is left by a kill before that is removed by the next opening, and only if nobody uses it.

pub(crate) mod capabilities;
mod device;
pub(crate) mod header;
mod holder;
mod image;
mod leftovers;
mod tool;
mod workshop;

use super::{Backend, Mounted, Opening};
use crate::error::Result;
use crate::ghost::link::Link;
use crate::ghost::protocol::VaultRequest;
use crate::sys::identity::Identity;

/// A vault in a LUKS container.
pub(crate) struct LuksBackend {
    request: VaultRequest,
    identity: Identity,
}

impl LuksBackend {
    /// Makes the backend of the vault that is asked for.
    pub(crate) fn new(request: &VaultRequest, identity: &Identity) -> Self {
        Self { request: request.clone(), identity: identity.clone() }
    }
}

/// Lets `e2fsck` look at a closed vault; returns whether all is well, and what it said. Needs root.
pub(crate) fn check(
    request: &VaultRequest,
    identity: &Identity,
    key: &[u8],
) -> Result<(bool, String)> {
    workshop::apart(|| holder::check(request, identity, key))
}

impl Backend for LuksBackend {
    fn opening(&self) -> Opening<'_> {
        Opening::Mounted(self)
    }

    /// Removes what a killed holder left. What the kernel removes by itself is waited for.
    fn close(&self) -> Result<()> {
        leftovers::sweep(&self.request, &self.identity)
    }

    fn verify_closed(&self) -> Result<()> {
        leftovers::verify(&self.request, &self.identity)
    }
}

impl Mounted for LuksBackend {
    fn hold(&self, supervisor: Link) -> i32 {
        holder::run(&self.request, &self.identity, supervisor)
    }
}
