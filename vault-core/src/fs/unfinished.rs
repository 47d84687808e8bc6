//! What gathers beside everything else until it is whole. If it is interrupted, what is left is nobody's: opening removes it.

use crate::error::{Damage, FsError, FsResult};
use crate::fs::types::{Attr, Creator, FileKind, XattrMode};
use crate::fs::volume::Volume;
use crate::ids::InodeNo;
use std::collections::HashSet;

/// The folder at the vault's root in which an import gathers.
pub const STAGING: &[u8] = b".tazpod-import";
/// What tells that folder from one that somebody called the same: through a mount only root can set it.
const MARK: &[u8] = b"trusted.tazpod.gathers";
/// Names that are removed between two looks at a folder.
const BATCH: usize = 4096;

impl Volume {
    /// Returns the folder in which an import gathers, or did so when it was interrupted.
    pub fn gathering(&self) -> FsResult<Option<InodeNo>> {
        let found = match self.lookup(InodeNo::ROOT, STAGING) {
            Ok(found) if found.kind == FileKind::Directory => found.inode,
            Ok(_) | Err(FsError::NotFound) => return Ok(None),
            Err(error) => return Err(error),
        };
        match self.xattr(found, MARK) {
            Ok(_) => Ok(Some(found)),
            Err(FsError::NoAttribute) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes the folder, empty; it belongs to `owner` (uid, gid). Fails with [`FsError::Exists`] where somebody's own
    /// file or folder has that name.
    pub(crate) fn begin_gathering(
        &self,
        permissions: u16,
        (uid, gid): (u32, u32),
    ) -> FsResult<InodeNo> {
        self.drop_gathered()?;
        let creator = Creator { uid, gid, umask: 0 };
        // With its mark or not at all: without it nobody would ever remove it.
        self.all_or_nothing(|| {
            let folder = self.make_dir(InodeNo::ROOT, STAGING, permissions, &creator)?.inode;
            // What the root's default list grants is for files in their place.
            for name in self.list_xattrs(folder)? {
                self.remove_xattr(folder, &name)?;
            }
            self.set_xattr(folder, MARK, b"", XattrMode::Create)?;
            Ok(folder)
        })
    }

    /// Removes what an interrupted import left. No file of the vault depends on that: what cannot be removed now waits
    /// for the next opening.
    pub(super) fn clear_unfinished(&self) {
        let _ = self.drop_gathered();
    }

    /// Removes that folder with all that is in it. A hostile author can make cycles, and have them lead out of it: no
    /// folder is entered twice, nor the root.
    pub(crate) fn drop_gathered(&self) -> FsResult<()> {
        let Some(top) = self.gathering()? else { return Ok(()) };
        // The mark goes with the folder itself, at the very end: this can be interrupted too.
        let mut path = vec![(InodeNo::ROOT, STAGING.to_vec(), top)];
        let mut entered = HashSet::from([InodeNo::ROOT, top]);
        while let Some((parent, name, folder)) = path.last().cloned() {
            let entries = self.some(folder)?;
            if entries.is_empty() {
                self.remove_dir(parent, &name)?;
                self.forget(folder)?;
                path.pop();
                continue;
            }
            for (name, attr) in entries {
                if attr.kind == FileKind::Directory {
                    if !entered.insert(attr.inode) {
                        return Err(Damage::Item { inode: attr.inode, what: "place" }.into());
                    }
                    path.push((folder, name, attr.inode));
                    break;
                }
                self.unlink(folder, &name)?;
                self.forget(attr.inode)?;
            }
        }
        Ok(())
    }

    fn some(&self, folder: InodeNo) -> FsResult<Vec<(Vec<u8>, Attr)>> {
        let mut entries = Vec::new();
        self.read_dir_plus(folder, 0, &mut |entry, attr| {
            if entry.name != b"." && entry.name != b".." {
                entries.push((entry.name, attr));
            }
            entries.len() < BATCH
        })?;
        Ok(entries)
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::device::MemoryDevice;
    use crate::fs::OpenOptions;
    use crate::testing::known_setup;
    use std::sync::Arc;

    const CREATOR: Creator = Creator { uid: 0, gid: 0, umask: 0 };

    #[test]
    fn a_forged_cycle_in_what_was_gathered_ends_and_takes_nothing_else_along() {
        let setup = known_setup(Arc::new(MemoryDevice::new(16 << 20)));
        Volume::format(&setup, 4096, (0, 0)).unwrap();
        let (volume, _) = Volume::open(&setup, &OpenOptions::default()).unwrap();
        volume.make_dir(InodeNo::ROOT, b"kept", 0o700, &CREATOR).unwrap();
        let top = volume.begin_gathering(0o700, (0, 0)).unwrap();
        let below = volume.make_dir(top, b"below", 0o700, &CREATOR).unwrap().inode;
        for target in [top, below, InodeNo::ROOT] {
            volume
                .change(|fs| {
                    let key = fs.free_entry(below, b"cycle")?;
                    fs.put_entry(key, b"cycle", target, FileKind::Directory)
                })
                .unwrap();
            let outcome = volume.drop_gathered();
            assert!(matches!(outcome, Err(FsError::Damaged(_))), "{target:?}: {outcome:?}");
            volume
                .change(|fs| {
                    let key = fs.find(below, b"cycle")?.unwrap().key;
                    fs.pool.remove(&key).map(drop)
                })
                .unwrap();
        }
        volume.drop_gathered().unwrap();
        assert_eq!(volume.gathering().unwrap(), None);
        volume.lookup(InodeNo::ROOT, b"kept").unwrap();
    }
}
