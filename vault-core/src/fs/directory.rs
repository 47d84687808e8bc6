//! Folder entries: names in the order of a keyed hash (FORMAT.md section 8.3).

use crate::codec::{Reader, Writer};
use crate::error::{Damage, FsError, FsResult};
use crate::format::inode::Inode;
use crate::format::key::{Key, kind};
use crate::fs::inode::attr_of;
use crate::fs::state::Fs;
use crate::fs::types::{Attr, DirEntry, FileKind};
use crate::ids::InodeNo;
use std::ops::ControlFlow;

/// Names that share a hash.
const MOST_COLLISIONS: u64 = 256;
const COOKIE_DOT: u64 = 1;
const COOKIE_DOT_DOT: u64 = 2;

/// An entry that was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) inode: InodeNo,
}

/// Shows a listing's entries; false when the receiver is full.
pub(super) type Show<'v> = dyn FnMut(DirEntry) -> FsResult<bool> + 'v;

impl Fs {
    /// Looks a name up; `.` and `..` are not entries.
    pub(super) fn find(&self, folder: InodeNo, name: &[u8]) -> FsResult<Option<Entry>> {
        let base = self.cookie_base(name);
        let from = Key::of(folder, kind::DIRENT, base);
        let mut found = None;
        self.pool.scan_list(&from, &mut |key, value| {
            if key.offset >= base + MOST_COLLISIONS {
                return Ok(ControlFlow::Break(()));
            }
            let (inode, _, candidate) = decode(folder, value)?;
            if candidate == name {
                found = Some(Entry { key, inode });
                return Ok(ControlFlow::Break(()));
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(found)
    }

    /// Returns the key that a new name will have.
    pub(super) fn free_entry(&self, folder: InodeNo, name: &[u8]) -> FsResult<Key> {
        let base = self.cookie_base(name);
        let mut next = base;
        self.pool.scan_list(&Key::of(folder, kind::DIRENT, base), &mut |key, _| {
            if key.offset != next || key.offset >= base + MOST_COLLISIONS {
                return Ok(ControlFlow::Break(()));
            }
            next += 1;
            Ok(ControlFlow::Continue(()))
        })?;
        if next >= base + MOST_COLLISIONS {
            return Err(FsError::NoSpace);
        }
        Ok(Key::of(folder, kind::DIRENT, next))
    }

    /// Writes an entry at a key.
    pub(super) fn put_entry(
        &mut self,
        key: Key,
        name: &[u8],
        inode: InodeNo,
        file_kind: FileKind,
    ) -> FsResult<()> {
        let mut value = Writer::with_capacity(9 + name.len());
        value.u64(inode.0).u8(file_kind.type_bits()).bytes(name);
        self.pool.put(key, value.finish())
    }

    /// Shows the entries after a cookie, `.` and `..` first.
    pub(super) fn read_dir(
        &self,
        folder: InodeNo,
        after: u64,
        show: &mut Show<'_>,
    ) -> FsResult<()> {
        let found = self.load_folder(folder)?;
        let own = DirEntry {
            inode: folder,
            kind: FileKind::Directory,
            name: b".".to_vec(),
            cookie: COOKIE_DOT,
        };
        let parent = DirEntry {
            inode: InodeNo(found.parent),
            kind: FileKind::Directory,
            name: b"..".to_vec(),
            cookie: COOKIE_DOT_DOT,
        };
        for entry in [own, parent] {
            if after < entry.cookie && !show(entry)? {
                return Ok(());
            }
        }
        let Some(from) = after.max(COOKIE_DOT_DOT).checked_add(1) else { return Ok(()) };
        self.pool.scan_list(&Key::of(folder, kind::DIRENT, from), &mut |key, value| {
            let (inode, file_kind, name) = decode(folder, value)?;
            let entry =
                DirEntry { inode, kind: file_kind, name: name.to_vec(), cookie: key.offset };
            Ok(if show(entry)? { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })
    }

    /// Attributes for a listing; an entry whose inode is missing is damage.
    pub(super) fn listed_attr(&self, inode: InodeNo) -> FsResult<Attr> {
        match self.load(inode) {
            Ok(found) => Ok(attr_of(inode, &found)),
            Err(FsError::Stale) => Err(Damage::Item { inode, what: "inode of an entry" }.into()),
            Err(error) => Err(error),
        }
    }

    fn cookie_base(&self, name: &[u8]) -> u64 {
        (self.hash(name) >> 9).max(1) << 8
    }
}

/// Counts a new entry in its folder.
pub(super) fn count_entry(folder: &mut Inode, file_kind: FileKind) -> FsResult<()> {
    if file_kind == FileKind::Directory {
        folder.links = folder.links.checked_add(1).ok_or(FsError::TooManyLinks)?;
    }
    folder.entries = folder.entries.checked_add(1).ok_or(FsError::NoSpace)?;
    Ok(())
}

/// Counts an entry less in its folder.
pub(super) fn discount_entry(folder: &mut Inode, file_kind: FileKind) {
    if file_kind == FileKind::Directory {
        folder.links = folder.links.saturating_sub(1);
    }
    folder.entries = folder.entries.saturating_sub(1);
}

/// Checks a name that is to be created or looked up.
pub(super) fn check_name(name: &[u8]) -> FsResult<()> {
    match name {
        b"" => Err(FsError::NotFound),
        b"." | b".." => Err(FsError::Exists),
        _ if name.len() > 255 => Err(FsError::NameTooLong),
        _ if name.contains(&b'/') || name.contains(&0) => Err(FsError::InvalidArgument),
        _ => Ok(()),
    }
}

/// Decodes an entry's value.
pub(crate) fn decode(folder: InodeNo, value: &[u8]) -> FsResult<(InodeNo, FileKind, &[u8])> {
    let damaged = Damage::Item { inode: folder, what: "entry" };
    let mut reader = Reader::new(value);
    let inode = reader.u64().map_err(|_| damaged)?;
    let bits = reader.u8().map_err(|_| damaged)?;
    let file_kind = FileKind::from_type_bits(bits).ok_or(damaged)?;
    let name = reader.rest();
    check_name(name).map_err(|_| damaged)?;
    Ok((InodeNo(inode), file_kind, name))
}
