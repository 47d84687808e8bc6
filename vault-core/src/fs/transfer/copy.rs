//! The copy itself: folder by folder, file by file.

use super::left::{Listing, Run, is_folder};
use super::{Care, Copied, CopyError, Loss, Lost, MOST_LOSSES, Progress, Show, Source};
use crate::error::FsError;
use crate::format::inode::Inode;
use crate::fs::types::{Attr, Creator, FileKind, NewFile, WriteOrigin, XattrMode};
use crate::fs::volume::Volume;
use crate::ids::{InodeNo, UNIT_U64};
use std::collections::{HashMap, HashSet};

/// Units between two commits of the target: what an interruption costs at most.
const BETWEEN_COMMITS: u64 = 16 << 10;
const CREATOR: Creator = Creator { uid: 0, gid: 0, umask: 0 };

/// Copies everything from the source into the target, or what is missing there.
///
/// The target is new, or what an interrupted copy of the same source left.
pub fn copy(
    source: &Source,
    target: &Volume,
    care: Care,
    show: &mut Show<'_>,
) -> Result<Copied, CopyError> {
    let total = source.used().saturating_add(source.files());
    let mut copy = Copy {
        source,
        target,
        rescue: care == Care::Rescue,
        links: HashMap::new(),
        visited: HashSet::new(),
        pending: Vec::new(),
        copied: Copied::default(),
        show,
        done: 0,
        committed: 0,
        total,
    };
    copy.pending.push((InodeNo::ROOT, InodeNo::ROOT, Vec::new()));
    copy.visited.insert(InodeNo::ROOT.0);
    copy.folders()?;
    if copy.rescue {
        copy.nameless()?;
    }
    target.sync().map_err(CopyError::Target)?;
    Ok(copy.copied)
}

/// Whether a file came over as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileOutcome {
    Whole,
    Damaged,
}

/// A copy on its way.
pub(super) struct Copy<'a, 's> {
    pub(super) source: &'a Source,
    pub(super) target: &'a Volume,
    rescue: bool,
    /// Where files with several names are in the target; `None` for one that is not whole.
    links: HashMap<u64, Option<InodeNo>>,
    /// Inodes of the source that were met by name; kept for a rescue.
    pub(super) visited: HashSet<u64>,
    /// Folders that are made and not filled yet: source, target, path.
    pending: Vec<(InodeNo, InodeNo, Vec<u8>)>,
    copied: Copied,
    show: &'a mut Show<'s>,
    done: u64,
    committed: u64,
    total: u64,
}

impl Copy<'_, '_> {
    /// Fills all folders that wait for it.
    pub(super) fn folders(&mut self) -> Result<(), CopyError> {
        while let Some((source, target, path)) = self.pending.pop() {
            self.folder(source, target, &path)?;
        }
        Ok(())
    }

    pub(super) fn lose(&mut self, path: Vec<u8>, inode: InodeNo, loss: Loss) {
        if self.copied.lost.len() < MOST_LOSSES {
            self.copied.lost.push(Lost { path, inode, loss });
        } else {
            self.copied.unlisted += 1;
        }
    }

    fn folder(&mut self, from: InodeNo, to: InodeNo, path: &[u8]) -> Result<(), CopyError> {
        let Some(folder) = self.source.inode(from, self.rescue).map_err(CopyError::Source)? else {
            self.lose(path.to_vec(), from, Loss::Gone);
            return Ok(());
        };
        let mut listing = Listing { next: Some(0), ..Listing::default() };
        let (mut lost, mut count) = (false, 0_u64);
        while let Some(cookie) = listing.next {
            listing = self.source.list(from, cookie, self.rescue).map_err(CopyError::Source)?;
            lost |= listing.lost;
            count += listing.entries.len() as u64;
            for (name, inode) in std::mem::take(&mut listing.entries) {
                let mut below = path.to_vec();
                if !path.is_empty() {
                    below.push(b'/');
                }
                below.extend_from_slice(&name);
                self.entry((to, &below), &name, inode)?;
            }
        }
        if !self.rescue {
            self.remove_others(from, to)?;
        }
        if self.rescue && (lost || count < folder.entries) {
            self.lose(path.to_vec(), from, Loss::Entries);
        }
        let whole = self.xattrs(from, &folder, to)?;
        if !whole {
            self.lose(path.to_vec(), from, Loss::Attributes);
        }
        self.imitate(to, &folder, 0)?;
        self.copied.files += 1;
        self.advance(1)
    }

