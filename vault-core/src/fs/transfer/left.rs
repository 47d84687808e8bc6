//! Reading what is left of a source, with everything that is not.

use super::Source;
use crate::error::{Damage, FsError, FsResult};
use crate::format::inode::Inode;
use crate::format::key::{Key, kind};
use crate::fs::extents::Extent;
use crate::fs::types::FileKind;
use crate::ids::InodeNo;
use std::ops::ControlFlow;

/// Blocks that are read at once.
const RUN: u64 = 64;
/// Entries of a folder that are held at once.
pub(super) const ENTRIES: usize = 4096;

/// Extended attributes: names with their values.
type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

/// A part of a folder: names with their inodes, and where to go on.
#[derive(Default)]
pub(super) struct Listing {
    pub(super) entries: Vec<(Vec<u8>, InodeNo)>,
    /// Whether some may have been lost.
    pub(super) lost: bool,
    pub(super) next: Option<u64>,
}

/// The next thing in a file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// First byte.
    pub(super) offset: u64,
    /// Number of bytes, at most the blocks that are read at once.
    pub(super) len: u64,
}

impl Source {
    /// Lists a folder from a cookie on.
    pub(super) fn list(&self, folder: InodeNo, from: u64, rescue: bool) -> FsResult<Listing> {
        let mut listing = Listing::default();
        let mut entries = Vec::new();
        let mut next = None;
        self.fs.pool.scan_list_left(
            &Key::of(folder, kind::DIRENT, from),
            &mut |key, value| {
                if entries.len() >= ENTRIES {
                    next = Some(key.offset);
                    return Ok(ControlFlow::Break(()));
                }
                let (inode, _, name) = crate::fs::decode_entry(folder, value)?;
                entries.push((name.to_vec(), inode));
                Ok(ControlFlow::Continue(()))
            },
            &mut |_, _, damage| {
                listing.lost = true;
                tolerate(damage, rescue)
            },
        )?;
        listing.entries = entries;
        listing.next = next;
        Ok(listing)
    }

    /// Loads an inode; `None` if it is gone, which damage explains.
    pub(super) fn inode(&self, inode: InodeNo, rescue: bool) -> FsResult<Option<Inode>> {
        match self.fs.load(inode) {
            Ok(file) => Ok(Some(file)),
            Err(FsError::Stale | FsError::Damaged(_)) if rescue => Ok(None),
            Err(FsError::Stale) => Err(Damage::Item { inode, what: "inode of an entry" }.into()),
            Err(error) => Err(error),
        }
    }

    /// Returns a link's target; `None` if it is gone.
    pub(super) fn link_target(&self, inode: InodeNo, rescue: bool) -> FsResult<Option<Vec<u8>>> {
        match self.fs.read_link(inode) {
            Ok(target) => Ok(Some(target)),
            Err(FsError::Damaged(_)) if rescue => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the attributes that are left, and whether these are all.
    pub(super) fn xattrs(
        &self,
        inode: InodeNo,
        file: &Inode,
        rescue: bool,
    ) -> FsResult<(Attributes, bool)> {
        let mut found = Vec::new();
        if file.xattrs == 0 {
            return Ok((found, true));
        }
        let names = match self.fs.list_xattrs(inode) {
            Ok(names) => names,
            Err(FsError::Damaged(_)) if rescue => return Ok((found, false)),
            Err(error) => return Err(error),
        };
        for name in names {
            match self.fs.xattr(inode, &name) {
                Ok(value) => found.push((name, value)),
                Err(FsError::Damaged(_)) if rescue => return Ok((found, false)),
                Err(error) => return Err(error),
            }
        }
        let whole = found.len() as u64 == u64::from(file.xattrs);
        Ok((found, whole || !rescue))
    }

    /// Returns the next run of content at or after byte `from`; holes are passed over. `lost` is told
    /// of ranges of which it cannot be known what they hold.
    pub(super) fn next_run(
        &self,
        (inode, file): (InodeNo, &Inode),
        from: u64,
        rescue: bool,
        lost: &mut dyn FnMut(Run),
    ) -> FsResult<Option<Run>> {
        if from >= file.size {
            return Ok(None);
        }
        if file.inline {
            return Ok(Some(Run { offset: from, len: file.size - from }));
        }
        let size = self.fs.block_size();
        let mut found: Option<(u64, u64)> = None;
        let bytes = |first: u64, end: u64| {
            let offset = first.saturating_mul(size).max(from).min(file.size);
            Run { offset, len: end.saturating_mul(size).min(file.size).saturating_sub(offset) }
        };
        self.fs.pool.scan_list_left(
            &Key::of(inode, kind::EXTENT, from / size),
            &mut |key, value| {
                let extent = Extent::decode(inode, value)?;
                let data = matches!(extent, Extent::Data(_));
                match &mut found {
                    _ if !data => {}
                    None => found = Some((key.offset, 1)),
                    Some((first, count)) if *first + *count == key.offset && *count < RUN => {
                        *count += 1;
                    }
                    Some(_) => return Ok(ControlFlow::Break(())),
                }
                Ok(ControlFlow::Continue(()))
            },
            &mut |lower, upper, damage| {
                let within = |key: &Key| key.object == inode.0 && key.kind == kind::EXTENT;
                let first = if within(&lower) { lower.offset } else { 0 };
                let end = upper.filter(within).map_or(u64::MAX, |upper| upper.offset);
                lost(bytes(first, end));
                tolerate(damage, rescue)
            },
        )?;
        Ok(found.map(|(first, count)| bytes(first, first + count)).filter(|run| run.len > 0))
    }

    /// Reads a run. Parts that cannot be read are zeros, and `lost` is told.
    pub(super) fn read_run(
        &self,
        inode: InodeNo,
        run: Run,
        rescue: bool,
        lost: &mut dyn FnMut(Run),
    ) -> FsResult<Vec<u8>> {
        let len = usize::try_from(run.len).map_err(|_| FsError::FileTooBig)?;
        match self.fs.read(inode, run.offset, len) {
            Err(FsError::Damaged(_)) if rescue => {}
            outcome => return outcome,
        }
        let mut bytes = Vec::with_capacity(len);
        let end = run.offset.saturating_add(run.len);
        let mut at = run.offset;
        while at < end {
            let next = (at / self.fs.block_size() + 1).saturating_mul(self.fs.block_size());
            let part = Run { offset: at, len: next.min(end) - at };
            let part_len = usize::try_from(part.len).map_err(|_| FsError::FileTooBig)?;
            match self.fs.read(inode, at, part_len) {
                Ok(content) => bytes.extend_from_slice(&content),
                Err(FsError::Damaged(_)) => {
                    lost(part);
                    bytes.resize(bytes.len() + part_len, 0);
                }
                Err(error) => return Err(error),
            }
            at = part.offset + part.len;
        }
        Ok(bytes)
    }

    /// Shows every inode that is left, with whether it is a folder.
    pub(super) fn each_inode(&self, show: &mut dyn FnMut(InodeNo, &Inode)) -> FsResult<()> {
        self.fs.pool.scan_left(&mut |key, value| {
            if key.kind == kind::INODE
                && key.object != 0
                && let Ok(file) = Inode::decode(value)
                && file.links > 0
            {
                show(InodeNo(key.object), &file);
            }
            Ok(ControlFlow::Continue(()))
        })
    }
}

/// Whether a file is a folder.
pub(super) fn is_folder(file: &Inode) -> bool {
    file.kind == FileKind::Directory
}

fn tolerate(damage: Damage, rescue: bool) -> FsResult<()> {
    if rescue { Ok(()) } else { Err(damage.into()) }
}
