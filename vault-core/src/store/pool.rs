//! The store below a file system: two trees, free space, and the generation they will become.

use crate::error::{FsError, FsResult};
use crate::format::key::{CONTENT_RANGE, Key};
use crate::format::node::TreeId;
use crate::format::pointer::{BlockKind, Pointer};
use crate::format::superblock::Superblock;
use crate::ids::{BlockNo, Generation, InodeNo, UNIT};
use crate::store::alloc::{Allocator, MapSource, Run};
use crate::store::blocks::Blocks;
use crate::store::ring::{Opened, Ring};
use crate::store::sealed::{Identity, Owner};
use crate::tree::Tree;
use crate::tree::left::Lost;
use crate::tree::read::Visit;
use rayon::prelude::*;
use std::ops::ControlFlow;

/// Groups that ordinary operations leave free, so that a removal can always commit.
const RESERVE_GROUPS: u64 = 64;
/// Windows of 1 MiB that are given back to the host in one step.
const DISCARD_STEP: usize = 16;
/// Blocks from which sealing is spread over threads.
const PARALLEL_FROM: usize = 8;

/// Counters that a superblock carries for the file system.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counters {
    pub(crate) header_sequence: u64,
    pub(crate) reserved: u64,
    pub(crate) next_inode: u64,
    pub(crate) inodes: u64,
}

/// Which operations may use the reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Leaves the reserve alone.
    Ordinary,
    /// Frees space in the end, so it may use the reserve.
    Removal,
}

/// A data block to be written: plain whole units.
pub(crate) struct DataBlock<'a> {
    pub(crate) inode: InodeNo,
    pub(crate) block: u64,
    pub(crate) bytes: &'a [u8],
}

/// The store.
pub(crate) struct Pool {
    pub(crate) blocks: Blocks,
    pub(crate) counters: Counters,
    pub(super) tree: Tree,
    pub(super) map: Tree,
    pub(super) alloc: Allocator,
    pub(super) ring: Ring,
    /// The newest generation that was handed to the device.
    pub(super) generation: Generation,
    /// Bytes written since the last barrier.
    pub(super) unflushed: u64,
    /// Counts changes of either tree; tells whether there is anything to commit.
    pub(super) edits: u64,
    pub(super) committed_edits: u64,
    pub(super) newest_proven: bool,
}

pub(super) struct TreeMap<'a> {
    pub(super) map: &'a Tree,
    pub(super) blocks: &'a Blocks,
}

impl MapSource for TreeMap<'_> {
    fn page(&self, page: u64) -> FsResult<Option<Vec<u8>>> {
        self.map.get(self.blocks, &Key::bitmap(page), <[u8]>::to_vec)
    }
}

impl Pool {
    /// The store of an image that is being created.
    pub(crate) fn create(
        blocks: Blocks,
        capacity: u64,
        length: u64,
        block_units: u64,
    ) -> FsResult<Self> {
        let mut pool = Self {
            blocks,
            counters: Counters { header_sequence: 1, reserved: 0, next_inode: 2, inodes: 1 },
            tree: Tree::empty(TreeId::FileSystem),
            map: Tree::empty(TreeId::Allocation),
            alloc: Allocator::new(capacity, length, 0, block_units),
            ring: Ring::empty(),
            generation: Generation(0),
            unflushed: 0,
            edits: 1,
            committed_edits: 0,
            newest_proven: true,
        };
        pool.alloc.claim_fixed(&TreeMap { map: &pool.map, blocks: &pool.blocks })?;
        Ok(pool)
    }