    /// Copies what a name leads to; the content of a folder waits.
    pub(super) fn entry(
        &mut self,
        (folder, path): (InodeNo, &[u8]),
        name: &[u8],
        inode: InodeNo,
    ) -> Result<FileOutcome, CopyError> {
        let Some(file) = self.source.inode(inode, self.rescue).map_err(CopyError::Source)? else {
            self.lose(path.to_vec(), inode, Loss::Gone);
            return Ok(FileOutcome::Damaged);
        };
        if self.rescue && !self.visited.insert(inode.0) && is_folder(&file) {
            // A folder has one place; a hostile author may have given it two.
            self.lose(path.to_vec(), inode, Loss::Gone);
            return Ok(FileOutcome::Damaged);
        }
        let there = match self.target.lookup(folder, name) {
            Ok(attr) => Some(attr),
            Err(FsError::NotFound) => None,
            Err(error) => return Err(CopyError::Target(error)),
        };
        if is_folder(&file) {
            let to = self.make_folder(folder, name, there)?;
            self.pending.push((inode, to, path.to_vec()));
            return Ok(FileOutcome::Whole);
        }
        match self.links.get(&inode.0) {
            Some(Some(known)) => {
                let known = *known;
                self.another_name(known, &file, (folder, name), there)?;
                return Ok(FileOutcome::Whole);
            }
            Some(None) => {
                self.lose(path.to_vec(), inode, Loss::Gone);
                return Ok(FileOutcome::Damaged);
            }
            None => {}
        }
        let to = match there {
            Some(attr) if is_copy(&attr, &file) => Some(attr.inode),
            Some(attr) if is_begun(&attr, &file) => {
                self.fill((inode, &file), (folder, name), attr, path)?
            }
            other => {
                if let Some(attr) = other {
                    self.remove_all(folder, name, &attr)?;
                }
                match self.begin((inode, &file), (folder, name), path)? {
                    Some(attr) => self.fill((inode, &file), (folder, name), attr, path)?,
                    None => None,
                }
            }
        };
        if file.links > 1 {
            self.links.insert(inode.0, to);
        }
        self.copied.files += 1;
        self.advance(1)?;
        Ok(if to.is_some() { FileOutcome::Whole } else { FileOutcome::Damaged })
    }

    fn make_folder(
        &mut self,
        folder: InodeNo,
        name: &[u8],
        there: Option<Attr>,
    ) -> Result<InodeNo, CopyError> {
        match there {
            Some(attr) if attr.kind == FileKind::Directory => return Ok(attr.inode),
            Some(attr) => self.remove_all(folder, name, &attr)?,
            None => {}
        }
        let made = self.target.make_dir(folder, name, 0o700, &CREATOR);
        made.map(|attr| attr.inode).map_err(CopyError::Target)
    }

    fn another_name(
        &mut self,
        known: InodeNo,
        file: &Inode,
        (folder, name): (InodeNo, &[u8]),
        there: Option<Attr>,
    ) -> Result<(), CopyError> {
        match there {
            Some(attr) if attr.inode == known => return Ok(()),
            Some(attr) => self.remove_all(folder, name, &attr)?,
            None => {}
        }
        self.target.link(known, folder, name).map_err(CopyError::Target)?;
        self.imitate(known, file, file.size)
    }

    /// Makes the file with everything but its content. `None` if a link's target is lost.
    fn begin(
        &mut self,
        (inode, file): (InodeNo, &Inode),
        (folder, name): (InodeNo, &[u8]),
        path: &[u8],
    ) -> Result<Option<Attr>, CopyError> {
        let made = if file.kind == FileKind::Symlink {
            let target = self.source.link_target(inode, self.rescue).map_err(CopyError::Source)?;
            let Some(target) = target else {
                self.lose(path.to_vec(), inode, Loss::Gone);
                return Ok(None);
            };
            self.target.make_symlink(folder, name, &target, &CREATOR)
        } else {
            let new = NewFile { kind: file.kind, permissions: 0o600, device: file.device };
            self.target.create(folder, name, &new, &CREATOR)
        };
        let made = made.map_err(CopyError::Target)?;
        if !self.xattrs(inode, file, made.inode)? {
            self.imitate(made.inode, file, 0)?;
            self.lose(path.to_vec(), inode, Loss::Attributes);
            self.move_away(inode, (folder, name))?;
            // Its content is still worth having.
            self.content((inode, file), made.inode, 0, path)?;
            return Ok(None);
        }
        self.imitate(made.inode, file, 0)?;
        self.target.attr(made.inode).map(Some).map_err(CopyError::Target)
    }

    /// Copies the content from where the target ends; `None` if some of it is lost.
    fn fill(
        &mut self,
        (inode, file): (InodeNo, &Inode),
        place: (InodeNo, &[u8]),
        there: Attr,
        path: &[u8],
    ) -> Result<Option<InodeNo>, CopyError> {
        if file.kind != FileKind::Regular {
            return Ok(Some(there.inode));
        }
        // A rescue begins anew each time, or it would take damage that it saw before for sound.
        let from = if self.rescue { 0 } else { there.size };
        if self.content((inode, file), there.inode, from, path)? {
            return Ok(Some(there.inode));
        }
        self.move_away(inode, place)?;
        Ok(None)
    }

