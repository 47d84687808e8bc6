//! Putting a tree of ext4 into a new vault: names, links, attributes, times, holes and content.

use super::ext4::{Ext4, Node, ROOT};
use super::places::{Folder, Folders, Place};
use super::{ForeignError, is_idle_lost_and_found};
use crate::error::FsError;
use crate::fs::{Creator, FileKind, NewFile, SetAttr, SetTime, Volume, WriteOrigin, XattrMode};
use crate::ids::InodeNo;
use std::collections::{HashMap, HashSet};
use thiserror::Error;

/// Bytes that are moved at a time.
const CHUNK: u64 = 1 << 20;
/// Bytes between two commits of the target.
const BETWEEN_COMMITS: u64 = 64 << 20;
/// Files that count as much as that.
const FILE_WEIGHT: u64 = 4096;
const CREATOR: Creator = Creator { uid: 0, gid: 0, umask: 0 };

/// What came over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Files, folders and links.
    pub files: u64,
    /// Bytes of content.
    pub bytes: u64,
}

/// A copy failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CopyError {
    /// The source cannot be read.
    #[error("cannot read '{}'", String::from_utf8_lossy(path))]
    Source {
        /// The path.
        path: Vec<u8>,
        /// Why.
        source: ForeignError,
    },
    /// The target cannot be written.
    #[error("cannot write '{}'", String::from_utf8_lossy(path))]
    Target {
        /// The path.
        path: Vec<u8>,
        /// Why.
        source: FsError,
    },
}

/// Copies everything into an empty volume and makes it durable. `show` is told how many bytes are done, of
/// about how many.
pub fn copy(
    source: &Ext4,
    target: &Volume,
    show: &mut dyn FnMut(u64, u64),
) -> Result<Copied, CopyError> {
    let mut copy = Copy {
        source,
        target,
        links: HashMap::new(),
        folders: Vec::new(),
        places: Folders::new(),
        entered: HashSet::new(),
        listed: 0,
        done: Copied::default(),
        committed: 0,
        show,
    };
    copy.tree()?;
    target.sync().map_err(|source| CopyError::Target { path: Vec::new(), source })?;
    Ok(copy.done)
}

struct Copy<'a> {
    source: &'a Ext4,
    target: &'a Volume,
    /// Where files with several names are in the target.
    links: HashMap<u32, InodeNo>,
    /// Folders, which get their attributes when everything is in them.
    folders: Vec<(u32, InodeNo, Folder)>,
    places: Folders,
    /// Each has one place; a hostile author may have given it two.
    entered: HashSet<u32>,
    /// Bytes of all folders that were read.
    listed: u64,
    done: Copied,
    committed: u64,
    show: &'a mut dyn FnMut(u64, u64),
}

