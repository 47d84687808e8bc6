//! The journal of a file system that was not unmounted: what it holds is read in place of the blocks that it
//! is about. Nothing is written.
//!
//! Layout: the kernel's page "Journal (jbd2)". Only transactions with a commit block count; a revoked block
//! is taken from the disk unless a later transaction has it.

use super::{Ext4, Fields, Run};
use crate::foreign::{Bytes, ForeignError, ForeignResult};
use std::collections::HashMap;
use std::io;
use std::sync::Arc;

const MAGIC: u32 = 0xc03b_3998;
/// Kinds of blocks.
const DESCRIPTOR: u32 = 1;
const COMMIT: u32 = 2;
const REVOKE: u32 = 5;
/// Features of a journal.
const WIDE: u32 = 0x2;
const CSUM_V3: u32 = 0x10;
/// Revoke blocks, wide numbers, and checksums as they are made today.
const KNOWN: u32 = 0x1 | WIDE | CSUM_V3;
/// Flags of a tag.
const ESCAPED: u32 = 0x1;
const SAME_UUID: u32 = 0x2;
const LAST: u32 = 0x8;
/// Bytes before what a block is about, and of a UUID.
const HEAD: usize = 12;
const REVOKE_HEAD: usize = 16;
const UUID: usize = 16;

/// Reads the journal and returns bytes as they are with it.
// Keeps its name where fuzzing tells what it has covered.
#[inline(never)]
pub(super) fn replay(fs: &Ext4) -> ForeignResult<Arc<dyn Bytes>> {
    let journal = Journal::open(fs)?;
    let mut replayed =
        Replayed { bytes: Arc::clone(&fs.bytes), block: fs.shape.block, blocks: HashMap::new() };
    let mut revoked = HashMap::new();
    let (mut at, mut sequence) = (journal.start, journal.sequence);
    let mut left = journal.len;
    // A start of 0 says that there is nothing.
    while at != 0 {
        let Some(found) = journal.transaction(at, sequence, &mut left)? else { break };
        for number in found.revoked {
            revoked.insert(number, sequence);
        }
        for (number, place) in found.blocks {
            replayed.blocks.insert(number, (place, sequence));
        }
        (at, sequence) = (found.next, sequence.wrapping_add(1));
    }
    replayed.blocks.retain(|number, (_, written)| {
        // Sequence numbers go round.
        revoked.get(number).is_none_or(|revoked| written.wrapping_sub(*revoked).cast_signed() > 0)
    });
    Ok(Arc::new(replayed))
}

struct Journal<'a> {
    fs: &'a Ext4,
    runs: Vec<Run>,
    /// The first block of the ring, its end, and where the oldest transaction begins.
    first: u32,
    len: u32,
    start: u32,
    sequence: u32,
    features: u32,
}

/// A committed transaction.
struct Transaction {
    blocks: Vec<(u64, Place)>,
    revoked: Vec<u64>,
    next: u32,
}

/// A block in the journal; one that would look like the journal's own has its first bytes taken away.
#[derive(Clone, Copy)]
struct Place {
    offset: u64,
    escaped: bool,
}

impl<'a> Journal<'a> {
    fn open(fs: &'a Ext4) -> ForeignResult<Self> {
        let node = fs.node(fs.shape.journal)?;
        let mut journal = Self {
            fs,
            runs: fs.runs(&node)?,
            first: 0,
            len: 0,
            start: 0,
            sequence: 0,
            features: 0,
        };
        let block = journal.block(0)?;
        let fields = Fields::new(&block, "the journal");
        let (kind, unit) = (fields.be32(4)?, fields.be32(12)?);
        journal.len = fields.be32(16)?;
        journal.first = fields.be32(20)?;
        journal.sequence = fields.be32(24)?;
        journal.start = fields.be32(28)?;
        journal.features = if kind == 4 { fields.be32(40)? } else { 0 };
        let most = node.size / fs.shape.block;
        if fields.be32(0)? != MAGIC
            || ![3, 4].contains(&kind)
            || u64::from(unit) != fs.shape.block
            || u64::from(journal.len) > most
            || !(1..journal.len).contains(&journal.first)
            || (journal.start != 0 && !(journal.first..journal.len).contains(&journal.start))
        {
            return Err(ForeignError::damaged("the journal"));
        }
        if journal.features & !KNOWN != 0 {
            return Err(ForeignError::Journal);
        }
        Ok(journal)
    }

    fn block(&self, number: u32) -> ForeignResult<Vec<u8>> {
        let mut block = vec![0; self.fs.block_len()];
        self.fs.read(&self.runs, u64::from(number) * self.fs.shape.block, &mut block)?;
        Ok(block)
    }

