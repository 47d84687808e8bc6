//! Reading two vaults side by side: a copy is believed only when every name, attribute and byte agrees.

use super::left::{Listing, Run, is_folder};
use super::{Progress, Show, Source};
use crate::error::FsError;
use crate::format::inode::Inode;
use crate::ids::{InodeNo, UNIT_U64};
use std::collections::HashMap;
use thiserror::Error;

/// Two vaults do not hold the same, or one of them cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CompareError {
    /// The source cannot be read.
    #[error("cannot read what was copied")]
    Source(#[source] FsError),
    /// The copy cannot be read.
    #[error("cannot read the copy")]
    Copy(#[source] FsError),
    /// Something differs.
    #[error("the copy differs at '{}': {what}", String::from_utf8_lossy(path))]
    Differs {
        /// The path.
        path: Vec<u8>,
        /// What about it.
        what: &'static str,
    },
}

/// Compares everything.
pub fn compare(source: &Source, copy: &Source, show: &mut Show<'_>) -> Result<(), CompareError> {
    let total = source.used().saturating_add(source.files());
    let mut compare = Compare { source, copy, links: HashMap::new(), show, done: 0, total };
    let mut pending = vec![(InodeNo::ROOT, InodeNo::ROOT, Vec::new())];
    while let Some((from, to, path)) = pending.pop() {
        compare.folder(from, to, &path, &mut pending)?;
    }
    Ok(())
}

struct Compare<'a, 's> {
    source: &'a Source,
    copy: &'a Source,
    /// Files with several names: all of them must lead to one inode here, too.
    links: HashMap<u64, InodeNo>,
    show: &'a mut Show<'s>,
    done: u64,
    total: u64,
}

type Pending = Vec<(InodeNo, InodeNo, Vec<u8>)>;

impl Compare<'_, '_> {
    fn folder(
        &mut self,
        from: InodeNo,
        to: InodeNo,
        path: &[u8],
        pending: &mut Pending,
    ) -> Result<(), CompareError> {
        self.inode(from, to, path)?;
        let mut listing = Listing { next: Some(0), ..Listing::default() };
        while let Some(cookie) = listing.next {
            listing = self.source.list(from, cookie, false).map_err(CompareError::Source)?;
            for (name, inode) in std::mem::take(&mut listing.entries) {
                let mut below = path.to_vec();
                if !path.is_empty() {
                    below.push(b'/');
                }
                below.extend_from_slice(&name);
                let found = self.copy.fs.find(to, &name).map_err(CompareError::Copy)?;
                let Some(found) = found else { return Err(differs(&below, "it is missing")) };
                let file = self.source.inode(inode, false).map_err(CompareError::Source)?;
                if file.is_some_and(|file| is_folder(&file)) {
                    pending.push((inode, found.inode, below));
                } else {
                    self.file(inode, found.inode, &below)?;
                }
            }
        }
        Ok(())
    }

    fn file(&mut self, from: InodeNo, to: InodeNo, path: &[u8]) -> Result<(), CompareError> {
        if let Some(known) = self.links.get(&from.0) {
            return if *known == to { Ok(()) } else { Err(differs(path, "links")) };
        }
        let (file, other) = self.inode(from, to, path)?;
        if file.links > 1 {
            self.links.insert(from.0, to);
        }
        match file.kind {
            crate::fs::FileKind::Symlink => {
                let target = self.source.fs.read_link(from).map_err(CompareError::Source)?;
                if self.copy.fs.read_link(to).map_err(CompareError::Copy)? != target {
                    return Err(differs(path, "the link's target"));
                }
            }
            crate::fs::FileKind::Regular => {
                self.runs(self.source, (from, &file), (from, to), path)?;
                self.runs(self.copy, (to, &other), (from, to), path)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Compares the attributes of two inodes; those of folders include the number of entries.
    fn inode(
        &mut self,
        from: InodeNo,
        to: InodeNo,
        path: &[u8],
    ) -> Result<(Inode, Inode), CompareError> {
        let file = self.source.fs.load(from).map_err(CompareError::Source)?;
        let other = self.copy.fs.load(to).map_err(CompareError::Copy)?;
        let differing = [
            ("kind", file.kind != other.kind),
            ("permissions", file.permissions != other.permissions),
            ("owner", (file.uid, file.gid) != (other.uid, other.gid)),
            ("links", file.links != other.links),
            ("size", file.size != other.size),
            ("device", file.device != other.device),
            ("times", times(&file) != times(&other)),
            ("entries", file.entries != other.entries),
            ("extended attributes", file.xattrs != other.xattrs),
        ];
        if let Some((what, _)) = differing.iter().find(|(_, differs)| *differs) {
            return Err(differs(path, what));
        }
        let (attributes, _) =
            self.source.xattrs(from, &file, false).map_err(CompareError::Source)?;
        for (name, value) in attributes {
            match self.copy.fs.xattr(to, &name) {
                Ok(copied) if copied == value => {}
                Ok(_) | Err(FsError::NoAttribute) => {
                    return Err(differs(path, "extended attributes"));
                }
                Err(error) => return Err(CompareError::Copy(error)),
            }
        }
        self.advance(1)?;
        Ok((file, other))
    }

    /// Compares the content of two files wherever one of them has any.
    fn runs(
        &mut self,
        of: &Source,
        (inode, file): (InodeNo, &Inode),
        (from, to): (InodeNo, InodeNo),
        path: &[u8],
    ) -> Result<(), CompareError> {
        let is_source = std::ptr::eq(of, self.source);
        let mut at = 0;
        loop {
            let next = of.next_run((inode, file), at, false, &mut |_| ());
            let Some(run) =
                next.map_err(if is_source { CompareError::Source } else { CompareError::Copy })?
            else {
                return Ok(());
            };
            at = run.offset.saturating_add(run.len);
            let read = |side: &Source, inode| side.read_run(inode, run, false, &mut |_: Run| ());
            let content = read(self.source, from).map_err(CompareError::Source)?;
            if read(self.copy, to).map_err(CompareError::Copy)? != content {
                return Err(differs(path, "content"));
            }
            self.advance(if is_source { run.len.div_ceil(UNIT_U64) } else { 0 })?;
        }
    }

    fn advance(&mut self, units: u64) -> Result<(), CompareError> {
        self.done = self.done.saturating_add(units);
        (self.show)(Progress { done: self.done, total: self.total }).map_err(CompareError::Source)
    }
}

fn times(file: &Inode) -> [crate::ports::Timestamp; 3] {
    [file.modified, file.changed, file.born]
}

fn differs(path: &[u8], what: &'static str) -> CompareError {
    CompareError::Differs { path: path.to_vec(), what }
}
