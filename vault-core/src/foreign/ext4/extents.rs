//! Where a file's content lies: a tree of extents, read into runs.

use super::checksum::crc32c;
use super::{Ext4, Fields, Node};
use crate::foreign::{ForeignError, ForeignResult};
use std::ops::Range;

const MAGIC: u16 = 0xf30a;
/// Bytes of a tree's header, and of each entry.
const HEADER: usize = 12;
const ENTRY: usize = 12;
/// Levels below the inode; the kernel makes no more.
const DEEPEST: u16 = 5;
/// Longer ones are reserved and hold nothing yet.
const LONGEST: u16 = 32_768;

/// Blocks of a file that follow each other on the disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Where in the file.
    pub offset: u64,
    /// How many bytes; not beyond the file's end.
    pub len: u64,
    place: u64,
}

impl Run {
    /// Returns the part of the file that this is.
    pub fn range(&self) -> Range<u64> {
        self.offset..self.offset.saturating_add(self.len)
    }

    /// Returns where on the disk a byte of the file lies that is in this run.
    pub(super) fn place_of(&self, offset: u64) -> u64 {
        self.place.saturating_add(offset.saturating_sub(self.offset))
    }
}

impl Ext4 {
    /// Returns where a file has data, in order. What lies between reads as zeros.
    pub fn runs(&self, node: &Node) -> ForeignResult<Vec<Run>> {
        if !node.has_extents {
            if node.size == 0 || node.map.iter().all(|byte| *byte == 0) {
                return Ok(Vec::new());
            }
            return Err(ForeignError::unsupported("a file with an old block map"));
        }
        let mut found = Found { fs: self, size: node.size, runs: Vec::new(), next: 0 };
        found.node(&node.map, None, node.seed)?;
        // Files share no blocks with themselves. One that did could seem endless.
        let mapped = found.runs.iter().fold(0_u64, |sum, run| sum.saturating_add(run.len));
        if mapped > self.size() {
            return Err(ForeignError::damaged("a file that has more blocks than there are"));
        }
        Ok(found.runs)
    }

    /// Fills `buffer` from a file's content, zeros where it has none.
    pub fn read(&self, runs: &[Run], offset: u64, buffer: &mut [u8]) -> ForeignResult<()> {
        buffer.fill(0);
        let end = offset.saturating_add(buffer.len() as u64);
        let first = runs.partition_point(|run| run.range().end <= offset);
        for run in runs.iter().skip(first).take_while(|run| run.offset < end) {
            let (from, to) = (run.offset.max(offset), run.range().end.min(end));
            let at = |point: u64| usize::try_from(point - offset).unwrap_or(usize::MAX);
            if let Some(part) = buffer.get_mut(at(from)..at(to)) {
                self.bytes.read_at(part, run.place.saturating_add(from - run.offset))?;
            }
        }
        Ok(())
    }
}

struct Found<'a> {
    fs: &'a Ext4,
    size: u64,
    runs: Vec<Run>,
    /// The first block of the file that may come next: extents ascend, so that a tree that meets itself
    /// ends.
    next: u64,
}

impl Found<'_> {
    fn node(&mut self, bytes: &[u8], depth: Option<u16>, seed: Option<u32>) -> ForeignResult<()> {
        let wrong = || ForeignError::damaged("a tree of extents");
        let fields = Fields::new(bytes, "a tree of extents");
        let (entries, most) = (usize::from(fields.u16(2)?), usize::from(fields.u16(4)?));
        let own = fields.u16(6)?;
        if fields.u16(0)? != MAGIC
            || entries > most
            || depth.map_or(own > DEEPEST, |depth| own != depth)
        {
            return Err(wrong());
        }
        if let (Some(seed), Some(_)) = (seed, depth) {
            let tail = HEADER + ENTRY * most;
            if crc32c(seed, fields.slice(0, tail)?) != fields.u32(tail)? {
                return Err(ForeignError::damaged("the checksum of a tree of extents"));
            }
        }
        for index in 0..entries {
            let at = HEADER + ENTRY * index;
            let first = u64::from(fields.u32(at)?);
            if first < self.next {
                return Err(wrong());
            }
            if own > 0 {
                let child = u64::from(fields.u32(at + 4)?) | u64::from(fields.u16(at + 8)?) << 32;
                let block = self.fs.read_block(child)?;
                let before = self.next;
                self.node(&block, Some(own - 1), seed)?;
                // An empty child would let a few blocks stand for very many.
                if self.next == before {
                    return Err(wrong());
                }
            } else {
                let place = u64::from(fields.u32(at + 8)?) | u64::from(fields.u16(at + 6)?) << 32;
                self.extent(first, fields.u16(at + 4)?, place)?;
            }
        }
        Ok(())
    }

    fn extent(&mut self, first: u64, len: u16, place: u64) -> ForeignResult<()> {
        let wrong = || ForeignError::damaged("an extent");
        let is_reserved = len > LONGEST;
        let blocks = u64::from(if is_reserved { len - LONGEST } else { len });
        let end = place.checked_add(blocks).ok_or_else(wrong)?;
        if blocks == 0 || place == 0 || end > self.fs.shape.blocks {
            return Err(wrong());
        }
        self.next = first + blocks;
        let unit = self.fs.shape.block;
        let (offset, stop) = (first * unit, (self.next * unit).min(self.size));
        if is_reserved || offset >= stop {
            return Ok(());
        }
        let run = Run { offset, len: stop - offset, place: place * unit };
        match self.runs.last_mut() {
            Some(last)
                if last.range().end == run.offset
                    && last.place.checked_add(last.len) == Some(run.place) =>
            {
                last.len += run.len;
            }
            _ => self.runs.push(run),
        }
        Ok(())
    }
}
