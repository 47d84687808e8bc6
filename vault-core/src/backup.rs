//! Copying an image that somebody else is writing to.
//!
//! A live block is never overwritten (FORMAT.md, INV-2 and INV-3): the blocks of generation G stay
//! as they are until generation G+2 is durable. So whoever notes the newest superblock, copies every
//! block, and then finds at most one generation more has a whole state of the vault, without a key and
//! without a word to the writer. The copy gets that one superblock and no other.

use crate::error::Damage;
use crate::format::header::{HEADER_UNITS, Header};
use crate::format::superblock::{FIRST_SLOT_UNIT, SLOTS, SealedSlot};
use crate::ids::{Generation, UNIT};
use crate::vault::{MIN_IMAGE_LEN, VaultError};
use std::io;

/// Reads from an image at an offset.
pub type ReadAt<'r> = dyn FnMut(&mut [u8], u64) -> io::Result<()> + 'r;

/// The part of an image that is written in place: headers and superblocks, at one moment. Nothing in it
/// has been authenticated.
#[derive(Clone, PartialEq, Eq)]
pub struct FixedUnits {
    bytes: Vec<u8>,
    newest: usize,
    generation: Generation,
}

impl FixedUnits {
    /// Reads them, and finds the newest superblock.
    pub fn read(read: &mut ReadAt<'_>) -> Result<Self, VaultError> {
        let mut bytes = vec![0; usize::try_from(MIN_IMAGE_LEN).unwrap_or_default()];
        read(&mut bytes, 0)?;
        let header = HEADER_UNITS.iter().find_map(|at| {
            Header::decode(unit(&bytes, usize::try_from(at.0).unwrap_or_default())).ok()
        });
        let vault = header.ok_or(VaultError::HeaderDamaged)?.vault;
        let newest = (0..SLOTS).filter_map(|slot| {
            let sealed = SealedSlot::decode(unit(&bytes, slot_unit(slot)), vault).ok()?;
            Some((sealed.generation, slot))
        });
        let (generation, newest) = newest.max().ok_or(Damage::NoSuperblock)?;
        Ok(Self { bytes, newest, generation })
    }

    /// Returns the newest generation that is named here.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Whether all that was copied since belongs to the state named here, as `later` shows.
    pub fn outlasted(&self, later: &Self) -> bool {
        let same = |at| unit(&self.bytes, at) == unit(&later.bytes, at);
        let next = self.generation.0.saturating_add(1);
        later.generation.0 <= next
            && same(slot_unit(self.newest))
            && HEADER_UNITS.iter().all(|at| same(usize::try_from(at.0).unwrap_or_default()))
    }

    /// Returns what stands at the start of the copy: the headers, and this superblock alone. The others
    /// lead to blocks that may have been written over.
    pub fn alone(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        for slot in (0..SLOTS).filter(|slot| *slot != self.newest) {
            let start = slot_unit(slot) * UNIT;
            if let Some(unit) = bytes.get_mut(start..start + UNIT) {
                unit.fill(0);
            }
        }
        bytes
    }
}

fn slot_unit(slot: usize) -> usize {
    usize::try_from(FIRST_SLOT_UNIT).unwrap_or_default() + slot
}

fn unit(bytes: &[u8], at: usize) -> &[u8] {
    bytes.get(at * UNIT..(at + 1) * UNIT).unwrap_or_default()
}
