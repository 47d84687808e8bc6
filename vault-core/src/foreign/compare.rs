//! Reading a tree of ext4 and a vault side by side: neither copy is believed before all agrees.

use super::ext4::{Ext4, Node, ROOT};
use super::places::{Folder, Folders, Place};
use super::{ForeignError, LOST_AND_FOUND, is_idle_lost_and_found};
use crate::error::{FsError, FsResult};
use crate::fs::{Attr, FileKind, Volume};
use crate::ids::InodeNo;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use thiserror::Error;

/// Bytes that are compared at a time.
const CHUNK: u64 = 1 << 20;

/// The two do not hold the same, or one of them cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CompareError {
    /// The tree of ext4 cannot be read.
    #[error("cannot read '{}' in the LUKS image", String::from_utf8_lossy(path))]
    Foreign {
        /// The path.
        path: Vec<u8>,
        /// Why.
        source: ForeignError,
    },
    /// The vault cannot be read.
    #[error("cannot read '{}' in the vault", String::from_utf8_lossy(path))]
    Vault {
        /// The path.
        path: Vec<u8>,
        /// Why.
        source: FsError,
    },
    /// Something differs.
    #[error("'{}' differs: {what}", String::from_utf8_lossy(path))]
    Differs {
        /// The path.
        path: Vec<u8>,
        /// What about it.
        what: &'static str,
    },
}

/// Compares everything that both can hold. The kernel sets an inode's own time by itself: whether the vault
/// has it as well is asked for where the vault is the copy.
pub fn compare(
    foreign: &Ext4,
    volume: &Volume,
    with_changed: bool,
    show: &mut dyn FnMut(u64, u64),
) -> Result<(), CompareError> {
    let mut compare = Compare {
        foreign,
        volume,
        with_changed,
        links: HashMap::new(),
        linked: HashSet::new(),
        entered: HashSet::from([ROOT]),
        places: Folders::new(),
        done: 0,
        show,
    };
    let mut pending = vec![(ROOT, InodeNo::ROOT, Folders::TOP)];
    while let Some(folder) = pending.pop() {
        compare.folder(folder, &mut pending)?;
    }
    Ok(())
}

struct Compare<'a> {
    foreign: &'a Ext4,
    volume: &'a Volume,
    with_changed: bool,
    /// Files with several names: all of them must lead to one inode on the other side too, and to no other.
    links: HashMap<u32, InodeNo>,
    linked: HashSet<InodeNo>,
    entered: HashSet<u32>,
    places: Folders,
    done: u64,
    show: &'a mut dyn FnMut(u64, u64),
}

type Pending = Vec<(u32, InodeNo, Folder)>;

