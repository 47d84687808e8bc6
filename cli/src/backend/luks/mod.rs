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
mod fill;
pub(crate) mod header;
mod holder;
mod image;
mod leftovers;
mod resize;
mod tool;
mod workshop;

pub(crate) use resize::NewSize;

use super::{Backend, Mounted, Opening};
use crate::error::Result;
use crate::ghost::link::Link;
use crate::ghost::protocol::VaultRequest;
use crate::image::create::beside;
use crate::sys::identity::{FileRights, Identity};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;
use vault_core::fs::Volume;

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

/// Does what makes threads in a process of its own: this one must have a single one to start others.
pub(crate) fn apart<T: Serialize + DeserializeOwned>(
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    workshop::apart(work)
}

/// A new luks vault that a process of its own fills with the tree of a fuse vault.
pub(crate) struct Filling(workshop::Apart<()>);

impl Filling {
    /// Begins; needs root. The new vault has room for `inodes` files and is opened by `key`; `open` opens the
    /// vault to be copied, and `show` is told how much is done, of about how much.
    pub(crate) fn begin(
        request: &VaultRequest,
        identity: &Identity,
        (key, inodes): (&[u8], u64),
        open: impl FnOnce() -> Result<Volume>,
        show: &mut dyn FnMut(u64, u64),
    ) -> Result<Self> {
        workshop::Apart::guarded(
            || {
                holder::fill(request, identity, (key, inodes), |top| {
                    fill::write(&open()?, top, &request.shown, show)
                })
            },
            |abandoned| tidy(request, identity, &beside(request.image.path()), abandoned),
        )
        .map(Self)
    }

    /// Waits until the vault is made and closed. Its image has the name of one that is being made.
    pub(crate) fn end(self) -> Result<()> {
        self.0.end()
    }
}

/// A copy of a vault whose file system a process of its own gives another size.
pub(crate) struct Resizing(workshop::Apart<()>);

impl Resizing {
    /// Begins; needs root. The image has room for the file system before and after.
    pub(crate) fn begin(
        request: &VaultRequest,
        identity: &Identity,
        key: &[u8],
        size: &NewSize,
    ) -> Result<Self> {
        workshop::Apart::guarded(
            || resize::resize(request, identity, key, size),
            |abandoned| tidy(request, identity, request.image.path(), abandoned),
        )
        .map(Self)
    }

    /// Waits until it is done and the copy closed.
    pub(crate) fn end(self) -> Result<()> {
        self.0.end()
    }
}

/// Takes away what work on the image at `making` has left, and the image too when nobody waits for it.
fn tidy(request: &VaultRequest, identity: &Identity, making: &Path, abandoned: bool) {
    // Nobody is there to be told; the next attempt sweeps as well.
    let swept = leftovers::sweep(request, identity);
    if abandoned && swept.is_ok() {
        let rights = FileRights::of(identity.uid, identity.gid);
        let _ = rights.map(|_rights| std::fs::remove_file(making));
    }
}

/// Names the devices that a killed ghost left of the vault at `image`. Needs root.
pub(crate) fn leftovers(image: &Path, identity: &Identity) -> Result<Vec<String>> {
    leftovers::look(image, identity)
}

/// Removes them. Needs root; what anybody uses stays, and is an error that names it.
pub(crate) fn sweep(image: &Path, shown: &str, identity: &Identity) -> Result<()> {
    leftovers::sweep_image(image, shown, identity)
}

/// Whether a loop device stands on this image, as far as anybody can see who is not root.
pub(crate) fn is_on_loop_device(image: &Path) -> bool {
    device::is_on_loop_device(image)
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
