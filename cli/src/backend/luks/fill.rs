//! Writing the tree of a fuse vault through a mounted file system: names, links, attributes, times, holes
//! and content.
//!
//! The mount is attached nowhere and nobody else knows it, so that names cannot change while they are used.

use crate::error::{Error, Result};
use crate::image::explain::vault_error;
use crate::sys::folder;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, chownat, fchmod,
    ftruncate, linkat, mkdirat, mknodat, openat, symlinkat, utimensat,
};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use vault_core::error::FsError;
use vault_core::fs::{Attr, FileKind, Volume};
use vault_core::ids::{InodeNo, UNIT_U64};
use vault_core::ports::Timestamp;

/// Bytes that are moved at a time.
const CHUNK: u64 = 1 << 20;
/// Bytes that a file counts as, beside its content.
const FILE_WEIGHT: u64 = 4096;

/// Writes everything below `top`, and gives `top` the attributes of the vault's root.
pub(super) fn write(
    volume: &Volume,
    top: &OwnedFd,
    shown: &str,
    show: &mut dyn FnMut(u64, u64),
) -> Result<()> {
    let space = volume.stat_fs();
    let used = space.total.saturating_sub(space.free).saturating_mul(UNIT_U64);
    let total = used.saturating_add(space.files.saturating_mul(FILE_WEIGHT));
    let mut fill =
        Fill { volume, top, links: HashMap::new(), folders: Vec::new(), done: 0, total, show };
    fill.tree().map_err(|failure| failure.explain(shown))
}

struct Fill<'a> {
    volume: &'a Volume,
    top: &'a OwnedFd,
    /// Where files with several names are.
    links: HashMap<InodeNo, (PathBuf, Vec<u8>)>,
    /// Folders, which get their attributes when everything is in them.
    folders: Vec<(PathBuf, Attr)>,
    done: u64,
    total: u64,
    show: &'a mut dyn FnMut(u64, u64),
}

/// What ended it.
enum Failure {
    Vault(FsError),
    Target(PathBuf, io::Error),
}

impl Failure {
    fn explain(self, shown: &str) -> Error {
        match self {
            Self::Vault(cause) => vault_error(cause.into(), shown),
            Self::Target(path, cause) => {
                let error = Error::environment(format!(
                    "cannot write '{}' into the new vault",
                    path.display()
                ));
                let error = match cause.raw_os_error() {
                    Some(libc::ENOSPC) => error.hint("--size makes the new vault larger"),
                    Some(libc::EIO) => error.hint("the disk may be full"),
                    Some(libc::EMLINK) => {
                        error.hint("ext4 has no room for so many names of one file")
                    }
                    _ => error,
                };
                error.caused_by(cause)
            }
        }
    }
}

impl From<FsError> for Failure {
    fn from(cause: FsError) -> Self {
        Self::Vault(cause)
    }
}

type Done<T> = std::result::Result<T, Failure>;

