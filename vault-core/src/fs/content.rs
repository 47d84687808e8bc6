//! File content: reading, writing, truncating, reserving.
//!
//! Small content lies inline in the tree. Whole blocks that arrive in long writes are sealed and
//! written at once; everything else waits in `dirty`, so that a block that is written in pieces is
//! sealed once, and many small files lie side by side.

use crate::error::FsError;
use crate::error::{Damage, FsResult};
use crate::format::inode::Inode;
use crate::format::key::Key;
use crate::format::pointer::Pointer;
use crate::fs::extents::Extent;
use crate::fs::inode::{clear_privileges, stamp_modified};
use crate::fs::state::{Fs, INLINE_MAX, MAX_SIZE};
use crate::fs::types::{Fallocate, FileKind, WriteOrigin};
use crate::ids::{InodeNo, UNIT};
use crate::store::pool::{Claim, DataBlock};
use crate::store::sealed::Owner;
use rayon::prelude::*;
use std::ops::{ControlFlow, Range};

/// Whole blocks from which a write is sealed at once.
const STREAM_FROM: u64 = 4;
/// Blocks from which opening is spread over threads.
const PARALLEL_FROM: usize = 16;
/// Bytes from which a read is taken for one of a sequence.
const AHEAD_FROM: usize = 256 << 10;
/// Units between two places of the image that are rather read than passed over: 64 KiB.
const PREFETCH_GAP: u64 = 16;
/// Blocks that are sealed in one go when content is flushed.
const FLUSH_BATCH: usize = 256;

/// An unsealed block: inode and number, and its content.
type DirtyBlock = ((u64, u64), Box<[u8]>);

/// One data block to be opened into its place in a read buffer.
struct Job<'a> {
    pointer: Pointer,
    block: u64,
    target: &'a mut [u8],
}

impl Fs {
    /// Reads up to `len` bytes at `offset`; short at the end of the file.
    pub(super) fn read(&self, inode: InodeNo, offset: u64, len: usize) -> FsResult<Vec<u8>> {
        let file = self.load(inode)?;
        match file.kind {
            FileKind::Regular => {}
            FileKind::Directory => return Err(FsError::IsDirectory),
            _ => return Err(FsError::InvalidArgument),
        }
        let end = offset.saturating_add(len as u64).min(file.size);
        if offset >= end {
            return Ok(Vec::new());
        }
        if file.inline {
            let content = self.read_inline(inode, &file)?;
            let range = usize_of(offset)?..usize_of(end)?;
            return Ok(content.get(range).unwrap_or_default().to_vec());
        }
        let size = self.block_size();
        let (first, last) = (offset / size, (end - 1) / size);
        let mut buffer = vec![0; usize_of((last - first + 1) * size)?];
        self.read_blocks(inode, first, last, &mut buffer)?;
        buffer.truncate(usize_of(end - first * size)?);
        buffer.drain(..usize_of(offset - first * size)?);
        Ok(buffer)
    }

    /// Fills a buffer with whole blocks; holes stay zero.
    fn read_blocks(
        &self,
        inode: InodeNo,
        first: u64,
        last: u64,
        buffer: &mut [u8],
    ) -> FsResult<()> {
        let size = usize_of(self.block_size())?;
        let mut found = self.data_blocks(inode, first, last)?;
        found.retain(|(block, _)| !self.dirty.contains_key(&(inode.0, *block)));
        let runs: Vec<_> = adjacent_runs(&found, size).collect();
        self.announce(inode, &runs, last + 1, buffer.len());
        self.open_runs(inode, &runs, first, buffer)?;
        for ((_, block), content) in self.dirty.range((inode.0, first)..=(inode.0, last)) {
            let at = usize_of(block - first)? * size;
            if let Some(target) = buffer.get_mut(at..at + size) {
                target.copy_from_slice(content);
            }
        }
        Ok(())
    }

