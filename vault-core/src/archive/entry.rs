//! One entry on its way into a vault, wherever it comes from.

use super::MAX_PATH;
use super::error::ArchiveError;
use crate::ports::Timestamp;
use std::ops::Range;

/// An owner that is not known.
pub const NO_OWNER: u32 = u32::MAX;
/// Longest name of one file.
const MAX_NAME: usize = 255;

/// A file, folder or link to be made.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its path, relative to where it is imported; empty for that place itself.
    pub path: EntryPath,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits, 0o7777 at most.
    pub permissions: u16,
    /// Owner, or [`NO_OWNER`].
    pub uid: u32,
    /// Group, or [`NO_OWNER`].
    pub gid: u32,
    /// Last change of content.
    pub modified: Timestamp,
    /// Last access, if known.
    pub accessed: Option<Timestamp>,
    /// Extended attributes, access control lists among them: name, value.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file of this size. Only `data` is not zero; its bytes follow each other in the content.
    File {
        /// Size in bytes.
        size: u64,
        /// Ascending ranges inside the size.
        data: Vec<Range<u64>>,
    },
    /// A folder.
    Folder,
    /// A symbolic link to this target.
    Symlink(Vec<u8>),
    /// Another name of a file that came before.
    HardLink(EntryPath),
    /// A named pipe.
    Fifo,
    /// A device node, which an import passes over.
    Device,
}

/// A relative path of names that stay below where they start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntryPath(Vec<Vec<u8>>);

impl EntryPath {
    /// Judges a path: relative, no `..`, no NUL, names and the whole of bounded length.
    pub fn parse(path: &[u8]) -> Result<Self, ArchiveError> {
        let fault = |what| Err(ArchiveError::path(path, what));
        if path.len() > MAX_PATH {
            return fault("is too long");
        }
        if path.first() == Some(&b'/') {
            return fault("has an absolute path");
        }
        if path.contains(&0) {
            return fault("has a NUL in its name");
        }
        let mut names = Vec::new();
        for name in path.split(|byte| *byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." => return fault("leads out of the archive by '..'"),
                name if name.len() > MAX_NAME => return fault("has too long a name"),
                name => names.push(name.to_vec()),
            }
        }
        Ok(Self(names))
    }

    /// Returns the names from the top down.
    pub fn names(&self) -> &[Vec<u8>] {
        &self.0
    }

    /// Returns the folder and the name in it; `None` for the top itself.
    pub(super) fn split(&self) -> Option<(&[Vec<u8>], &[u8])> {
        self.0.split_last().map(|(name, folder)| (folder, name.as_slice()))
    }

    /// Returns the path as one string of bytes.
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.0.join(&b'/')
    }
}
