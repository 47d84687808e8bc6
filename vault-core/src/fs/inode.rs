//! Loading, storing and changing inodes.

use crate::error::{Damage, FsError, FsResult};
use crate::format::inode::Inode;
use crate::format::key::{CONTENT_RANGE, Key};
use crate::fs::state::Fs;
use crate::fs::types::{Attr, FileKind, SetAttr, SetTime};
use crate::ids::InodeNo;
use crate::ports::Timestamp;
use crate::store::pool::Claim;

const SET_USER_ID: u16 = 0o4000;
const SET_GROUP_ID: u16 = 0o2000;
const GROUP_EXECUTE: u16 = 0o010;
/// relatime: an access time older than this is renewed even if nothing changed (seconds).
const ACCESSED_AGE: i64 = 24 * 60 * 60;

impl Fs {
    /// Loads an inode; one that is gone is `Stale`.
    pub(super) fn load(&self, inode: InodeNo) -> FsResult<Inode> {
        if inode.0 >= CONTENT_RANGE {
            return Err(FsError::Stale);
        }
        let decoded = self.pool.get(&Key::inode(inode), Inode::decode)?.ok_or(FsError::Stale)?;
        let mut found = decoded.map_err(|_| Damage::Item { inode, what: "inode" })?;
        if let Some(time) = self.accessed.lock().get(&inode.0) {
            found.accessed = *time;
        }
        Ok(found)
    }

    /// Stores an inode.
    pub(super) fn store(&mut self, inode: InodeNo, value: &Inode) -> FsResult<()> {
        self.pool.put(Key::inode(inode), value.encode())
    }

    /// Gives an inode the attributes that another one has in the vault it is copied from, and `size`.
    pub(super) fn imitate(&mut self, inode: InodeNo, other: &Inode, size: u64) -> FsResult<()> {
        self.ensure(Claim::Ordinary, 3, 8)?;
        let mut found = self.load(inode)?;
        if found.kind == FileKind::Regular && found.size != size {
            self.truncate(inode, &mut found, size)?;
        }
        self.accessed.lock().remove(&inode.0);
        let Inode { permissions, uid, gid, accessed, modified, changed, born, .. } = *other;
        found = Inode { permissions, uid, gid, accessed, modified, changed, born, ..found };
        self.store(inode, &found)
    }

    /// Loads a folder.
    pub(super) fn load_folder(&self, inode: InodeNo) -> FsResult<Inode> {
        let found = self.load(inode)?;
        if found.kind == FileKind::Directory { Ok(found) } else { Err(FsError::NotDirectory) }
    }

    /// Returns the attributes of an inode.
    pub(super) fn attr(&self, inode: InodeNo) -> FsResult<Attr> {
        Ok(attr_of(inode, &self.load(inode)?))
    }

    /// Changes attributes.
    pub(super) fn set_attr(&mut self, inode: InodeNo, change: &SetAttr) -> FsResult<Attr> {
        self.ensure(Claim::Ordinary, 3, 8).or_else(|error| match (error, change.size) {
            // A full vault can still be emptied by truncation.
            (FsError::NoSpace, Some(0)) => self.ensure(Claim::Removal, 0, 8),
            (error, _) => Err(error),
        })?;
        let mut found = self.load(inode)?;
        let now = self.now();
        if let Some(size) = change.size {
            match found.kind {
                FileKind::Regular => {}
                FileKind::Directory => return Err(FsError::IsDirectory),
                _ => return Err(FsError::InvalidArgument),
            }
            self.truncate(inode, &mut found, size)?;
            found.modified = now;
        }
        if change.clear_privileges {
            clear_privileges(&mut found);
            self.drop_capability(inode, &mut found)?;
        }
        if let Some(permissions) = change.permissions {
            found.permissions = permissions & 0o7777;
            self.follow_permissions(inode, &found)?;
        }
        found.uid = change.uid.unwrap_or(found.uid);
        found.gid = change.gid.unwrap_or(found.gid);
        let stamp = |set: Option<SetTime>, old| match set {
            None => old,
            Some(SetTime::Now) => now,
            Some(SetTime::At(time)) => time,
        };
        if change.accessed.is_some() {
            self.accessed.lock().remove(&inode.0);
        }
        found.accessed = stamp(change.accessed, found.accessed);
        found.modified = stamp(change.modified, found.modified);
        found.changed = stamp(change.changed, now);
        self.store(inode, &found)?;
        Ok(attr_of(inode, &found))
    }

    /// Notes a read: relatime, kept in memory until the next commit.
    pub(super) fn touch_accessed(&self, inode: InodeNo) -> FsResult<()> {
        let found = self.load(inode)?;
        let now = self.now();
        let due = found.accessed <= found.modified
            || found.accessed <= found.changed
            || now.seconds.saturating_sub(found.accessed.seconds) >= ACCESSED_AGE;
        if due {
            self.accessed.lock().insert(inode.0, now);
        }
        Ok(())
    }

    /// Stores the access times that were only noted.
    pub(super) fn store_accessed(&mut self) -> FsResult<()> {
        let noted = std::mem::take(&mut *self.accessed.lock());
        for (inode, time) in noted {
            match self.load(InodeNo(inode)) {
                Ok(mut found) => {
                    if self.ensure(Claim::Ordinary, 0, 4).is_err() {
                        return Ok(());
                    }
                    found.accessed = time;
                    self.store(InodeNo(inode), &found)?;
                }
                Err(FsError::Stale) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Clears what an unprivileged change of content or owner takes away: set-user-id, and
/// set-group-id where the group may execute. Folders mean something else by them.
pub(super) fn clear_privileges(inode: &mut Inode) {
    if inode.kind == FileKind::Directory {
        return;
    }
    inode.permissions &= !SET_USER_ID;
    if inode.permissions & GROUP_EXECUTE != 0 {
        inode.permissions &= !SET_GROUP_ID;
    }
}

/// Stamps a change of content.
pub(super) fn stamp_modified(inode: &mut Inode, now: Timestamp) {
    inode.modified = now;
    inode.changed = now;
}

/// Translates a stored inode to what `stat` shows.
pub(super) fn attr_of(inode: InodeNo, found: &Inode) -> Attr {
    let blocks = found.units.saturating_mul(8);
    let (size, blocks) = match found.kind {
        // Content may still be on its way in the kernel's cache, so a file never looks like a
        // hole: tools would skip it.
        FileKind::Regular => (found.size, blocks.max(1)),
        FileKind::Directory => {
            let size = found.entries.saturating_mul(32).max(1);
            let size = size.checked_next_multiple_of(4096).unwrap_or(u64::MAX);
            (size, size / 512)
        }
        _ => (found.size, 0),
    };
    Attr {
        inode,
        kind: found.kind,
        permissions: found.permissions,
        uid: found.uid,
        gid: found.gid,
        links: found.links,
        size,
        blocks,
        device: found.device,
        accessed: found.accessed,
        modified: found.modified,
        changed: found.changed,
        born: found.born,
    }
}
