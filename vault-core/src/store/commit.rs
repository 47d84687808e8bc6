//! The transaction: write blocks, publish a superblock, and the barriers between (FORMAT.md
//! section 9). The only file that advances a generation.
//!
//! A commit has three parts, so that nobody waits on the disk with the file system locked:
//! [`Pool::prepare`] under the exclusive lock, [`Prepared::harden`] without any lock, and
//! [`Pool::finish`] under the lock again.

use crate::crypto::aead::Tag;
use crate::device::BlockDevice;
use crate::error::{FsError, FsResult};
use crate::format::key::Key;
use crate::format::superblock::Superblock;
use crate::ids::{BlockNo, Generation};
use crate::store::batch::WriteBatch;
use crate::store::pool::Pool;
use crate::store::ring::Pending;
use crate::tree::write::Sink;
use std::collections::VecDeque;
use std::sync::Arc;

/// Most bytes since the last barrier that a commit with a single barrier may cover: recovery has to
/// read them back.
const SMALL_COMMIT: u64 = 8 << 20;

/// A commit whose blocks are handed to the device.
pub(crate) struct Prepared {
    device: Arc<dyn BlockDevice>,
    generation: Generation,
    edits: u64,
    header_sequence: u64,
    superblock: Pending,
    proven: bool,
    /// Whether the superblock still has to be written, after the first barrier.
    held_back: bool,
}

/// A generation that is on stable storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Durable {
    pub(crate) generation: Generation,
    pub(crate) tag: Tag,
    pub(crate) header_sequence: u64,
}

impl Pool {
    /// Whether anything changed since the last commit.
    pub(crate) fn is_dirty(&self) -> bool {
        self.edits != self.committed_edits
    }

    /// Whether the newest superblock says that its blocks were durable before it.
    pub(crate) fn newest_proven(&self) -> bool {
        self.newest_proven
    }

    /// Writes all changed nodes and seals a superblock. With `proven` the superblock waits for a
    /// barrier of its own.
    pub(crate) fn prepare(&mut self, proven: bool, now: i64) -> FsResult<Prepared> {
        let birth = self.next_generation();
        let fs_root = self.write_tree(birth)?;
        let allocation_root = self.write_map(birth)?;
        // What the host had no room for waits in memory; nothing is published before it is written.
        self.blocks.drain_backlog()?;
        let held_back = proven || self.unflushed > SMALL_COMMIT;
        let superblock = Superblock {
            header_sequence: self.counters.header_sequence,
            proven: held_back,
            capacity: self.alloc.capacity(),
            length: self.alloc.length(),
            allocated: self.alloc.allocated(),
            reserved: self.counters.reserved,
            next_inode: self.counters.next_inode,
            inodes: self.counters.inodes,
            fs_root,
            allocation_root,
            committed_at: now,
        };
        let pending = self.ring.seal(&self.blocks.sealer, birth, &superblock)?;
        if !held_back {
            self.ring.publish(&*self.blocks.device, &pending)?;
        }
        self.generation = birth;
        self.unflushed = 0;
        Ok(Prepared {
            device: Arc::clone(&self.blocks.device),
            generation: birth,
            edits: self.edits,
            header_sequence: superblock.header_sequence,
            superblock: pending,
            proven: held_back,
            held_back,
        })
    }

    /// Publishes a superblock that waited for its blocks' barrier; another barrier must follow.
    pub(crate) fn publish(&mut self, prepared: &mut Prepared) -> FsResult<()> {
        if std::mem::take(&mut prepared.held_back) {
            self.ring.publish(&*self.blocks.device, &prepared.superblock)?;
        }
        Ok(())
    }

    /// The commit is durable: space freed by the one before it may be used.
    pub(crate) fn finish(&mut self, prepared: &Prepared) -> FsResult<Durable> {
        self.alloc.finish_commit()?;
        self.committed_edits = prepared.edits;
        self.newest_proven = prepared.proven;
        Ok(Durable {
            generation: prepared.generation,
            tag: prepared.superblock.tag,
            header_sequence: prepared.header_sequence,
        })
    }

    fn write_tree(&mut self, birth: Generation) -> FsResult<crate::format::pointer::Pointer> {
        for pointer in self.tree.take_freed() {
            self.free(&pointer)?;
        }
        let units = self.tree.dirty_units();
        // One run for all nodes, if there is one; else each finds its own place.
        let mut run = if units == 0 {
            None
        } else {
            match self.with_map(|alloc, map| alloc.take_units(map, units)) {
                Ok(run) => Some(run.start),
                Err(FsError::NoSpace) => None,
                Err(error) => return Err(error),
            }
        };
        let Self { tree, map, alloc, blocks, .. } = self;
        let source = super::pool::TreeMap { map, blocks };
        let mut batch = WriteBatch::new(blocks);
        let root = tree.write(&mut Sink {
            sealer: &blocks.sealer,
            birth,
            place: &mut |units| match &mut run {
                Some(next) => {
                    let address = *next;
                    *next += u64::from(units);
                    Ok(BlockNo(address))
                }
                None => Ok(BlockNo(alloc.take_units(&source, u64::from(units))?.start)),
            },
            emit: &mut |pointer, bytes, node| {
                blocks.cache.insert(pointer, node);
                batch.push(pointer.address, &bytes)
            },
        })?;
        self.unflushed += batch.flush()?;
        Ok(root)
    }

    /// Writes the allocation map. Its own nodes change it, so space for them is taken until
    /// nothing changes any more; then it is encoded.
    fn write_map(&mut self, birth: Generation) -> FsResult<crate::format::pointer::Pointer> {
        let mut places = VecDeque::new();
        loop {
            while let Some((page, bits)) = self.alloc.take_changed() {
                self.map.insert(&self.blocks, Key::bitmap(page), bits.into_boxed_slice())?;
            }
            for pointer in self.map.take_freed() {
                self.free(&pointer)?;
            }
            while places.len() < self.map.dirty_nodes() {
                places.push_back(self.with_map(|alloc, map| alloc.take_units(map, 1))?.start);
            }
            if self.alloc.changed_pages() == 0 {
                break;
            }
        }
        self.alloc.begin_commit();
        let Self { map, blocks, .. } = self;
        let mut batch = WriteBatch::new(blocks);
        let root = map.write(&mut Sink {
            sealer: &blocks.sealer,
            birth,
            place: &mut |_| places.pop_front().map(BlockNo).ok_or(FsError::NoSpace),
            emit: &mut |pointer, bytes, node| {
                blocks.cache.insert(pointer, node);
                batch.push(pointer.address, &bytes)
            },
        })?;
        self.unflushed += batch.flush()?;
        Ok(root)
    }
}

impl Prepared {
    /// The barrier. After an error what the device did is unknown: the caller must not retry.
    pub(crate) fn harden(&self) -> FsResult<()> {
        self.device.flush().map_err(FsError::Io)
    }

    /// Whether [`Pool::publish`] and a second barrier are needed.
    pub(crate) fn needs_publish(&self) -> bool {
        self.held_back
    }
}
