//! The image as a file on the host, held by one writer at a time.
//!
//! The lock is an OFD lock on the image itself: it belongs to the open file and ends with it, by
//! `kill -9` too. Closing lets go of it explicitly: a program that another thread is just starting
//! holds copies of every descriptor until its `exec`, and a copy would keep the image locked.
//! After locking, the path is looked at again, so that a file which was replaced meanwhile is never
//! taken for the one that was locked. Locks do not join an overlay path with its upper file, nor hosts
//! without working NFS locks; where locking fails the image is refused.

use super::BlockDevice;
use super::holder::Holder;
use crate::format::magic::{ImageFormat, RECOGNISE_LEN};
use nix::errno::Errno;
use nix::fcntl::{
    FallocateFlags, FcntlArg, OFlag, PosixFadviseAdvice, fallocate, fcntl, posix_fadvise,
};
use nix::libc;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use thiserror::Error;

/// What the opener will do with the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read only; shares the image with other readers, excludes writers.
    ReadOnly,
    /// Read and write; excludes everyone else.
    ReadWrite,
}

/// The image cannot be opened as storage.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The path does not exist.
    #[error("no such image")]
    NotFound,
    /// A new image was asked for and the path exists.
    #[error("path exists already")]
    Exists,
    /// The path is a symbolic link.
    #[error("image path is a symbolic link")]
    SymbolicLink,
    /// The path is something else than a regular file.
    #[error("image path is a {kind}, not a regular file")]
    NotRegular {
        /// What it is.
        kind: &'static str,
    },
    /// The file cannot hold a header.
    #[error("file of {len} bytes is too short for a vault image")]
    TooShort {
        /// Its length.
        len: u64,
    },
    /// Another process has the image open.
    #[error("image is in use")]
    InUse {
        /// Who says so beside the image, if anyone; not authentic.
        holder: Option<Holder>,
    },
    /// The host's file system cannot lock, so that two writers could not be kept apart.
    #[error("the file system of the image does not support locks")]
    NoLocks(#[source] io::Error),
    /// The path kept changing while it was opened.
    #[error("image was replaced while it was opened")]
    Replaced,
    /// Anything else that the host refused.
    #[error("cannot open the image file")]
    Io(#[from] io::Error),
}

/// Says what the file at `path` seems to be, without locking it or taking anything in it for true.
pub fn recognise(path: &Path) -> Result<ImageFormat, OpenError> {
    let file = open_regular(path, Access::ReadOnly)?;
    let mut start = Vec::with_capacity(RECOGNISE_LEN);
    file.take(RECOGNISE_LEN as u64).read_to_end(&mut start)?;
    Ok(ImageFormat::recognise(&start))
}

/// An image file, locked.
#[derive(Debug)]
pub struct FileDevice {
    file: File,
    access: Access,
}

impl FileDevice {
    /// The shortest file that can be an image: header copies and superblock ring.
    pub const MIN_LEN: u64 = 16 * 4096;

    /// Opens and locks an existing image.
    pub fn open(path: &Path, access: Access) -> Result<Self, OpenError> {
        // Each turn that fails means that someone renamed another file to this path meanwhile.
        for _ in 0..8 {
            let file = open_regular(path, access)?;
            lock(&file, access, || Holder::read(path))?;
            if still_at(path, &file)? {
                return Self { file, access }.long_enough();
            }
        }
        Err(OpenError::Replaced)
    }

    /// Makes an empty image file, readable by its owner only, and locks it.
    pub fn create_new(path: &Path) -> Result<Self, OpenError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits())
            .open(path)
            .map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => OpenError::Exists,
                io::ErrorKind::NotFound => OpenError::NotFound,
                _ => OpenError::Io(error),
            })?;
        lock(&file, Access::ReadWrite, || None)?;
        Ok(Self { file, access: Access::ReadWrite })
    }

    /// Reads a file that nobody changes meanwhile, since the caller has its lock or made it.
    pub fn held(file: File) -> Result<Self, OpenError> {
        Self { file, access: Access::ReadOnly }.long_enough()
    }

    /// Returns how the image was opened.
    pub fn access(&self) -> Access {
        self.access
    }

    fn long_enough(self) -> Result<Self, OpenError> {
        match self.file.metadata()?.len() {
            len if len < Self::MIN_LEN => Err(OpenError::TooShort { len }),
            _ => Ok(self),
        }
    }

    fn writable(&self) -> io::Result<()> {
        match self.access {
            Access::ReadWrite => Ok(()),
            Access::ReadOnly => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
        }
    }
}

impl Drop for FileDevice {
    fn drop(&mut self) {
        // Closing follows and does the same, unless a copy of the descriptor is left.
        let _ = fcntl(&self.file, FcntlArg::F_OFD_SETLK(&whole_file(libc::F_UNLCK)));
    }
}

impl BlockDevice for FileDevice {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn prefetch(&self, offset: u64, len: u64) {
        let (Ok(offset), Ok(len)) = (signed(offset), signed(len)) else { return };
        // Only advice: where it cannot be given, reading takes its time.
        let _ = posix_fadvise(&self.file, offset, len, PosixFadviseAdvice::POSIX_FADV_WILLNEED);
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.writable()?;
        self.file.write_all_at(bytes, offset)
    }

