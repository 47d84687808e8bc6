//! The superblock ring: reading all slots, choosing, and overwriting the oldest (INV-4 to INV-6).

use crate::crypto::aead::Tag;
use crate::device::BlockDevice;
use crate::error::{Damage, FsError, FsResult};
use crate::format::superblock::{FIRST_SLOT_UNIT, SLOTS, SealedSlot, Superblock, slot_aad};
use crate::ids::{Generation, UNIT, UNIT_U64};
use crate::store::alloc::is_full;
use crate::store::sealed::Sealer;

/// A superblock that opened under the vault's key.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    pub(crate) generation: Generation,
    pub(crate) superblock: Superblock,
    pub(crate) tag: Tag,
    slot: usize,
}

/// The eight slots as this process knows them.
pub(crate) struct Ring {
    /// The generation in each slot; 0 for one that is empty or unreadable.
    generations: [u64; SLOTS],
    newest: usize,
    /// Slots that held something unreadable when the ring was read.
    torn: Vec<usize>,
    /// The newest slot's unit as it was read or written: if it changes, somebody else writes too.
    newest_unit: Vec<u8>,
}

/// A superblock that is sealed and waits to be written.
pub(crate) struct Pending {
    slot: usize,
    generation: Generation,
    unit: Vec<u8>,
    pub(crate) tag: Tag,
}

impl Ring {
    /// The ring of an image that is being created.
    pub(crate) fn empty() -> Self {
        Self { generations: [0; SLOTS], newest: 0, torn: Vec::new(), newest_unit: Vec::new() }
    }

    /// Reads all slots; returns the superblocks that open, newest first.
    pub(crate) fn read(device: &dyn BlockDevice, sealer: &Sealer) -> FsResult<(Self, Vec<Opened>)> {
        let mut ring = Self::empty();
        let mut opened = Vec::new();
        for slot in 0..SLOTS {
            let mut unit = vec![0; UNIT];
            device.read_at(&mut unit, slot_offset(slot))?;
            if let Some(found) = open_slot(sealer, slot, &unit) {
                if let Some(generation) = ring.generations.get_mut(slot) {
                    *generation = found.generation.0;
                }
                opened.push(found);
            } else if unit.iter().any(|&byte| byte != 0) {
                ring.torn.push(slot);
            }
        }
        opened.sort_by_key(|found| std::cmp::Reverse(found.generation));
        // No writer publishes a generation twice, so one of the two was forged from a copy.
        let later = opened.iter().skip(1);
        if let Some((twice, _)) =
            opened.iter().zip(later).find(|(a, b)| a.generation == b.generation)
        {
            return Err(Damage::TwoHistories { generation: twice.generation }.into());
        }
        Ok((ring, opened))
    }

    /// Settles on the superblock that recovery chose.
    pub(crate) fn choose(&mut self, device: &dyn BlockDevice, chosen: &Opened) -> FsResult<()> {
        self.newest = chosen.slot;
        self.newest_unit = vec![0; UNIT];
        device.read_at(&mut self.newest_unit, slot_offset(chosen.slot))?;
        Ok(())
    }

    /// Returns the highest generation in any slot that opened.
    pub(crate) fn highest(&self) -> u64 {
        self.generations.iter().copied().max().unwrap_or(0)
    }

    /// Returns the slots that held something unreadable when the ring was read.
    pub(crate) fn torn(&self) -> &[usize] {
        &self.torn
    }

    /// Seals a superblock for the slot that holds the oldest.
    pub(crate) fn seal(
        &self,
        sealer: &Sealer,
        generation: Generation,
        superblock: &Superblock,
    ) -> FsResult<Pending> {
        let slot = self.oldest();
        let mut body = superblock.encode_body();
        let nonce = sealer.nonce()?;
        let aad = slot_aad(sealer.vault(), generation, slot_byte(slot));
        let tag = sealer.keys().superblock.seal(&nonce, &aad, &mut body);
        let unit = SealedSlot { generation, nonce, tag, body }.encode(sealer.vault());
        Ok(Pending { slot, generation, unit, tag })
    }

    /// Writes a sealed superblock; no barrier. Fails if another writer published meanwhile.
    pub(crate) fn publish(&mut self, device: &dyn BlockDevice, pending: &Pending) -> FsResult<()> {
        if !self.newest_unit.is_empty() {
            let mut unit = vec![0; UNIT];
            device.read_at(&mut unit, slot_offset(self.newest))?;
            if unit != self.newest_unit {
                return Err(FsError::ForeignWriter);
            }
        }
        device.write_at(&pending.unit, slot_offset(pending.slot)).map_err(|error| {
            // Nothing was published, so the commit can be tried again.
            if is_full(&error) { FsError::NoSpace } else { FsError::Io(error) }
        })?;
        if let Some(generation) = self.generations.get_mut(pending.slot) {
            *generation = pending.generation.0;
        }
        self.newest = pending.slot;
        self.newest_unit.clone_from(&pending.unit);
        Ok(())
    }

    fn oldest(&self) -> usize {
        self.generations
            .iter()
            .enumerate()
            .filter(|(slot, _)| self.newest_unit.is_empty() || *slot != self.newest)
            .min_by_key(|(_, generation)| **generation)
            .map_or(0, |(slot, _)| slot)
    }
}

fn open_slot(sealer: &Sealer, slot: usize, unit: &[u8]) -> Option<Opened> {
    let mut sealed = SealedSlot::decode(unit, sealer.vault()).ok()?;
    let aad = slot_aad(sealer.vault(), sealed.generation, slot_byte(slot));
    let key = &sealer.keys().superblock;
    key.open(&sealed.nonce, &aad, &mut sealed.body, &sealed.tag).ok()?;
    let superblock = Superblock::decode_body(&sealed.body, sealed.generation).ok()?;
    Some(Opened { generation: sealed.generation, superblock, tag: sealed.tag, slot })
}

fn slot_byte(slot: usize) -> u8 {
    u8::try_from(slot).expect("the ring has eight slots")
}

fn slot_offset(slot: usize) -> u64 {
    (FIRST_SLOT_UNIT + slot as u64) * UNIT_U64
}
