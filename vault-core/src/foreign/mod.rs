//! Reading vaults of another make: a LUKS container with ext4 inside, without the kernel.
//!
//! A vault that moves from one backend to the other is read here, on any machine, with no device mapper and
//! no root: [`luks`] opens a container of version 1 or 2 and hands out plain bytes, [`ext4`] finds the tree
//! in them, [`copy()`] puts it into a [`Volume`](crate::fs::Volume), and [`compare()`] says whether a volume and such a
//! tree hold the same. Nothing here writes a container.
//!
//! What is read is hostile input. Until a keyslot opens nothing in a header is authentic, and what it asks of
//! the machine is judged first; AES-XTS authenticates nothing, so every number in the file system is checked
//! before it is used. Memory is bounded by the size of the image, each folder is entered once, and neither a file nor
//! all folders together have more blocks than there are.

mod compare;
mod copy;
pub mod ext4;
mod fields;
pub mod luks;
mod places;

pub use compare::{CompareError, compare};
pub use copy::{Copied, CopyError, copy};

use crate::crypto::kdf::KdfError;
use crate::device::BlockDevice;
use std::io;
use std::sync::Arc;
use thiserror::Error;

/// The folder that `e2fsck` puts files into; an empty one is part of the file system, not of the vault.
pub const LOST_AND_FOUND: &[u8] = b"lost+found";

/// Plain bytes that can be read anywhere.
pub trait Bytes: Send + Sync {
    /// Returns the length.
    fn len(&self) -> u64;

    /// Fills `buffer` from `offset`; an end inside the range is `UnexpectedEof`.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A device whose bytes are plain as they are.
pub struct Plain {
    device: Arc<dyn BlockDevice>,
    len: u64,
}

impl Plain {
    /// Takes the device as it is now.
    pub fn new(device: Arc<dyn BlockDevice>) -> io::Result<Self> {
        let len = device.len()?;
        Ok(Self { device, len })
    }
}

impl Bytes for Plain {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.device.read_at(buffer, offset)
    }
}

/// A container or file system cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ForeignError {
    /// The image cannot be read.
    #[error("cannot read the image")]
    Io(#[from] io::Error),
    /// Something in it cannot be right.
    #[error("{what} cannot be right")]
    Damaged {
        /// What.
        what: &'static str,
    },
    /// It uses something that is not read here.
    #[error("{what} is not read without the kernel")]
    Unsupported {
        /// What.
        what: String,
    },
    /// No keyslot opened with what was presented.
    #[error("no keyslot opened")]
    NoSlotOpened,
    /// A keyslot asks for too much.
    #[error("a keyslot cannot be tried")]
    Kdf(#[from] KdfError),
    /// The file system was not unmounted, and its journal holds changes.
    #[error("the file system was not unmounted cleanly")]
    Journal,
}

impl ForeignError {
    fn damaged(what: &'static str) -> Self {
        Self::Damaged { what }
    }

    fn unsupported(what: impl Into<String>) -> Self {
        Self::Unsupported { what: what.into() }
    }
}

/// The result of reading.
pub type ForeignResult<T> = Result<T, ForeignError>;

/// Whether a folder at the top is where `e2fsck` would put files, with none in it.
fn is_idle_lost_and_found(fs: &ext4::Ext4, name: &[u8], node: &ext4::Node) -> ForeignResult<bool> {
    Ok(name == LOST_AND_FOUND
        && node.kind == crate::fs::FileKind::Directory
        && fs.read_dir(node)?.is_empty())
}
