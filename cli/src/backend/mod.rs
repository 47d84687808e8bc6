//! What keeps a vault's contents, behind one door: commands and the ghost cannot tell which it is.
//!
//! Two ways lead from an image to a mounted tree, and a backend takes one of them:
//! - **served**: a process inside the ghost answers the kernel's requests (fuse). Init mounts, in
//!   the user namespace; the server is sandboxed, and it alone ever holds the keys.
//! - **mounted**: the kernel itself reads the image (luks). Its file systems cannot be mounted in a
//!   user namespace, so a process of root outside opens and mounts it, attached nowhere; init gets
//!   the mount by descriptor and attaches it.

pub(crate) mod image;
pub(crate) mod luks;

use crate::args::ghost::BackendKind;
use crate::error::Result;
use crate::ghost::link::Link;
use crate::ghost::protocol::VaultRequest;
use crate::sys::identity::Identity;
use std::os::fd::OwnedFd;

/// A vault that can be opened in a ghost.
pub(crate) trait Backend {
    /// Returns which way leads to its tree.
    fn opening(&self) -> Opening<'_>;

    /// Undoes outside of the ghost whatever opening did there, once every process of the ghost is
    /// gone. Also called for a ghost that was killed: what is not there is no error.
    fn close(&self) -> Result<()>;

    /// Fails unless the kernel's own tables say that nothing is open any more.
    fn verify_closed(&self) -> Result<()>;
}

/// The way from a vault to a mounted tree.
pub(crate) enum Opening<'a> {
    /// A process inside answers the kernel's requests.
    Served(&'a dyn Served),
    /// The kernel reads the image itself.
    Mounted(&'a dyn Mounted),
}

/// A tree that a process inside the ghost serves.
pub(crate) trait Served {
    /// Mounts the tree on an open folder. Called by init, as root of the ghost's user namespace.
    /// Returns the descriptor that the server needs.
    fn mount(&self, target: &OwnedFd) -> Result<OwnedFd>;

    /// Raises the kernel's limits for the mount with this device number, where that is permitted.
    fn tune(&self, device: &str);

    /// Serves until the tree is unmounted; returns the process's exit status. Called in a process
    /// of its own that has no rights but the caller's.
    fn serve(&self, kernel: OwnedFd, supervisor: Link, identity: &Identity) -> i32;
}

/// A tree that the kernel reads from the image.
pub(crate) trait Mounted {
    /// Opens the vault with what the supervisor hands over, answers as a server does, and has it open
    /// until it is told to close it; returns the process's exit status. A mount of the vault that is
    /// attached nowhere goes along with `Opened`. Called in a process of its own, as the real root
    /// outside of the ghost.
    fn hold(&self, supervisor: Link) -> i32;
}

/// Returns the backend for a vault of the caller `identity`.
pub(crate) fn of(
    request: &VaultRequest,
    state_folder: &std::path::Path,
    identity: &Identity,
) -> Box<dyn Backend> {
    match request.backend {
        BackendKind::Fuse => Box::new(image::ImageBackend::new(request, state_folder)),
        BackendKind::Luks => Box::new(luks::LuksBackend::new(request, identity)),
    }
}
