//! The walk: every node, every item, every block.

use super::counts::{Seen, UsedUnits};
use super::{Depth, Finding, Notes, Progress, Show};
use crate::error::{Damage, FsError, FsResult};
use crate::format::inode::Inode;
use crate::format::key::{CONTENT_RANGE, Key, kind};
use crate::format::node::{Place, TreeId};
use crate::format::pointer::Pointer;
use crate::fs::{Extent, decode_entry, xattr_head};
use crate::ids::{BlockNo, InodeNo, UNIT_U64};
use crate::store::blocks::Blocks;
use crate::store::pool::Pool;
use crate::store::sealed::Owner;
use crate::tree::node::{Link, Node};
use crate::tree::read::child_place;
use std::collections::BTreeMap;

/// Units between two looks at the progress.
const STRIDE: u64 = 4096;

/// The file whose items pass by: all but its inline content lie together, the inode first.
struct Current {
    inode: InodeNo,
    file: Inode,
    entries: u64,
    folders: u64,
    units: u64,
    xattrs: u64,
    /// Next block that an extent may begin at.
    next_block: u64,
    target: bool,
}

pub(super) struct Walk<'a, 's> {
    pool: &'a Pool,
    block_size: u64,
    depth: Depth,
    show: &'a mut Show<'s>,
    notes: Notes,
    seen: Seen,
    used: UsedUnits,
    current: Option<Current>,
    /// Sizes of the inline files whose content was not met yet.
    awaited: BTreeMap<u64, u64>,
    done: u64,
    shown: u64,
}

impl<'a, 's> Walk<'a, 's> {
    pub(super) fn new(
        pool: &'a Pool,
        block_size: u64,
        depth: Depth,
        show: &'a mut Show<'s>,
    ) -> Self {
        Self {
            pool,
            block_size,
            depth,
            show,
            notes: Notes::default(),
            seen: Seen::default(),
            used: UsedUnits::new(pool.length()),
            current: None,
            awaited: BTreeMap::new(),
            done: 0,
            shown: 0,
        }
    }

    pub(super) fn finish(self) -> (Notes, Seen, UsedUnits) {
        (self.notes, self.seen, self.used)
    }

    /// Walks the file system tree.
    pub(super) fn file_system(&mut self) -> FsResult<()> {
        let root = self.pool.roots().0;
        self.node(&root, &Blocks::root_place(TreeId::FileSystem, &root))?;
        self.end_file();
        for (inode, len) in std::mem::take(&mut self.awaited) {
            let inode = InodeNo(inode);
            self.notes.add(if self.seen.is_lost(Key::content(inode).object) {
                Finding::Incomplete { inode, offset: 0, len }
            } else {
                Finding::Item { inode, what: "inline content" }
            });
        }
        Ok(())
    }

    /// Walks the allocation tree; its bits are judged afterwards.
    pub(super) fn allocation(&mut self) -> FsResult<()> {
        let root = self.pool.roots().1;
        self.node(&root, &Blocks::root_place(TreeId::Allocation, &root))
    }