    /// The store of a state that recovery chose. `floor` is a generation that the next one must be
    /// above, besides all in the ring.
    pub(crate) fn open(
        blocks: Blocks,
        ring: Ring,
        opened: &Opened,
        floor: Generation,
        block_units: u64,
    ) -> Self {
        let superblock = &opened.superblock;
        let Superblock { capacity, length, allocated, .. } = *superblock;
        let generation = opened.generation.0.max(floor.0).max(ring.highest());
        Self {
            blocks,
            counters: Counters {
                header_sequence: superblock.header_sequence,
                reserved: superblock.reserved,
                next_inode: superblock.next_inode,
                inodes: superblock.inodes,
            },
            tree: Tree::committed(TreeId::FileSystem, superblock.fs_root),
            map: Tree::committed(TreeId::Allocation, superblock.allocation_root),
            alloc: Allocator::new(capacity, length, allocated, block_units),
            ring,
            generation: Generation(generation),
            unflushed: 0,
            edits: 0,
            committed_edits: 0,
            newest_proven: superblock.proven,
        }
    }

    /// Shows the value of `key` to `read`.
    pub(crate) fn get<R>(&self, key: &Key, read: impl FnOnce(&[u8]) -> R) -> FsResult<Option<R>> {
        self.tree.get(&self.blocks, key, read)
    }

    /// Shows the items of one list from `from` on.
    pub(crate) fn scan_list(&self, from: &Key, visit: &mut Visit<'_>) -> FsResult<()> {
        self.tree.scan_list(&self.blocks, from, visit)
    }

    /// Shows the items of one list from `from` on that can still be read.
    pub(crate) fn scan_list_left(
        &self,
        from: &Key,
        visit: &mut Visit<'_>,
        lost: &mut Lost<'_>,
    ) -> FsResult<()> {
        let until = Key { kind: from.kind.saturating_add(1), offset: 0, ..*from };
        self.tree.scan_left(&self.blocks, (from, &until), visit, lost)
    }

    /// Shows what is left of all items that are no inline content.
    pub(crate) fn scan_left(&self, visit: &mut Visit<'_>) -> FsResult<()> {
        let until = Key { object: CONTENT_RANGE, kind: 0, offset: 0 };
        self.tree.scan_left(&self.blocks, (&Key::MIN, &until), visit, &mut |_, _, _| Ok(()))
    }

    /// Starts above a generation that was made elsewhere.
    pub(crate) fn start_above(&mut self, generation: Generation) {
        self.generation = generation;
    }

    /// The newest generation that this store knows of.
    pub(crate) fn generation(&self) -> Generation {
        self.generation
    }

    /// Sets an item.
    pub(crate) fn put(&mut self, key: Key, value: Vec<u8>) -> FsResult<()> {
        self.edits += 1;
        self.tree.insert(&self.blocks, key, value.into_boxed_slice())
    }

    /// Removes an item; returns whether it was there.
    pub(crate) fn remove(&mut self, key: &Key) -> FsResult<bool> {
        self.edits += 1;
        self.tree.remove(&self.blocks, key)
    }

    /// A number that grows with every change.
    pub(crate) fn edits(&self) -> u64 {
        self.edits
    }

    /// Notes a change that is not an item (a counter).
    pub(crate) fn touch(&mut self) {
        self.edits += 1;
    }

    /// The generation that the next commit makes.
    pub(crate) fn next_generation(&self) -> Generation {
        Generation(self.generation.0 + 1)
    }

    /// Roots of both trees of a state that was not changed.
    pub(crate) fn roots(&self) -> (Pointer, Pointer) {
        let root = |tree: &Tree| tree.committed_root().expect("a state just opened has no changes");
        (root(&self.tree), root(&self.map))
    }

    /// Returns a page of the committed allocation map.
    pub(crate) fn map_page(&self, page: u64) -> FsResult<Option<Vec<u8>>> {
        TreeMap { map: &self.map, blocks: &self.blocks }.page(page)
    }

    /// Superblock slots that held something unreadable at opening.
    pub(crate) fn torn_slots(&self) -> &[usize] {
        self.ring.torn()
    }

    pub(crate) fn length(&self) -> u64 {
        self.alloc.length()
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.alloc.capacity()
    }

    pub(crate) fn allocated(&self) -> u64 {
        self.alloc.allocated()
    }

    /// Units that only removals may use.
    pub(crate) fn reserve_units(&self) -> u64 {
        RESERVE_GROUPS * self.alloc.group_units()
    }

    /// Units of a group, the grain in which space is promised.
    pub(crate) fn group_units(&self) -> u64 {
        self.alloc.group_units()
    }

