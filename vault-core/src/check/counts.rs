//! What the walk saw of files and units, and whether all counts agree with it.

use super::{Finding, Notes};
use crate::error::{FsError, FsResult};
use crate::format::inode::Inode;
use crate::format::pointer::FIRST_BLOCK;
use crate::fs::FileKind;
use crate::ids::{BlockNo, InodeNo};
use crate::store::alloc::{PAGE_BYTES, PAGE_UNITS};
use crate::store::pool::Pool;
use std::collections::{HashMap, HashSet};

/// One inode, as far as the walk knows it.
#[derive(Clone, Copy, Default)]
struct Node {
    stored_links: u32,
    names: u32,
    subfolders: u32,
    /// Stored parent of a folder.
    parent: u64,
    /// A folder that names it.
    named_by: u64,
    exists: bool,
    folder: bool,
}

/// What the walk saw of files.
#[derive(Default)]
pub(super) struct Seen {
    nodes: HashMap<u64, Node>,
    orphans: HashSet<u64>,
    /// Ranges of keys, by object, that could not be read, as the walk met them: ascending.
    lost: Vec<(u64, u64)>,
    reserved: u64,
}

impl Seen {
    pub(super) fn file(&mut self, inode: InodeNo, file: &Inode) {
        let node = self.nodes.entry(inode.0).or_default();
        node.exists = true;
        node.stored_links = file.links;
        node.parent = file.parent;
        node.folder = file.kind == FileKind::Directory;
    }

    pub(super) fn entry(&mut self, folder: InodeNo, child: InodeNo) {
        let node = self.nodes.entry(child.0).or_default();
        node.names = node.names.saturating_add(1);
        node.named_by = folder.0;
    }

    /// A folder that names an inode.
    pub(super) fn named_by(&self, inode: InodeNo) -> Option<InodeNo> {
        let folder = self.nodes.get(&inode.0)?.named_by;
        (folder != 0).then_some(InodeNo(folder))
    }

    pub(super) fn subfolders(&mut self, inode: InodeNo, count: u64) {
        if let Some(node) = self.nodes.get_mut(&inode.0) {
            node.subfolders = u32::try_from(count).unwrap_or(u32::MAX);
        }
    }

    pub(super) fn orphan(&mut self, inode: InodeNo) {
        self.orphans.insert(inode.0);
    }

    pub(super) fn reserve(&mut self, units: u64) {
        self.reserved = self.reserved.saturating_add(units);
    }

    pub(super) fn lose(&mut self, first: u64, last: u64) {
        self.lost.push((first, last));
    }

    /// Whether items of this object may have been lost.
    pub(super) fn is_lost(&self, object: u64) -> bool {
        let begun = self.lost.partition_point(|(first, _)| *first <= object);
        let before = begun.checked_sub(1).and_then(|last| self.lost.get(last));
        before.is_some_and(|(_, last)| object <= *last)
    }

    pub(super) fn inodes(&self) -> u64 {
        self.nodes.values().filter(|node| node.exists).count() as u64
    }
}

/// A bit for each unit that something refers to.
#[derive(Clone, Debug)]
pub struct UsedUnits {
    bits: Vec<u64>,
    length: u64,
}

impl UsedUnits {
    pub(super) fn new(length: u64) -> Self {
        let words = usize::try_from(length.div_ceil(64)).unwrap_or(0);
        let mut used = Self { bits: vec![0; words], length };
        for unit in 0..FIRST_BLOCK {
            used.take(unit);
        }
        used
    }

    /// Notes a reference; false if there was one already or the unit is outside the image.
    pub(super) fn take(&mut self, unit: u64) -> bool {
        let word = usize::try_from(unit / 64).ok().and_then(|index| self.bits.get_mut(index));
        let Some(word) = word.filter(|_| unit < self.length) else { return false };
        let free = *word >> (unit % 64) & 1 == 0;
        *word |= 1 << (unit % 64);
        free
    }

    /// Returns how many units are in use.
    pub fn count(&self) -> u64 {
        self.bits.iter().map(|word| u64::from(word.count_ones())).sum()
    }
}

impl UsedUnits {
    /// Returns the units in use, ascending.
    pub fn units(&self) -> impl Iterator<Item = u64> + '_ {
        (0..self.length).filter(|unit| {
            let word = usize::try_from(unit / 64).ok().and_then(|index| self.bits.get(index));
            word.is_some_and(|word| word >> (unit % 64) & 1 == 1)
        })
    }
}

/// The last step of a check.
pub(super) struct Counts<'a> {
    pub(super) pool: &'a Pool,
    pub(super) seen: &'a Seen,
    pub(super) used: &'a UsedUnits,
}