    /// The block after another; the last is followed by the first.
    fn after(&self, number: u32) -> u32 {
        if number + 1 >= self.len { self.first } else { number + 1 }
    }

    /// Reads one transaction, if it was committed.
    fn transaction(
        &self,
        start: u32,
        sequence: u32,
        left: &mut u32,
    ) -> ForeignResult<Option<Transaction>> {
        let mut found = Transaction { blocks: Vec::new(), revoked: Vec::new(), next: start };
        loop {
            let Some(fewer) = left.checked_sub(1) else { return Ok(None) };
            *left = fewer;
            let block = self.block(found.next)?;
            let fields = Fields::new(&block, "the journal");
            if fields.be32(0)? != MAGIC || fields.be32(8)? != sequence {
                return Ok(None);
            }
            found.next = self.after(found.next);
            match fields.be32(4)? {
                DESCRIPTOR => self.descriptor(fields, &mut found, left)?,
                REVOKE => self.revoke(fields, &mut found.revoked)?,
                COMMIT => return Ok(Some(found)),
                _ => return Ok(None),
            }
        }
    }

    /// Reads which blocks follow a descriptor.
    fn descriptor(
        &self,
        fields: Fields<'_>,
        found: &mut Transaction,
        left: &mut u32,
    ) -> ForeignResult<()> {
        let wide = self.features & WIDE != 0;
        let mut at = HEAD;
        loop {
            let low = u64::from(fields.be32(at)?);
            let (flags, high, len) = if self.features & CSUM_V3 != 0 {
                (fields.be32(at + 4)?, u64::from(fields.be32(at + 8)?), 16)
            } else {
                let flags = u32::from(fields.be16(at + 6)?);
                let high = if wide { u64::from(fields.be32(at + 8)?) } else { 0 };
                (flags, high, if wide { 12 } else { 8 })
            };
            let number = low | if wide { high << 32 } else { 0 };
            if number >= self.fs.shape.blocks {
                return Err(ForeignError::damaged("the journal"));
            }
            *left = left.checked_sub(1).ok_or(ForeignError::damaged("the journal"))?;
            let offset = self.place(found.next)?;
            let escaped = flags & ESCAPED != 0;
            found.blocks.push((number, Place { offset, escaped }));
            found.next = self.after(found.next);
            at += len + if flags & SAME_UUID == 0 { UUID } else { 0 };
            if flags & LAST != 0 {
                return Ok(());
            }
        }
    }

    fn revoke(&self, fields: Fields<'_>, revoked: &mut Vec<u64>) -> ForeignResult<()> {
        let end = usize::try_from(fields.be32(HEAD)?).unwrap_or(usize::MAX);
        let step = if self.features & WIDE == 0 { 4 } else { 8 };
        let mut at = REVOKE_HEAD;
        while at.checked_add(step).is_some_and(|next| next <= end) {
            revoked.push(if step == 8 { fields.be64(at)? } else { fields.be32(at)?.into() });
            at += step;
        }
        Ok(())
    }

    /// Where a block of the journal lies.
    fn place(&self, number: u32) -> ForeignResult<u64> {
        let offset = u64::from(number) * self.fs.shape.block;
        let first = self.runs.partition_point(|run| run.range().end <= offset);
        let run = self.runs.get(first).filter(|run| run.range().contains(&offset));
        let run = run.ok_or(ForeignError::damaged("the journal"))?;
        Ok(run.place_of(offset))
    }
}

/// A file system as it is with its journal.
struct Replayed {
    bytes: Arc<dyn Bytes>,
    block: u64,
    blocks: HashMap<u64, (Place, u32)>,
}

impl Bytes for Replayed {
    fn len(&self) -> u64 {
        self.bytes.len()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut at = offset;
        let mut rest = buffer;
        while !rest.is_empty() {
            let within = at % self.block;
            let len = usize::try_from(self.block - within).unwrap_or(usize::MAX).min(rest.len());
            let (part, more) = rest.split_at_mut(len);
            match self.blocks.get(&(at / self.block)) {
                None => self.bytes.read_at(part, at)?,
                Some((place, _)) => {
                    self.bytes.read_at(part, place.offset.saturating_add(within))?;
                    if place.escaped {
                        restore(part, within);
                    }
                }
            }
            at = at.saturating_add(len as u64);
            rest = more;
        }
        Ok(())
    }
}

/// Gives an escaped block its first four bytes back.
#[allow(clippy::big_endian_bytes, reason = "the journal is big-endian")]
fn restore(part: &mut [u8], within: u64) {
    let skip = usize::try_from(within).unwrap_or(usize::MAX);
    for (byte, magic) in part.iter_mut().zip(MAGIC.to_be_bytes().into_iter().skip(skip)) {
        *byte = magic;
    }
}
