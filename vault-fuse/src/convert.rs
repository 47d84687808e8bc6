//! From and to the kernel's way of saying things.

use fuser::{FileAttr, FileType, INodeNo, RenameFlags, TimeOrNow};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use vault_core::fs::{Attr, Fallocate, FileKind, RenameMode, SetTime, XattrMode};
use vault_core::ids::InodeNo;
use vault_core::ports::Timestamp;

/// The unit of `st_blksize`: programs copy in pieces of this size, one request each.
const PREFERRED_IO: u32 = 128 * 1024;

pub(crate) fn inode(number: INodeNo) -> InodeNo {
    InodeNo(number.0)
}

pub(crate) fn attr(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.inode.0),
        size: attr.size,
        blocks: attr.blocks,
        atime: system_time(attr.accessed),
        mtime: system_time(attr.modified),
        ctime: system_time(attr.changed),
        crtime: system_time(attr.born),
        kind: kind(attr.kind),
        perm: attr.permissions,
        nlink: attr.links,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.device,
        blksize: PREFERRED_IO,
        flags: 0,
    }
}

/// Returns the answer that means "no such name, and you may remember that": inode number 0.
pub(crate) fn no_entry() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}

pub(crate) fn kind(kind: FileKind) -> FileType {
    match kind {
        FileKind::Regular => FileType::RegularFile,
        FileKind::Directory => FileType::Directory,
        FileKind::Symlink => FileType::Symlink,
        FileKind::Fifo => FileType::NamedPipe,
        FileKind::Socket => FileType::Socket,
        FileKind::CharDevice => FileType::CharDevice,
        FileKind::BlockDevice => FileType::BlockDevice,
    }
}

/// Reads the kind out of `st_mode`; no type bits mean a regular file, as in `mknod(2)`.
pub(crate) fn kind_of_mode(mode: u32) -> Option<FileKind> {
    match u8::try_from(mode >> 12 & 0xf).expect("4 bits") {
        0 => Some(FileKind::Regular),
        bits => FileKind::from_type_bits(bits),
    }
}

/// Returns the permission bits of `st_mode`.
pub(crate) fn permissions(mode: u32) -> u16 {
    u16::try_from(mode & 0o7777).expect("12 bits")
}

pub(crate) fn set_time(time: TimeOrNow) -> SetTime {
    match time {
        TimeOrNow::SpecificTime(time) => SetTime::At(kernel_time(time)),
        TimeOrNow::Now => SetTime::Now,
    }
}

/// Returns what the kernel sent as a time.
///
/// fuser reads `(seconds, nanoseconds)` before 1970 as `-(|seconds| + nanoseconds)`, though nanoseconds always count
/// forward. Its reading is one to one, so the numbers that the kernel meant can be taken from it.
pub(crate) fn kernel_time(time: SystemTime) -> Timestamp {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => Timestamp {
            seconds: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            nanos: after.subsec_nanos(),
        },
        Err(before) => {
            let mangled = before.duration();
            Timestamp {
                seconds: 0i64.checked_sub_unsigned(mangled.as_secs()).unwrap_or(i64::MIN),
                nanos: mangled.subsec_nanos(),
            }
        }
    }
}

/// Returns a time for fuser to send; what `SystemTime` cannot hold becomes 1970.
pub(crate) fn system_time(time: Timestamp) -> SystemTime {
    let nanos = Duration::from_nanos(u64::from(time.nanos));
    let whole = Duration::from_secs(time.seconds.unsigned_abs());
    let second = if time.seconds < 0 {
        UNIX_EPOCH.checked_sub(whole)
    } else {
        UNIX_EPOCH.checked_add(whole)
    };
    second.and_then(|second| second.checked_add(nanos)).unwrap_or(UNIX_EPOCH)
}

/// Reads the flags of `renameat2(2)`; `None` for those that are not offered.
pub(crate) fn rename_mode(flags: RenameFlags) -> Option<RenameMode> {
    if flags.is_empty() {
        Some(RenameMode::Replace)
    } else if flags == RenameFlags::RENAME_NOREPLACE {
        Some(RenameMode::NoReplace)
    } else if flags == RenameFlags::RENAME_EXCHANGE {
        Some(RenameMode::Exchange)
    } else {
        None
    }
}

/// Reads the mode of `fallocate(2)`; `None` for those that are not offered.
pub(crate) fn fallocate(mode: i32) -> Option<Fallocate> {
    let keep_size = mode & libc::FALLOC_FL_KEEP_SIZE != 0;
    match mode & !libc::FALLOC_FL_KEEP_SIZE {
        0 => Some(Fallocate::Reserve { keep_size }),
        libc::FALLOC_FL_PUNCH_HOLE if keep_size => Some(Fallocate::PunchHole),
        libc::FALLOC_FL_ZERO_RANGE => Some(Fallocate::ZeroRange { keep_size }),
        _ => None,
    }
}

/// Reads the flags of `setxattr(2)`; `None` if they contradict each other.
pub(crate) fn xattr_mode(flags: i32) -> Option<XattrMode> {
    match flags {
        0 => Some(XattrMode::Set),
        libc::XATTR_CREATE => Some(XattrMode::Create),
        libc::XATTR_REPLACE => Some(XattrMode::Replace),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What fuser 0.18 makes of a kernel time.
    fn as_fuser_reads(seconds: i64, nanos: u32) -> SystemTime {
        let length = Duration::new(seconds.unsigned_abs(), nanos);
        if seconds >= 0 { UNIX_EPOCH + length } else { UNIX_EPOCH - length }
    }

    #[test]
    fn times_before_1970_keep_their_fraction() {
        for (seconds, nanos) in
            [(0, 0), (1, 999_999_999), (-1, 0), (-1, 1), (-2, 500_000_000), (-4_000_000_000, 7)]
        {
            let meant = Timestamp { seconds, nanos };
            assert_eq!(kernel_time(as_fuser_reads(seconds, nanos)), meant);
        }
    }

    #[test]
    fn times_of_the_vault_survive_the_way_to_the_kernel() {
        for (seconds, nanos) in
            [(0, 0), (1 << 40, 1), (-1, 999_999_999), (-5, 0), (i64::MIN + 1, 0), (i64::MAX, 0)]
        {
            let time = Timestamp { seconds, nanos };
            assert_eq!(Timestamp::from(system_time(time)), time);
        }
    }

    #[test]
    fn an_impossible_time_becomes_1970_and_no_panic() {
        assert_eq!(system_time(Timestamp { seconds: i64::MAX, nanos: u32::MAX }), UNIX_EPOCH);
    }

    #[test]
    fn a_hole_must_keep_the_size() {
        assert_eq!(fallocate(libc::FALLOC_FL_PUNCH_HOLE), None);
        assert_eq!(fallocate(libc::FALLOC_FL_COLLAPSE_RANGE), None);
        assert_eq!(fallocate(0), Some(Fallocate::Reserve { keep_size: false }));
    }

    #[test]
    fn whiteouts_are_not_offered() {
        assert_eq!(rename_mode(RenameFlags::RENAME_WHITEOUT), None);
        assert_eq!(rename_mode(RenameFlags::RENAME_NOREPLACE | RenameFlags::RENAME_EXCHANGE), None);
    }
}
