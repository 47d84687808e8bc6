//! Our place in the mount table: making it, tuning it, and giving back that one mount and no other.

use crate::options::{MAX_IO, Options};
use nix::mount::{MntFlags, MsFlags};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

const DEVICE: &str = "/dev/fuse";

/// Why there is no mount.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MountError {
    /// The FUSE device cannot be opened.
    #[error("cannot open {DEVICE}")]
    Device(#[source] io::Error),
    /// The mount point cannot be looked at.
    #[error("cannot use {} as a mount point", .path.display())]
    MountPoint {
        /// Where the vault was to appear.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The kernel refused.
    #[error("cannot mount at {}", .path.display())]
    Refused {
        /// Where the vault was to appear.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// A mount of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mounted {
    path: PathBuf,
    /// `MAJOR:MINOR` of the mounted file system, unique while it lives.
    device: String,
    /// The kernel's number of the mount.
    id: u64,
}

impl Mounted {
    /// Mounts at `mount_point` (which may be `/proc/self/fd/N`) and returns the descriptor that serves it.
    pub(crate) fn new(
        mount_point: &Path,
        options: &Options,
    ) -> Result<(OwnedFd, Mounted), MountError> {
        let unusable = |source| MountError::MountPoint { path: mount_point.to_owned(), source };
        let path = fs::canonicalize(mount_point).map_err(unusable)?;
        let mode = fs::metadata(mount_point).map_err(unusable)?.mode();
        let device =
            File::options().read(true).write(true).open(DEVICE).map_err(MountError::Device)?;
        let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        let data = Options::mount_data(device.as_raw_fd(), mode, uid, gid);
        let mut flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        if options.read_only {
            flags |= MsFlags::MS_RDONLY;
        }
        let refused = |source| MountError::Refused { path: mount_point.to_owned(), source };
        nix::mount::mount(
            Some(options.plain_source().as_str()),
            mount_point,
            Some("fuse.tazpod"),
            flags,
            Some(data.as_str()),
        )
        .map_err(|errno| refused(errno.into()))?;
        let mounted = Self::newest_at(&path).map_err(refused)?;
        Ok((device.into(), mounted))
    }

    /// Finds the mount just made.
    fn newest_at(path: &Path) -> io::Result<Mounted> {
        let table = fs::read("/proc/thread-self/mountinfo")?;
        mounts(&table).filter(|mount| mount.path == path).last().ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                "the new mount is not listed in /proc/thread-self/mountinfo",
            )
        })
    }

    /// Returns whether this very mount is still the visible one at its place.
    fn is_there(&self) -> bool {
        Self::newest_at(&self.path).is_ok_and(|newest| newest == *self)
    }

    /// Writes what the kernel still caches. Works only while requests are answered.
    pub(crate) fn write_back(&self) -> io::Result<()> {
        if !self.is_there() {
            return Ok(());
        }
        Ok(nix::unistd::syncfs(File::open(&self.path)?)?)
    }

    /// Detaches this mount, if it is still there; another mount at the same place stays.
    pub(crate) fn detach(&self) -> io::Result<()> {
        if !self.is_there() {
            return Ok(());
        }
        Ok(nix::mount::umount2(&self.path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)?)
    }

    /// Raises readahead and the share of memory that may hold unwritten data, where the system lets us.
    ///
    /// The kernel starts every FUSE mount at 128 KiB and 1 %. Not being allowed to change that costs speed only.
    pub(crate) fn tune(&self) {
        let folder = Path::new("/sys/class/bdi").join(&self.device);
        for (name, value) in [("read_ahead_kb", u64::from(MAX_IO / 1024)), ("max_ratio", 40)] {
            if let Err(error) = fs::write(folder.join(name), value.to_string()) {
                log::debug!("{name} stays as it is: {error}");
            }
        }
    }
}

/// Reads the lines of a mount table, oldest first.
fn mounts(table: &[u8]) -> impl Iterator<Item = Mounted> + '_ {
    table.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let id = str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        let device = String::from_utf8(fields.nth(1)?.to_vec()).ok()?;
        let path = PathBuf::from(std::ffi::OsString::from_vec(unescape(fields.nth(1)?)));
        Some(Mounted { path, device, id })
    })
}

/// Undoes the `\ooo` that the kernel writes for blanks and backslashes in paths.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = (first == b'\\').then(|| tail.get(..3)).flatten();
        let byte =
            octal.and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &tail[3..] } else { tail };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_table_is_read_by_fields() {
        let table = b"36 35 0:45 / /mnt/a\\040b rw,noatime master:1 - fuse.tazpod x rw\n\
                      40 36 8:1 /mnt/a /elsewhere rw - ext4 /mnt/a\\040b rw\nbroken\n";
        let found: Vec<Mounted> = mounts(table).collect();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].path, Path::new("/mnt/a b"));
        assert_eq!((found[0].device.as_str(), found[0].id), ("0:45", 36));
        assert_eq!(found[1].path, Path::new("/elsewhere"));
    }

    #[test]
    fn escapes_are_undone_and_nothing_else() {
        assert_eq!(unescape(b"a\\134b\\0"), b"a\\b\\0");
        assert_eq!(unescape(b"\\999"), b"\\999");
    }
}
