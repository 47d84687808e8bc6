//! A vault from the outside in: open, unlock, change keyslots.
//!
//! The state of a vault is part of its type. [`Locked`] holds the header as it was read, once, and
//! nothing in it is authentic; [`Unlocked`] holds the header whose MAC the volume key verified, and the
//! keys. What the vault contains is opened from there.
//!
//! A header change follows FORMAT.md section 4: copy A, barrier, a superblock that carries the new
//! sequence number, barrier, copy B, barrier. At each instant one copy is whole, and an old header put
//! back is seen by its number.

mod backup;
mod copies;
mod error;

pub use error::VaultError;

use crate::crypto::kdf::{KdfLimits, KdfMemory};
use crate::crypto::mac::mac;
use crate::crypto::secret::{SecretBytes, VolumeKey};
use crate::crypto::subkeys::Subkeys;
use crate::device::BlockDevice;
use crate::error::FsResult;
use crate::format::header::{BLOCK_SHIFTS, HEADER_UNITS, Header, sequence_fits};
use crate::format::keyslot::{KEYSLOTS, Keyslot, SlotLabel, is_slot};
use crate::ids::{SlotIndex, UNIT_U64, VaultId};
use crate::keyslot::{Attempt, Credential, NewSlot, SlotPorts, wrap};
use copies::{HeaderCopy, readable};
use std::fmt;
use std::io;
use std::sync::Arc;

/// The smallest length of an image: both header copies and the superblock ring.
pub const MIN_IMAGE_LEN: u64 = 16 * UNIT_U64;

/// A vault image in one of its states.
pub struct Vault<S> {
    device: Arc<dyn BlockDevice>,
    state: S,
}

/// The header was read and not one key is known.
pub struct Locked {
    copies: [HeaderCopy; 2],
}

/// The header is authentic and the keys are in memory.
pub struct Unlocked {
    header: Header,
    volume_key: VolumeKey,
    subkeys: Arc<Subkeys>,
    opened_by: SlotIndex,
    copies: [CopyState; 2],
    /// A header change failed half-way: what the device holds is unknown until it is opened again.
    interrupted: bool,
}

/// How a header copy on the device compares with the header in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyState {
    /// It is the header in use.
    Current,
    /// It is authentic and older: a change was interrupted, or it was put back.
    Older,
    /// It is damaged, altered or missing.
    Unusable,
}

/// How to open a vault's keyslots.
#[derive(Clone, Copy, Debug, Default)]
pub struct UnlockOptions {
    /// Try only this slot.
    pub slot: Option<SlotIndex>,
    /// What may be spent on the KDF.
    pub limits: KdfLimits,
}

/// Ties the header's sequence number to the committed state of the vault.
pub trait HeaderAnchor {
    /// Returns the number that the newest durable superblock carries.
    fn header_sequence(&self) -> u64;

    /// Makes sure that the next commit finds room, where it would not be found in time.
    fn make_room(&self) -> FsResult<()>;

    /// Commits a proven superblock that carries `sequence`, and returns once it is durable.
    fn commit_header_sequence(&self, sequence: u64) -> FsResult<()>;
}

impl<S> Vault<S> {
    /// Returns the storage.
    pub fn device(&self) -> &Arc<dyn BlockDevice> {
        &self.device
    }
}

impl Vault<Locked> {
    /// Reads both header copies once and judges their form. No key is needed.
    pub fn open(device: Arc<dyn BlockDevice>) -> Result<Self, VaultError> {
        let copies = [
            HeaderCopy::read(device.as_ref(), HEADER_UNITS[0])?,
            HeaderCopy::read(device.as_ref(), HEADER_UNITS[1])?,
        ];
        if readable(&copies).next().is_none() {
            return Err(copies::why_unreadable(&copies));
        }
        Ok(Self { device, state: Locked { copies } })
    }

    /// Returns the header as it stands in the image, not authentic: of two readable copies, the one
    /// with the higher sequence number.
    pub fn header(&self) -> &Header {
        readable(&self.state.copies)
            .map(|copy| &copy.header)
            .reduce(|best, next| if next.sequence > best.sequence { next } else { best })
            .expect("a vault without a readable header copy is not opened")
    }