    /// Shows the last item at or before `key` to `read`.
    pub(crate) fn floor<R>(
        &self,
        key: &Key,
        read: impl FnOnce(Key, &[u8]) -> R,
    ) -> FsResult<Option<R>> {
        self.tree.floor(&self.blocks, key, read)
    }

    /// Bytes of changed nodes in memory, roughly.
    pub(crate) fn dirty_bytes(&self) -> usize {
        self.tree.dirty_nodes() * 4 * UNIT
    }

    /// Makes sure that an operation that dirties `blocks` data blocks and `nodes` tree nodes, besides
    /// everything that is pending, can be committed.
    pub(crate) fn ensure(&mut self, claim: Claim, blocks: u64, nodes: u64) -> FsResult<()> {
        let (tree, map) = (self.tree.dirty_nodes() as u64, self.map.dirty_nodes() as u64);
        // Each node that is replaced may lie in another page of the map, and each page that
        // changes takes a leaf and its share of branches; there are no more pages than there are.
        let pages = (self.alloc.changed_pages() as u64 + tree + nodes).min(self.alloc.page_count());
        let promised = self.counters.reserved.div_ceil(self.alloc.group_units());
        let reserve = match claim {
            Claim::Ordinary => RESERVE_GROUPS + promised,
            Claim::Removal => 0,
        };
        let need = tree + map + 2 * pages + 8 + blocks + nodes + reserve;
        let map = TreeMap { map: &self.map, blocks: &self.blocks };
        self.alloc.ensure(&map, &*self.blocks.device, need)
    }

    /// Whether a commit would make freed space usable.
    pub(crate) fn has_waiting_space(&self) -> bool {
        self.alloc.has_waiting()
    }

    /// Notes that a committed or written block is no longer referenced.
    pub(crate) fn free(&mut self, pointer: &Pointer) -> FsResult<()> {
        let map = TreeMap { map: &self.map, blocks: &self.blocks };
        if pointer.birth > self.generation {
            let run = Run { start: pointer.address.0, units: u64::from(pointer.units) };
            self.alloc.free_uncommitted(&map, run)
        } else {
            self.alloc.free(&map, pointer)
        }
    }