    /// Copies content from a byte on; says whether it is whole.
    fn content(
        &mut self,
        (inode, file): (InodeNo, &Inode),
        to: InodeNo,
        from: u64,
        path: &[u8],
    ) -> Result<bool, CopyError> {
        let (source, rescue) = (self.source, self.rescue);
        let mut lost: Vec<Run> = Vec::new();
        let mut note = |part: Run| match lost.last_mut() {
            _ if part.len == 0 => {}
            Some(last) if last.offset.saturating_add(last.len) >= part.offset => {
                let end = part.offset.saturating_add(part.len).max(last.offset + last.len);
                last.len = end - last.offset;
            }
            _ => lost.push(part),
        };
        let mut at = from;
        loop {
            let run = source.next_run((inode, file), at, rescue, &mut note);
            let Some(run) = run.map_err(CopyError::Source)? else { break };
            let bytes =
                source.read_run(inode, run, rescue, &mut note).map_err(CopyError::Source)?;
            self.target
                .write(to, run.offset, &bytes, WriteOrigin::Writeback, false)
                .map_err(CopyError::Target)?;
            at = run.offset.saturating_add(run.len);
            self.advance(run.len.div_ceil(UNIT_U64))?;
        }
        self.imitate(to, file, file.size)?;
        let whole = lost.is_empty();
        for part in lost {
            self.lose(path.to_vec(), inode, Loss::Content { offset: part.offset, len: part.len });
        }
        Ok(whole)
    }

    /// Copies extended attributes; says whether these were all.
    fn xattrs(&mut self, from: InodeNo, file: &Inode, to: InodeNo) -> Result<bool, CopyError> {
        let (found, whole) =
            self.source.xattrs(from, file, self.rescue).map_err(CopyError::Source)?;
        for (name, value) in found {
            self.target.set_xattr(to, &name, &value, XattrMode::Set).map_err(CopyError::Target)?;
        }
        Ok(whole)
    }

    fn imitate(&mut self, to: InodeNo, file: &Inode, size: u64) -> Result<(), CopyError> {
        self.target.change(|fs| fs.imitate(to, file, size)).map_err(CopyError::Target)
    }

    /// Removes what an interrupted copy of an older state may have left.
    fn remove_others(&mut self, from: InodeNo, to: InodeNo) -> Result<(), CopyError> {
        let mut names = Vec::new();
        let listed = self.target.read_dir(to, 2, &mut |entry| {
            names.push((entry.name, entry.inode));
            true
        });
        listed.map_err(CopyError::Target)?;
        for (name, inode) in names {
            if self.source.fs.find(from, &name).map_err(CopyError::Source)?.is_none() {
                let attr = self.target.attr(inode).map_err(CopyError::Target)?;
                self.remove_all(to, &name, &attr)?;
            }
        }
        Ok(())
    }

    /// Removes a name in the target and all below it.
    fn remove_all(&mut self, folder: InodeNo, name: &[u8], attr: &Attr) -> Result<(), CopyError> {
        let mut waiting = vec![(folder, name.to_vec(), attr.inode, attr.kind)];
        while let Some((above, name, inode, kind)) = waiting.pop() {
            if kind != FileKind::Directory {
                self.target.unlink(above, &name).map_err(CopyError::Target)?;
                self.target.forget(inode).map_err(CopyError::Target)?;
                continue;
            }
            match self.target.remove_dir(above, &name) {
                Ok(()) => self.target.forget(inode).map_err(CopyError::Target)?,
                Err(FsError::NotEmpty) => {
                    let mut children = Vec::new();
                    let listed = self.target.read_dir(inode, 2, &mut |entry| {
                        children.push((inode, entry.name, entry.inode, entry.kind));
                        true
                    });
                    listed.map_err(CopyError::Target)?;
                    waiting.push((above, name, inode, kind));
                    waiting.append(&mut children);
                }
                Err(error) => return Err(CopyError::Target(error)),
            }
        }
        Ok(())
    }

    fn advance(&mut self, units: u64) -> Result<(), CopyError> {
        self.done = self.done.saturating_add(units);
        (self.show)(Progress { done: self.done, total: self.total }).map_err(CopyError::Source)?;
        if self.done.saturating_sub(self.committed) >= BETWEEN_COMMITS {
            self.committed = self.done;
            self.target.sync().map_err(CopyError::Target)?;
        }
        Ok(())
    }
}

/// Whether the target's file has everything that is told by attributes.
fn is_copy(there: &Attr, file: &Inode) -> bool {
    same_marks(there, file) && there.size == file.size
}

/// Whether the target's file was begun and its content has come to its size.
fn is_begun(there: &Attr, file: &Inode) -> bool {
    same_marks(there, file) && file.kind == FileKind::Regular && there.size < file.size
}

fn same_marks(there: &Attr, file: &Inode) -> bool {
    there.kind == file.kind
        && there.permissions == file.permissions
        && (there.uid, there.gid) == (file.uid, file.gid)
        && (there.modified, there.changed) == (file.modified, file.changed)
        && there.born == file.born
        && there.device == file.device
}
