//! What a helper process gives up before it works, and whose rights it works with.
//!
//! Step 2 of GHOST.md.

use crate::error::{Error, Result};
use crate::sys::identity::Identity;
use crate::sys::process;
use nix::unistd::{Gid, Uid, User};
use std::env;
use std::ffi::CString;
use std::io;

/// Hardens this process: nothing of it can be dumped, traced or read, and it makes no file that
/// others can read.
pub(crate) fn harden() -> Result<()> {
    let failed =
        |cause: io::Error| Error::environment("cannot protect the helper").caused_by(cause);
    process::set_umask(0o077);
    process::forbid_core_files().map_err(failed)?;
    process::set_not_dumpable().map_err(failed)
}

/// Hardens this process again after a change of credentials, which undoes parts of it.
pub(crate) fn harden_again(at_parents_death: nix::sys::signal::Signal) -> io::Result<()> {
    process::set_not_dumpable()?;
    process::die_with_parent(at_parents_death)
}

/// Returns the user whom sudo recorded, for a helper that runs as root through it. The request of
/// that user is never asked who it is.
pub(crate) fn sudo_user() -> Result<(Uid, Gid)> {
    let number = |name: &str| env::var(name).ok()?.parse::<u32>().ok();
    match (number("SUDO_UID"), number("SUDO_GID")) {
        (Some(uid), Some(gid)) if Uid::effective().is_root() => {
            Ok((Uid::from_raw(uid), Gid::from_raw(gid)))
        }
        _ => Err(Error::user("'internal-ghost' is started by 'tazpod pull' through sudo")
            .hint("run 'tazpod pull'")),
    }
}

/// Returns the whole identity of a user: the groups come from the group database, or are this
/// process's own where it is that user already.
pub(crate) fn identity_of(uid: Uid, gid: Gid) -> Result<Identity> {
    let failed = |cause: nix::Error| {
        Error::environment(format!("cannot find the groups of user {uid}")).caused_by(cause)
    };
    if uid == Uid::effective() && uid == Uid::current() {
        let groups = nix::unistd::getgroups().map_err(failed)?;
        return Ok(Identity { uid, gid: Gid::effective(), groups });
    }
    let name = User::from_uid(uid).map_err(failed)?.and_then(|user| CString::new(user.name).ok());
    let groups = match name {
        Some(name) => nix::unistd::getgrouplist(&name, gid).map_err(failed)?,
        // A container may run a uid that has no entry.
        None => vec![gid],
    };
    Ok(Identity { uid, gid, groups })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn user_without_entry_has_its_primary_group_only() {
        let (uid, gid) = (Uid::from_raw(3_999_999), Gid::from_raw(3_999_998));
        let identity = identity_of(uid, gid).unwrap();
        assert_eq!(identity.groups, [gid]);
    }
}