    /// Returns the vault's identity as the header has it, not authentic.
    pub fn id(&self) -> VaultId {
        self.header().vault
    }

    /// Returns the keyslots in use as the header has them, not authentic.
    pub fn slots(&self) -> impl Iterator<Item = (SlotIndex, &Keyslot)> {
        self.header().used_slots()
    }

    /// Tries the credential on each slot of its kind, in order, and verifies the header under the
    /// key that comes out.
    ///
    /// Every failure to open a slot is [`VaultError::NoSlotOpened`]. A slot that opens under a header
    /// that does not verify is [`VaultError::HeaderAltered`]. A slot whose cost is out of bounds is
    /// passed over, and its error is reported if no other one opens: the same slot may be whole in the
    /// other copy.
    pub fn unlock(
        &self,
        credential: &Credential,
        options: &UnlockOptions,
        memory: &mut dyn KdfMemory,
    ) -> Result<Vault<Unlocked>, VaultError> {
        let mut failure = VaultError::NoSlotOpened;
        let mut tries = self.tries(credential, options.slot)?;
        tries.retain(|(_, _, slot)| match slot.cost.map(|cost| cost.check(&options.limits)) {
            Some(Err(refused)) => {
                failure = refused.into();
                false
            }
            _ => true,
        });
        let slots = tries.iter().map(|(_, _, slot)| *slot);
        let mut attempt = Attempt::begin(credential, memory, options.limits, slots)?;
        for (vault, index, slot) in tries {
            let Some(volume_key) = attempt.open(slot, index, vault)? else { continue };
            match self.authenticate(volume_key, vault, index, slot) {
                Ok(unlocked) => return Ok(Vault { device: self.device.clone(), state: unlocked }),
                Err(Distrust::NoCopyVerifies) => failure = VaultError::HeaderAltered,
                Err(Distrust::SlotRemoved) => {}
            }
        }
        Err(failure)
    }

    /// Lists the slots to be tried: those of copy A, then those of copy B that differ.
    fn tries(
        &self,
        credential: &Credential,
        only: Option<SlotIndex>,
    ) -> Result<Vec<(VaultId, SlotIndex, &Keyslot)>, VaultError> {
        let mut tries: Vec<(VaultId, SlotIndex, &Keyslot)> = Vec::new();
        for copy in readable(&self.state.copies) {
            let slots =
                copy.header.used_slots().map(|(index, slot)| (copy.header.vault, index, slot));
            for slot in slots {
                let wanted =
                    slot.2.kind == credential.kind() && only.is_none_or(|index| index == slot.1);
                if wanted && !tries.contains(&slot) {
                    tries.push(slot);
                }
            }
        }
        match only {
            Some(slot) if tries.is_empty() => {
                Err(VaultError::SlotMissing { slot, kind: credential.kind() })
            }
            _ => Ok(tries),
        }
    }

    /// Picks the newest header that verifies under the volume key. It must hold the very slot that
    /// was opened: a slot of an older copy may have been removed since.
    fn authenticate(
        &self,
        volume_key: VolumeKey,
        vault: VaultId,
        index: SlotIndex,
        slot: &Keyslot,
    ) -> Result<Unlocked, Distrust> {
        let subkeys = Subkeys::derive(&volume_key, vault);
        let copies = self.state.copies.each_ref().map(|copy| copy.verified(vault, &subkeys));
        let newest = copies
            .into_iter()
            .flatten()
            .reduce(|best, next| if next.sequence > best.sequence { next } else { best })
            .ok_or(Distrust::NoCopyVerifies)?;
        if newest.slot(index) != Some(slot) {
            return Err(Distrust::SlotRemoved);
        }
        Ok(Unlocked {
            header: newest.clone(),
            volume_key,
            subkeys: Arc::new(subkeys),
            opened_by: index,
            copies: copies.map(|copy| match copy {
                None => CopyState::Unusable,
                Some(header) if header == newest => CopyState::Current,
                Some(_) => CopyState::Older,
            }),
            interrupted: false,
        })
    }
}

/// Why a slot that opened is not believed.
enum Distrust {
    /// The header around it is not the one that was written.
    NoCopyVerifies,
    /// The authentic header does not hold this slot any more.
    SlotRemoved,
}

