//! Free space: which units may be written, and when freed ones may be written again.
//!
//! Words used here: a *page* is one item of the allocation map (16,384 units). A *group* is an aligned
//! run of units as long as a data block; space is promised to operations in whole groups, so that
//! fragments can never make an acknowledged write fail. A *window* is 1 MiB of the file; space is only
//! given out from windows that are known to be *backed*, physically allocated by the host, so that a
//! commit does not meet a full disk.
//!
//! Two bitmaps per page keep INV-2 and INV-3 (FORMAT.md section 9): `live` is what the next commit
//! will write, `busy` what may not be written now. A freed unit leaves `live` at once and `busy` only
//! when no generation that recovery could choose needs it.

use crate::device::BlockDevice;
use crate::error::{Damage, FsError, FsResult};
use crate::format::pointer::{FIRST_BLOCK, Pointer};
use crate::ids::{BlockNo, UNIT_U64};
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// Units per page of the allocation map.
pub(crate) const PAGE_UNITS: u64 = 16_384;
/// Bytes per page of the allocation map.
pub(crate) const PAGE_BYTES: usize = 2048;
/// Units per window.
const WINDOW_UNITS: u64 = 256;
/// Units that the file grows by.
const GROWTH_UNITS: u64 = 4096;
const WORDS: usize = 256;
const WORD_BITS: u64 = 64;

/// A run of units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) start: u64,
    pub(crate) units: u64,
}

/// Where pages of the committed map come from.
pub(crate) trait MapSource {
    /// Returns the bits of a page, or `None` for a page that is wholly free.
    fn page(&self, page: u64) -> FsResult<Option<Vec<u8>>>;
}

struct Page {
    live: Box<[u64; WORDS]>,
    busy: Box<[u64; WORDS]>,
    /// One bit per window of the page.
    backed: u64,
}

/// The allocator.
pub(crate) struct Allocator {
    pages: BTreeMap<u64, Page>,
    changed: BTreeSet<u64>,
    capacity: u64,
    length: u64,
    /// No space is given out at or above this unit, a multiple of a window: the image is about to be cut.
    ceiling: Option<u64>,
    /// Set bits of `live`.
    allocated: u64,
    group: u64,
    /// Wholly free groups in backed windows.
    free_groups: u64,
    group_cursor: u64,
    unit_cursor: u64,
    back_cursor: u64,
    /// Freed since the last commit began.
    pending: Vec<Run>,
    /// Freed by the commit that is on its way to the disk.
    committing: Vec<Run>,
    /// Freed by the last durable commit; free once the next one is durable.
    retiring: Vec<Run>,
    /// A planted bug, for the tests that must catch it.
    #[cfg(feature = "testing")]
    pub(crate) sabotage: Option<Sabotage>,
}

/// Bugs that can be planted, so that the crash suite can show that it would see them.
#[cfg(feature = "testing")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// Freed space is used again before the commit that freed it is durable.
    ReuseBeforeDurable,
    /// Freed space is used again one generation earlier than INV-3 says.
    ReuseOneEarly,
}

