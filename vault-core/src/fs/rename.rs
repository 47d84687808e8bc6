//! Renaming: replace, refuse or exchange.

use crate::error::{FsError, FsResult};
use crate::format::inode::Inode;
use crate::fs::directory::{Entry, check_name, count_entry, discount_entry};
use crate::fs::inode::stamp_modified;
use crate::fs::state::Fs;
use crate::fs::types::{FileKind, RenameMode};
use crate::ids::InodeNo;
use crate::store::pool::Claim;

const NODES: u64 = 32;
/// Folders above each other that a rename looks through; a path of names cannot be longer.
const DEEPEST: u32 = 1 << 20;

/// One end of a rename.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) folder: InodeNo,
    pub(super) name: &'a [u8],
}

impl Fs {
    /// Renames; both ends are checked before anything changes.
    pub(super) fn rename(
        &mut self,
        from: Place<'_>,
        to: Place<'_>,
        mode: RenameMode,
    ) -> FsResult<()> {
        check_moved_name(from.name)?;
        check_moved_name(to.name)?;
        self.ensure(Claim::Ordinary, 0, NODES)?;
        self.load_folder(from.folder)?;
        self.living_folder(to.folder)?;
        let source = self.find(from.folder, from.name)?.ok_or(FsError::NotFound)?;
        let target = self.find(to.folder, to.name)?;
        match (mode, target) {
            (RenameMode::NoReplace, Some(_)) => Err(FsError::Exists),
            (RenameMode::Exchange, None) => Err(FsError::NotFound),
            (RenameMode::Exchange, Some(target)) => self.exchange(from, to, source, target),
            (_, Some(target)) if target.inode == source.inode => Ok(()),
            (_, target) => self.replace(from, to, source, target),
        }
    }

    fn replace(
        &mut self,
        from: Place<'_>,
        to: Place<'_>,
        source: Entry,
        target: Option<Entry>,
    ) -> FsResult<()> {
        let mut moved = self.load_listed(source.inode)?;
        if moved.kind == FileKind::Directory {
            self.refuse_loop(source.inode, to.folder)?;
        }
        let mut replaced = match target {
            None => None,
            Some(target) => {
                let old = self.load_listed(target.inode)?;
                judge_replacement(&moved, &old)?;
                Some((target, old))
            }
        };
        let key = match target {
            Some(target) => target.key,
            None => self.free_entry(to.folder, to.name)?,
        };
        let now = self.now();
        if let Some((target, old)) = &mut replaced {
            self.drop_link(target.inode, old)?;
        }
        self.pool.remove(&source.key)?;
        self.put_entry(key, to.name, source.inode, moved.kind)?;
        moved.changed = now;
        if moved.kind == FileKind::Directory {
            moved.parent = to.folder.0;
        }
        self.store(source.inode, &moved)?;
        self.change_folder(from.folder, |folder| {
            discount_entry(folder, moved.kind);
            stamp_modified(folder, now);
            Ok(())
        })?;
        self.change_folder(to.folder, |folder| {
            if let Some((_, old)) = &replaced {
                discount_entry(folder, old.kind);
            }
            count_entry(folder, moved.kind)?;
            stamp_modified(folder, now);
            Ok(())
        })
    }

    fn exchange(
        &mut self,
        from: Place<'_>,
        to: Place<'_>,
        source: Entry,
        target: Entry,
    ) -> FsResult<()> {
        let mut one = self.load_listed(source.inode)?;
        if source.inode == target.inode {
            return Ok(());
        }
        let mut other = self.load_listed(target.inode)?;
        if one.kind == FileKind::Directory {
            self.refuse_loop(source.inode, to.folder)?;
        }
        if other.kind == FileKind::Directory {
            self.refuse_loop(target.inode, from.folder)?;
        }
        let now = self.now();
        self.put_entry(source.key, from.name, target.inode, other.kind)?;
        self.put_entry(target.key, to.name, source.inode, one.kind)?;
        for (inode, file, folder) in
            [(source.inode, &mut one, to.folder), (target.inode, &mut other, from.folder)]
        {
            file.changed = now;
            if file.kind == FileKind::Directory {
                file.parent = folder.0;
            }
            self.store(inode, file)?;
        }
        for (folder, leaves, comes) in
            [(from.folder, one.kind, other.kind), (to.folder, other.kind, one.kind)]
        {
            self.change_folder(folder, |folder| {
                discount_entry(folder, leaves);
                count_entry(folder, comes)?;
                stamp_modified(folder, now);
                Ok(())
            })?;
        }
        Ok(())
    }

    fn change_folder(
        &mut self,
        folder: InodeNo,
        change: impl FnOnce(&mut Inode) -> FsResult<()>,
    ) -> FsResult<()> {
        let mut found = self.load_folder(folder)?;
        change(&mut found)?;
        self.store(folder, &found)
    }

    /// A folder may not move below itself.
    fn refuse_loop(&self, moved: InodeNo, folder: InodeNo) -> FsResult<()> {
        let mut at = folder;
        for _ in 0..DEEPEST {
            if at == moved {
                return Err(FsError::InvalidArgument);
            }
            if at == InodeNo::ROOT {
                return Ok(());
            }
            at = InodeNo(self.load_folder(at)?.parent);
        }
        Err(FsError::InvalidArgument)
    }
}

fn judge_replacement(moved: &Inode, old: &Inode) -> FsResult<()> {
    match (moved.kind == FileKind::Directory, old.kind == FileKind::Directory) {
        (true, false) => Err(FsError::NotDirectory),
        (false, true) => Err(FsError::IsDirectory),
        (true, true) if old.entries > 0 => Err(FsError::NotEmpty),
        _ => Ok(()),
    }
}

fn check_moved_name(name: &[u8]) -> FsResult<()> {
    match check_name(name) {
        Err(FsError::Exists) => Err(FsError::InvalidArgument),
        outcome => outcome,
    }
}
