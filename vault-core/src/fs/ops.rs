//! Operations on names: look up, create, link, unlink.

use crate::error::{Damage, FsError, FsResult};
use crate::format::inode::Inode;
use crate::format::key::{Key, kind};
use crate::fs::directory::{check_name, count_entry, discount_entry};
use crate::fs::inode::{attr_of, stamp_modified};
use crate::fs::state::Fs;
use crate::fs::types::{Attr, Creator, FileKind, NewFile};
use crate::ids::InodeNo;
use crate::store::pool::Claim;

const SET_GROUP_ID: u16 = 0o2000;
const MAX_SYMLINK: usize = 4095;
/// Nodes that an operation on names may change: leaves of two folders, two inodes and their items,
/// with splits and the branches above.
const NODES: u64 = 24;

impl Fs {
    /// Looks a name up, `.` and `..` too.
    pub(super) fn lookup(&self, folder: InodeNo, name: &[u8]) -> FsResult<Attr> {
        if name.len() > 255 {
            return Err(FsError::NameTooLong);
        }
        let found = self.load_folder(folder)?;
        match name {
            b"." => return Ok(attr_of(folder, &found)),
            b".." => return self.attr(InodeNo(found.parent)),
            _ => {}
        }
        let entry = self.find(folder, name)?.ok_or(FsError::NotFound)?;
        self.listed_attr(entry.inode)
    }

    /// Returns a symbolic link's target.
    pub(super) fn read_link(&self, inode: InodeNo) -> FsResult<Vec<u8>> {
        let file = self.load(inode)?;
        if file.kind != FileKind::Symlink {
            return Err(FsError::InvalidArgument);
        }
        let target = self.pool.get(&Key::of(inode, kind::SYMLINK, 0), <[u8]>::to_vec)?;
        match target {
            Some(target) if target.len() as u64 == file.size && !target.is_empty() => Ok(target),
            _ => Err(Damage::Item { inode, what: "link target" }.into()),
        }
    }

    /// Creates a file other than a folder or symbolic link.
    pub(super) fn create(
        &mut self,
        folder: InodeNo,
        name: &[u8],
        new: NewFile,
        creator: &Creator,
    ) -> FsResult<Attr> {
        if matches!(new.kind, FileKind::Directory | FileKind::Symlink) {
            return Err(FsError::InvalidArgument);
        }
        let device = match new.kind {
            FileKind::CharDevice | FileKind::BlockDevice => new.device,
            _ => 0,
        };
        self.make(folder, name, (new.kind, new.permissions), creator, |_, _, file| {
            file.device = device;
            Ok(())
        })
    }

    /// Creates a folder.
    pub(super) fn make_dir(
        &mut self,
        folder: InodeNo,
        name: &[u8],
        permissions: u16,
        creator: &Creator,
    ) -> FsResult<Attr> {
        self.make(folder, name, (FileKind::Directory, permissions), creator, |_, _, file| {
            file.parent = folder.0;
            file.links = 2;
            Ok(())
        })
    }

    /// Creates a symbolic link.
    pub(super) fn make_symlink(
        &mut self,
        folder: InodeNo,
        name: &[u8],
        target: &[u8],
        creator: &Creator,
    ) -> FsResult<Attr> {
        match target.len() {
            0 => return Err(FsError::NotFound),
            len if len > MAX_SYMLINK => return Err(FsError::NameTooLong),
            _ if target.contains(&0) => return Err(FsError::InvalidArgument),
            _ => {}
        }
        self.make(folder, name, (FileKind::Symlink, 0o777), creator, |fs, inode, file| {
            file.size = target.len() as u64;
            fs.pool.put(Key::of(inode, kind::SYMLINK, 0), target.to_vec())
        })
    }

