//! The end of an import: what was gathered moves to its place.

use super::error::ArchiveError;
use super::import::{Folder, Importer};
use crate::error::{FsError, FsResult};
use crate::fs::{Attr, FileKind, RenameMode, STAGING, Volume};
use crate::ids::InodeNo;
use std::collections::HashMap;

/// A gathered folder that exists in the vault as well.
struct Pair {
    parent: InodeNo,
    name: Vec<u8>,
    staged: InodeNo,
    existing: InodeNo,
}

impl Importer<'_> {
    /// Gives folders their attributes and times, now that all is in them.
    pub(super) fn settle_folders(&mut self) -> FsResult<()> {
        let folders = std::mem::take(&mut self.folders);
        for (inode, about) in &folders {
            self.describe(*inode, b"", about, false)?;
        }
        for (inode, about) in &folders {
            self.stamp(*inode, about)?;
        }
        self.folders = folders;
        Ok(())
    }

    /// Moves the gathered tree to its place. Nothing is copied, and folders that exist are joined. Returns
    /// what has no name any more and can be forgotten.
    pub(super) fn merge(&mut self) -> Result<Vec<InodeNo>, ArchiveError> {
        let known: HashMap<InodeNo, Folder> = self.folders.drain(..).collect();
        let mut pending = vec![Pair {
            parent: InodeNo::ROOT,
            name: STAGING.to_vec(),
            staged: self.staging,
            existing: InodeNo::ROOT,
        }];
        let (mut joined, mut replaced) = (Vec::new(), Vec::new());
        while let Some(pair) = pending.pop() {
            for (name, attr) in list(self.volume, pair.staged).map_err(ArchiveError::Commit)? {
                if let Some(inner) = self
                    .place_one(&pair, &name, &attr, &mut replaced)
                    .map_err(|e| ArchiveError::vault(&name, e))?
                {
                    pending.push(inner);
                }
            }
            joined.push(pair);
        }
        for pair in joined.iter().rev() {
            self.volume.remove_dir(pair.parent, &pair.name).map_err(ArchiveError::Commit)?;
            replaced.push(pair.staged);
        }
        if self.options.overwrite {
            let top = self.top.take();
            for pair in joined.iter().rev() {
                let about = if pair.existing == InodeNo::ROOT {
                    top.as_ref()
                } else {
                    known.get(&pair.staged)
                };
                if let Some(about) = about {
                    let described = self.describe(pair.existing, &pair.name, about, true);
                    described.map_err(ArchiveError::Commit)?;
                }
            }
        }
        Ok(replaced)
    }

    fn place_one(
        &self,
        pair: &Pair,
        name: &[u8],
        attr: &Attr,
        replaced: &mut Vec<InodeNo>,
    ) -> FsResult<Option<Pair>> {
        let found = self.find(pair.existing, name)?;
        let (folder, name_owned) = (pair.staged, name.to_vec());
        match found {
            None => {
                let mode = RenameMode::NoReplace;
                self.volume.rename(folder, name, pair.existing, name, mode)?;
                Ok(None)
            }
            Some(found) if found.kind == FileKind::Directory => Ok(Some(Pair {
                parent: folder,
                name: name_owned,
                staged: attr.inode,
                existing: found.inode,
            })),
            Some(found) if self.options.overwrite => {
                self.volume.rename(folder, name, pair.existing, name, RenameMode::Replace)?;
                replaced.push(found.inode);
                Ok(None)
            }
            Some(_) => Err(FsError::Exists),
        }
    }
}

fn list(volume: &Volume, folder: InodeNo) -> FsResult<Vec<(Vec<u8>, Attr)>> {
    let mut entries = Vec::new();
    volume.read_dir_plus(folder, 0, &mut |entry, attr| {
        if entry.name != b"." && entry.name != b".." {
            entries.push((entry.name, attr));
        }
        true
    })?;
    Ok(entries)
}