impl Allocator {
    /// `allocated` and `length` are the superblock's; `block_units` the units of a data block.
    pub(crate) fn new(capacity: u64, length: u64, allocated: u64, block_units: u64) -> Self {
        Self {
            pages: BTreeMap::new(),
            changed: BTreeSet::new(),
            capacity,
            length,
            ceiling: None,
            allocated,
            group: block_units.max(4),
            free_groups: 0,
            group_cursor: FIRST_BLOCK,
            unit_cursor: FIRST_BLOCK,
            back_cursor: 0,
            pending: Vec::new(),
            committing: Vec::new(),
            retiring: Vec::new(),
            #[cfg(feature = "testing")]
            sabotage: None,
        }
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    pub(crate) fn allocated(&self) -> u64 {
        self.allocated
    }

    pub(crate) fn group_units(&self) -> u64 {
        self.group
    }

    /// Gives no space at or above `ceiling` any more. What is held there stays until it is freed.
    pub(crate) fn lower(&mut self, ceiling: u64) {
        let ceiling = ceiling / WINDOW_UNITS * WINDOW_UNITS;
        self.ceiling = Some(ceiling);
        let group = self.group;
        for (number, page) in self.pages.range_mut(ceiling / PAGE_UNITS..) {
            for window in 0..WORD_BITS {
                let above = number * PAGE_UNITS + window * WINDOW_UNITS >= ceiling;
                if above && page.backed >> window & 1 == 1 {
                    page.backed &= !(1 << window);
                    let free = page.busy.get(window_words(window));
                    self.free_groups -= free.map_or(0, |words| free_groups(words, group));
                }
            }
        }
    }

    /// Whether anything is held at or above a unit.
    pub(crate) fn holds_above(&mut self, map: &dyn MapSource, limit: u64) -> FsResult<bool> {
        for number in limit / PAGE_UNITS..self.page_count() {
            let page = self.page(map, number)?;
            let held = (0..).zip(page.live.iter()).any(|(index, word)| {
                let start = number * PAGE_UNITS + index * WORD_BITS;
                let above = match limit.saturating_sub(start) {
                    0 => u64::MAX,
                    below => !low_bits(below),
                };
                word & above != 0
            });
            if held {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Gives space everywhere again.
    pub(crate) fn lift(&mut self) {
        self.ceiling = None;
    }

    /// Sets what the file may grow to; its length follows if it is longer. Nothing may be held there.
    pub(crate) fn set_capacity(&mut self, capacity: u64) {
        self.capacity = capacity;
        self.length = self.length.min(capacity / WINDOW_UNITS * WINDOW_UNITS);
    }

    /// Cuts the length, where nothing is held any more.
    pub(crate) fn cut(&mut self, length: u64) {
        self.length = self.length.min(length / WINDOW_UNITS * WINDOW_UNITS);
    }

    /// Marks units 0 to 15, which belong to headers and superblocks, in a new image.
    pub(crate) fn claim_fixed(&mut self, map: &dyn MapSource) -> FsResult<()> {
        self.mark(map, Run { start: 0, units: FIRST_BLOCK })?;
        self.allocated += FIRST_BLOCK;
        Ok(())
    }

    /// Makes at least `groups` groups available, from space in the file or by growing it.
    pub(crate) fn ensure(
        &mut self,
        map: &dyn MapSource,
        device: &dyn BlockDevice,
        groups: u64,
    ) -> FsResult<()> {
        while self.free_groups < groups {
            if !self.back_more(map, device)? && !self.grow(map, device)? {
                return Err(FsError::NoSpace);
            }
        }
        Ok(())
    }

    /// Takes up to `want` whole groups that lie together; at least one.
    pub(crate) fn take_groups(&mut self, map: &dyn MapSource, want: u64) -> FsResult<Run> {
        let found = self
            .find_groups(self.group_cursor, self.length, want)
            .or_else(|| self.find_groups(0, self.length, want))
            .ok_or(FsError::NoSpace)?;
        self.claim(map, found)?;
        self.group_cursor = found.start + found.units;
        Ok(found)
    }

    /// Takes exactly `units` units that lie together.
    pub(crate) fn take_units(&mut self, map: &dyn MapSource, units: u64) -> FsResult<Run> {
        let found = self
            .find_units(self.unit_cursor, self.length, units)
            .or_else(|| self.find_units(0, self.length, units))
            .ok_or(FsError::NoSpace)?;
        self.claim(map, found)?;
        self.unit_cursor = found.start + found.units;
        Ok(found)
    }

    /// Gives back a committed block: free once two commits are durable (INV-3).
    pub(crate) fn free(&mut self, map: &dyn MapSource, pointer: &Pointer) -> FsResult<()> {
        let run = Run { start: pointer.address.0, units: u64::from(pointer.units) };
        self.unmark_live(map, run)?;
        #[cfg(feature = "testing")]
        if self.sabotage == Some(Sabotage::ReuseBeforeDurable) {
            return self.release(run);
        }
        self.pending.push(run);
        Ok(())
    }

    /// Gives back space that no generation ever held: free at once.
    pub(crate) fn free_uncommitted(&mut self, map: &dyn MapSource, run: Run) -> FsResult<()> {
        self.unmark_live(map, run)?;
        self.release(run)
    }

    /// A commit starts: what was freed before belongs to it.
    pub(crate) fn begin_commit(&mut self) {
        self.committing.append(&mut self.pending);
    }

    /// The commit is durable: what the one before it freed may be written again.
    pub(crate) fn finish_commit(&mut self) -> FsResult<()> {
        #[cfg(feature = "testing")]
        if self.sabotage == Some(Sabotage::ReuseOneEarly) {
            let early = std::mem::take(&mut self.committing);
            early.into_iter().try_for_each(|run| self.release(run))?;
        }
        let free = std::mem::replace(&mut self.retiring, std::mem::take(&mut self.committing));
        free.into_iter().try_for_each(|run| self.release(run))
    }

    /// Whether frees wait for a commit to become usable.
    pub(crate) fn has_waiting(&self) -> bool {
        !(self.pending.is_empty() && self.committing.is_empty() && self.retiring.is_empty())
    }

    /// Takes one page that changed since the last commit, with its new bits.
    pub(crate) fn take_changed(&mut self) -> Option<(u64, Vec<u8>)> {
        let number = self.changed.pop_first()?;
        let page = self.pages.get(&number)?;
        let mut bits = Vec::with_capacity(PAGE_BYTES);
        for word in page.live.iter() {
            bits.extend_from_slice(&word.to_le_bytes());
        }
        Some((number, bits))
    }

    /// Number of pages that the next commit has to write at least.
    pub(crate) fn changed_pages(&self) -> usize {
        self.changed.len()
    }

    /// Number of pages that cover the file.
    pub(crate) fn page_count(&self) -> u64 {
        self.length.div_ceil(PAGE_UNITS)
    }

    /// Gives up to `most` wholly free windows back to the host, leaving `keep` groups backed; says
    /// whether there may be more.
    pub(crate) fn discard(
        &mut self,
        device: &dyn BlockDevice,
        keep: u64,
        most: usize,
    ) -> FsResult<bool> {
        let mut left = most;
        let per_window = WINDOW_UNITS / self.group;
        let numbers: Vec<u64> = self.pages.keys().rev().copied().collect();
        for number in numbers {
            for window in (0..WORD_BITS).rev() {
                if self.free_groups < keep + per_window {
                    return Ok(false);
                }
                let Some(page) = self.pages.get_mut(&number) else { continue };
                let words = window_words(window);
                let free = page.busy.get(words).is_some_and(|w| w.iter().all(|&word| word == 0));
                let start = number * PAGE_UNITS + window * WINDOW_UNITS;
                if page.backed >> window & 1 == 0 || !free || start + WINDOW_UNITS > self.length {
                    continue;
                }
                let Some(rest) = left.checked_sub(1) else { return Ok(true) };
                left = rest;
                device.discard(start * UNIT_U64, WINDOW_UNITS * UNIT_U64)?;
                page.backed &= !(1 << window);
                self.free_groups -= per_window;
            }
        }
        Ok(false)
    }

    fn page(&mut self, map: &dyn MapSource, number: u64) -> FsResult<&mut Page> {
        if let std::collections::btree_map::Entry::Vacant(slot) = self.pages.entry(number) {
            let mut bits = Box::new([0; WORDS]);
            if let Some(bytes) = map.page(number)? {
                let damaged = Damage::Allocation { block: BlockNo(number * PAGE_UNITS) };
                if bytes.len() != PAGE_BYTES {
                    return Err(damaged.into());
                }
                for (word, chunk) in bits.iter_mut().zip(bytes.as_chunks::<8>().0) {
                    *word = u64::from_le_bytes(*chunk);
                }
            }
            slot.insert(Page { live: bits.clone(), busy: bits, backed: 0 });
        }
        self.pages.get_mut(&number).ok_or(FsError::InvalidArgument)
    }

    /// Backs the next windows that have free groups; false when there are none.
    fn back_more(&mut self, map: &dyn MapSource, device: &dyn BlockDevice) -> FsResult<bool> {
        let usable = self.ceiling.map_or(self.length, |ceiling| ceiling.min(self.length));
        let windows = usable / WINDOW_UNITS;
        let mut looked = 0;
        // While the file may still grow, a short look is enough: growing is cheap, and reading the
        // whole map of a large vault is not.
        let patience = if usable == self.length && self.length < self.capacity {
            windows.min(4096)
        } else {
            windows
        };
        let mut gained = false;
        while looked < patience && !gained {
            if self.back_cursor >= windows {
                self.back_cursor = 0;
            }
            let batch = 16.min(windows - self.back_cursor).max(1);
            gained = self.back(map, device, self.back_cursor, batch)?;
            self.back_cursor += batch;
            looked += batch;
        }
        Ok(gained)
    }

    /// Backs those of a batch of windows that have free groups and are not backed yet.
    fn back(
        &mut self,
        map: &dyn MapSource,
        device: &dyn BlockDevice,
        first: u64,
        count: u64,
    ) -> FsResult<bool> {
        let mut gained = false;
        for window in first..first + count {
            let start = window * WINDOW_UNITS;
            let group = self.group;
            let page = self.page(map, start / PAGE_UNITS)?;
            let bit = start % PAGE_UNITS / WINDOW_UNITS;
            if page.backed >> bit & 1 == 1 {
                continue;
            }
            let free = page.busy.get(window_words(bit)).map_or(0, |w| free_groups(w, group));
            if free == 0 {
                continue;
            }
            match device.back(start * UNIT_U64, WINDOW_UNITS * UNIT_U64) {
                Ok(()) => {}
                Err(error) if is_full(&error) => return Ok(gained),
                Err(error) => return Err(error.into()),
            }
            page.backed |= 1 << bit;
            self.free_groups += free;
            gained = true;
        }
        Ok(gained)
    }

    /// Grows the file by a step; false at the capacity or when the host is full.
    fn grow(&mut self, map: &dyn MapSource, device: &dyn BlockDevice) -> FsResult<bool> {
        let most = self.ceiling.map_or(self.capacity, |ceiling| ceiling.min(self.capacity));
        for step in [GROWTH_UNITS, WINDOW_UNITS] {
            let length = (self.length + step).min(most);
            let length = length / WINDOW_UNITS * WINDOW_UNITS;
            if length <= self.length {
                return Ok(false);
            }
            match device.grow(length * UNIT_U64) {
                Ok(()) => {
                    let first = self.length / WINDOW_UNITS;
                    self.length = length;
                    return self.back(map, device, first, length / WINDOW_UNITS - first);
                }
                Err(error) if is_full(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(false)
    }

    fn find_groups(&self, from: u64, until: u64, want: u64) -> Option<Run> {
        let mask = low_bits(self.group);
        let mut run: Option<Run> = None;
        for (start, free) in self.free_words(from, until) {
            if free == 0 && run.is_none() {
                continue;
            }
            for shift in (0..WORD_BITS).step_by(usize::try_from(self.group).ok()?) {
                let at = start + shift;
                let usable = free >> shift & mask == mask && at >= from;
                match &mut run {
                    Some(run) if usable && run.start + run.units == at => run.units += self.group,
                    Some(run) => return Some(*run),
                    None if usable => run = Some(Run { start: at, units: self.group }),
                    None => {}
                }
                if run.is_some_and(|run| run.units >= want * self.group) {
                    return run;
                }
            }
        }
        run
    }

    fn find_units(&self, from: u64, until: u64, want: u64) -> Option<Run> {
        let mut run = Run { start: 0, units: 0 };
        for (start, free) in self.free_words(from, until) {
            if free == 0 {
                run.units = 0;
                continue;
            }
            for bit in 0..WORD_BITS {
                let at = start + bit;
                if free >> bit & 1 == 0 || at < from {
                    run.units = 0;
                    continue;
                }
                if run.units == 0 || run.start + run.units != at {
                    run = Run { start: at, units: 0 };
                }
                run.units += 1;
                if run.units == want {
                    return Some(run);
                }
            }
        }
        None
    }

    /// Shows the free bits of backed windows, a word at a time, with the first unit of each word.
    fn free_words(&self, from: u64, until: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.pages
            .range(from / PAGE_UNITS..)
            .take_while(move |(number, _)| *number * PAGE_UNITS < until)
            .filter(|(_, page)| page.backed != 0)
            .flat_map(move |(number, page)| {
                let base = number * PAGE_UNITS;
                let skip = usize::try_from(from.saturating_sub(base) / WORD_BITS).unwrap_or(WORDS);
                page.busy.iter().zip(0u64..).skip(skip).map(move |(busy, index)| {
                    let backed = page.backed >> (index / 4) & 1 == 1;
                    (base + index * WORD_BITS, if backed { !busy } else { 0 })
                })
            })
    }

    fn claim(&mut self, map: &dyn MapSource, run: Run) -> FsResult<()> {
        self.mark(map, run)?;
        self.allocated += run.units;
        Ok(())
    }

    fn mark(&mut self, map: &dyn MapSource, run: Run) -> FsResult<()> {
        self.each_word(map, run, |page, index, bits| {
            page.live[index] |= bits;
            page.busy[index] |= bits;
        })
    }

    fn unmark_live(&mut self, map: &dyn MapSource, run: Run) -> FsResult<()> {
        let mut was_free = false;
        self.each_word(map, run, |page, index, bits| {
            was_free |= page.live[index] & bits != bits;
            page.live[index] &= !bits;
        })?;
        // A block that the map calls free is referenced: the image contradicts itself.
        if was_free || self.allocated < run.units {
            return Err(Damage::Allocation { block: BlockNo(run.start) }.into());
        }
        self.allocated -= run.units;
        Ok(())
    }

    fn release(&mut self, run: Run) -> FsResult<()> {
        let pages = &self.pages;
        debug_assert!(pages.contains_key(&(run.start / PAGE_UNITS)), "freed pages stay in memory");
        self.each_word(&NoMap, run, |page, index, bits| page.busy[index] &= !bits)
    }

    /// Applies a change to each word that a run touches and keeps `free_groups` in step.
    fn each_word(
        &mut self,
        map: &dyn MapSource,
        run: Run,
        mut change: impl FnMut(&mut Page, usize, u64),
    ) -> FsResult<()> {
        let end = run.start + run.units;
        let mut at = run.start;
        while at < end {
            let number = at / PAGE_UNITS;
            let in_page = at % PAGE_UNITS;
            let index =
                usize::try_from(in_page / WORD_BITS).map_err(|_| FsError::InvalidArgument)?;
            let bit = at % WORD_BITS;
            let count = (WORD_BITS - bit).min(end - at);
            let group = self.group;
            let page = self.page(map, number)?;
            let backed = page.backed >> (index / 4) & 1 == 1;
            let before = free_groups(&page.busy[index..=index], group);
            let live_before = page.live[index];
            change(page, index, low_bits(count) << bit);
            let after = free_groups(&page.busy[index..=index], group);
            let live_changed = page.live[index] != live_before;
            if backed {
                self.free_groups = self.free_groups + after - before;
            }
            if live_changed {
                self.changed.insert(number);
            }
            at += count;
        }
        Ok(())
    }
}

/// A source for pages that must be in memory already.
struct NoMap;

impl MapSource for NoMap {
    fn page(&self, page: u64) -> FsResult<Option<Vec<u8>>> {
        Err(Damage::Allocation { block: BlockNo(page * PAGE_UNITS) }.into())
    }
}

/// Whether the host has no room, which may pass.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

fn low_bits(count: u64) -> u64 {
    if count >= WORD_BITS { u64::MAX } else { (1 << count) - 1 }
}

fn window_words(window: u64) -> std::ops::Range<usize> {
    let first = usize::try_from(window * 4).unwrap_or(WORDS);
    first..first + 4
}

/// Counts the wholly free groups in words of a busy map.
fn free_groups(busy: &[u64], group: u64) -> u64 {
    let mask = low_bits(group);
    let mut count = 0;
    for word in busy {
        let free = !word;
        let mut shift = 0;
        while shift < WORD_BITS {
            count += u64::from(free >> shift & mask == mask);
            shift += group;
        }
    }
    count
}
