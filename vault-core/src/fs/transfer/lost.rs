//! What a rescue puts into `lost+found`.

use super::copy::{Copy, FileOutcome};
use super::left::is_folder;
use super::{CopyError, LOST_AND_FOUND, Loss};
use crate::error::FsError;
use crate::fs::types::{Creator, RenameMode};
use crate::ids::InodeNo;
use std::collections::BTreeMap;

const LONGEST_NAME: usize = 255;
/// Folders that are climbed from one that has no name.
const DEEPEST: usize = 4096;

impl Copy<'_, '_> {
    /// Returns the target's `lost+found`.
    fn lost_and_found(&mut self) -> Result<InodeNo, CopyError> {
        let root = InodeNo::ROOT;
        match self.target.lookup(root, LOST_AND_FOUND) {
            Ok(found) => Ok(found.inode),
            Err(FsError::NotFound) => {
                let creator = Creator { uid: 0, gid: 0, umask: 0 };
                let made = self.target.make_dir(root, LOST_AND_FOUND, 0o700, &creator);
                made.map(|made| made.inode).map_err(CopyError::Target)
            }
            Err(error) => Err(CopyError::Target(error)),
        }
    }

    /// Moves a file that is not whole away from its place.
    pub(super) fn move_away(
        &mut self,
        inode: InodeNo,
        (folder, name): (InodeNo, &[u8]),
    ) -> Result<(), CopyError> {
        let to = self.lost_and_found()?;
        let mut new = format!("incomplete-{inode}-").into_bytes();
        new.extend_from_slice(name);
        new.truncate(LONGEST_NAME);
        self.target.rename(folder, name, to, &new, RenameMode::Replace).map_err(CopyError::Target)
    }

    /// Copies what no name leads to.
    pub(super) fn nameless(&mut self) -> Result<(), CopyError> {
        let mut left: BTreeMap<u64, Option<u64>> = BTreeMap::new();
        let visited = &self.visited;
        let collect = self.source.each_inode(&mut |inode, file| {
            if !visited.contains(&inode.0) {
                left.insert(inode.0, is_folder(file).then_some(file.parent));
            }
        });
        collect.map_err(CopyError::Source)?;
        // Folders first, from the top, so that what still hangs in them keeps its place.
        let folders: Vec<u64> =
            left.iter().filter(|(_, parent)| parent.is_some()).map(|(inode, _)| *inode).collect();
        for inode in folders {
            let mut top = inode;
            for _ in 0..DEEPEST {
                match left.get(&top) {
                    Some(Some(parent)) if *parent != top => match left.get(parent) {
                        Some(Some(_)) if !self.visited.contains(parent) => top = *parent,
                        _ => break,
                    },
                    _ => break,
                }
            }
            for at in [top, inode] {
                if !self.visited.contains(&at) {
                    self.take_in(InodeNo(at))?;
                }
            }
        }
        for inode in left.into_keys() {
            if !self.visited.contains(&inode) {
                self.take_in(InodeNo(inode))?;
            }
        }
        Ok(())
    }

    /// Copies one nameless inode, and what hangs below it, into `lost+found`.
    fn take_in(&mut self, inode: InodeNo) -> Result<(), CopyError> {
        let to = self.lost_and_found()?;
        let name = format!("inode-{inode}").into_bytes();
        let path = [LOST_AND_FOUND, b"/", &name].concat();
        if self.entry((to, &path), &name, inode)? == FileOutcome::Whole {
            self.lose(path, inode, Loss::Nameless);
        }
        self.folders()
    }
}
