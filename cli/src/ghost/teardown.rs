//! Taking away what a ghost leaves outside, and proving that it is gone.
//!
//! Section 6 of GHOST.md. Whoever calls this holds the place's lock, so its ghost is dead.

use super::made;
use super::mountpoint;
use super::place::Taken;
use crate::error::{Error, Result};
use crate::sys::identity::Identity;
use crate::sys::mount;
use std::io;
use std::path::Path;

/// Removes mounts and files of a dead ghost, and verifies by the kernel's table that none is left;
/// of the caller's home folder what ghosts made there, if no other one stands on it.
pub(crate) fn sweep(taken: &Taken, home: &Path, identity: &Identity) -> Result<()> {
    let folder = taken.place().folder();
    let failed = |cause: io::Error| {
        Error::environment("cannot clean up after the ghost")
            .caused_by(cause)
            .hint(format!("look at '{}' and at 'findmnt'", folder.display()))
    };
    mountpoint::release(taken).map_err(failed)?;
    // Nothing of ours is ever mounted there outside of a ghost; what is, is not worth keeping.
    let below = || -> io::Result<Vec<std::path::PathBuf>> {
        let table = mount::table()?.into_iter().rev();
        Ok(table.map(|line| line.mount_point).filter(|point| point.starts_with(&folder)).collect())
    };
    for point in below().map_err(failed)? {
        mount::detach(&point).map_err(failed)?;
    }
    let left = below().map_err(failed)?;
    if let Some(point) = left.first() {
        return Err(failed(io::Error::other(format!("'{}' is still mounted", point.display()))));
    }
    taken.clear().map_err(failed)?;
    made::take_away(taken, home, identity).map_err(failed)
}

/// Sweeps, and removes the ghost's folder with it.
pub(crate) fn remove(taken: &Taken, home: &Path, identity: &Identity) -> Result<()> {
    sweep(taken, home, identity)?;
    taken
        .remove()
        .map_err(|cause| Error::environment("cannot remove the ghost's folder").caused_by(cause))
}