impl Fill<'_> {
    fn tree(&mut self) -> Done<()> {
        let mut pending = vec![(PathBuf::new(), self.volume.attr(InodeNo::ROOT)?)];
        while let Some((path, attr)) = pending.pop() {
            let folder = self.open(&path)?;
            for (name, inner) in self.list(attr.inode)? {
                let below = path.join(OsStr::from_bytes(&name));
                let failed =
                    |cause: rustix::io::Errno| Failure::Target(below.clone(), cause.into());
                if inner.kind == FileKind::Directory {
                    mkdirat(&folder, name.as_slice(), Mode::RWXU).map_err(failed)?;
                    pending.push((below, inner));
                } else {
                    self.file(&folder, (&path, &name), &inner)?;
                }
            }
            self.folders.push((path, attr));
        }
        for (path, attr) in std::mem::take(&mut self.folders) {
            let folder = self.open(&path)?;
            self.describe(&folder, (&path, b""), &attr)?;
        }
        Ok(())
    }

    fn list(&self, inode: InodeNo) -> Done<Vec<(Vec<u8>, Attr)>> {
        let mut entries = Vec::new();
        self.volume.read_dir_plus(inode, 2, &mut |entry, attr| {
            if entry.name != b"." && entry.name != b".." {
                entries.push((entry.name, attr));
            }
            true
        })?;
        Ok(entries)
    }

    /// Opens a folder that was made here, name by name: a path may be longer than the kernel takes.
    fn open(&self, path: &Path) -> Done<OwnedFd> {
        let failed = |cause: rustix::io::Errno| Failure::Target(path.to_owned(), cause.into());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut folder = openat(self.top, c".", flags, Mode::empty()).map_err(failed)?;
        for name in path {
            folder = openat(&folder, name, flags, Mode::empty()).map_err(failed)?;
        }
        Ok(folder)
    }

    fn file(&mut self, folder: &OwnedFd, (path, name): (&Path, &[u8]), attr: &Attr) -> Done<()> {
        let failed = |cause: rustix::io::Errno| {
            Failure::Target(path.join(OsStr::from_bytes(name)), cause.into())
        };
        if let Some((first, known)) = self.links.get(&attr.inode) {
            let there = self.open(first)?;
            return linkat(&there, known.as_slice(), folder, name, AtFlags::empty())
                .map_err(failed);
        }
        match attr.kind {
            FileKind::Symlink => {
                let target = self.volume.read_link(attr.inode)?;
                symlinkat(target.as_slice(), folder, name).map_err(failed)?;
            }
            FileKind::Regular => self.content(folder, (path, name), attr)?,
            kind => {
                mknodat(folder, name, file_type(kind), Mode::RUSR, device(attr.device))
                    .map_err(failed)?;
            }
        }
        if attr.links > 1 {
            self.links.insert(attr.inode, (path.to_owned(), name.to_vec()));
        }
        self.describe(folder, (path, name), attr)
    }

    fn content(&mut self, folder: &OwnedFd, (path, name): (&Path, &[u8]), attr: &Attr) -> Done<()> {
        let failed = |cause: io::Error| Failure::Target(path.join(OsStr::from_bytes(name)), cause);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(folder, name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|cause| failed(cause.into()))?;
        ftruncate(&file, attr.size).map_err(|cause| failed(cause.into()))?;
        let file = std::fs::File::from(file);
        let mut from = 0;
        while let Some(range) = self.volume.next_data(attr.inode, from)? {
            from = range.end;
            let mut at = range.start;
            while at < range.end {
                let len = usize::try_from((range.end - at).min(CHUNK)).unwrap_or(0);
                let bytes = self.volume.read(attr.inode, at, len)?;
                if bytes.is_empty() {
                    break;
                }
                file.write_all_at(&bytes, at).map_err(failed)?;
                at += bytes.len() as u64;
                self.advance(bytes.len() as u64);
            }
        }
        Ok(())
    }

    /// Gives a file its attributes: the owner first, since that takes rights away, then permissions, the
    /// lists that refine them, and the times last.
    fn describe(
        &mut self,
        folder: &OwnedFd,
        (path, name): (&Path, &[u8]),
        attr: &Attr,
    ) -> Done<()> {
        let failed = |cause: io::Error| Failure::Target(path.join(OsStr::from_bytes(name)), cause);
        let is_top = name.is_empty();
        let at = if is_top { c".".to_bytes() } else { name };
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let (uid, gid) = (Uid::from_raw(attr.uid), Gid::from_raw(attr.gid));
        chownat(folder, at, Some(uid), Some(gid), flags).map_err(|cause| failed(cause.into()))?;
        if attr.kind != FileKind::Symlink {
            let mode = Mode::from_raw_mode(attr.permissions.into());
            if is_top {
                fchmod(folder, mode)
            } else {
                rustix::fs::chmodat(folder, at, mode, AtFlags::empty())
            }
            .map_err(|cause| failed(cause.into()))?;
        }
        let full = folder::path_of(&folder).join(OsStr::from_bytes(at));
        for name in self.volume.list_xattrs(attr.inode)? {
            let value = self.volume.xattr(attr.inode, &name)?;
            rustix::fs::lsetxattr(full.as_path(), name.as_slice(), &value, XattrFlags::empty())
                .map_err(|cause| failed(cause.into()))?;
        }
        let times = Timestamps {
            last_access: timespec(attr.accessed),
            last_modification: timespec(attr.modified),
        };
        utimensat(folder.as_fd(), at, &times, flags).map_err(|cause| failed(cause.into()))?;
        self.advance(FILE_WEIGHT);
        Ok(())
    }

    fn advance(&mut self, bytes: u64) {
        self.done = self.done.saturating_add(bytes);
        (self.show)(self.done, self.total);
    }
}

fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::Fifo => FileType::Fifo,
        FileKind::Socket => FileType::Socket,
        FileKind::CharDevice => FileType::CharacterDevice,
        FileKind::BlockDevice => FileType::BlockDevice,
        FileKind::Directory => FileType::Directory,
        FileKind::Symlink => FileType::Symlink,
        FileKind::Regular => FileType::RegularFile,
    }
}

/// Splits Linux's 32-bit encoding.
fn device(number: u32) -> u64 {
    rustix::fs::makedev((number >> 8) & 0xfff, (number & 0xff) | ((number >> 12) & 0xf_ff00))
}

fn timespec(time: Timestamp) -> Timespec {
    Timespec { tv_sec: time.seconds, tv_nsec: time.nanos.into() }
}
