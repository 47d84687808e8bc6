//! The file system's state: the store, content not yet sealed, and times not yet stored.

use crate::error::{FsError, FsResult};
use crate::format::key::CONTENT_RANGE;
use crate::format::pointer::Pointer;
use crate::fs::types::StatFs;
use crate::ids::{InodeNo, UNIT};
use crate::ports::{Clock, Timestamp};
use crate::store::pool::{Claim, Pool};
use parking_lot::Mutex;
use siphasher::sip::SipHasher24;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hasher;
use std::sync::Arc;

/// Largest content that this writer keeps inline in a leaf (FORMAT.md allows 4096).
pub(crate) const INLINE_MAX: u64 = 2048;
/// Largest file size.
pub(crate) const MAX_SIZE: u64 = i64::MAX as u64;

/// The file system behind a [`Volume`](super::Volume).
pub(crate) struct Fs {
    pub(super) pool: Pool,
    pub(super) clock: Arc<dyn Clock>,
    /// Content written since the last flush, by inode and block; each entry one whole data block.
    pub(super) dirty: BTreeMap<(u64, u64), Box<[u8]>>,
    /// Access times not yet stored; shared readers add to it.
    pub(super) accessed: Mutex<HashMap<u64, Timestamp>>,
    block_shift: u8,
    name_key: [u8; 16],
}

impl Fs {
    pub(crate) fn new(pool: Pool, clock: Arc<dyn Clock>, block_shift: u8) -> Self {
        let name_key = *pool.blocks.sealer.keys().directory_hash.expose();
        Self {
            pool,
            clock,
            dirty: BTreeMap::new(),
            accessed: Mutex::new(HashMap::new()),
            block_shift,
            name_key,
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Bytes of a data block.
    pub(super) fn block_size(&self) -> u64 {
        1 << self.block_shift
    }

    /// Units of a data block.
    pub(super) fn block_units(&self) -> u64 {
        self.block_size() / UNIT as u64
    }

    /// The keyed hash that orders names.
    pub(super) fn hash(&self, name: &[u8]) -> u64 {
        let mut hasher = SipHasher24::new_with_key(&self.name_key);
        hasher.write(name);
        hasher.finish()
    }

    /// Makes sure an operation can be committed, along with all that is pending.
    pub(super) fn ensure(&mut self, claim: Claim, blocks: u64, nodes: u64) -> FsResult<()> {
        let pending = self.dirty.len() as u64;
        // A flushed block needs its place, and every few dozen of them a leaf more.
        self.pool.ensure(claim, blocks + pending, nodes + (blocks + pending) / 32)
    }

    /// Bytes of unsealed content in memory.
    pub(super) fn dirty_content(&self) -> usize {
        self.dirty.len() << self.block_shift
    }

    pub(super) fn free(&mut self, pointer: &Pointer) -> FsResult<()> {
        self.pool.free(pointer)
    }

    pub(super) fn stat(&self) -> StatFs {
        let total = self.pool.capacity();
        let pending = self.dirty.len() as u64 * self.block_units();
        let used = self.pool.allocated() + self.pool.counters.reserved + pending;
        let free = total.saturating_sub(used);
        StatFs {
            total,
            free,
            available: free.saturating_sub(self.pool.reserve_units()),
            files: self.pool.counters.inodes,
        }
    }

    /// Takes the next inode number.
    pub(super) fn new_inode(&mut self) -> FsResult<InodeNo> {
        let number = self.pool.counters.next_inode;
        if number >= CONTENT_RANGE {
            return Err(FsError::NoSpace);
        }
        self.pool.counters.next_inode = number + 1;
        self.pool.counters.inodes += 1;
        self.pool.touch();
        Ok(InodeNo(number))
    }
}