    /// Seals and writes data blocks, side by side where space allows; returns their pointers.
    pub(crate) fn write_data(&mut self, data: &[DataBlock<'_>]) -> FsResult<Vec<Pointer>> {
        let mut pointers = Vec::with_capacity(data.len());
        let mut rest = data;
        while let Some(first) = rest.first() {
            let group_bytes = usize::try_from(self.alloc.group_units()).unwrap_or(4) * UNIT;
            let whole = rest.iter().take_while(|block| block.bytes.len() == group_bytes).count();
            let map = TreeMap { map: &self.map, blocks: &self.blocks };
            let (count, run) = if whole > 0 {
                let run = match self.alloc.take_groups(&map, whole.min(64) as u64) {
                    // Free space is scattered: any place will do that is long enough.
                    Err(FsError::NoSpace) => {
                        self.alloc.take_units(&map, self.alloc.group_units())?
                    }
                    outcome => outcome?,
                };
                (usize::try_from(run.units / self.alloc.group_units()).unwrap_or(1), run)
            } else {
                // Short blocks (file ends, small files) are packed side by side.
                let fits = short_blocks(rest, group_bytes);
                let units: usize =
                    rest.iter().take(fits).map(|block| block.bytes.len() / UNIT).sum();
                match self.alloc.take_units(&map, units as u64) {
                    Ok(run) => (fits, run),
                    Err(FsError::NoSpace) => {
                        (1, self.alloc.take_units(&map, (first.bytes.len() / UNIT) as u64)?)
                    }
                    Err(error) => return Err(error),
                }
            };
            let (now, later) = rest.split_at(count.min(rest.len()));
            match self.write_run(run, now) {
                Ok(written) => pointers.extend(written),
                Err(error) => {
                    self.with_map(|alloc, map| alloc.free_uncommitted(map, run))?;
                    for pointer in &pointers {
                        self.free(pointer)?;
                    }
                    return Err(error);
                }
            }
            rest = later;
        }
        Ok(pointers)
    }

    fn write_run(&mut self, run: Run, data: &[DataBlock<'_>]) -> FsResult<Vec<Pointer>> {
        let birth = self.next_generation();
        let mut buffer = Vec::with_capacity(usize::try_from(run.units).unwrap_or(0) * UNIT);
        for block in data {
            buffer.extend_from_slice(block.bytes);
        }
        let mut address = run.start;
        let mut rest = &mut *buffer;
        let mut jobs = Vec::with_capacity(data.len());
        for block in data {
            let (part, tail) = rest.split_at_mut(block.bytes.len());
            rest = tail;
            let identity = Identity {
                kind: BlockKind::Data,
                level: 0,
                address: BlockNo(address),
                birth,
                owner: Owner::data(block.inode, block.block),
            };
            address += (part.len() / UNIT) as u64;
            jobs.push((identity, part));
        }
        let sealer = &self.blocks.sealer;
        let pointers: Result<Vec<_>, _> = if jobs.len() >= PARALLEL_FROM {
            jobs.into_par_iter().map(|(identity, part)| sealer.seal(&identity, part)).collect()
        } else {
            jobs.into_iter().map(|(identity, part)| sealer.seal(&identity, part)).collect()
        };
        let pointers = pointers?;
        self.blocks.write(BlockNo(run.start), &buffer)?;
        self.unflushed += buffer.len() as u64;
        Ok(pointers)
    }

    /// Plants a bug.
    #[cfg(feature = "testing")]
    pub(crate) fn sabotage(&mut self, bug: super::alloc::Sabotage) {
        self.alloc.sabotage = Some(bug);
    }

    /// Lets the allocator do something about its limits.
    pub(crate) fn allocator(&mut self) -> &mut Allocator {
        &mut self.alloc
    }

    /// Whether anything that the next commit keeps lies at or above a unit.
    pub(crate) fn holds_above(&mut self, limit: u64) -> FsResult<bool> {
        self.with_map(|alloc, map| alloc.holds_above(map, limit))
    }

    /// Marks nodes of both trees that end beyond `limit` as changed, about `most` at a time; says whether
    /// there may be more.
    pub(crate) fn relocate_nodes(&mut self, limit: u64, most: usize) -> FsResult<bool> {
        let more = self.tree.relocate(&self.blocks, limit, most)?;
        let more = more | self.map.relocate(&self.blocks, limit, most)?;
        self.edits += 1;
        Ok(more)
    }

    /// Shows all items from `from` on that are no inline content.
    pub(crate) fn scan_from(&self, from: &Key, visit: &mut Visit<'_>) -> FsResult<()> {
        self.tree.scan(&self.blocks, from, &mut |key, value| {
            if key.is_content() { Ok(ControlFlow::Break(())) } else { visit(key, value) }
        })
    }

    /// Gives some of the free space beyond `keep` groups back to the host; says whether there may be
    /// more. A disk that others keep busy may take a tenth of a second for each part, so that is not
    /// all done in one step, for which everybody would wait.
    pub(crate) fn discard(&mut self, keep: u64) -> FsResult<bool> {
        self.alloc.discard(&*self.blocks.device, keep.max(2 * RESERVE_GROUPS), DISCARD_STEP)
    }

    pub(super) fn with_map<R>(
        &mut self,
        act: impl FnOnce(&mut Allocator, &dyn MapSource) -> FsResult<R>,
    ) -> FsResult<R> {
        let map = TreeMap { map: &self.map, blocks: &self.blocks };
        act(&mut self.alloc, &map)
    }
}

/// Counts the leading blocks shorter than a group, up to 1 MiB together.
fn short_blocks(data: &[DataBlock<'_>], group_bytes: usize) -> usize {
    let mut total = 0;
    data.iter()
        .take_while(|block| {
            total += block.bytes.len();
            block.bytes.len() < group_bytes && total <= 1 << 20
        })
        .count()
        .max(1)
}
