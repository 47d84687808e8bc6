//! Extents: which block of a file lies where (FORMAT.md section 8.6).

use crate::codec::{Reader, Writer};
use crate::error::{Damage, FsError, FsResult};
use crate::format::inode::Inode;
use crate::format::key::{Key, kind};
use crate::format::pointer::{BlockKind, Pointer};
use crate::fs::state::Fs;
use crate::fs::types::FileKind;
use crate::ids::InodeNo;
use std::ops::{ControlFlow, Range};

const TYPE_DATA: u8 = 1;
const TYPE_UNWRITTEN: u8 = 2;
/// Extents that are handled at a time, to bound memory.
const BATCH: usize = 1024;

/// What is at a block.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Extent {
    /// One block of data.
    Data(Pointer),
    /// So many blocks that are reserved and read as zeros.
    Unwritten(u64),
}

impl Extent {
    /// Blocks that it covers.
    pub(crate) fn count(&self) -> u64 {
        match self {
            Self::Data(_) => 1,
            Self::Unwritten(count) => *count,
        }
    }

    /// Encodes the item's value.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(1 + Pointer::LEN);
        match self {
            Self::Data(pointer) => pointer.encode(out.u8(TYPE_DATA)),
            Self::Unwritten(count) => {
                out.u8(TYPE_UNWRITTEN).u64(*count);
            }
        }
        out.finish()
    }

    /// Decodes an item's value.
    pub(crate) fn decode(inode: InodeNo, value: &[u8]) -> Result<Self, Damage> {
        let damaged = Damage::Item { inode, what: "extent" };
        let mut reader = Reader::new(value);
        let extent = match reader.u8().map_err(|_| damaged)? {
            TYPE_DATA => {
                let pointer = Pointer::decode(&mut reader).map_err(|_| damaged)?;
                if pointer.kind != BlockKind::Data {
                    return Err(damaged);
                }
                Self::Data(pointer)
            }
            TYPE_UNWRITTEN => Self::Unwritten(reader.u64().map_err(|_| damaged)?),
            _ => return Err(damaged),
        };
        reader.finish().map_err(|_| damaged)?;
        if extent.count() == 0 || extent.count() > 1 << 51 { Err(damaged) } else { Ok(extent) }
    }
}

/// Returns the data pointer of an extent's value, if it is well-formed and has one.
pub(crate) fn extent_pointer(value: &[u8]) -> Option<Pointer> {
    match Extent::decode(InodeNo(0), value).ok()? {
        Extent::Data(pointer) => Some(pointer),
        Extent::Unwritten(_) => None,
    }
}

impl Fs {
    /// Shows the extents that touch blocks `first` to `last`, in order, with their first block.
    pub(super) fn scan_extents(
        &self,
        inode: InodeNo,
        first: u64,
        last: u64,
        show: &mut dyn FnMut(u64, Extent) -> FsResult<ControlFlow<()>>,
    ) -> FsResult<()> {
        let from = Key::of(inode, kind::EXTENT, first);
        // A run of unwritten blocks may begin before the range and reach into it.
        let before = self.pool.floor(&from, |key, value| {
            let reaches = key.same_list(&from) && key.offset < first;
            reaches.then(|| (key.offset, Extent::decode(inode, value)))
        })?;
        if let Some(Some((block, extent))) = before {
            let extent = self.judge_extent(inode, extent?)?;
            if block.saturating_add(extent.count()) > first && show(block, extent)?.is_break() {
                return Ok(());
            }
        }
        self.pool.scan_list(&from, &mut |key, value| {
            if key.offset > last {
                return Ok(ControlFlow::Break(()));
            }
            let extent = self.judge_extent(inode, Extent::decode(inode, value)?)?;
            show(key.offset, extent)
        })
    }