impl Compare<'_> {
    fn folder(
        &mut self,
        (number, inode, folder): (u32, InodeNo, Folder),
        pending: &mut Pending,
    ) -> Result<(), CompareError> {
        let top = folder.itself();
        let node = self.foreign.node(number).map_err(|e| self.foreign(top, e))?;
        self.inode(&node, &self.volume.attr(inode).map_err(|e| self.vault(top, e))?, top)?;
        let mut others = self.list(inode).map_err(|e| self.vault(top, e))?;
        for (name, number) in self.foreign.read_dir(&node).map_err(|e| self.foreign(top, e))? {
            let at = Place { folder, name: &name };
            let node = self.foreign.node(number).map_err(|e| self.foreign(at, e))?;
            if folder == Folders::TOP
                && is_idle_lost_and_found(self.foreign, &name, &node)
                    .map_err(|e| self.foreign(at, e))?
            {
                self.forget_idle(&mut others).map_err(|e| self.vault(at, e))?;
                continue;
            }
            let Some(attr) = others.remove(&name) else {
                return Err(self.differs(at, "it is missing in the vault"));
            };
            if node.kind == FileKind::Directory {
                if !self.entered.insert(number) {
                    let error = ForeignError::damaged("a folder with two names");
                    return Err(self.foreign(at, error));
                }
                if attr.kind != FileKind::Directory {
                    return Err(self.differs(at, "kind"));
                }
                pending.push((number, attr.inode, self.places.add(at)));
            } else {
                self.file(&node, &attr, at)?;
            }
        }
        if folder == Folders::TOP {
            self.forget_idle(&mut others).map_err(|e| self.vault(top, e))?;
        }
        match others.into_keys().next() {
            Some(name) => {
                let at = Place { folder, name: &name };
                Err(self.differs(at, "it is missing in the LUKS image"))
            }
            None => Ok(()),
        }
    }

    fn list(&self, folder: InodeNo) -> FsResult<HashMap<Vec<u8>, Attr>> {
        let mut names = HashMap::new();
        self.volume.read_dir_plus(folder, 2, &mut |entry, attr| {
            names.insert(entry.name, attr);
            true
        })?;
        names.remove(b".".as_slice());
        names.remove(b"..".as_slice());
        Ok(names)
    }

    fn forget_idle(&self, others: &mut HashMap<Vec<u8>, Attr>) -> FsResult<()> {
        if let Some(attr) = others.get(LOST_AND_FOUND)
            && attr.kind == FileKind::Directory
            && self.list(attr.inode)?.is_empty()
        {
            others.remove(LOST_AND_FOUND);
        }
        Ok(())
    }

    fn file(&mut self, node: &Node, attr: &Attr, at: Place<'_>) -> Result<(), CompareError> {
        if let Some(known) = self.links.get(&node.number) {
            return if *known == attr.inode { Ok(()) } else { Err(self.differs(at, "links")) };
        }
        self.inode(node, attr, at)?;
        if node.links > 1 {
            if !self.linked.insert(attr.inode) {
                return Err(self.differs(at, "links"));
            }
            self.links.insert(node.number, attr.inode);
        }
        match node.kind {
            FileKind::Symlink => {
                let target = self.foreign.link_target(node).map_err(|e| self.foreign(at, e))?;
                if self.volume.read_link(attr.inode).map_err(|e| self.vault(at, e))? == target {
                    Ok(())
                } else {
                    Err(self.differs(at, "the link's target"))
                }
            }
            FileKind::Regular => self.content(node, attr, at),
            _ => Ok(()),
        }
    }

    fn inode(&mut self, node: &Node, attr: &Attr, at: Place<'_>) -> Result<(), CompareError> {
        let is_folder = node.kind == FileKind::Directory;
        let is_link = node.kind == FileKind::Symlink;
        let differing = [
            ("kind", node.kind != attr.kind),
            ("permissions", !is_link && node.permissions != attr.permissions),
            ("owner", (node.uid, node.gid) != (attr.uid, attr.gid)),
            ("links", !is_folder && u32::from(node.links) != attr.links),
            ("size", !is_folder && node.size != attr.size),
            ("device", node.device != attr.device),
            ("time of change", node.modified != attr.modified),
            ("time of access", node.accessed != attr.accessed),
            ("inode's time", self.with_changed && node.changed != attr.changed),
        ];
        if let Some((what, _)) = differing.iter().find(|(_, differs)| *differs) {
            return Err(self.differs(at, what));
        }
        let mut attributes = self.foreign.xattrs(node).map_err(|e| self.foreign(at, e))?;
        attributes.sort_unstable();
        let mut others = Vec::new();
        for name in self.volume.list_xattrs(attr.inode).map_err(|e| self.vault(at, e))? {
            let value = self.volume.xattr(attr.inode, &name).map_err(|e| self.vault(at, e))?;
            others.push((name, value));
        }
        others.sort_unstable();
        if attributes != others {
            return Err(self.differs(at, "extended attributes"));
        }
        self.advance(4096);
        Ok(())
    }

    /// Compares content wherever one of the two has any.
    fn content(&mut self, node: &Node, attr: &Attr, at: Place<'_>) -> Result<(), CompareError> {
        let runs = self.foreign.runs(node).map_err(|e| self.foreign(at, e))?;
        let mut ranges: Vec<Range<u64>> = runs.iter().map(super::ext4::Run::range).collect();
        let mut end = 0;
        while let Some(range) =
            self.volume.next_data(attr.inode, end).map_err(|e| self.vault(at, e))?
        {
            end = range.end;
            ranges.push(range);
        }
        let mut buffer = Vec::new();
        for range in united(ranges, node.size) {
            let mut offset = range.start;
            while offset < range.end {
                let len = usize::try_from((range.end - offset).min(CHUNK)).unwrap_or(0);
                buffer.resize(len, 0);
                self.foreign.read(&runs, offset, &mut buffer).map_err(|e| self.foreign(at, e))?;
                let other =
                    self.volume.read(attr.inode, offset, len).map_err(|e| self.vault(at, e))?;
                if other != buffer {
                    return Err(self.differs(at, "content"));
                }
                offset += len as u64;
                self.advance(len as u64);
            }
        }
        Ok(())
    }

    fn foreign(&self, at: Place<'_>, source: ForeignError) -> CompareError {
        CompareError::Foreign { path: self.places.path(at), source }
    }

    fn vault(&self, at: Place<'_>, source: FsError) -> CompareError {
        CompareError::Vault { path: self.places.path(at), source }
    }

    fn differs(&self, at: Place<'_>, what: &'static str) -> CompareError {
        CompareError::Differs { path: self.places.path(at), what }
    }

    fn advance(&mut self, bytes: u64) {
        self.done = self.done.saturating_add(bytes);
        let total = self.foreign.files().saturating_mul(4096).saturating_add(self.foreign.used());
        (self.show)(self.done, total);
    }
}

/// Joins ranges that overlap, and cuts what lies beyond the end.
fn united(mut ranges: Vec<Range<u64>>, size: u64) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut united: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        let range = range.start.min(size)..range.end.min(size);
        match united.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => united.push(range),
        }
    }
    united
}
