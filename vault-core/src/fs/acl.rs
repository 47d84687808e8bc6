//! POSIX access control lists, kept in step with the mode (POSIX.1e draft 17, `acl(5)`).
//!
//! The kernel hands ACLs over as the extended attributes `system.posix_acl_access` and
//! `system.posix_acl_default`: a version and a list of (tag, permissions, id), and checks accesses
//! against them itself. What is left to the file system is that mode and ACL agree, and
//! that new files inherit.

use crate::codec::{Reader, Writer};
use crate::error::{FsError, FsResult};
use crate::format::inode::Inode;
use crate::fs::state::Fs;
use crate::fs::types::{Creator, FileKind};
use crate::ids::InodeNo;

/// The access ACL's attribute.
const ACCESS: &[u8] = b"system.posix_acl_access";
/// The default ACL's attribute, on folders.
const DEFAULT: &[u8] = b"system.posix_acl_default";

/// Returns whether an attribute holds an ACL.
pub(super) fn is_acl(name: &[u8]) -> bool {
    name == ACCESS || name == DEFAULT
}

const VERSION: u32 = 2;
const UNDEFINED_ID: u32 = u32::MAX;
const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;
/// Entries of one ACL; a bound on what is kept, not the kernel's.
const MOST_ENTRIES: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct AclEntry {
    tag: u16,
    permissions: u16,
    id: u32,
}

/// A list of entries as it came, in the kernel's order.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Acl(Vec<AclEntry>);

impl Fs {
    /// Takes note of an ACL that is being set. Returns whether the attribute is to be stored: an
    /// access ACL that says no more than the mode is not, and an empty one is a removal.
    pub(super) fn apply_acl(
        &mut self,
        inode: InodeNo,
        file: &mut Inode,
        name: &[u8],
        value: &[u8],
    ) -> FsResult<bool> {
        if name == DEFAULT {
            if file.kind != FileKind::Directory {
                return Err(FsError::NotPermitted);
            }
            let acl = Acl::decode(value)?;
            if acl.0.is_empty() {
                self.delete_xattr(inode, file, name)?;
                return Ok(false);
            }
            return acl.check().map(|()| true);
        }
        if name != ACCESS {
            return Ok(true);
        }
        let acl = Acl::decode(value)?;
        if !acl.0.is_empty() {
            acl.check()?;
            file.permissions = file.permissions & 0o7000 | acl.mode();
        }
        if acl.is_minimal() {
            self.delete_xattr(inode, file, name)?;
            return Ok(false);
        }
        Ok(true)
    }

    /// Brings the access ACL in step with permissions that were changed.
    pub(super) fn follow_permissions(&mut self, inode: InodeNo, file: &Inode) -> FsResult<()> {
        if file.xattrs == 0 {
            return Ok(());
        }
        let Some((_, value)) = self.find_xattr(inode, ACCESS)? else { return Ok(()) };
        let mut acl = Acl::decode(&value)?;
        acl.set_mode(file.permissions);
        // The count does not change: the attribute is replaced.
        let mut same = *file;
        self.put_xattr(inode, &mut same, ACCESS, &acl.encode())
    }

    /// Gives a new file its permissions: from the folder's default ACL, or else by the umask.
    pub(super) fn inherit_acl(
        &mut self,
        folder: (InodeNo, &Inode),
        inode: InodeNo,
        file: &mut Inode,
        creator: &Creator,
    ) -> FsResult<()> {
        let (folder, folder_inode) = folder;
        let default = if file.kind == FileKind::Symlink || folder_inode.xattrs == 0 {
            None
        } else {
            self.find_xattr(folder, DEFAULT)?
        };
        let Some((_, value)) = default else {
            if file.kind != FileKind::Symlink {
                file.permissions &= !(creator.umask & 0o777);
            }
            return Ok(());
        };
        let mut acl = Acl::decode(&value)?;
        if file.kind == FileKind::Directory {
            self.put_xattr(inode, file, DEFAULT, &value)?;
        }
        acl.limit(file.permissions);
        file.permissions = file.permissions & 0o7000 | acl.mode();
        if !acl.is_minimal() {
            self.put_xattr(inode, file, ACCESS, &acl.encode())?;
        }
        Ok(())
    }
}

impl Acl {
    fn decode(value: &[u8]) -> FsResult<Self> {
        let invalid = |_| FsError::InvalidArgument;
        let mut reader = Reader::new(value);
        if value.is_empty() {
            return Ok(Self(Vec::new()));
        }
        if reader.u32().map_err(invalid)? != VERSION || reader.remaining() / 8 > MOST_ENTRIES {
            return Err(FsError::InvalidArgument);
        }
        let mut entries = Vec::with_capacity(reader.remaining() / 8);
        while reader.remaining() > 0 {
            entries.push(AclEntry {
                tag: reader.u16().map_err(invalid)?,
                permissions: reader.u16().map_err(invalid)?,
                id: reader.u32().map_err(invalid)?,
            });
        }
        Ok(Self(entries))
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(4 + self.0.len() * 8);
        out.u32(VERSION);
        for entry in &self.0 {
            out.u16(entry.tag).u16(entry.permissions).u32(entry.id);
        }
        out.finish()
    }

    /// An ACL has exactly one entry for each base class, and a mask if it names anybody.
    fn check(&self) -> FsResult<()> {
        let count = |tag| self.0.iter().filter(|entry| entry.tag == tag).count();
        let named = count(USER) + count(GROUP) > 0;
        let base = count(USER_OBJ) == 1 && count(GROUP_OBJ) == 1 && count(OTHER) == 1;
        let masked = count(MASK) == 1 || (count(MASK) == 0 && !named);
        let known = USER_OBJ | USER | GROUP_OBJ | GROUP | MASK | OTHER;
        let sound = self.0.iter().all(|entry| {
            entry.tag.is_power_of_two() && entry.tag & !known == 0 && entry.permissions <= 7
        });
        if base && masked && sound { Ok(()) } else { Err(FsError::InvalidArgument) }
    }

    fn permissions(&self, tag: u16) -> Option<u16> {
        self.0.iter().find(|entry| entry.tag == tag).map(|entry| entry.permissions & 7)
    }

    /// The permission bits that the ACL stands for: the mask shows as the group's.
    fn mode(&self) -> u16 {
        let group = self.permissions(MASK).or_else(|| self.permissions(GROUP_OBJ));
        self.permissions(USER_OBJ).unwrap_or(0) << 6
            | group.unwrap_or(0) << 3
            | self.permissions(OTHER).unwrap_or(0)
    }

    fn set_mode(&mut self, mode: u16) {
        self.change_classes(|_, class| mode >> class & 7);
    }

    /// Takes away what a new file's mode does not grant.
    fn limit(&mut self, mode: u16) {
        self.change_classes(|old, class| old & (mode >> class & 7));
    }

    fn change_classes(&mut self, change: impl Fn(u16, u16) -> u16) {
        let group = if self.permissions(MASK).is_some() { MASK } else { GROUP_OBJ };
        for entry in &mut self.0 {
            entry.id = match entry.tag {
                USER | GROUP => entry.id,
                _ => UNDEFINED_ID,
            };
            let class = match entry.tag {
                USER_OBJ => 6,
                OTHER => 0,
                tag if tag == group => 3,
                _ => continue,
            };
            entry.permissions = change(entry.permissions, class);
        }
    }

    fn is_minimal(&self) -> bool {
        self.0.iter().all(|entry| matches!(entry.tag, USER_OBJ | GROUP_OBJ | OTHER))
    }
}