    /// Returns the next range of bytes at or after `from` that is neither hole nor unwritten.
    pub(super) fn next_data(&self, inode: InodeNo, from: u64) -> FsResult<Option<Range<u64>>> {
        let file = self.load(inode)?;
        if file.kind != FileKind::Regular || from >= file.size {
            return Ok(None);
        }
        if file.inline {
            return Ok(Some(from..file.size));
        }
        let size = self.block_size();
        let (first, last) = (from / size, (file.size - 1) / size);
        let sealed = self.data_run(inode, first, last)?.map(|run| run.start);
        let waiting = self.dirty.range((inode.0, first)..=(inode.0, last)).next();
        let waiting = waiting.map(|((_, block), _)| *block);
        let Some(start) = sealed.into_iter().chain(waiting).min() else { return Ok(None) };
        let mut end = start;
        loop {
            let before = end;
            if let Some(run) = self.data_run(inode, end, last)?.filter(|run| run.start == before) {
                end = run.end;
            }
            while end <= last && self.dirty.contains_key(&(inode.0, end)) {
                end += 1;
            }
            if end == before || end > last {
                break;
            }
        }
        let start = (start * size).max(from);
        Ok(Some(start..end.saturating_mul(size).min(file.size)))
    }

    /// Returns the first run of sealed blocks within `first` to `last`.
    fn data_run(&self, inode: InodeNo, first: u64, last: u64) -> FsResult<Option<Range<u64>>> {
        let mut found: Option<Range<u64>> = None;
        self.scan_extents(inode, first, last, &mut |block, extent| {
            let is_data = matches!(extent, Extent::Data(_));
            match &mut found {
                None if is_data => found = Some(block..block + 1),
                Some(run) if is_data && run.end == block => run.end = block + 1,
                None => {}
                Some(_) => return Ok(ControlFlow::Break(())),
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(found)
    }

    /// Returns what lies at one block.
    pub(super) fn extent_at(&self, inode: InodeNo, block: u64) -> FsResult<Option<Extent>> {
        let mut found = None;
        self.scan_extents(inode, block, block, &mut |_, extent| {
            found = Some(extent);
            Ok(ControlFlow::Break(()))
        })?;
        Ok(found)
    }

    /// Removes what lies at blocks `first` to `last`, keeping what runs beyond them.
    pub(super) fn clear_extents(
        &mut self,
        inode: InodeNo,
        file: &mut Inode,
        first: u64,
        last: u64,
    ) -> FsResult<()> {
        if file.units == 0 {
            return Ok(());
        }
        loop {
            let mut batch = Vec::new();
            self.scan_extents(inode, first, last, &mut |block, extent| {
                batch.push((block, extent));
                Ok(if batch.len() < BATCH {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                })
            })?;
            for (block, extent) in &batch {
                self.clear_extent(inode, file, (*block, extent), (first, last))?;
            }
            if batch.len() < BATCH {
                return Ok(());
            }
        }
    }

    fn clear_extent(
        &mut self,
        inode: InodeNo,
        file: &mut Inode,
        (block, extent): (u64, &Extent),
        (first, last): (u64, u64),
    ) -> FsResult<()> {
        match extent {
            Extent::Data(pointer) => {
                self.pool.remove(&Key::of(inode, kind::EXTENT, block))?;
                self.free(pointer)?;
                file.units = file.units.saturating_sub(u64::from(pointer.units));
            }
            Extent::Unwritten(count) => {
                let end = block.saturating_add(*count);
                let (cut_from, cut_to) = (block.max(first), end.min(last.saturating_add(1)));
                if block < first {
                    self.put_extent(inode, block, &Extent::Unwritten(first - block))?;
                } else {
                    self.pool.remove(&Key::of(inode, kind::EXTENT, block))?;
                }
                if cut_to < end {
                    self.put_extent(inode, cut_to, &Extent::Unwritten(end - cut_to))?;
                }
                self.release_reserved(file, cut_to.saturating_sub(cut_from));
            }
        }
        Ok(())
    }

    /// Puts freshly written blocks in the place of what was there. Blocks ascend.
    pub(super) fn place_data(
        &mut self,
        inode: InodeNo,
        file: &mut Inode,
        written: &[(u64, Pointer)],
    ) -> FsResult<()> {
        let (Some((first, _)), Some((last, _))) = (written.first(), written.last()) else {
            return Ok(());
        };
        if file.units > 0 {
            let mut old = Vec::new();
            self.scan_extents(inode, *first, *last, &mut |block, extent| {
                old.push((block, extent));
                Ok(ControlFlow::Continue(()))
            })?;
            for (block, extent) in &old {
                match extent {
                    Extent::Data(pointer) => {
                        if written.binary_search_by_key(block, |(block, _)| *block).is_ok() {
                            self.free(pointer)?;
                            file.units = file.units.saturating_sub(u64::from(pointer.units));
                        }
                    }
                    Extent::Unwritten(_) => self.carve(inode, file, (*block, extent), written)?,
                }
            }
        }
        for (block, pointer) in written {
            self.put_extent(inode, *block, &Extent::Data(*pointer))?;
            file.units = file.units.saturating_add(u64::from(pointer.units));
        }
        Ok(())
    }

    /// Takes the written blocks out of an unwritten run.
    fn carve(
        &mut self,
        inode: InodeNo,
        file: &mut Inode,
        (block, extent): (u64, &Extent),
        written: &[(u64, Pointer)],
    ) -> FsResult<()> {
        let end = block.saturating_add(extent.count());
        let inside: Vec<u64> = written
            .iter()
            .map(|(block, _)| *block)
            .filter(|candidate| (block..end).contains(candidate))
            .collect();
        if inside.is_empty() {
            return Ok(());
        }
        self.pool.remove(&Key::of(inode, kind::EXTENT, block))?;
        let mut from = block;
        for at in inside.iter().copied().chain([end]) {
            if at > from {
                self.put_extent(inode, from, &Extent::Unwritten(at - from))?;
            }
            from = at.saturating_add(1);
        }
        self.release_reserved(file, inside.len() as u64);
        Ok(())
    }

    /// Reserves the holes among blocks `first` to `last`.
    pub(super) fn reserve_holes(
        &mut self,
        inode: InodeNo,
        file: &mut Inode,
        holes: &[(u64, u64)],
    ) -> FsResult<()> {
        for (block, count) in holes {
            self.put_extent(inode, *block, &Extent::Unwritten(*count))?;
            let units = count.saturating_mul(self.block_units());
            file.units = file.units.saturating_add(units);
            self.pool.counters.reserved = self.pool.counters.reserved.saturating_add(units);
        }
        Ok(())
    }

    /// Lists the holes among blocks `first` to `last` as (first block, count).
    pub(super) fn holes(&self, inode: InodeNo, first: u64, last: u64) -> FsResult<Vec<(u64, u64)>> {
        let mut holes = Vec::new();
        let mut next = first;
        self.scan_extents(inode, first, last, &mut |block, extent| {
            if block > next {
                holes.push((next, block - next));
            }
            next = next.max(block.saturating_add(extent.count()));
            Ok(ControlFlow::Continue(()))
        })?;
        if next <= last {
            holes.push((next, last - next + 1));
        }
        Ok(holes)
    }

    fn put_extent(&mut self, inode: InodeNo, block: u64, extent: &Extent) -> FsResult<()> {
        self.pool.put(Key::of(inode, kind::EXTENT, block), extent.encode())
    }

    fn release_reserved(&mut self, file: &mut Inode, blocks: u64) {
        let units = blocks.saturating_mul(self.block_units());
        file.units = file.units.saturating_sub(units);
        self.pool.counters.reserved = self.pool.counters.reserved.saturating_sub(units);
    }

    /// A block is at most as long as the vault's block size says; checked before it is read.
    fn judge_extent(&self, inode: InodeNo, extent: Extent) -> FsResult<Extent> {
        match extent {
            Extent::Data(pointer) if u64::from(pointer.units) > self.block_units() => {
                Err(FsError::Damaged(Damage::Item { inode, what: "extent length" }))
            }
            extent => Ok(extent),
        }
    }
}
