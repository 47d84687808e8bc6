//! Opening files in folders that others may change while we look.

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// What `stat` says about an open file, as far as it is compared here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Device that holds it.
    pub(crate) device: u64,
    /// Inode on that device.
    pub(crate) inode: u64,
    /// Owner.
    pub(crate) uid: u32,
    /// Group.
    pub(crate) gid: u32,
    /// Permission bits.
    pub(crate) permissions: u32,
    /// Whether it is a folder.
    pub(crate) is_folder: bool,
    /// How many names it has; none once it was removed.
    pub(crate) links: u64,
    /// The device that a character device file names.
    pub(crate) special: u64,
}

/// Returns what `stat` says about `fd`.
pub(crate) fn facts(fd: impl AsFd) -> io::Result<Facts> {
    let stat = rustix::fs::fstat(fd)?;
    Ok(Facts {
        device: stat.st_dev,
        inode: stat.st_ino,
        uid: stat.st_uid,
        gid: stat.st_gid,
        permissions: stat.st_mode & 0o7777,
        links: stat.st_nlink,
        is_folder: stat.st_mode & libc::S_IFMT == libc::S_IFDIR,
        special: stat.st_rdev,
    })
}

/// Whether what `fd` shows may be files of other folders: an overlay is laid over them.
pub(crate) fn is_overlay(fd: impl AsFd) -> io::Result<bool> {
    Ok(rustix::fs::fstatfs(fd)?.f_type == libc::OVERLAYFS_SUPER_MAGIC)
}

/// Returns when an open file was made, as seconds and nanoseconds; none where nobody keeps that.
pub(crate) fn birth(fd: impl AsFd) -> io::Result<Option<(i64, u32)>> {
    use rustix::fs::{AtFlags, StatxFlags};
    let stat = rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::BTIME)?;
    let is_kept = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
    Ok(is_kept.then_some((stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec)))
}

/// Returns when an open file was last read or written.
pub(crate) fn last_used(fd: impl AsFd) -> io::Result<std::time::SystemTime> {
    let stat = rustix::fs::fstat(fd)?;
    let seconds = u64::try_from(stat.st_atime.max(stat.st_mtime)).unwrap_or(0);
    Ok(std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds))
}

/// Opens a folder by path, following links: only for paths whose every part root or the caller
/// whose rights are in force controls.
pub(crate) fn open(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(CWD, path, folder_flags(), Mode::empty())?)
}

/// Opens the folder `path` below `parent` without following any link or leaving it.
pub(crate) fn open_below(parent: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    let how = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::BENEATH;
    Ok(rustix::fs::openat2(parent, path, folder_flags(), Mode::empty(), how)?)
}

/// Opens an absolute folder path without following any link.
pub(crate) fn open_without_links(path: &Path) -> io::Result<OwnedFd> {
    let how = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(CWD, path, folder_flags(), Mode::empty(), how)?)
}

fn folder_flags() -> OFlags {
    OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC
}

/// Opens whatever is at an absolute path, file or folder, without following any link.
pub(crate) fn open_any_without_links(path: &Path) -> io::Result<OwnedFd> {
    let how = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(rustix::fs::openat2(CWD, path, flags, Mode::empty(), how)?)
}

/// How something within a tree is opened: without following any link, leaving the tree, or crossing
/// into what is mounted somewhere in it.
fn strictly_within() -> ResolveFlags {
    ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::BENEATH
        | ResolveFlags::NO_XDEV
}

/// Opens the folder `path` in the tree at `root`, for reading its entries.
pub(crate) fn open_folder_within(root: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    Ok(rustix::fs::openat2(root, path, flags, Mode::empty(), strictly_within())?)
}

/// Opens the file `path` in the tree at `root` for reading; anything but a regular file is an error.
pub(crate) fn open_file_within(root: impl AsFd, path: &Path) -> io::Result<std::fs::File> {
    // A fifo must not make us wait for a writer.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = rustix::fs::openat2(root, path, flags, Mode::empty(), strictly_within())?;
    let file = std::fs::File::from(file);
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
}

