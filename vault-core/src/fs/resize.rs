//! Changing what a vault may grow to, and giving space back: blocks at the end of the image move to free
//! space below, and the file is cut.
//!
//! Every step is a commit like any other, so that a cut at any moment finds the vault as it was or a
//! little further. The file itself is cut last: only when two generations that need nothing beyond are
//! durable (INV-3 of FORMAT.md section 9).

use crate::error::{FsError, FsResult};
use crate::format::key::{Key, kind};
use crate::format::pointer::{ADDRESS_LIMIT, Pointer};
use crate::fs::MIN_CAPACITY;
use crate::fs::extents::Extent;
use crate::fs::state::Fs;
use crate::fs::volume::{Health, Volume};
use crate::ids::{InodeNo, UNIT_U64};
use crate::store::pool::{Claim, DataBlock};
use crate::store::sealed::Owner;
use std::ops::ControlFlow;
use thiserror::Error;

/// Blocks, or nodes, that are moved between two commits: as many as there is room for.
const BATCHES: [usize; 3] = [256, 32, 4];
/// Units that a commit may need besides the reserve.
const SLACK: u64 = 256;
/// The file's length is a multiple of this.
const WINDOW: u64 = 256;
/// Rounds after which moving has got nowhere.
const MOST_ROUNDS: usize = 16;

/// What a vault has and uses, in units.
#[derive(Clone, Copy, Debug)]
pub(super) struct Space {
    pub(super) length: u64,
    /// In use or promised.
    pub(super) held: u64,
    pub(super) reserve: u64,
}

/// A vault cannot have the size that was asked for.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ResizeError {
    /// The size is not possible for any vault.
    #[error("capacity is out of range")]
    Geometry,
    /// What the vault holds does not fit.
    #[error("the vault needs {needed} units of 4096 bytes")]
    TooSmall {
        /// Units that it needs.
        needed: u64,
    },
    /// Reading or writing failed. The vault is as it was, or blocks have moved.
    #[error(transparent)]
    Fs(#[from] FsError),
}

/// How far moving has come: units looked at, of all.
type Show<'s> = dyn FnMut(u64, u64) -> FsResult<()> + 's;

impl Volume {
    /// Sets what the vault may grow to, in units, and cuts the image if it is longer.
    pub fn resize(&self, capacity: u64, show: &mut Show<'_>) -> Result<(), ResizeError> {
        if !(MIN_CAPACITY..=ADDRESS_LIMIT).contains(&capacity) {
            return Err(ResizeError::Geometry);
        }
        self.writable()?;
        let space = self.space();
        if capacity < space.length {
            let needed = round_up(space.held + space.reserve + SLACK);
            if round_down(capacity) < needed {
                return Err(ResizeError::TooSmall { needed });
            }
            self.vacate(round_down(capacity), Some(capacity), show)?;
            return Ok(());
        }
        self.change(|fs| {
            fs.pool.allocator().set_capacity(capacity);
            fs.pool.touch();
            Ok(())
        })?;
        self.commit(true)?;
        Ok(())
    }

    /// Moves everything together at the start of the image and gives the rest back to the host.
    pub fn compact(&self, show: &mut Show<'_>) -> Result<(), ResizeError> {
        self.writable()?;
        let mut limit = {
            let space = self.space();
            round_up(space.held + space.reserve + SLACK)
        };
        loop {
            let space = self.space();
            if limit >= round_down(space.length) {
                break;
            }
            match self.vacate(limit, None, show) {
                Ok(()) => break,
                // Scattered free space can keep a long block from its place: less far, then.
                Err(FsError::NoSpace) => limit = round_up(limit.midpoint(space.length) + 1),
                Err(error) => return Err(error.into()),
            }
        }
        self.close()?;
        Ok(())
    }

    fn writable(&self) -> FsResult<()> {
        if self.health() == Health::Writable { Ok(()) } else { Err(FsError::ReadOnly) }
    }

    /// Frees everything at or above `limit`, and cuts the image there.
    fn vacate(&self, limit: u64, capacity: Option<u64>, show: &mut Show<'_>) -> FsResult<()> {
        let outcome = self.vacate_below(limit, capacity, show);
        self.change(|fs| {
            fs.pool.allocator().lift();
            Ok(())
        })?;
        outcome
    }