    /// Returns where blocks `first` to `last` lie, holes left out.
    fn data_blocks(&self, inode: InodeNo, first: u64, last: u64) -> FsResult<Vec<(u64, Pointer)>> {
        let mut found = Vec::new();
        self.scan_extents(inode, first, last, &mut |block, extent| {
            if let Extent::Data(pointer) = extent {
                found.push((block, pointer));
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(found)
    }

    /// Asks the disk for all that is about to be read before the first piece is waited for: a file that was rewritten
    /// here and there lies in many runs. A long read is one of many in a row, since only the kernel's readahead makes
    /// them that long; so what follows it, from block `next` on, is asked for too and arrives while this is opened.
    fn announce(&self, inode: InodeNo, runs: &[&[(u64, Pointer)]], next: u64, len: usize) {
        let following = if len >= AHEAD_FROM {
            let last = next.saturating_add(len as u64 / self.block_size());
            // Damage that lies ahead is told to whoever reads it.
            self.data_blocks(inode, next, last).unwrap_or_default()
        } else {
            Vec::new()
        };
        let size = usize_of(self.block_size()).unwrap_or(usize::MAX);
        let following: Vec<_> = adjacent_runs(&following, size).collect();
        if runs.len() > 1 || following.len() > 1 {
            for units in near_one_another(runs).into_iter().chain(near_one_another(&following)) {
                self.pool.blocks.prefetch(units);
            }
        }
    }

    /// Reads runs of blocks, each by one call, and opens all blocks together.
    fn open_runs(
        &self,
        inode: InodeNo,
        runs: &[&[(u64, Pointer)]],
        first: u64,
        buffer: &mut [u8],
    ) -> FsResult<()> {
        let size = usize_of(self.block_size())?;
        let mut jobs = Vec::with_capacity(runs.iter().map(|run| run.len()).sum());
        let (mut rest, mut at) = (buffer, 0);
        for run in runs {
            let Some((start, pointer)) = run.first() else { continue };
            let (begin, len) = (usize_of(start - first)? * size, run_len(run));
            let target = rest
                .split_off_mut(..begin.saturating_sub(at))
                .and_then(|_| rest.split_off_mut(..len))
                .ok_or(Damage::Pointer { block: pointer.address })?;
            at = begin + len;
            self.pool.blocks.read_raw(pointer, target)?;
            let blocks = target.chunks_mut(size).zip(*run);
            jobs.extend(blocks.map(|(target, (block, pointer))| Job {
                pointer: *pointer,
                block: *block,
                target,
            }));
        }
        let sealer = &self.pool.blocks.sealer;
        let open =
            |job: Job<'_>| sealer.open(&job.pointer, Owner::data(inode, job.block), job.target);
        if jobs.len() >= PARALLEL_FROM {
            jobs.into_par_iter().try_for_each(open)?;
        } else {
            jobs.into_iter().try_for_each(open)?;
        }
        Ok(())
    }

    fn read_inline(&self, inode: InodeNo, file: &Inode) -> FsResult<Vec<u8>> {
        let key = Key::content(inode);
        let content = self.pool.get(&key, <[u8]>::to_vec)?;
        match content {
            Some(content) if content.len() as u64 == file.size => Ok(content),
            _ => Err(Damage::Item { inode, what: "inline content" }.into()),
        }
    }

    /// Writes all of `data` at `offset`.
    pub(super) fn write(
        &mut self,
        inode: InodeNo,
        offset: u64,
        data: &[u8],
        origin: WriteOrigin,
        clear: bool,
    ) -> FsResult<()> {
        let mut file = self.load(inode)?;
        if file.kind != FileKind::Regular {
            return Err(FsError::InvalidArgument);
        }
        if data.is_empty() {
            return Ok(());
        }
        let end = offset.checked_add(data.len() as u64).filter(|end| *end <= MAX_SIZE);
        let end = end.ok_or(FsError::FileTooBig)?;
        self.ensure_write(inode, &file, offset, end)?;
        if clear {
            clear_privileges(&mut file);
            self.drop_capability(inode, &mut file)?;
        }
        let size = file.size.max(end);
        if size <= INLINE_MAX && self.may_be_inline(inode, &file) {
            self.write_inline(inode, &mut file, offset, data)?;
        } else {
            self.spill(inode, &mut file)?;
            self.write_blocks(inode, &mut file, offset, data)?;
        }
        file.size = size;
        if origin == WriteOrigin::Direct {
            stamp_modified(&mut file, self.now());
        }
        self.store(inode, &file)
    }

    /// Asks for the space of a write; blocks reserved by `fallocate` may use up what they reserved.
    fn ensure_write(
        &mut self,
        inode: InodeNo,
        file: &Inode,
        offset: u64,
        end: u64,
    ) -> FsResult<()> {
        let size = self.block_size();
        let (first, last) = (offset / size, (end - 1) / size);
        let blocks = last - first + 2;
        match self.ensure(Claim::Ordinary, blocks, 8) {
            Err(FsError::NoSpace) if file.units > 0 && self.pool.counters.reserved > 0 => {
                let mut unwritten = 0_u64;
                self.scan_extents(inode, first, last, &mut |block, extent| {
                    if let Extent::Unwritten(count) = extent {
                        let end = block.saturating_add(count).min(last + 1);
                        unwritten += end.saturating_sub(block.max(first));
                    }
                    Ok(ControlFlow::Continue(()))
                })?;
                if unwritten <= last - first {
                    return Err(FsError::NoSpace);
                }
                self.ensure(Claim::Removal, blocks, 8)
            }
            outcome => outcome,
        }
    }

    fn may_be_inline(&self, inode: InodeNo, file: &Inode) -> bool {
        let mut dirty = self.dirty.range((inode.0, 0)..=(inode.0, u64::MAX));
        file.inline || (file.units == 0 && dirty.next().is_none() && file.size <= INLINE_MAX)
    }

    fn write_inline(
        &mut self,
        inode: InodeNo,
        file: &mut Inode,
        offset: u64,
        data: &[u8],
    ) -> FsResult<()> {
        let mut content = if file.inline {
            self.read_inline(inode, file)?
        } else {
            vec![0; usize_of(file.size)?]
        };
        let start = usize_of(offset)?;
        let end = start + data.len();
        if content.len() < end {
            content.resize(end, 0);
        }
        if let Some(target) = content.get_mut(start..end) {
            target.copy_from_slice(data);
        }
        file.inline = true;
        self.pool.put(Key::content(inode), content)
    }

    /// Moves inline content into a block.
    fn spill(&mut self, inode: InodeNo, file: &mut Inode) -> FsResult<()> {
        if !file.inline {
            return Ok(());
        }
        let mut content = self.read_inline(inode, file)?;
        content.resize(usize_of(self.block_size())?, 0);
        self.pool.remove(&Key::content(inode))?;
        self.dirty.insert((inode.0, 0), content.into_boxed_slice());
        file.inline = false;
        Ok(())
    }

    fn write_blocks(
        &mut self,
        inode: InodeNo,
        file: &mut Inode,
        offset: u64,
        data: &[u8],
    ) -> FsResult<()> {
        let size = self.block_size();
        let end = offset + data.len() as u64;
        let whole = offset.div_ceil(size)..end / size;
        let streams = whole.start < whole.end && whole.end - whole.start >= STREAM_FROM;
        let mut at = offset;
        let mut rest = data;
        while !rest.is_empty() {
            let block = at / size;
            let take = if streams && block == whole.start && at.is_multiple_of(size) {
                (whole.end - whole.start) * size
            } else {
                (size - at % size).min(rest.len() as u64)
            };
            let (now, later) = rest.split_at(usize_of(take)?);
            if take >= size && streams {
                self.stream(inode, file, block, now)?;
            } else {
                self.write_part(inode, file, block, at % size, now)?;
            }
            at += take;
            rest = later;
        }
        Ok(())
    }

    /// Seals whole blocks at once.
    fn stream(
        &mut self,
        inode: InodeNo,
        file: &mut Inode,
        first: u64,
        data: &[u8],
    ) -> FsResult<()> {
        let size = usize_of(self.block_size())?;
        let blocks: Vec<DataBlock<'_>> = data
            .chunks(size)
            .zip(first..)
            .map(|(bytes, block)| DataBlock { inode, block, bytes })
            .collect();
        let pointers = self.pool.write_data(&blocks)?;
        let written: Vec<(u64, Pointer)> = (first..).zip(pointers).collect();
        for (block, _) in &written {
            self.dirty.remove(&(inode.0, *block));
        }
        self.place_data(inode, file, &written)
    }

    /// Changes part of a block in memory.
    fn write_part(
        &mut self,
        inode: InodeNo,
        file: &Inode,
        block: u64,
        at: u64,
        data: &[u8],
    ) -> FsResult<()> {
        let whole = data.len() as u64 == self.block_size();
        let content = self.dirty_block(inode, file, block, whole)?;
        let at = usize_of(at)?;
        if let Some(target) = content.get_mut(at..at + data.len()) {
            target.copy_from_slice(data);
        }
        Ok(())
    }

    /// Returns a block's content for changing; the old content is not needed for `whole` blocks.
    fn dirty_block(
        &mut self,
        inode: InodeNo,
        file: &Inode,
        block: u64,
        whole: bool,
    ) -> FsResult<&mut [u8]> {
        let place = (inode.0, block);
        if !self.dirty.contains_key(&place) {
            let size = self.block_size();
            let mut content = vec![0; usize_of(size)?];
            let has_old = file.units > 0 && block.saturating_mul(size) < file.size;
            if has_old && !whole {
                self.read_blocks(inode, block, block, &mut content)?;
            }
            self.dirty.insert(place, content.into_boxed_slice());
        }
        Ok(self.dirty.get_mut(&place).map_or(&mut [], |content| &mut **content))
    }

    /// Zeroes a range within one block, if there is anything in it.
    fn zero_part(&mut self, inode: InodeNo, file: &Inode, from: u64, to: u64) -> FsResult<()> {
        let size = self.block_size();
        let block = from / size;
        let to = to.min(file.size);
        let exists = self.dirty.contains_key(&(inode.0, block))
            || (file.units > 0 && matches!(self.extent_at(inode, block)?, Some(Extent::Data(_))));
        if from >= to || !exists {
            return Ok(());
        }
        let base = block * size;
        let range = usize_of(from - base)?..usize_of(to - base)?;
        let content = self.dirty_block(inode, file, block, false)?;
        content.get_mut(range).unwrap_or_default().fill(0);
        Ok(())
    }

    /// Changes the size; what is cut off is gone, what is added reads as zeros.
    pub(super) fn truncate(&mut self, inode: InodeNo, file: &mut Inode, size: u64) -> FsResult<()> {
        if size > MAX_SIZE {
            return Err(FsError::FileTooBig);
        }
        if file.inline {
            if size == 0 {
                self.pool.remove(&Key::content(inode))?;
                file.inline = false;
            } else if size <= INLINE_MAX {
                let mut content = self.read_inline(inode, file)?;
                content.resize(usize_of(size)?, 0);
                self.pool.put(Key::content(inode), content)?;
            } else {
                self.spill(inode, file)?;
            }
        } else if size <= file.size {
            let block = self.block_size();
            let keep = size.div_ceil(block);
            if !size.is_multiple_of(block) {
                self.zero_part(inode, file, size, keep * block)?;
            }
            self.drop_dirty(inode, keep, u64::MAX);
            self.clear_extents(inode, file, keep, u64::MAX)?;
        }
        file.size = size;
        Ok(())
    }

    /// Reserves, punches or zeroes a range.
    pub(super) fn fallocate(
        &mut self,
        inode: InodeNo,
        offset: u64,
        len: u64,
        mode: Fallocate,
    ) -> FsResult<()> {
        let mut file = self.load(inode)?;
        if file.kind != FileKind::Regular {
            return Err(FsError::InvalidArgument);
        }
        let end = offset.checked_add(len).filter(|end| *end <= MAX_SIZE && len > 0);
        let end =
            end.ok_or(if len == 0 { FsError::InvalidArgument } else { FsError::FileTooBig })?;
        let size = self.block_size();
        let (first, last) = (offset / size, (end - 1) / size);
        let (reserve, zero, keep_size) = match mode {
            Fallocate::Reserve { keep_size } => (true, false, keep_size),
            Fallocate::PunchHole => (false, true, true),
            Fallocate::ZeroRange { keep_size } => (true, true, keep_size),
        };
        // All space is asked for before anything changes; zeroed blocks are reserved anew.
        let holes = if reserve { self.holes(inode, first, last)? } else { Vec::new() };
        let blocks = match (reserve, zero) {
            (false, _) => 0,
            (true, true) => last - first + 1,
            (true, false) => {
                holes.iter().fold(0, |sum: u64, (_, count)| sum.saturating_add(*count))
            }
        };
        let groups = blocks.saturating_mul(self.block_units()).div_ceil(self.pool.group_units());
        self.ensure(Claim::Ordinary, groups.saturating_add(3), 8)?;
        self.spill(inode, &mut file)?;
        if zero {
            self.zero_range(inode, &mut file, offset, end)?;
        }
        if reserve {
            let holes = if zero { self.holes(inode, first, last)? } else { holes };
            self.reserve_holes(inode, &mut file, &holes)?;
        }
        if !keep_size {
            file.size = file.size.max(end);
        }
        let now = self.now();
        stamp_modified(&mut file, now);
        self.store(inode, &file)
    }

    fn zero_range(
        &mut self,
        inode: InodeNo,
        file: &mut Inode,
        offset: u64,
        end: u64,
    ) -> FsResult<()> {
        let size = self.block_size();
        let whole = offset.div_ceil(size)..end / size;
        if whole.start > whole.end {
            return self.zero_part(inode, file, offset, end);
        }
        self.zero_part(inode, file, offset, whole.start * size)?;
        self.zero_part(inode, file, whole.end * size, end)?;
        // A block whose rest lies beyond the end of the file is wholly within the range.
        let last = if end >= file.size { end.div_ceil(size) } else { whole.end };
        if whole.start < last {
            self.drop_dirty(inode, whole.start, last - 1);
            self.clear_extents(inode, file, whole.start, last - 1)?;
        }
        Ok(())
    }

    /// Forgets unsealed blocks `first` to `last`.
    pub(super) fn drop_dirty(&mut self, inode: InodeNo, first: u64, last: u64) {
        let gone: Vec<_> =
            self.dirty.range((inode.0, first)..=(inode.0, last)).map(|(place, _)| *place).collect();
        for place in gone {
            self.dirty.remove(&place);
        }
    }

    /// Seals and writes all content that waits in memory.
    pub(super) fn flush_content(&mut self) -> FsResult<()> {
        while !self.dirty.is_empty() {
            let mut batch = Vec::new();
            while batch.len() < FLUSH_BATCH {
                let Some(entry) = self.dirty.pop_first() else { break };
                batch.push(entry);
            }
            self.flush_batch(batch)?;
        }
        Ok(())
    }

    fn flush_batch(&mut self, batch: Vec<DirtyBlock>) -> FsResult<()> {
        let size = self.block_size();
        let mut files: Vec<(InodeNo, Inode, usize)> = Vec::new();
        let mut kept = Vec::with_capacity(batch.len());
        for ((inode, block), content) in batch {
            let inode = InodeNo(inode);
            if files.last().is_none_or(|(last, ..)| *last != inode) {
                files.push((inode, self.load(inode)?, 0));
            }
            let Some((_, file, count)) = files.last_mut() else { continue };
            let used = file.size.saturating_sub(block.saturating_mul(size)).min(size);
            if used == 0 {
                continue;
            }
            *count += 1;
            kept.push((inode, block, content, usize_of(used)?.next_multiple_of(UNIT)));
        }
        let data: Vec<DataBlock<'_>> = kept
            .iter()
            .map(|(inode, block, content, len)| DataBlock {
                inode: *inode,
                block: *block,
                bytes: content.get(..*len).unwrap_or(content),
            })
            .collect();
        let pointers = self.pool.write_data(&data);
        drop(data);
        let pointers = match pointers {
            Ok(pointers) => pointers,
            Err(error) => {
                // Nothing that was acknowledged is dropped: it waits for the next try.
                for (inode, block, content, _) in kept {
                    self.dirty.insert((inode.0, block), content);
                }
                return Err(error);
            }
        };
        let mut written = kept.iter().map(|(_, block, ..)| *block).zip(pointers);
        for (inode, mut file, count) in files {
            let placed: Vec<(u64, Pointer)> = written.by_ref().take(count).collect();
            self.place_data(inode, &mut file, &placed)?;
            self.store(inode, &file)?;
        }
        Ok(())
    }
}

/// Splits blocks into runs that are adjacent both in the file and in the image. Only a full block
/// can have a neighbour, since the next one must begin where it ends in both.
fn adjacent_runs(found: &[(u64, Pointer)], size: usize) -> impl Iterator<Item = &[(u64, Pointer)]> {
    found.chunk_by(move |(block, pointer), (next_block, next)| {
        *next_block == block + 1
            && next.address.0 == pointer.end()
            && usize::from(pointer.units) * UNIT == size
    })
}

/// The places of runs in the image, joined where little else lies between them.
fn near_one_another(runs: &[&[(u64, Pointer)]]) -> Vec<Range<u64>> {
    let place = |run: &&[(u64, Pointer)]| Some(run.first()?.1.address.0..run.last()?.1.end());
    let mut places: Vec<Range<u64>> = runs.iter().filter_map(place).collect();
    places.sort_unstable_by_key(|place| place.start);
    places.dedup_by(|next, before| {
        let near = next.start <= before.end.saturating_add(PREFETCH_GAP);
        if near {
            before.end = before.end.max(next.end);
        }
        near
    });
    places
}

/// Bytes that a run takes in the image.
fn run_len(run: &[(u64, Pointer)]) -> usize {
    run.iter().map(|(_, pointer)| usize::from(pointer.units) * UNIT).sum()
}

fn usize_of(value: u64) -> FsResult<usize> {
    usize::try_from(value).map_err(|_| FsError::FileTooBig)
}