impl Vault<Unlocked> {
    /// Makes a new vault's identity, keys and header, in memory only.
    ///
    /// The caller writes the first generation and then the header, by [`Vault::mend_copies`]: an image
    /// whose making was interrupted has no header and is no vault.
    pub fn create_header(
        device: Arc<dyn BlockDevice>,
        block_shift: u8,
        first: &NewSlot<'_>,
        ports: &mut SlotPorts<'_>,
    ) -> Result<Self, VaultError> {
        if !BLOCK_SHIFTS.contains(&block_shift) {
            return Err(VaultError::BlockShift { shift: block_shift });
        }
        let mut id = [0; 16];
        ports.entropy.fill(&mut id)?;
        let vault = VaultId(id);
        let volume_key = SecretBytes::random(ports.entropy)?;
        let index = SlotIndex(0);
        let mut slots = [const { None }; KEYSLOTS];
        slots[0] = Some(wrap(&volume_key, vault, index, first, ports)?);
        let state = Unlocked {
            header: Header { block_shift, vault, sequence: 1, slots },
            subkeys: Arc::new(Subkeys::derive(&volume_key, vault)),
            volume_key,
            opened_by: index,
            copies: [CopyState::Unusable; 2],
            interrupted: false,
        };
        Ok(Self { device, state })
    }

    /// Takes header and keys to another device: a copy of the vault that every keyslot opens. Like in a new
    /// image the content comes first there, and the header by [`Vault::mend_copies`].
    #[must_use]
    pub fn onto(self, device: Arc<dyn BlockDevice>) -> Self {
        let state = Unlocked { copies: [CopyState::Unusable; 2], ..self.state };
        Self { device, state }
    }

    /// Returns the authentic header.
    pub fn header(&self) -> &Header {
        &self.state.header
    }

    /// Returns the vault's identity.
    pub fn id(&self) -> VaultId {
        self.state.header.vault
    }

    /// Returns the keys that open the vault's content.
    pub fn subkeys(&self) -> &Arc<Subkeys> {
        &self.state.subkeys
    }

    /// Returns the keyslots in use.
    pub fn slots(&self) -> impl Iterator<Item = (SlotIndex, &Keyslot)> {
        self.state.header.used_slots()
    }

    /// Returns the slot that was opened.
    pub fn opened_by(&self) -> SlotIndex {
        self.state.opened_by
    }

    /// Returns how the two header copies on the device compare with the header in use.
    pub fn copy_states(&self) -> [CopyState; 2] {
        self.state.copies
    }

    /// Judges the header by the sequence number in the newest superblock ([`sequence_fits`]).
    pub fn judge_sequence(&self, committed: u64) -> Result<(), VaultError> {
        let found = self.state.header.sequence;
        if sequence_fits(found, committed) {
            Ok(())
        } else {
            Err(VaultError::HeaderReplaced { found, committed })
        }
    }

    /// Rewrites each copy that is not the header in use, one at a time with a barrier after each.
    ///
    /// Call it once the vault's state has been found good and is to be written to.
    pub fn mend_copies(&mut self) -> Result<(), VaultError> {
        self.not_interrupted()?;
        let unit = self.encode(&self.state.header);
        for copy in 0..HEADER_UNITS.len() {
            if self.state.copies[copy] != CopyState::Current {
                self.write_copy(copy, &unit)?;
                self.state.copies[copy] = CopyState::Current;
            }
        }
        Ok(())
    }

    /// Makes another keyslot, at `place` or the first free one, and returns where.
    pub fn add_slot(
        &mut self,
        place: Option<SlotIndex>,
        new: &NewSlot<'_>,
        ports: &mut SlotPorts<'_>,
        anchor: &dyn HeaderAnchor,
    ) -> Result<SlotIndex, VaultError> {
        let place = match place {
            Some(slot) if !is_slot(slot) => return Err(VaultError::NoSuchSlot { slot }),
            Some(slot) if self.state.header.slot(slot).is_some() => {
                return Err(VaultError::SlotTaken { slot });
            }
            Some(slot) => slot,
            None => self.free_slot().ok_or(VaultError::NoFreeSlot)?,
        };
        let slot = wrap(&self.state.volume_key, self.id(), place, new, ports)?;
        self.change(anchor, |header| header.slots[usize::from(place.0)] = Some(slot))?;
        Ok(place)
    }

