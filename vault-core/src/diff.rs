//! How two states of a vault differ, path by path.

use crate::error::{Damage, FsError, FsResult};
use crate::fs::{Attr, FileKind, Volume};
use crate::ids::InodeNo;
use std::collections::{BTreeMap, HashSet};

/// Bytes that are compared at a time.
const CHUNK: usize = 1 << 20;

/// What became of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is in the second state only.
    Added,
    /// It is in the first state only.
    Removed,
    /// Content, target or kind differ.
    Content,
    /// Mode, owner, time or extended attributes differ, and nothing else.
    Attributes,
}

/// One path that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The path from the root, without a leading slash; of a folder with a slash at its end.
    pub path: Vec<u8>,
    /// What became of it.
    pub change: Change,
}

/// Shows every path that differs between two states, a folder's before what is in it.
pub fn diff(before: &Volume, after: &Volume, show: &mut dyn FnMut(Difference)) -> FsResult<()> {
    let mut walk = Walk { before, after, show, seen: HashSet::new() };
    walk.both(InodeNo::ROOT, InodeNo::ROOT)
}

struct Walk<'a> {
    before: &'a Volume,
    after: &'a Volume,
    show: &'a mut dyn FnMut(Difference),
    /// Folders that were listed, by side: a hostile author can make cycles.
    seen: HashSet<(bool, InodeNo)>,
}

/// A folder to be listed: on one side, or on both.
struct Pending {
    path: Vec<u8>,
    before: Option<InodeNo>,
    after: Option<InodeNo>,
}

impl Walk<'_> {
    fn both(&mut self, before: InodeNo, after: InodeNo) -> FsResult<()> {
        let mut pending =
            vec![Pending { path: Vec::new(), before: Some(before), after: Some(after) }];
        while let Some(folder) = pending.pop() {
            let old = self.list(false, folder.before)?;
            let mut new = self.list(true, folder.after)?;
            let mut inner = Vec::new();
            for (name, was) in old {
                let is = new.remove(&name);
                self.one(&folder.path, &name, Some(was), is, &mut inner)?;
            }
            for (name, is) in new {
                self.one(&folder.path, &name, None, Some(is), &mut inner)?;
            }
            pending.extend(inner);
        }
        Ok(())
    }

    fn list(&mut self, after: bool, folder: Option<InodeNo>) -> FsResult<BTreeMap<Vec<u8>, Attr>> {
        let mut found = BTreeMap::new();
        let Some(folder) = folder else { return Ok(found) };
        if !self.seen.insert((after, folder)) {
            return Err(Damage::Item { inode: folder, what: "folder with two names" }.into());
        }
        let volume = if after { self.after } else { self.before };
        let unfinished = if folder == InodeNo::ROOT { volume.gathering()? } else { None };
        volume.read_dir_plus(folder, 0, &mut |entry, attr| {
            if entry.name != b"." && entry.name != b".." && Some(attr.inode) != unfinished {
                found.insert(entry.name, attr);
            }
            true
        })?;
        Ok(found)
    }

    fn one(
        &mut self,
        folder: &[u8],
        name: &[u8],
        was: Option<Attr>,
        is: Option<Attr>,
        inner: &mut Vec<Pending>,
    ) -> FsResult<()> {
        let mut path = folder.to_vec();
        path.extend_from_slice(name);
        let inode = |attr: Option<Attr>| {
            attr.filter(|attr| attr.kind == FileKind::Directory).map(|attr| attr.inode)
        };
        let (old, new) = (inode(was), inode(is));
        if old.is_some() || new.is_some() {
            path.push(b'/');
            inner.push(Pending { path: path.clone(), before: old, after: new });
        }
        let change = match (was, is) {
            (None, _) => Some(Change::Added),
            (_, None) => Some(Change::Removed),
            (Some(was), Some(is)) => self.compare(&was, &is)?,
        };
        if let Some(change) = change {
            (self.show)(Difference { path, change });
        }
        Ok(())
    }

    fn compare(&self, was: &Attr, is: &Attr) -> FsResult<Option<Change>> {
        if was.kind != is.kind || self.content_differs(was, is)? {
            return Ok(Some(Change::Content));
        }
        let about = |attr: &Attr| (attr.permissions, attr.uid, attr.gid, attr.device);
        // A folder's time changes with its entries, which are told by themselves.
        let times = was.kind != FileKind::Directory && was.modified != is.modified;
        let differ = times
            || about(was) != about(is)
            || attributes(self.before, was.inode)? != attributes(self.after, is.inode)?;
        Ok(differ.then_some(Change::Attributes))
    }

    fn content_differs(&self, was: &Attr, is: &Attr) -> FsResult<bool> {
        match was.kind {
            FileKind::Symlink => {
                Ok(self.before.read_link(was.inode)? != self.after.read_link(is.inode)?)
            }
            FileKind::Regular if was.size != is.size => Ok(true),
            FileKind::Regular => self.bytes_differ(was, is),
            _ => Ok(false),
        }
    }

    /// Compares where either side has data; elsewhere both are zeros.
    fn bytes_differ(&self, was: &Attr, is: &Attr) -> FsResult<bool> {
        let mut at = 0;
        loop {
            let next = [self.before.next_data(was.inode, at)?, self.after.next_data(is.inode, at)?];
            let Some(range) = next.into_iter().flatten().min_by_key(|range| range.start) else {
                return Ok(false);
            };
            let len = usize::try_from(range.end - range.start).unwrap_or(CHUNK).min(CHUNK);
            let old = self.before.read(was.inode, range.start, len)?;
            if old != self.after.read(is.inode, range.start, len)? {
                return Ok(true);
            }
            at = range.start + len as u64;
        }
    }
}

fn attributes(volume: &Volume, inode: InodeNo) -> FsResult<BTreeMap<Vec<u8>, Vec<u8>>> {
    let names = volume.list_xattrs(inode)?;
    let value = |name: Vec<u8>| match volume.xattr(inode, &name) {
        Ok(value) => Ok((name, value)),
        Err(error) => Err(error),
    };
    names.into_iter().map(value).collect::<Result<_, FsError>>()
}