    fn node(&mut self, pointer: &Pointer, place: &Place) -> FsResult<()> {
        self.take(pointer);
        self.progress(u64::from(pointer.units))?;
        let node = match self.pool.blocks.load_node(pointer, place) {
            Ok(node) => node,
            Err(FsError::Damaged(damage)) => {
                let (first, last) = inodes_between(&place.lower, place.upper.as_ref());
                self.notes.add(Finding::Node { damage, tree: place.tree, first, last });
                if place.tree == TreeId::FileSystem {
                    let last = place.upper.map_or(u64::MAX, |upper| upper.object);
                    self.seen.lose(place.lower.object, last);
                    self.incomplete(place);
                }
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        match node {
            Node::Leaf(items) if place.tree == TreeId::FileSystem => {
                items.iter().try_for_each(|(key, value)| self.item(key, value))
            }
            Node::Leaf(_) => Ok(()),
            Node::Branch(branch) => {
                for (index, child) in branch.children.iter().enumerate() {
                    if let Link::Clean(pointer) = &child.link {
                        self.node(pointer, &child_place(place, &branch, index))?;
                    }
                }
                Ok(())
            }
        }
    }

    fn item(&mut self, key: &Key, value: &[u8]) -> FsResult<()> {
        let inode = InodeNo(key.object);
        if key.object == 0 {
            if key.kind == kind::ORPHAN && value.is_empty() {
                self.seen.orphan(InodeNo(key.offset));
            } else {
                self.notes.add(Finding::Item { inode, what: "unknown item" });
            }
            return Ok(());
        }
        if key.is_content() {
            self.content(key, value);
            return Ok(());
        }
        if self.current.as_ref().is_none_or(|current| current.inode != inode) {
            self.end_file();
            self.begin_file(key, value);
            if key.kind == kind::INODE {
                return Ok(());
            }
        }
        let Some(mut current) = self.current.take() else {
            return Ok(());
        };
        let outcome = self.item_of(&mut current, key, value);
        self.current = Some(current);
        match outcome {
            Err(FsError::Damaged(Damage::Item { what, .. })) => {
                self.notes.add(Finding::Item { inode, what });
                Ok(())
            }
            outcome => outcome,
        }
    }

    /// Holds inline content against its file, which was met before: its keys are lower.
    fn content(&mut self, key: &Key, value: &[u8]) {
        self.end_file();
        let inode = InodeNo(key.object & !CONTENT_RANGE);
        let size = self.awaited.remove(&inode.0);
        let fits = size == Some(value.len() as u64) && value.len() <= 4096;
        let is_lost = size.is_none() && self.seen.is_lost(inode.0);
        if *key != Key::content(inode) || !(fits || is_lost) {
            self.notes.add(Finding::Item { inode, what: "inline content" });
        }
    }

    fn begin_file(&mut self, key: &Key, value: &[u8]) {
        let inode = InodeNo(key.object);
        let decoded = if key.kind == kind::INODE { Inode::decode(value).ok() } else { None };
        let Some(file) = decoded else {
            if !self.seen.is_lost(inode.0) {
                self.notes.add(Finding::Item { inode, what: "inode" });
            }
            // The other items of the file have nothing to be held against.
            self.current = None;
            return;
        };
        self.seen.file(inode, &file);
        if file.inline {
            self.awaited.insert(inode.0, file.size);
        }
        self.current = Some(Current {
            inode,
            file,
            entries: 0,
            folders: 0,
            units: 0,
            xattrs: 0,
            next_block: 0,
            target: false,
        });
    }

    fn item_of(&mut self, current: &mut Current, key: &Key, value: &[u8]) -> FsResult<()> {
        let inode = current.inode;
        match key.kind {
            kind::XATTR => {
                if xattr_head(inode, key, value)? {
                    current.xattrs += 1;
                }
            }
            kind::DIRENT => {
                let (child, file_kind, _) = decode_entry(inode, value)?;
                current.entries += 1;
                current.folders += u64::from(file_kind == crate::fs::FileKind::Directory);
                self.seen.entry(inode, child);
            }
            kind::SYMLINK => {
                current.target = true;
                if value.len() as u64 != current.file.size || value.len() > 4095 {
                    self.notes.add(Finding::Item { inode, what: "link target" });
                }
            }
            kind::EXTENT => self.extent(current, key, value)?,
            _ => self.notes.add(Finding::Item { inode, what: "unknown item" }),
        }
        Ok(())
    }

    fn extent(&mut self, current: &mut Current, key: &Key, value: &[u8]) -> FsResult<()> {
        let inode = current.inode;
        let extent = Extent::decode(inode, value)?;
        if key.offset < current.next_block {
            self.notes.add(Finding::Item { inode, what: "overlapping extents" });
        }
        current.next_block = key.offset.saturating_add(extent.count());
        let offset = key.offset.saturating_mul(self.block_size);
        let Extent::Data(pointer) = extent else {
            let units = extent.count().saturating_mul(self.block_size / UNIT_U64);
            current.units = current.units.saturating_add(units);
            self.seen.reserve(units);
            return Ok(());
        };
        current.units = current.units.saturating_add(u64::from(pointer.units));
        let len = u64::from(pointer.units) * UNIT_U64;
        if len > self.block_size || offset >= current.file.size {
            self.notes.add(Finding::Item { inode, what: "extent length" });
        }
        self.take(&pointer);
        self.progress(u64::from(pointer.units))?;
        if self.depth == Depth::Structure {
            return Ok(());
        }
        match self.pool.blocks.read(&pointer, Owner::data(inode, key.offset)) {
            Ok(content) => {
                let end = usize::try_from(current.file.size.saturating_sub(offset));
                let beyond = content.get(end.unwrap_or(usize::MAX)..).unwrap_or_default();
                if beyond.iter().any(|&byte| byte != 0) {
                    self.notes.add(Finding::Item { inode, what: "bytes beyond the end" });
                }
            }
            Err(FsError::Damaged(damage)) => {
                let len = len.min(current.file.size.saturating_sub(offset));
                self.notes.add(Finding::Content { damage, inode, offset, len });
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// A damaged node began in the middle of a file: says what of it is concerned.
    fn incomplete(&mut self, place: &Place) {
        let Some(current) = self.current.as_ref().filter(|at| at.inode.0 == place.lower.object)
        else {
            return;
        };
        let (inode, size) = (current.inode, current.file.size);
        let block = |key: &Key| {
            let content = key.object == inode.0 && key.kind == kind::EXTENT;
            content.then(|| key.offset.saturating_mul(self.block_size))
        };
        let regular = current.file.kind == crate::fs::FileKind::Regular;
        let offset = if regular { block(&place.lower).unwrap_or(0).min(size) } else { 0 };
        let end = place.upper.as_ref().and_then(block).unwrap_or(size).min(size);
        let len = if regular { end.saturating_sub(offset) } else { 0 };
        self.notes.add(Finding::Incomplete { inode, offset, len });
    }

    /// Holds a file's counts against its items.
    fn end_file(&mut self) {
        let Some(current) = self.current.take() else { return };
        let Current { inode, file, .. } = current;
        if self.seen.is_lost(inode.0) {
            return;
        }
        let counts = [
            ("entries", file.entries, current.entries),
            ("units", file.units, current.units),
            ("attributes", u64::from(file.xattrs), current.xattrs),
        ];
        for (what, stored, found) in counts {
            if stored != found {
                self.notes.add(Finding::Count { inode, what, stored, found });
            }
        }
        self.seen.subfolders(inode, current.folders);
        if (file.kind == crate::fs::FileKind::Symlink) != current.target {
            self.notes.add(Finding::Item { inode, what: "link target" });
        }
    }

    fn take(&mut self, pointer: &Pointer) {
        for unit in pointer.address.0..pointer.end() {
            if !self.used.take(unit) {
                self.notes.add(Finding::Shared { block: BlockNo(unit) });
                return;
            }
        }
    }

    fn progress(&mut self, units: u64) -> FsResult<()> {
        self.done = self.done.saturating_add(units);
        if self.done.saturating_sub(self.shown) >= STRIDE {
            self.shown = self.done;
            (self.show)(Progress { done: self.done, total: self.pool.allocated() })?;
        }
        Ok(())
    }
}

/// Returns the first and last inode that a node may hold something of.
fn inodes_between(lower: &Key, upper: Option<&Key>) -> (InodeNo, InodeNo) {
    match upper {
        Some(upper) if lower.is_content() == upper.is_content() => {
            (InodeNo(lower.object & !CONTENT_RANGE), InodeNo(upper.object & !CONTENT_RANGE))
        }
        _ => (InodeNo(lower.object & !CONTENT_RANGE), InodeNo(u64::MAX)),
    }
}