    fn vacate_below(&self, limit: u64, capacity: Option<u64>, show: &mut Show<'_>) -> FsResult<()> {
        // What waits in memory gets its place before the limit is set.
        self.commit(true)?;
        self.change(|fs| {
            fs.pool.allocator().lower(limit);
            Ok(())
        })?;
        let mut rounds = 0;
        while self.change(|fs| fs.pool.holds_above(limit))? {
            if rounds == MOST_ROUNDS {
                return Err(FsError::NoSpace);
            }
            rounds += 1;
            self.move_data(limit, show)?;
            while self.in_batches(|fs, most| fs.relocate_nodes(limit, most))? {
                self.commit(false)?;
            }
            self.commit_when(false, true)?;
        }
        self.change(|fs| {
            match capacity {
                Some(capacity) => fs.pool.allocator().set_capacity(capacity),
                None => fs.pool.allocator().cut(limit),
            }
            fs.pool.touch();
            Ok(())
        })?;
        // Two generations that need nothing beyond the limit, each proven.
        self.commit(true)?;
        self.commit_when(true, true)?;
        let device = self.device();
        device.truncate(limit * UNIT_U64)?;
        device.flush()?;
        Ok(())
    }

    /// Does a part of the work, a smaller one where there is not enough room.
    fn in_batches<R>(&self, act: impl Fn(&mut Fs, usize) -> FsResult<R>) -> FsResult<R> {
        let mut outcome = Err(FsError::NoSpace);
        for most in BATCHES {
            outcome = self.change(|fs| act(fs, most));
            if !matches!(outcome, Err(FsError::NoSpace)) {
                break;
            }
        }
        outcome
    }

    fn move_data(&self, limit: u64, show: &mut Show<'_>) -> FsResult<()> {
        let mut from = Some(Key::MIN);
        let mut moved = 0_u64;
        while let Some(key) = from {
            let space = self.space();
            show(moved.min(space.held), space.held)?;
            let (next, count) = self.in_batches(|fs, most| fs.move_data(key, limit, most))?;
            moved = moved.saturating_add(count);
            from = next;
            self.commit(false)?;
        }
        Ok(())
    }
}

impl Fs {
    /// Moves the next data blocks that end beyond `limit`; returns where to go on, and units moved.
    fn move_data(&mut self, from: Key, limit: u64, most: usize) -> FsResult<(Option<Key>, u64)> {
        let mut found: Vec<(Key, Pointer)> = Vec::new();
        let mut next = None;
        self.pool.scan_from(&from, &mut |key, value| {
            if key.kind != kind::EXTENT {
                return Ok(ControlFlow::Continue(()));
            }
            let Extent::Data(pointer) = Extent::decode(InodeNo(key.object), value)? else {
                return Ok(ControlFlow::Continue(()));
            };
            if pointer.end() <= limit {
                return Ok(ControlFlow::Continue(()));
            }
            if found.len() == most {
                next = Some(key);
                return Ok(ControlFlow::Break(()));
            }
            found.push((key, pointer));
            Ok(ControlFlow::Continue(()))
        })?;
        let count = found.len() as u64;
        match self.pool.ensure(Claim::Removal, count, count / 4 + 8) {
            // Free space may be too scattered for whole groups, and still take blocks.
            Err(FsError::NoSpace) if most == BATCHES[2] => {
                self.pool.ensure(Claim::Removal, 0, count + 8)?;
            }
            outcome => outcome?,
        }
        let mut blocks = Vec::with_capacity(found.len());
        for (key, pointer) in &found {
            let owner = Owner::data(InodeNo(key.object), key.offset);
            blocks.push(self.pool.blocks.read(pointer, owner)?);
        }
        let data: Vec<DataBlock<'_>> = found
            .iter()
            .zip(&blocks)
            .map(|((key, _), bytes)| DataBlock {
                inode: InodeNo(key.object),
                block: key.offset,
                bytes,
            })
            .collect();
        let written = self.pool.write_data(&data)?;
        let mut units = 0;
        for ((key, old), new) in found.iter().zip(&written) {
            self.pool.put(*key, Extent::Data(*new).encode())?;
            self.pool.free(old)?;
            units += u64::from(old.units);
        }
        Ok((next, units))
    }

    fn relocate_nodes(&mut self, limit: u64, most: usize) -> FsResult<bool> {
        // With those above them, in both trees.
        self.pool.ensure(Claim::Removal, 0, 2 * most as u64 + 16)?;
        self.pool.relocate_nodes(limit, most)
    }
}

fn round_up(units: u64) -> u64 {
    units.div_ceil(WINDOW).saturating_mul(WINDOW).max(MIN_CAPACITY)
}

fn round_down(units: u64) -> u64 {
    units / WINDOW * WINDOW
}