impl Counts<'_> {
    pub(super) fn judge(&self, notes: &mut Notes) -> FsResult<()> {
        self.links(notes);
        self.reachability(notes);
        self.map(notes)?;
        // What damage hides cannot be counted.
        if self.seen.lost.is_empty() {
            let counters = self.pool.counters;
            let counts = [
                ("inodes", counters.inodes, self.seen.inodes()),
                ("allocated units", self.pool.allocated(), self.used.count()),
                ("reserved units", counters.reserved, self.seen.reserved),
            ];
            for (what, stored, found) in counts {
                if stored != found {
                    notes.add(Finding::Superblock { what, stored, found });
                }
            }
        }
        Ok(())
    }

    fn links(&self, notes: &mut Notes) {
        let mut inodes: Vec<_> = self.seen.nodes.iter().collect();
        inodes.sort_by_key(|(inode, _)| **inode);
        for (&inode, node) in inodes {
            let number = InodeNo(inode);
            if !node.exists {
                let folder = InodeNo(node.named_by);
                notes.add(if self.seen.is_lost(inode) {
                    Finding::Gone { inode: number }
                } else {
                    Finding::Dangling { folder, inode: number }
                });
                continue;
            }
            let names = if inode == InodeNo::ROOT.0 { node.names + 1 } else { node.names };
            let found = match (node.folder, names) {
                (true, 0) => 0,
                (true, _) => node.subfolders.saturating_add(2),
                (false, names) => names,
            };
            let hidden = !self.seen.lost.is_empty();
            if found != node.stored_links && !hidden {
                let (stored, found) = (u64::from(node.stored_links), u64::from(found));
                notes.add(Finding::Count { inode: number, what: "links", stored, found });
            }
            if node.folder && names > 1 {
                let found = u64::from(names);
                notes.add(Finding::Count { inode: number, what: "folder names", stored: 1, found });
            }
            if node.folder && names == 1 && inode != 1 && node.parent != node.named_by {
                let (stored, found) = (node.parent, node.named_by);
                notes.add(Finding::Count { inode: number, what: "parent", stored, found });
            }
            if (node.stored_links == 0) != self.seen.orphans.contains(&inode) && !hidden {
                notes.add(Finding::Item { inode: number, what: "orphan record" });
            }
        }
        for inode in &self.seen.orphans {
            if !self.seen.nodes.contains_key(inode) && !self.seen.is_lost(*inode) {
                notes.add(Finding::Item { inode: InodeNo(*inode), what: "orphan record" });
            }
        }
    }

    /// Every folder leads up to the root; files hang from folders by their names.
    fn reachability(&self, notes: &mut Notes) {
        let mut sound: HashSet<u64> = HashSet::from([InodeNo::ROOT.0]);
        for (&inode, node) in &self.seen.nodes {
            if !node.exists || node.stored_links == 0 || self.seen.is_lost(inode) {
                continue;
            }
            let mut path = HashSet::new();
            let mut at = inode;
            let reached = loop {
                if sound.contains(&at) {
                    break true;
                }
                // A folder that is met twice hangs from itself.
                if !path.insert(at) {
                    break false;
                }
                match self.seen.nodes.get(&at) {
                    Some(node) if node.named_by != 0 => at = node.named_by,
                    _ => break self.seen.is_lost(at),
                }
            };
            if reached {
                sound.extend(path);
            } else {
                notes.add(Finding::Unreachable { inode: InodeNo(inode) });
            }
        }
    }

    fn map(&self, notes: &mut Notes) -> FsResult<()> {
        let words_per_page = PAGE_BYTES / 8;
        for (page, used) in (0..).zip(self.used.bits.chunks(words_per_page)) {
            let marked = match self.pool.map_page(page) {
                Ok(Some(bits)) if bits.len() == PAGE_BYTES => bits,
                Ok(None) => vec![0; PAGE_BYTES],
                Ok(Some(_)) => {
                    notes.add(Finding::Item { inode: InodeNo(0), what: "allocation map page" });
                    continue;
                }
                // The damaged node itself was reported by the walk.
                Err(FsError::Damaged(_)) => continue,
                Err(error) => return Err(error),
            };
            let mut free = Runs::new(|block, units| Finding::MarkedFree { block, units });
            let mut leaked = Runs::new(|block, units| Finding::Leaked { block, units });
            let words = marked.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
            for ((index, marked), used) in (0_u64..).zip(words).zip(used) {
                if marked == *used {
                    continue;
                }
                for bit in 0..64 {
                    let unit = page * PAGE_UNITS + index * 64 + bit;
                    match (marked >> bit & 1, used >> bit & 1) {
                        (0, 1) => free.push(unit, notes),
                        (1, 0) if self.seen.lost.is_empty() => leaked.push(unit, notes),
                        _ => {}
                    }
                }
            }
            free.end(notes);
            leaked.end(notes);
        }
        Ok(())
    }
}

/// Joins neighbouring units into one finding.
struct Runs<F> {
    make: F,
    start: u64,
    units: u64,
}

impl<F: Fn(BlockNo, u64) -> Finding> Runs<F> {
    fn new(make: F) -> Self {
        Self { make, start: 0, units: 0 }
    }

    fn push(&mut self, unit: u64, notes: &mut Notes) {
        if self.units > 0 && self.start + self.units == unit {
            self.units += 1;
            return;
        }
        self.end(notes);
        self.start = unit;
        self.units = 1;
    }

    fn end(&mut self, notes: &mut Notes) {
        if self.units > 0 {
            notes.add((self.make)(BlockNo(self.start), self.units));
            self.units = 0;
        }
    }
}
