//! Verifying a vault whole (FORMAT.md section 13): a read-only walk that authenticates every block
//! and holds every count against what is found.
//!
//! Damage does not stop the walk: what a damaged node or block takes with it is reported, and the
//! rest is verified. Memory is bounded by a few dozen bytes for each file, a bit for each unit, and
//! [`MOST_FINDINGS`]: names are read once more, and only those that lead to what is wrong.

mod counts;
mod names;
mod walk;

use crate::error::{Damage, FsError};
use crate::format::node::TreeId;
use crate::fs::{MountError, OpenOptions, Opened, Setup, open_for_check};
use crate::ids::{BlockNo, InodeNo};
use counts::Counts;
pub use counts::UsedUnits;
use std::collections::BTreeMap;
use walk::Walk;

/// Findings that are kept; further ones are only counted.
pub const MOST_FINDINGS: usize = 10_000;

/// How thoroughly to check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Depth {
    /// Nodes and file content.
    #[default]
    Everything,
    /// Nodes only: the structure, without reading content.
    Structure,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// A node cannot be read; everything between these inodes may be missing.
    Node {
        /// What is wrong with it.
        damage: Damage,
        /// Which tree it belongs to.
        tree: TreeId,
        /// The first inode concerned.
        first: InodeNo,
        /// The last inode concerned.
        last: InodeNo,
    },
    /// File content cannot be read.
    Content {
        /// What is wrong with it.
        damage: Damage,
        /// The file.
        inode: InodeNo,
        /// First byte concerned.
        offset: u64,
        /// Number of bytes concerned.
        len: u64,
    },
    /// An item of a file is missing or malformed.
    Item {
        /// The file.
        inode: InodeNo,
        /// Which item.
        what: &'static str,
    },
    /// A name leads to an inode that does not exist.
    Dangling {
        /// The folder.
        folder: InodeNo,
        /// The missing inode.
        inode: InodeNo,
    },
    /// A file has a name, and a damaged node took the rest of it.
    Gone {
        /// The file.
        inode: InodeNo,
    },
    /// A damaged node took a part of a file: of a folder entries, of a regular file content. What is
    /// missing of the content cannot be told from holes.
    Incomplete {
        /// The file.
        inode: InodeNo,
        /// First byte of content concerned.
        offset: u64,
        /// Number of bytes concerned; none for anything but a regular file.
        len: u64,
    },
    /// A count in an inode is not what was found.
    Count {
        /// The file.
        inode: InodeNo,
        /// Which count.
        what: &'static str,
        /// What the inode says.
        stored: u64,
        /// What there is.
        found: u64,
    },
    /// A file or folder cannot be reached from the root.
    Unreachable {
        /// The file.
        inode: InodeNo,
    },
    /// Two references lead to the same unit.
    Shared {
        /// The unit.
        block: BlockNo,
    },
    /// The allocation map calls a unit free that is in use.
    MarkedFree {
        /// First unit of the run.
        block: BlockNo,
        /// Length of the run.
        units: u64,
    },
    /// The allocation map calls units in use that nothing refers to.
    Leaked {
        /// First unit of the run.
        block: BlockNo,
        /// Length of the run.
        units: u64,
    },
    /// A count in the superblock is not what was found.
    Superblock {
        /// Which count.
        what: &'static str,
        /// What the superblock says.
        stored: u64,
        /// What there is.
        found: u64,
    },
}

impl Finding {
    /// Whether content or names are lost, rather than only bookkeeping being wrong.
    pub fn loses_data(&self) -> bool {
        matches!(
            self,
            Self::Node { tree: TreeId::FileSystem, .. }
                | Self::Content { .. }
                | Self::Item { .. }
                | Self::Dangling { .. }
                | Self::Gone { .. }
                | Self::Incomplete { .. }
        )
    }

    /// The file that the finding is about.
    pub fn inode(&self) -> Option<InodeNo> {
        match self {
            Self::Content { inode, .. }
            | Self::Item { inode, .. }
            | Self::Count { inode, .. }
            | Self::Dangling { inode, .. }
            | Self::Gone { inode }
            | Self::Incomplete { inode, .. }
            | Self::Unreachable { inode } => Some(*inode),
            _ => None,
        }
    }
}

/// What a check found.
#[derive(Clone, Debug)]
pub struct Report {
    /// The state that was checked.
    pub opened: Opened,
    /// What is wrong, in the order of discovery.
    pub findings: Vec<Finding>,
    /// Findings beyond [`MOST_FINDINGS`].
    pub unlisted: u64,
    /// Paths of the files that findings name, as far as names are left.
    pub paths: BTreeMap<InodeNo, Vec<u8>>,
    /// Superblock slots that hold something unreadable. The last commit before an interruption leaves
    /// one behind, which the next commit replaces.
    pub torn_slots: Vec<usize>,
    /// Inodes found.
    pub inodes: u64,
    /// Units in use.
    pub used: UsedUnits,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

/// How far a check has come.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Units verified.
    pub done: u64,
    /// Units in use, as the superblock says.
    pub total: u64,
}

/// Shows progress; an error from it stops the check.
pub type Show<'s> = dyn FnMut(Progress) -> Result<(), FsError> + 's;

/// Checks a vault without changing it.
///
/// Fails only if there is no state to check, the storage fails, or `show` stops it.
pub fn check(
    setup: &Setup,
    options: &OpenOptions,
    depth: Depth,
    show: &mut Show<'_>,
) -> Result<Report, MountError> {
    let (pool, opened) = open_for_check(setup, options)?;
    let mut walk = Walk::new(&pool, 1 << setup.block_shift, depth, show);
    walk.file_system()?;
    walk.allocation()?;
    let (mut notes, seen, used) = walk.finish();
    Counts { pool: &pool, seen: &seen, used: &used }.judge(&mut notes)?;
    let paths = names::paths(&pool, &seen, notes.findings.iter().filter_map(Finding::inode))?;
    Ok(Report {
        opened,
        findings: notes.findings,
        unlisted: notes.unlisted,
        paths,
        torn_slots: pool.torn_slots().to_vec(),
        inodes: seen.inodes(),
        used,
    })
}

/// The list of findings, bounded.
#[derive(Default)]
struct Notes {
    findings: Vec<Finding>,
    unlisted: u64,
}

impl Notes {
    fn add(&mut self, finding: Finding) {
        if let (
            Some(Finding::Content { inode: before, offset: start, len: joined, .. }),
            Finding::Content { inode, offset, len, .. },
        ) = (self.findings.last_mut(), &finding)
            && before == inode
            && start.checked_add(*joined) == Some(*offset)
        {
            *joined = joined.saturating_add(*len);
            return;
        }
        if self.findings.len() < MOST_FINDINGS {
            self.findings.push(finding);
        } else {
            self.unlisted += 1;
        }
    }
}
