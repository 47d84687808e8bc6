//! How many references the kernel holds on each inode.
//!
//! Every answer that names an inode gives the kernel one reference; `FORGET` returns some. An unlinked file must live
//! until the last one is back, since a program may still have it open (opening sends us no request).

use parking_lot::Mutex;
use std::collections::HashMap;
use vault_core::ids::InodeNo;

const SHARDS: u64 = 64;

/// Counts references, locked in shards so that event threads rarely meet.
#[derive(Debug)]
pub(crate) struct Lookups {
    shards: Vec<Mutex<HashMap<u64, u64>>>,
}

impl Lookups {
    pub(crate) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }

    /// Notes one more reference.
    pub(crate) fn acquire(&self, inode: InodeNo) {
        *self.shard(inode).lock().entry(inode.0).or_insert(0) += 1;
    }

    /// Takes `count` references back and returns whether none is left.
    pub(crate) fn release(&self, inode: InodeNo, count: u64) -> bool {
        let mut shard = self.shard(inode).lock();
        let Some(held) = shard.get_mut(&inode.0) else {
            return false;
        };
        *held = held.saturating_sub(count);
        let none_left = *held == 0;
        if none_left {
            shard.remove(&inode.0);
            if shard.capacity() > 4 * shard.len() + 64 {
                shard.shrink_to_fit();
            }
        }
        none_left
    }

    fn shard(&self, inode: InodeNo) -> &Mutex<HashMap<u64, u64>> {
        let index = usize::try_from(inode.0 % SHARDS).expect("below 64");
        &self.shards[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_reference_is_noticed_once() {
        let lookups = Lookups::new();
        let inode = InodeNo(7);
        for _ in 0..3 {
            lookups.acquire(inode);
        }
        assert!(!lookups.release(inode, 2));
        assert!(lookups.release(inode, 1));
        assert!(!lookups.release(inode, 1), "an unknown inode holds nothing");
    }

    #[test]
    fn inodes_of_one_shard_are_counted_apart() {
        let lookups = Lookups::new();
        lookups.acquire(InodeNo(2));
        lookups.acquire(InodeNo(2 + SHARDS));
        assert!(lookups.release(InodeNo(2), 1));
        assert!(lookups.release(InodeNo(2 + SHARDS), 1));
    }
}