/// Makes the file `name` in `parent`, which must not have one, for writing.
pub(crate) fn create_file(
    parent: impl AsFd,
    name: &OsStr,
    permissions: u32,
) -> io::Result<std::fs::File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mode = Mode::from_raw_mode(permissions);
    Ok(std::fs::File::from(rustix::fs::openat(parent, name, flags, mode)?))
}

/// What an entry of a folder is, without following a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// A socket, fifo or device.
    Special,
}

/// Says what `name` in `parent` is; `None` if there is nothing.
pub(crate) fn kind_of(parent: impl AsFd, name: &OsStr) -> io::Result<Option<EntryKind>> {
    use rustix::fs::{AtFlags, FileType};
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => EntryKind::File,
            FileType::Directory => EntryKind::Folder,
            FileType::Symlink => EntryKind::Link,
            _ => EntryKind::Special,
        })),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Lists the names in an open folder, in their order by bytes; more than `most` are an error.
pub(crate) fn names(folder: impl AsFd, most: usize) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        if names.len() == most {
            return Err(io::Error::other(format!("a folder has more than {most} entries")));
        }
        names.push(OsString::from_vec(name.to_vec()));
    }
    names.sort();
    Ok(names)
}

/// Gives an entry another name; one that exists already is an error and stays what it is.
pub(crate) fn rename_new(
    old_parent: impl AsFd,
    old: &OsStr,
    new_parent: impl AsFd,
    new: &OsStr,
) -> io::Result<()> {
    let flags = rustix::fs::RenameFlags::NOREPLACE;
    Ok(rustix::fs::renameat_with(old_parent, old, new_parent, new, flags)?)
}

/// Gives an entry another name, in the place of whatever has it.
pub(crate) fn rename_over(
    old_parent: impl AsFd,
    old: &OsStr,
    new_parent: impl AsFd,
    new: &OsStr,
) -> io::Result<()> {
    Ok(rustix::fs::renameat(old_parent, old, new_parent, new)?)
}

/// Reads where the link `name` in `parent` leads.
pub(crate) fn read_link(parent: impl AsFd, name: &OsStr) -> io::Result<OsString> {
    let target = rustix::fs::readlinkat(parent, name, Vec::new())?;
    Ok(OsString::from_vec(target.into_bytes()))
}

/// Makes the link `name` in `parent`.
pub(crate) fn make_link(parent: impl AsFd, name: &OsStr, target: &OsStr) -> io::Result<()> {
    Ok(rustix::fs::symlinkat(target, parent, name)?)
}

/// Finds that entries of an open folder may be made, replaced and removed.
pub(crate) fn may_change(folder: impl AsFd) -> io::Result<()> {
    use rustix::fs::{Access, AtFlags};
    let access = Access::WRITE_OK | Access::EXEC_OK;
    Ok(rustix::fs::accessat(folder, ".", access, AtFlags::EACCESS)?)
}

/// Waits until the entries of an open folder are on the disk.
pub(crate) fn sync(folder: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::fsync(folder)?)
}

/// Waits until everything of the file system that holds an open folder was handed to it.
pub(crate) fn sync_all(folder: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::syncfs(folder)?)
}