    fn grow(&self, len: u64) -> io::Result<()> {
        self.writable()?;
        let old = self.len()?;
        if len <= old {
            return Ok(());
        }
        match allocate(&self.file, old, len - old) {
            Err(error) if unsupported(&error) => {
                write_zeros(&self.file, old, len).inspect_err(|_| self.cut_back(old))
            }
            // A full file system may have extended the file part of the way.
            outcome => outcome.inspect_err(|_| self.cut_back(old)),
        }
    }

    fn back(&self, offset: u64, len: u64) -> io::Result<()> {
        self.writable()?;
        match allocate(&self.file, offset, len) {
            Err(error) if unsupported(&error) => Ok(()),
            outcome => outcome,
        }
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.writable()?;
        if len < self.len()? { self.file.set_len(len) } else { Ok(()) }
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.writable()?;
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        match retried(|| fallocate(&self.file, flags, signed(offset)?, signed(len)?)) {
            Err(error) if unsupported(&error) => Ok(()),
            outcome => outcome,
        }
    }

    fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

impl FileDevice {
    /// Undoes a growth that failed. Its own failure leaves free space at the end, which a later
    /// opening ignores.
    fn cut_back(&self, len: u64) {
        let _ = self.file.set_len(len);
    }
}

/// Opens a regular file without following a link at the end of the path, and without waiting for
/// the other end of a fifo.
pub(super) fn open_regular(path: &Path, access: Access) -> Result<File, OpenError> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = OpenOptions::new()
        .read(true)
        .write(access == Access::ReadWrite)
        .custom_flags(flags.bits())
        .open(path)
        .map_err(|error| match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
            Errno::ENOENT => OpenError::NotFound,
            Errno::ELOOP if is_link(path) => OpenError::SymbolicLink,
            Errno::EISDIR => OpenError::NotRegular { kind: "folder" },
            Errno::ENXIO => OpenError::NotRegular { kind: "fifo or socket" },
            _ => OpenError::Io(error),
        })?;
    require_regular(&file.metadata()?)?;
    Ok(file)
}

fn is_link(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink())
}

fn require_regular(metadata: &Metadata) -> Result<(), OpenError> {
    let kind = metadata.file_type();
    let kind = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "folder",
        () if kind.is_block_device() => "block device",
        () if kind.is_char_device() => "character device",
        () => "fifo or socket",
    };
    Err(OpenError::NotRegular { kind })
}

/// Locks the whole file for this open file description, or says who holds it.
fn lock(
    file: &File,
    access: Access,
    holder: impl FnOnce() -> Option<Holder>,
) -> Result<(), OpenError> {
    let kind = match access {
        Access::ReadOnly => libc::F_RDLCK,
        Access::ReadWrite => libc::F_WRLCK,
    };
    match fcntl(file, FcntlArg::F_OFD_SETLK(&whole_file(kind))) {
        Ok(_) => Ok(()),
        Err(Errno::EAGAIN | Errno::EACCES) => Err(OpenError::InUse { holder: holder() }),
        Err(Errno::EBADF) => Err(OpenError::Io(Errno::EBADF.into())),
        // ENOLCK, and whatever else says that this file system keeps no locks.
        Err(errno) => Err(OpenError::NoLocks(errno.into())),
    }
}

/// Describes a lock over every byte of a file, now and later.
fn whole_file(kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: kind.try_into().expect("lock kinds are 0 to 2"),
        l_whence: libc::SEEK_SET.try_into().expect("SEEK_SET is 0"),
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

/// Whether `path` still names the file that was opened.
fn still_at(path: &Path, file: &File) -> io::Result<bool> {
    let opened = file.metadata()?;
    match path.symlink_metadata() {
        Ok(there) => Ok((there.dev(), there.ino()) == (opened.dev(), opened.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn allocate(file: &File, offset: u64, len: u64) -> io::Result<()> {
    retried(|| fallocate(file, FallocateFlags::empty(), signed(offset)?, signed(len)?))
}

/// Allocates by writing, where the host's file system has no `fallocate`.
fn write_zeros(file: &File, from: u64, to: u64) -> io::Result<()> {
    const CHUNK: u64 = 1 << 20;
    let zeros = vec![0; 1 << 20];
    let mut at = from;
    while at < to {
        let len = CHUNK.min(to - at);
        let len_bytes = usize::try_from(len).expect("a chunk fits in memory");
        file.write_all_at(&zeros[..len_bytes], at)?;
        at += len;
    }
    Ok(())
}

fn retried(mut call: impl FnMut() -> Result<(), Errno>) -> io::Result<()> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            outcome => return outcome.map_err(io::Error::from),
        }
    }
}

fn signed(value: u64) -> Result<i64, Errno> {
    i64::try_from(value).map_err(|_| Errno::EFBIG)
}

fn unsupported(error: &io::Error) -> bool {
    let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
    matches!(errno, Errno::EOPNOTSUPP | Errno::ENOSYS)
}

#[cfg(test)]
mod tests;