    /// Replaces what opens a slot: the change of a passphrase, or of its KDF cost. The old credential
    /// opens nothing from then on, except an old copy of the header.
    pub fn replace_slot(
        &mut self,
        place: SlotIndex,
        new: &NewSlot<'_>,
        ports: &mut SlotPorts<'_>,
        anchor: &dyn HeaderAnchor,
    ) -> Result<(), VaultError> {
        self.used(place)?;
        let slot = wrap(&self.state.volume_key, self.id(), place, new, ports)?;
        self.change(anchor, |header| header.slots[usize::from(place.0)] = Some(slot))
    }

    /// Removes a slot; the last one stays.
    pub fn remove_slot(
        &mut self,
        place: SlotIndex,
        anchor: &dyn HeaderAnchor,
    ) -> Result<(), VaultError> {
        self.used(place)?;
        if self.slots().count() == 1 {
            return Err(VaultError::LastSlot { slot: place });
        }
        self.change(anchor, |header| header.slots[usize::from(place.0)] = None)
    }

    /// Renames a slot.
    pub fn set_label(
        &mut self,
        place: SlotIndex,
        label: SlotLabel,
        anchor: &dyn HeaderAnchor,
    ) -> Result<(), VaultError> {
        let slot = Keyslot { label, ..self.used(place)?.clone() };
        self.change(anchor, |header| header.slots[usize::from(place.0)] = Some(slot))
    }

    /// Changes the header in the order of FORMAT.md section 4.
    fn change(
        &mut self,
        anchor: &dyn HeaderAnchor,
        edit: impl FnOnce(&mut Header),
    ) -> Result<(), VaultError> {
        self.not_interrupted()?;
        self.judge_sequence(anchor.header_sequence())?;
        // The header may be one ahead of the superblock and must never be two ahead, and copy B must be
        // whole before copy A is overwritten.
        if anchor.header_sequence() != self.state.header.sequence {
            anchor.commit_header_sequence(self.state.header.sequence)?;
        }
        self.mend_copies()?;

        let mut header = self.state.header.clone();
        header.sequence = header.sequence.checked_add(1).ok_or(VaultError::Exhausted)?;
        edit(&mut header);
        self.publish(anchor, header)
    }

    /// Writes copy A, the superblock, copy B.
    fn publish(&mut self, anchor: &dyn HeaderAnchor, header: Header) -> Result<(), VaultError> {
        // From copy A on the change counts: on a full disk it is not begun.
        anchor.make_room()?;
        let unit = self.encode(&header);
        // If a step fails, a second change must not reuse the number with another content.
        self.state.interrupted = true;
        self.write_copy(0, &unit)?;
        anchor.commit_header_sequence(header.sequence).map_err(VaultError::NotCompleted)?;
        self.write_copy(1, &unit).map_err(|cause| VaultError::NotCompleted(cause.into()))?;
        self.state.header = header;
        self.state.interrupted = false;
        Ok(())
    }

    fn not_interrupted(&self) -> Result<(), VaultError> {
        if self.state.interrupted { Err(VaultError::Interrupted) } else { Ok(()) }
    }

    fn used(&self, slot: SlotIndex) -> Result<&Keyslot, VaultError> {
        self.state.header.slot(slot).ok_or(VaultError::NoSuchSlot { slot })
    }

    fn free_slot(&self) -> Option<SlotIndex> {
        (0..).map(SlotIndex).take(KEYSLOTS).find(|&slot| self.state.header.slot(slot).is_none())
    }

    fn encode(&self, header: &Header) -> Vec<u8> {
        let mut unit = header.encode();
        let code = mac(&self.state.subkeys.header_mac, &unit);
        unit.extend_from_slice(&code);
        unit
    }

    fn write_copy(&self, copy: usize, unit: &[u8]) -> io::Result<()> {
        self.device.write_at(unit, HEADER_UNITS[copy].0 * UNIT_U64)?;
        self.device.flush()
    }
}

impl fmt::Debug for Vault<Locked> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vault(locked, {})", self.id())
    }
}

impl fmt::Debug for Vault<Unlocked> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vault(unlocked, {})", self.id())
    }
}

#[cfg(test)]
mod tests;