    fn make(
        &mut self,
        folder: InodeNo,
        name: &[u8],
        (file_kind, permissions): (FileKind, u16),
        creator: &Creator,
        finish: impl FnOnce(&mut Self, InodeNo, &mut Inode) -> FsResult<()>,
    ) -> FsResult<Attr> {
        check_name(name)?;
        self.ensure(Claim::Ordinary, 0, NODES)?;
        let mut parent = self.living_folder(folder)?;
        if self.find(folder, name)?.is_some() {
            return Err(FsError::Exists);
        }
        let key = self.free_entry(folder, name)?;
        count_entry(&mut parent, file_kind)?;
        let inode = self.new_inode()?;
        let now = self.now();
        let inherits_group = parent.permissions & SET_GROUP_ID != 0;
        let mut file = Inode {
            kind: file_kind,
            permissions: permissions & 0o7777,
            uid: creator.uid,
            gid: if inherits_group { parent.gid } else { creator.gid },
            links: 1,
            size: 0,
            units: 0,
            device: 0,
            inline: false,
            accessed: now,
            modified: now,
            changed: now,
            born: now,
            parent: 0,
            entries: 0,
            xattrs: 0,
        };
        self.inherit_acl((folder, &parent), inode, &mut file, creator)?;
        if inherits_group && file_kind == FileKind::Directory {
            file.permissions |= SET_GROUP_ID;
        }
        finish(self, inode, &mut file)?;
        self.store(inode, &file)?;
        self.put_entry(key, name, inode, file_kind)?;
        stamp_modified(&mut parent, now);
        self.store(folder, &parent)?;
        Ok(attr_of(inode, &file))
    }

    /// Gives a file another name.
    pub(super) fn link(&mut self, inode: InodeNo, folder: InodeNo, name: &[u8]) -> FsResult<Attr> {
        check_name(name)?;
        self.ensure(Claim::Ordinary, 0, NODES)?;
        let mut file = self.load(inode)?;
        if file.kind == FileKind::Directory {
            return Err(FsError::NotPermitted);
        }
        let mut parent = self.living_folder(folder)?;
        if self.find(folder, name)?.is_some() {
            return Err(FsError::Exists);
        }
        // A file without names may not come back: its removal is already recorded.
        if file.links == 0 {
            return Err(FsError::NotFound);
        }
        file.links = file.links.checked_add(1).ok_or(FsError::TooManyLinks)?;
        let key = self.free_entry(folder, name)?;
        let now = self.now();
        file.changed = now;
        count_entry(&mut parent, file.kind)?;
        stamp_modified(&mut parent, now);
        self.put_entry(key, name, inode, file.kind)?;
        self.store(inode, &file)?;
        self.store(folder, &parent)?;
        Ok(attr_of(inode, &file))
    }

    /// Removes a name that is not a folder's.
    pub(super) fn unlink(&mut self, folder: InodeNo, name: &[u8]) -> FsResult<()> {
        self.remove_name(folder, name, false)
    }

    /// Removes an empty folder.
    pub(super) fn remove_dir(&mut self, folder: InodeNo, name: &[u8]) -> FsResult<()> {
        match name {
            b"." => return Err(FsError::InvalidArgument),
            b".." => return Err(FsError::NotEmpty),
            _ => {}
        }
        self.remove_name(folder, name, true)
    }

    fn remove_name(&mut self, folder: InodeNo, name: &[u8], directory: bool) -> FsResult<()> {
        self.ensure(Claim::Removal, 0, NODES)?;
        let mut parent = self.load_folder(folder)?;
        let entry = self.find(folder, name)?.ok_or(FsError::NotFound)?;
        let mut file = self.load_listed(entry.inode)?;
        match (file.kind == FileKind::Directory, directory) {
            (true, false) => return Err(FsError::IsDirectory),
            (false, true) => return Err(FsError::NotDirectory),
            (true, true) if file.entries > 0 => return Err(FsError::NotEmpty),
            _ => {}
        }
        self.pool.remove(&entry.key)?;
        self.drop_link(entry.inode, &mut file)?;
        discount_entry(&mut parent, file.kind);
        let now = self.now();
        stamp_modified(&mut parent, now);
        self.store(folder, &parent)
    }

    /// Loads a folder that still has a name, so that something may be created in it.
    pub(super) fn living_folder(&self, folder: InodeNo) -> FsResult<Inode> {
        let found = self.load_folder(folder)?;
        if found.links == 0 { Err(FsError::NotFound) } else { Ok(found) }
    }

    /// Loads the inode of an entry; a missing one is damage.
    pub(super) fn load_listed(&self, inode: InodeNo) -> FsResult<Inode> {
        self.load(inode).map_err(|error| match error {
            FsError::Stale => Damage::Item { inode, what: "inode of an entry" }.into(),
            error => error,
        })
    }
}
