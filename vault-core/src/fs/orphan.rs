//! Files without a name: kept while in use, removed when the last user lets go or after a crash.

use crate::error::FsResult;
use crate::format::inode::Inode;
use crate::format::key::{Key, kind};
use crate::fs::state::Fs;
use crate::fs::types::FileKind;
use crate::ids::InodeNo;
use crate::store::pool::Claim;
use std::ops::ControlFlow;

impl Fs {
    /// Takes a name away from an inode; one without names becomes an orphan.
    pub(super) fn drop_link(&mut self, inode: InodeNo, file: &mut Inode) -> FsResult<()> {
        file.links =
            if file.kind == FileKind::Directory { 0 } else { file.links.saturating_sub(1) };
        file.changed = self.now();
        if file.links == 0 {
            self.pool.put(Key::orphan(inode), Vec::new())?;
        }
        self.store(inode, file)
    }

    /// Removes an orphan for good; an inode that still has names stays.
    pub(super) fn reap(&mut self, inode: InodeNo) -> FsResult<()> {
        if self.pool.get(&Key::orphan(inode), |_| ())?.is_none() {
            return Ok(());
        }
        self.ensure(Claim::Removal, 0, 16)?;
        let mut file = self.load(inode)?;
        self.drop_dirty(inode, 0, u64::MAX);
        self.clear_extents(inode, &mut file, 0, u64::MAX)?;
        if file.inline {
            self.pool.remove(&Key::content(inode))?;
        }
        if file.kind == FileKind::Symlink {
            self.pool.remove(&Key::of(inode, kind::SYMLINK, 0))?;
        }
        if file.xattrs > 0 {
            self.delete_all_xattrs(inode)?;
        }
        self.accessed.lock().remove(&inode.0);
        self.pool.remove(&Key::inode(inode))?;
        self.pool.remove(&Key::orphan(inode))?;
        self.pool.counters.inodes = self.pool.counters.inodes.saturating_sub(1);
        Ok(())
    }

    /// Returns some orphans, to be reaped.
    pub(super) fn orphans(&self, most: usize) -> FsResult<Vec<InodeNo>> {
        let mut found = Vec::new();
        self.pool.scan_list(&Key::orphan(InodeNo(0)), &mut |key, _| {
            found.push(InodeNo(key.offset));
            let full = found.len() >= most;
            Ok(if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        Ok(found)
    }
}
