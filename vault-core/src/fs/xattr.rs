//! Extended attributes, in chunks (FORMAT.md section 8.4).

use crate::codec::{Reader, Writer};
use crate::error::{Damage, FsError, FsResult};
use crate::format::inode::Inode;
use crate::format::key::{Key, kind};
use crate::fs::acl::is_acl;
use crate::fs::state::Fs;
use crate::fs::types::XattrMode;
use crate::ids::InodeNo;
use crate::store::pool::Claim;
use std::ops::ControlFlow;

/// Longest value.
const MAX_VALUE: usize = 65_536;
/// Bytes of a value in one chunk.
const CHUNK: usize = 2048;
/// Step between names that share a hash.
const NAME_STEP: u64 = 1 << 8;
/// Step between hashes.
const BASE_STEP: u64 = 1 << 16;
/// The namespaces whose attributes are kept (`xattr(7)`); of `system.`, only ACLs.
const NAMESPACES: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];
/// The attribute that grants capabilities to a program.
pub(super) const CAPABILITY: &[u8] = b"security.capability";

/// The first chunk of an attribute.
struct Head<'a> {
    name: &'a [u8],
    len: usize,
    first: &'a [u8],
}

impl Fs {
    /// Returns an attribute's value.
    pub(super) fn xattr(&self, inode: InodeNo, name: &[u8]) -> FsResult<Vec<u8>> {
        let file = self.load(inode)?;
        let found = if file.xattrs == 0 { None } else { self.find_xattr(inode, name)? };
        found.map(|(_, value)| value).ok_or_else(|| absent(name))
    }

