//! Whose rights a process has: dropping them for good, and borrowing another user's for a moment.

use nix::unistd::{Gid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};
use std::io;

/// A user as the kernel knows one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The user.
    pub(crate) uid: Uid,
    /// The primary group.
    pub(crate) gid: Gid,
    /// The supplementary groups.
    pub(crate) groups: Vec<Gid>,
}

/// Which capabilities could come back by `exec`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bounding {
    /// Programs with file capabilities or set-uid root (sudo) may have theirs.
    Keep,
    /// None, ever.
    Empty,
}

/// Becomes `identity` for good, without capabilities, and reads everything back. An error leaves
/// the process in an unknown mixture: it must end.
///
/// The order is fixed by the kernel: groups and bounding set need the rights that the change of
/// uid takes away.
pub(crate) fn become_for_good(identity: &Identity, bounding: Bounding) -> io::Result<()> {
    set_groups(&identity.groups)?;
    if bounding == Bounding::Empty {
        empty_bounding_set()?;
    }
    nix::unistd::setresgid(identity.gid, identity.gid, identity.gid)?;
    nix::unistd::setresuid(identity.uid, identity.uid, identity.uid)?;
    clear_capabilities()?;
    verify(identity, bounding)
}

/// Becomes root of the current user namespace; harmless where the process is that already.
pub(crate) fn become_namespace_root(uid: Uid, gid: Gid, may_set_groups: bool) -> io::Result<()> {
    if may_set_groups {
        set_groups(&[])?;
    }
    nix::unistd::setresgid(gid, gid, gid)?;
    nix::unistd::setresuid(uid, uid, uid)?;
    Ok(())
}

/// Sets the supplementary groups. Where the user namespace forbids it (rootless), the groups stay
/// as they are: they are the caller's own.
fn set_groups(groups: &[Gid]) -> io::Result<()> {
    match nix::unistd::setgroups(groups) {
        Err(nix::errno::Errno::EPERM) if groups_are_fixed() => Ok(()),
        other => Ok(other?),
    }
}

fn groups_are_fixed() -> bool {
    std::fs::read_to_string("/proc/self/setgroups").is_ok_and(|text| text.trim() == "deny")
}

fn empty_bounding_set() -> io::Result<()> {
    use rustix::thread::{capability_is_in_bounding_set, remove_capability_from_bounding_set};
    for number in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        // The first number that the kernel does not know ends the list.
        match capability_is_in_bounding_set(capability) {
            Ok(true) => remove_capability_from_bounding_set(capability)?,
            Ok(false) => {}
            Err(_) => break,
        }
    }
    Ok(())
}

fn clear_capabilities() -> io::Result<()> {
    // Kernels before 4.3 and some sandboxes have no ambient set to clear.
    let _ = rustix::thread::clear_ambient_capability_set();
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

/// Compares what the kernel says with what was asked for.
fn verify(identity: &Identity, bounding: Bounding) -> io::Result<()> {
    let uids = nix::unistd::getresuid()?;
    let gids = nix::unistd::getresgid()?;
    let mut groups = nix::unistd::getgroups()?;
    let mut wanted = identity.groups.clone();
    groups.sort_unstable_by_key(|gid| gid.as_raw());
    wanted.sort_unstable_by_key(|gid| gid.as_raw());
    groups.dedup();
    wanted.dedup();
    let sets = rustix::thread::capabilities(None)?;
    let all = |ids: [Uid; 3]| ids.iter().all(|id| *id == identity.uid);
    let all_groups = |ids: [Gid; 3]| ids.iter().all(|id| *id == identity.gid);
    let checks = [
        ("user", all([uids.real, uids.effective, uids.saved])),
        ("group", all_groups([gids.real, gids.effective, gids.saved])),
        ("supplementary groups", groups == wanted || groups_are_fixed()),
        ("effective capabilities", sets.effective.is_empty()),
        ("permitted capabilities", sets.permitted.is_empty()),
        ("inheritable capabilities", sets.inheritable.is_empty()),
        ("bounding set", bounding == Bounding::Keep || bounding_set_is_empty()),
    ];
    match checks.iter().find(|(_, holds)| !holds) {
        None => Ok(()),
        Some((what, _)) => Err(io::Error::other(format!("the kernel did not change the {what}"))),
    }
}

fn bounding_set_is_empty() -> bool {
    (0..64).map(|number| CapabilitySet::from_bits_retain(1 << number)).all(|capability| {
        !rustix::thread::capability_is_in_bounding_set(capability).unwrap_or(false)
    })
}

/// Reaches files with the rights of `uid` and `gid` while it lives; other rights stay.
///
/// The capabilities that overrule file permissions go with the file-system uid. Dropping restores
/// everything, and makes the process not dumpable again, since the kernel resets that on each
/// change. The signal at the parent's death is lost: set it again after the last guard.
#[derive(Debug)]
pub(crate) struct FileRights {
    old_uid: Uid,
    old_gid: Gid,
}

impl FileRights {
    /// Takes the rights of `uid` and `gid`; fails where that is not permitted.
    pub(crate) fn of(uid: Uid, gid: Gid) -> io::Result<Self> {
        let guard =
            Self { old_gid: nix::unistd::setfsgid(gid), old_uid: nix::unistd::setfsuid(uid) };
        // Neither call reports failure; asking again with an impossible id reads the value back.
        let nobody = u32::MAX;
        let (now_uid, now_gid) = (
            nix::unistd::setfsuid(Uid::from_raw(nobody)),
            nix::unistd::setfsgid(Gid::from_raw(nobody)),
        );
        if (now_uid, now_gid) == (uid, gid) {
            return Ok(guard);
        }
        Err(io::Error::new(io::ErrorKind::PermissionDenied, "cannot act with the caller's rights"))
    }
}

impl Drop for FileRights {
    fn drop(&mut self) {
        nix::unistd::setfsuid(self.old_uid);
        nix::unistd::setfsgid(self.old_gid);
        // A failure leaves what the kernel chose, which is not dumpable either.
        let _ = super::process::set_not_dumpable();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sys::process::{fork, wait};
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    #[test]
    fn dropping_privileges_leaves_none_and_cannot_be_undone() {
        if !Uid::effective().is_root() {
            return;
        }
        let child = fork(|| {
            let gid = Gid::from_raw(4321);
            let identity = Identity { uid: Uid::from_raw(4321), gid, groups: vec![gid] };
            become_for_good(&identity, Bounding::Empty).unwrap();
            i32::from(nix::unistd::setresuid(0.into(), 0.into(), 0.into()).is_ok())
        })
        .unwrap();
        assert_eq!(wait(child).unwrap().status, 0);
    }

    #[test]
    fn borrowed_file_rights_neither_overrule_permissions_nor_stay() {
        if !Uid::effective().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let closed = dir.path().join("closed");
        std::fs::write(&closed, "x").unwrap();
        std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o600)).unwrap();
        let open = tempfile::tempdir_in("/tmp").unwrap();
        std::os::unix::fs::chown(open.path(), Some(4321), Some(4321)).unwrap();
        let child = fork(|| {
            let rights = FileRights::of(Uid::from_raw(4321), Gid::from_raw(4321)).unwrap();
            assert!(std::fs::read(&closed).is_err());
            std::fs::write(open.path().join("made"), "x").unwrap();
            drop(rights);
            assert_eq!(open.path().join("made").metadata().unwrap().uid(), 4321);
            i32::from(std::fs::read(&closed).is_err())
        })
        .unwrap();
        assert_eq!(wait(child).unwrap().status, 0);
    }
}