/// Gives an open file or folder, also one opened by path alone, to a user.
pub(crate) fn give(fd: impl AsFd, uid: u32, gid: u32) -> io::Result<()> {
    use rustix::fs::{AtFlags, Gid, Uid};
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    Ok(rustix::fs::chownat(fd, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?)
}

/// Opens whatever `name` in the folder `parent` is, by path alone and without following a link.
pub(crate) fn open_entry(parent: impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let how = strictly_within();
    // The last part may be a link itself, which is then what is opened.
    let how = how.difference(ResolveFlags::NO_SYMLINKS);
    Ok(rustix::fs::openat2(parent, name, flags, Mode::empty(), how)?)
}

/// Makes the folder `name` in `parent`, whatever the umask; one that is there is left as it is.
pub(crate) fn make(parent: impl AsFd, name: impl AsRef<Path>, permissions: u32) -> io::Result<()> {
    make_missing(parent, name, permissions).map(drop)
}

/// Does the same, and returns whether it was missing.
pub(crate) fn make_missing(
    parent: impl AsFd,
    name: impl AsRef<Path>,
    permissions: u32,
) -> io::Result<bool> {
    let (parent, name) = (parent.as_fd(), name.as_ref());
    let mode = Mode::from_raw_mode(permissions);
    match rustix::fs::mkdirat(parent, name, mode) {
        Ok(()) => {
            rustix::fs::chmodat(parent, name, mode, rustix::fs::AtFlags::empty())?;
            Ok(true)
        }
        Err(rustix::io::Errno::EXIST) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Opens or makes the regular file `name` in `parent` for reading and writing, never through a link.
pub(crate) fn open_file(parent: impl AsFd, name: &str, permissions: u32) -> io::Result<OwnedFd> {
    let flags =
        OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    Ok(rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(permissions))?)
}

/// Opens the regular file `name` in `parent` for reading and writing, if there is one, never through a link.
pub(crate) fn open_existing(
    parent: impl AsFd,
    name: impl AsRef<OsStr>,
) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    match rustix::fs::openat(parent, name.as_ref(), flags, Mode::empty()) {
        Ok(file) => Ok(Some(file)),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Takes an exclusive lock on an open file without waiting; false when another holds it.
pub(crate) fn try_lock(fd: impl AsFd) -> io::Result<bool> {
    match rustix::fs::flock(fd, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Opens a folder once more that may be open by path alone, for a lock of its own.
pub(crate) fn reopen(folder: impl AsFd) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(folder, ".", flags, Mode::empty())?)
}

/// Opens a folder once more, and waits for the exclusive lock on it.
pub(crate) fn lock(folder: impl AsFd) -> io::Result<OwnedFd> {
    let opened = reopen(folder)?;
    rustix::fs::flock(&opened, rustix::fs::FlockOperation::LockExclusive)?;
    Ok(opened)
}

/// Waits for a lock on an open file that others may share.
pub(crate) fn lock_shared(fd: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::flock(fd, rustix::fs::FlockOperation::LockShared)?)
}

/// Opens an open file once more, to add to its end whatever others add meanwhile.
pub(crate) fn reopen_to_append(fd: &impl AsFd) -> io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, path_of(fd), flags, Mode::empty())?)
}

/// Takes a lock that others may share on an open file without waiting, or makes the exclusive one such.
pub(crate) fn share_lock(fd: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::flock(fd, rustix::fs::FlockOperation::NonBlockingLockShared)?)
}

/// Removes the file `name` from `parent`; one that is not there is no error.
pub(crate) fn remove_file(parent: impl AsFd, name: impl AsRef<OsStr>) -> io::Result<()> {
    remove(parent, name, rustix::fs::AtFlags::empty())
}

/// Removes the empty folder `name` from `parent`; one that is not there is no error.
pub(crate) fn remove_folder(parent: impl AsFd, name: impl AsRef<OsStr>) -> io::Result<()> {
    remove(parent, name, rustix::fs::AtFlags::REMOVEDIR)
}

fn remove(
    parent: impl AsFd,
    name: impl AsRef<OsStr>,
    flags: rustix::fs::AtFlags,
) -> io::Result<()> {
    match rustix::fs::unlinkat(parent, name.as_ref(), flags) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Returns the path that leads to an open descriptor, whatever its name is now. It serves where a
/// system call takes only paths: the link is followed by the kernel to the very file.
pub(crate) fn path_of(fd: &impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn links_are_refused_wherever_they_stand() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("real/inner")).unwrap();
        std::os::unix::fs::symlink("real", dir.path().join("link")).unwrap();
        let parent = open(dir.path()).unwrap();
        assert!(open_below(&parent, Path::new("real/inner")).is_ok());
        for path in ["link", "link/inner", "real/../../etc", "/etc"] {
            assert!(open_below(&parent, Path::new(path)).is_err(), "{path}");
        }
    }
}