    /// Lists the names of all attributes.
    pub(super) fn list_xattrs(&self, inode: InodeNo) -> FsResult<Vec<Vec<u8>>> {
        let file = self.load(inode)?;
        let mut names = Vec::new();
        if file.xattrs == 0 {
            return Ok(names);
        }
        self.pool.scan_list(&Key::of(inode, kind::XATTR, 0), &mut |key, value| {
            if key.offset % NAME_STEP == 0 {
                names.push(decode_head(inode, value)?.name.to_vec());
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(names)
    }

    /// Sets an attribute.
    pub(super) fn set_xattr(
        &mut self,
        inode: InodeNo,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
    ) -> FsResult<()> {
        check_xattr(name, value)?;
        self.ensure(Claim::Ordinary, 0, 8 + (value.len() / CHUNK) as u64)?;
        let mut file = self.load(inode)?;
        let exists = file.xattrs > 0 && self.find_xattr(inode, name)?.is_some();
        match mode {
            XattrMode::Create if exists => return Err(FsError::Exists),
            XattrMode::Replace if !exists => return Err(FsError::NoAttribute),
            _ => {}
        }
        if self.apply_acl(inode, &mut file, name, value)? {
            self.put_xattr(inode, &mut file, name, value)?;
        }
        file.changed = self.now();
        self.store(inode, &file)
    }

    /// Removes an attribute. An ACL that is not there is no error: the mode alone says as much then.
    pub(super) fn remove_xattr(&mut self, inode: InodeNo, name: &[u8]) -> FsResult<()> {
        self.ensure(Claim::Removal, 0, 8)?;
        let mut file = self.load(inode)?;
        if !self.delete_xattr(inode, &mut file, name)? {
            return if is_acl(name) { Ok(()) } else { Err(absent(name)) };
        }
        file.changed = self.now();
        self.store(inode, &file)
    }

    /// Writes an attribute's chunks and counts it; the caller stores the inode.
    pub(super) fn put_xattr(
        &mut self,
        inode: InodeNo,
        file: &mut Inode,
        name: &[u8],
        value: &[u8],
    ) -> FsResult<()> {
        self.delete_xattr(inode, file, name)?;
        let head = self.free_xattr(inode, name)?;
        let (first, rest) = value.split_at(value.len().min(CHUNK));
        let mut out = Writer::with_capacity(5 + name.len() + first.len());
        let len = u32::try_from(value.len()).map_err(|_| FsError::AttributeTooBig)?;
        let name_len = u8::try_from(name.len()).map_err(|_| FsError::AttributeTooBig)?;
        out.u32(len).u8(name_len).bytes(name).bytes(first);
        self.pool.put(head, out.finish())?;
        for (chunk, offset) in rest.chunks(CHUNK).zip(1..) {
            let key = Key { offset: head.offset + offset, ..head };
            self.pool.put(key, chunk.to_vec())?;
        }
        file.xattrs = file.xattrs.checked_add(1).ok_or(FsError::NoSpace)?;
        Ok(())
    }

    /// Removes an attribute's chunks; the caller stores the inode.
    pub(super) fn delete_xattr(
        &mut self,
        inode: InodeNo,
        file: &mut Inode,
        name: &[u8],
    ) -> FsResult<bool> {
        if file.xattrs == 0 {
            return Ok(false);
        }
        let Some((head, value)) = self.find_xattr(inode, name)? else { return Ok(false) };
        let chunks = value.len().div_ceil(CHUNK).max(1) as u64;
        for offset in 0..chunks {
            self.pool.remove(&Key { offset: head.offset + offset, ..head })?;
        }
        file.xattrs = file.xattrs.saturating_sub(1);
        Ok(true)
    }

    /// Removes every attribute's items.
    pub(super) fn delete_all_xattrs(&mut self, inode: InodeNo) -> FsResult<()> {
        let mut keys = Vec::new();
        self.pool.scan_list(&Key::of(inode, kind::XATTR, 0), &mut |key, _| {
            keys.push(key);
            Ok(ControlFlow::Continue(()))
        })?;
        keys.iter().try_for_each(|key| self.pool.remove(key).map(|_| ()))
    }

    /// Drops file capabilities, as every change of content or owner does.
    pub(super) fn drop_capability(&mut self, inode: InodeNo, file: &mut Inode) -> FsResult<()> {
        self.delete_xattr(inode, file, CAPABILITY).map(|_| ())
    }

    /// Finds an attribute: the key of its first chunk, and its value.
    pub(super) fn find_xattr(
        &self,
        inode: InodeNo,
        name: &[u8],
    ) -> FsResult<Option<(Key, Vec<u8>)>> {
        let base = self.xattr_base(name);
        let mut found: Option<(Key, Vec<u8>, usize)> = None;
        self.pool.scan_list(&Key::of(inode, kind::XATTR, base), &mut |key, value| {
            if let Some((head, content, _)) = &mut found {
                if key.offset / NAME_STEP != head.offset / NAME_STEP {
                    return Ok(ControlFlow::Break(()));
                }
                if content.len() + value.len() > MAX_VALUE {
                    return Err(Damage::Item { inode, what: "attribute" }.into());
                }
                content.extend_from_slice(value);
                return Ok(ControlFlow::Continue(()));
            }
            if key.offset / BASE_STEP != base / BASE_STEP {
                return Ok(ControlFlow::Break(()));
            }
            if key.offset % NAME_STEP == 0 {
                let head = decode_head(inode, value)?;
                if head.name == name {
                    found = Some((key, head.first.to_vec(), head.len));
                }
            }
            Ok(ControlFlow::Continue(()))
        })?;
        match found {
            Some((key, value, len)) if value.len() == len => Ok(Some((key, value))),
            Some(_) => Err(Damage::Item { inode, what: "attribute" }.into()),
            None => Ok(None),
        }
    }

    /// Returns the key of a new attribute's first chunk.
    fn free_xattr(&self, inode: InodeNo, name: &[u8]) -> FsResult<Key> {
        let base = self.xattr_base(name);
        for n in 0..256 {
            let key = Key::of(inode, kind::XATTR, base + n * NAME_STEP);
            if self.pool.get(&key, |_| ())?.is_none() {
                return Ok(key);
            }
        }
        Err(FsError::NoSpace)
    }

    fn xattr_base(&self, name: &[u8]) -> u64 {
        self.hash(name) >> 16 << 16
    }
}

/// Checks a chunk's form; returns whether it begins an attribute.
pub(crate) fn xattr_head(inode: InodeNo, key: &Key, value: &[u8]) -> FsResult<bool> {
    let first = key.offset.is_multiple_of(NAME_STEP);
    if first {
        decode_head(inode, value)?;
    } else if value.is_empty() || value.len() > CHUNK {
        return Err(Damage::Item { inode, what: "attribute" }.into());
    }
    Ok(first)
}

/// A name is a namespace that is kept here, and something in it.
fn check_name(name: &[u8]) -> FsResult<()> {
    let space = NAMESPACES.iter().find(|space| name.starts_with(space));
    match space {
        Some(space) if space.len() == name.len() => Err(FsError::InvalidArgument),
        None if !is_acl(name) => Err(FsError::NotSupported),
        _ if name.len() > 255 => Err(FsError::NameTooLong),
        _ => Ok(()),
    }
}

/// What is said of an attribute that is not there: that it is not, or that it cannot be.
fn absent(name: &[u8]) -> FsError {
    check_name(name).err().unwrap_or(FsError::NoAttribute)
}

fn check_xattr(name: &[u8], value: &[u8]) -> FsResult<()> {
    check_name(name)?;
    if value.len() > MAX_VALUE { Err(FsError::AttributeTooBig) } else { Ok(()) }
}

fn decode_head(inode: InodeNo, value: &[u8]) -> FsResult<Head<'_>> {
    let damaged = Damage::Item { inode, what: "attribute" };
    let mut reader = Reader::new(value);
    let len = reader.u32().map_err(|_| damaged)?;
    let name_len = reader.u8().map_err(|_| damaged)?;
    let name = reader.bytes(usize::from(name_len)).map_err(|_| damaged)?;
    let first = reader.rest();
    let len = usize::try_from(len).map_err(|_| damaged)?;
    if name.is_empty() || len > MAX_VALUE || first.len() != len.min(CHUNK) {
        return Err(damaged.into());
    }
    Ok(Head { name, len, first })
}
