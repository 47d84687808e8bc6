//! The note beside an open image, for whoever finds it in use.

use crate::sys::identity::FileRights;
use nix::unistd::{Gid, Uid};
use std::fs;
use std::path::Path;
use std::time::SystemTime;
use vault_core::device::holder::Holder;
use vault_core::device::{Access, FileDevice};

/// Describes this process.
pub(crate) fn of_this_process() -> Holder {
    let host =
        fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
    let contained =
        ["/.dockerenv", "/run/.containerenv"].iter().any(|path| Path::new(path).exists());
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Holder {
        container: contained.then(|| host.clone()),
        host,
        process: Some(std::process::id()),
        since: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
    }
}

/// Removes the note of a supervisor that was killed, with the caller's rights, unless somebody has
/// the image open by now: then the note is theirs.
pub(crate) fn remove_stale(image: &Path, uid: Uid, gid: Gid) {
    let Ok(_rights) = FileRights::of(uid, gid) else { return };
    let Ok(_held) = FileDevice::open(image, Access::ReadWrite) else { return };
    // The note is advice; one that cannot be removed does no harm.
    let _ = fs::remove_file(Holder::path_beside(image));
}
