//! Copying what a vault holds into another image, file by file: what renewing keys, mending and
//! salvaging have in common.
//!
//! The source is only read. The target is a volume like any other, so its counts, its allocation map
//! and its keyed names are right by construction. [`copy()`] can be interrupted and called again with the
//! target it left: files that are there are passed over, the last one is continued. [`compare()`] reads
//! both sides whole, so nothing that an earlier, interrupted copy left has to be trusted.
//!
//! With [`Care::Rescue`] damage does not end the copy. A file that lost some of its content, or whose
//! attributes cannot be read, goes to `lost+found` with what is left of it, never to its own place: a
//! copy must not make damage look sound. What no name leads to any more goes there too.

mod compare;
mod copy;
mod left;
mod lost;

pub use compare::{CompareError, compare};
pub use copy::copy;

use crate::error::FsError;
use crate::fs::open::{self, MountError, OpenOptions, Opened, Setup};
use crate::fs::state::Fs;
use crate::ids::{Generation, InodeNo};
use thiserror::Error;

/// Losses that are listed; further ones are only counted.
pub const MOST_LOSSES: usize = 10_000;
/// The folder for what has no place of its own any more.
pub const LOST_AND_FOUND: &[u8] = b"lost+found";

/// A state of a vault, opened to be copied out of.
pub struct Source {
    fs: Fs,
    opened: Opened,
}

impl Source {
    /// Opens the newest sound generation; nothing is written.
    pub fn open(setup: &Setup, options: &OpenOptions) -> Result<Self, MountError> {
        let options = OpenOptions { read_only: true, ..*options };
        let (fs, _, opened) = open::open(setup, &options)?;
        Ok(Self { fs, opened })
    }

    /// Opens the newest generation of which anything is left; nothing is written.
    pub fn rescue(setup: &Setup, options: &OpenOptions) -> Result<Self, MountError> {
        let (fs, opened) = open::open_what_is_left(setup, options)?;
        Ok(Self { fs, opened })
    }

    /// Which state it is.
    pub fn opened(&self) -> Opened {
        self.opened
    }

    /// The highest generation that the image or its witness knows of.
    pub fn highest_generation(&self) -> Generation {
        self.fs.pool.generation()
    }

    /// Units that the vault may grow to.
    pub fn capacity(&self) -> u64 {
        self.fs.pool.capacity()
    }

    /// Units in use.
    pub fn used(&self) -> u64 {
        self.fs.pool.allocated()
    }

    /// Number of inodes.
    pub fn files(&self) -> u64 {
        self.fs.pool.counters.inodes
    }
}

/// What a copy does about damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Care {
    /// It ends the copy.
    Strict,
    /// What is left is taken, and what is lost is told.
    Rescue,
}

/// What happened to a file that could not be copied as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Loss {
    /// Nothing of it is left but its name.
    Gone,
    /// Bytes of its content are lost; the rest is in `lost+found`.
    Content {
        /// First byte.
        offset: u64,
        /// Number of bytes.
        len: u64,
    },
    /// Extended attributes are lost; the rest is in `lost+found`.
    Attributes,
    /// Entries of a folder are lost; the files that they named are in `lost+found`, as far as they are
    /// left.
    Entries,
    /// No name leads to it any more: it is in `lost+found` as it was.
    Nameless,
}

/// A loss with the path of the file, or what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The path in the source, or in `lost+found` for what has no name.
    pub path: Vec<u8>,
    /// The inode in the source.
    pub inode: InodeNo,
    /// What happened.
    pub loss: Loss,
}

/// What a copy did.
#[derive(Clone, Debug, Default)]
pub struct Copied {
    /// Inodes that are in the target now.
    pub files: u64,
    /// What could not be copied as it was.
    pub lost: Vec<Lost>,
    /// Losses beyond [`MOST_LOSSES`].
    pub unlisted: u64,
}

/// How far a copy or comparison has come.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Units of content done, and one for each file.
    pub done: u64,
    /// About what there is to do.
    pub total: u64,
}

/// Shows progress; an error from it stops the work.
pub type Show<'s> = dyn FnMut(Progress) -> Result<(), FsError> + 's;

/// A copy failed. What it has done so far is a good beginning for the next try.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CopyError {
    /// The source cannot be read.
    #[error("cannot read what is to be copied")]
    Source(#[source] FsError),
    /// The target cannot be written.
    #[error("cannot write the copy")]
    Target(#[source] FsError),
}
