//! Opening files in folders that others may change while we look.

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
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

/// Makes the folder `name` in `parent`, whatever the umask; one that is there is left as it is.
pub(crate) fn make(parent: impl AsFd, name: impl AsRef<Path>, permissions: u32) -> io::Result<()> {
    let (parent, name) = (parent.as_fd(), name.as_ref());
    let mode = Mode::from_raw_mode(permissions);
    match rustix::fs::mkdirat(parent, name, mode) {
        Ok(()) => Ok(rustix::fs::chmodat(parent, name, mode, rustix::fs::AtFlags::empty())?),
        Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Opens or makes the regular file `name` in `parent` for reading and writing, never through a link.
pub(crate) fn open_file(parent: impl AsFd, name: &str, permissions: u32) -> io::Result<OwnedFd> {
    let flags =
        OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    Ok(rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(permissions))?)
}

/// Takes an exclusive lock on an open file without waiting; false when another holds it.
pub(crate) fn try_lock(fd: impl AsFd) -> io::Result<bool> {
    match rustix::fs::flock(fd, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Removes the file `name` from `parent`; one that is not there is no error.
pub(crate) fn remove_file(parent: impl AsFd, name: &str) -> io::Result<()> {
    remove(parent, name, rustix::fs::AtFlags::empty())
}

/// Removes the empty folder `name` from `parent`; one that is not there is no error.
pub(crate) fn remove_folder(parent: impl AsFd, name: &str) -> io::Result<()> {
    remove(parent, name, rustix::fs::AtFlags::REMOVEDIR)
}

fn remove(parent: impl AsFd, name: &str, flags: rustix::fs::AtFlags) -> io::Result<()> {
    match rustix::fs::unlinkat(parent, name, flags) {
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