impl Copy<'_> {
    fn tree(&mut self) -> Result<(), CopyError> {
        let mut pending = vec![(ROOT, InodeNo::ROOT, Folders::TOP)];
        self.entered.insert(ROOT);
        while let Some((number, to, folder)) = pending.pop() {
            for (name, number) in self.list(number, folder)? {
                let at = Place { folder, name: &name };
                let node = self.source.node(number).map_err(|error| self.unread(at, error))?;
                if folder == Folders::TOP
                    && is_idle_lost_and_found(self.source, &name, &node)
                        .map_err(|error| self.unread(at, error))?
                {
                    continue;
                }
                if node.kind == FileKind::Directory {
                    if !self.entered.insert(number) {
                        let error = ForeignError::damaged("a folder with two names");
                        return Err(self.unread(at, error));
                    }
                    let made = self.target.make_dir(to, &name, 0o700, &CREATOR);
                    let made = made.map_err(|error| self.unwritten(at, error))?;
                    pending.push((number, made.inode, self.places.add(at)));
                } else {
                    self.file(&node, to, at)?;
                }
            }
            self.folders.push((number, to, folder));
        }
        for (number, to, folder) in std::mem::take(&mut self.folders) {
            let at = folder.itself();
            let node = self.source.node(number).map_err(|error| self.unread(at, error))?;
            self.describe(&node, to, at)?;
        }
        Ok(())
    }

    /// Folders share no blocks: all of them together have no more than there are.
    fn list(&mut self, number: u32, folder: Folder) -> Result<Vec<(Vec<u8>, u32)>, CopyError> {
        let at = folder.itself();
        let node = self.source.node(number).map_err(|error| self.unread(at, error))?;
        self.listed = self.listed.saturating_add(node.size);
        if self.listed > self.source.size() {
            return Err(self.unread(at, ForeignError::damaged("the size of the folders")));
        }
        self.source.read_dir(&node).map_err(|error| self.unread(at, error))
    }

    fn file(&mut self, node: &Node, folder: InodeNo, at: Place<'_>) -> Result<(), CopyError> {
        if let Some(known) = self.links.get(&node.number) {
            // A new name is a change of the inode, but not one that the source has seen.
            let changed =
                SetAttr { changed: Some(SetTime::At(node.changed)), ..SetAttr::default() };
            return self
                .target
                .link(*known, folder, at.name)
                .and_then(|_| self.target.set_attr(*known, &changed))
                .map(drop)
                .map_err(|error| self.unwritten(at, error));
        }
        let made = if node.kind == FileKind::Symlink {
            let target = self.source.link_target(node).map_err(|error| self.unread(at, error))?;
            self.target.make_symlink(folder, at.name, &target, &CREATOR)
        } else {
            let new = NewFile { kind: node.kind, permissions: 0o600, device: node.device };
            self.target.create(folder, at.name, &new, &CREATOR)
        };
        let inode = made.map_err(|error| self.unwritten(at, error))?.inode;
        if node.kind == FileKind::Regular {
            self.content(node, inode, at)?;
        }
        if node.links > 1 {
            self.links.insert(node.number, inode);
        }
        self.describe(node, inode, at)
    }

    fn content(&mut self, node: &Node, inode: InodeNo, at: Place<'_>) -> Result<(), CopyError> {
        let runs = self.source.runs(node).map_err(|error| self.unread(at, error))?;
        let mut buffer = Vec::new();
        for run in &runs {
            let mut offset = run.offset;
            while offset < run.range().end {
                let len = (run.range().end - offset).min(CHUNK);
                buffer.resize(usize::try_from(len).unwrap_or(0), 0);
                self.source
                    .read(&runs, offset, &mut buffer)
                    .map_err(|error| self.unread(at, error))?;
                self.target
                    .write(inode, offset, &buffer, WriteOrigin::Direct, false)
                    .map_err(|error| self.unwritten(at, error))?;
                offset += len;
                self.done.bytes += len;
                self.advance(at)?;
            }
        }
        if runs.last().map_or(0, |run| run.range().end) < node.size {
            let change = SetAttr { size: Some(node.size), ..SetAttr::default() };
            self.target.set_attr(inode, &change).map_err(|error| self.unwritten(at, error))?;
        }
        Ok(())
    }

    /// Gives a file its attributes. The list that governs access follows the permissions, whose group bits
    /// are its mask, and the times come last.
    fn describe(&mut self, node: &Node, inode: InodeNo, at: Place<'_>) -> Result<(), CopyError> {
        let is_link = node.kind == FileKind::Symlink;
        let owner = SetAttr {
            permissions: (!is_link).then_some(node.permissions),
            uid: Some(node.uid),
            gid: Some(node.gid),
            ..SetAttr::default()
        };
        self.target.set_attr(inode, &owner).map_err(|error| self.unwritten(at, error))?;
        for (name, value) in self.source.xattrs(node).map_err(|error| self.unread(at, error))? {
            self.target
                .set_xattr(inode, &name, &value, XattrMode::Set)
                .map_err(|error| self.unwritten(at, error))?;
        }
        let times = SetAttr {
            accessed: Some(SetTime::At(node.accessed)),
            modified: Some(SetTime::At(node.modified)),
            changed: Some(SetTime::At(node.changed)),
            ..SetAttr::default()
        };
        self.target.set_attr(inode, &times).map_err(|error| self.unwritten(at, error))?;
        self.done.files += 1;
        self.advance(at)
    }

    fn advance(&mut self, at: Place<'_>) -> Result<(), CopyError> {
        let done = self.done.files.saturating_mul(FILE_WEIGHT).saturating_add(self.done.bytes);
        let total = self.source.files().saturating_mul(FILE_WEIGHT);
        (self.show)(done, total.saturating_add(self.source.used()));
        if done.saturating_sub(self.committed) < BETWEEN_COMMITS {
            return Ok(());
        }
        self.committed = done;
        self.target.sync().map_err(|error| self.unwritten(at, error))
    }

    fn unread(&self, at: Place<'_>, source: ForeignError) -> CopyError {
        CopyError::Source { path: self.places.path(at), source }
    }

    fn unwritten(&self, at: Place<'_>, source: FsError) -> CopyError {
        CopyError::Target { path: self.places.path(at), source }
    }
}
