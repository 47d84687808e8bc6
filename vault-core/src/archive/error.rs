//! What can be wrong with an archive, or happen on the way.

use crate::error::FsError;
use std::io;
use thiserror::Error;

/// An export or import failed. Paths are those in the archive.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The vault failed at an entry.
    #[error("the vault failed at '{}'", shown(path))]
    Vault {
        /// The entry.
        path: Vec<u8>,
        /// Why.
        #[source]
        source: FsError,
    },
    /// The vault failed while everything was put in its place or made durable.
    #[error("the vault failed")]
    Commit(#[source] FsError),
    /// What is to be imported cannot be read.
    #[error("cannot read '{}'", shown(path))]
    Source {
        /// The entry.
        path: Vec<u8>,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The archive cannot be read.
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    /// The archive cannot be written.
    #[error("cannot write the archive")]
    Write(#[source] io::Error),
    /// The archive does not follow its format.
    #[error("the archive is malformed near byte {at}: {what}")]
    Malformed {
        /// Where in the archive.
        at: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// It begins as a compressed stream.
    #[error("this is no tar archive but one compressed by {by}")]
    Compressed {
        /// The program that unpacks it.
        by: &'static str,
    },
    /// It does not begin as an archive does.
    #[error("this is no tar archive")]
    NoArchive,
    /// There is not even a first byte.
    #[error("there is nothing in it")]
    Nothing,
    /// The stream ends before the archive does.
    #[error("the archive is cut short")]
    CutShort,
    /// An entry's path would lead elsewhere, or is no path.
    #[error("'{}' {what}", shown(path))]
    Path {
        /// The path.
        path: Vec<u8>,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Something of that name is in the vault already.
    #[error("'{}' is in the vault already", shown(path))]
    Exists {
        /// The path.
        path: Vec<u8>,
    },
    /// A folder and something else claim one name.
    #[error("'{}' is a folder on one side only", shown(path))]
    KindDiffers {
        /// The path.
        path: Vec<u8>,
    },
    /// A hard link leads to nothing that came before it in the archive.
    #[error(
        "'{}' is a hard link to '{}', which is no file of this archive",
        shown(path),
        shown(target)
    )]
    LinkTarget {
        /// The link.
        path: Vec<u8>,
        /// Where it leads.
        target: Vec<u8>,
    },
    /// The entry is of a kind that no file system has, or that is not read.
    #[error("'{}' is {what}", shown(path))]
    Unsupported {
        /// The entry.
        path: Vec<u8>,
        /// What it is.
        what: &'static str,
    },
}

impl From<FsError> for ArchiveError {
    fn from(source: FsError) -> Self {
        Self::Commit(source)
    }
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

impl ArchiveError {
    pub(super) fn vault(path: &[u8], source: impl Into<FsError>) -> Self {
        Self::Vault { path: path.to_vec(), source: source.into() }
    }

    pub(super) fn path(path: &[u8], what: &'static str) -> Self {
        Self::Path { path: path.to_vec(), what }
    }
}
