//! What the kernel holds of the vault: references to inodes, and listings of folders.
//!
//! Every answer that names an inode gives the kernel one reference; `FORGET` returns some. An unlinked file must live
//! until the last one is back, since a program may still have it open (opening sends us no request).
//!
//! Linux forgets a file's attributes whenever it had to ask for content, because the access time may have moved, and
//! asks again for each file at its next `stat`. A listing brings the attributes of a whole folder at once, but a listing
//! that the kernel keeps brings none. So the first read in a folder is the moment to have its listing dropped.

use parking_lot::Mutex;
use std::collections::HashMap;
use vault_core::ids::InodeNo;

const SHARDS: u64 = 64;

/// What the kernel holds of one inode.
#[derive(Debug, Default)]
struct Held {
    references: u64,
    /// The folder by which the kernel met it last.
    folder: u64,
    /// Whether the kernel keeps its listing, if it is a folder, and all that came with it.
    listed: bool,
}

/// Keeps account, locked in shards so that event threads rarely meet.
#[derive(Debug)]
pub(crate) struct Lookups {
    shards: Vec<Mutex<HashMap<u64, Held>>>,
}

impl Lookups {
    pub(crate) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }

    /// Notes one more reference to `inode`, which the kernel met in `folder`.
    pub(crate) fn acquire(&self, inode: InodeNo, folder: InodeNo) {
        let mut shard = self.shard(inode).lock();
        let held = shard.entry(inode.0).or_default();
        held.references += 1;
        held.folder = folder.0;
    }

    /// Takes `count` references back and returns whether none is left.
    pub(crate) fn release(&self, inode: InodeNo, count: u64) -> bool {
        let mut shard = self.shard(inode).lock();
        let Some(held) = shard.get_mut(&inode.0) else {
            return false;
        };
        held.references = held.references.saturating_sub(count);
        let none_left = held.references == 0;
        if none_left {
            shard.remove(&inode.0);
            if shard.capacity() > 4 * shard.len() + 64 {
                shard.shrink_to_fit();
            }
        }
        none_left
    }

    /// Notes that the kernel has a listing of `folder`.
    pub(crate) fn listed(&self, folder: InodeNo) {
        let mut shard = self.shard(folder).lock();
        if folder == InodeNo::ROOT {
            // The kernel holds the root without ever asking for it.
            shard.entry(folder.0).or_default().listed = true;
        } else if let Some(held) = shard.get_mut(&folder.0) {
            held.listed = true;
        }
    }

    /// Notes that content of `inode` was asked for. Returns its folder if the kernel has a listing of that which it
    /// should now drop; only once for each listing.
    pub(crate) fn outdates(&self, inode: InodeNo) -> Option<InodeNo> {
        let folder = InodeNo(self.shard(inode).lock().get(&inode.0)?.folder);
        let mut shard = self.shard(folder).lock();
        let held = shard.get_mut(&folder.0)?;
        std::mem::take(&mut held.listed).then_some(folder)
    }

    fn shard(&self, inode: InodeNo) -> &Mutex<HashMap<u64, Held>> {
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
            lookups.acquire(inode, InodeNo::ROOT);
        }
        assert!(!lookups.release(inode, 2));
        assert!(lookups.release(inode, 1));
        assert!(!lookups.release(inode, 1), "an unknown inode holds nothing");
    }

    #[test]
    fn inodes_of_one_shard_are_counted_apart() {
        let lookups = Lookups::new();
        lookups.acquire(InodeNo(2), InodeNo::ROOT);
        lookups.acquire(InodeNo(2 + SHARDS), InodeNo::ROOT);
        assert!(lookups.release(InodeNo(2), 1));
        assert!(lookups.release(InodeNo(2 + SHARDS), 1));
    }

    #[test]
    fn a_read_outdates_the_listing_of_its_folder_once() {
        let lookups = Lookups::new();
        let (folder, file) = (InodeNo(7), InodeNo(7 + SHARDS));
        lookups.acquire(folder, InodeNo::ROOT);
        lookups.acquire(file, folder);
        assert_eq!(lookups.outdates(file), None, "nothing is listed");
        lookups.listed(folder);
        lookups.listed(InodeNo::ROOT);
        assert_eq!(lookups.outdates(file), Some(folder));
        assert_eq!(lookups.outdates(file), None);
        assert_eq!(lookups.outdates(folder), Some(InodeNo::ROOT));
        assert_eq!(lookups.outdates(InodeNo(9)), None, "the kernel does not hold it");
    }
}
