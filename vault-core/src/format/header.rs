//! The header: what an image is, and its keyslots (FORMAT.md section 4).

use crate::codec::{CodecError, Reader, Writer};
use crate::crypto::subkeys::SUITE;
use crate::format::keyslot::{KEYSLOT_LEN, KEYSLOTS, Keyslot};
use crate::ids::{BlockNo, SlotIndex, UNIT, VaultId};
use thiserror::Error;

/// The first bytes of a vault image.
pub const HEADER_MAGIC: [u8; 8] = *b"TAZPOD\r\n";
/// The one format version that this crate reads and writes.
pub const FORMAT_VERSION: u16 = 1;
/// Where the header copies lie.
pub const HEADER_UNITS: [BlockNo; 2] = [BlockNo(0), BlockNo(9)];
/// Where the keyslots begin.
pub const KEYSLOTS_AT: usize = 64;
/// Where the MAC lies, and how many bytes it covers.
pub const MAC_AT: usize = UNIT - 32;
/// The shifts that a data block's size may have.
pub const BLOCK_SHIFTS: std::ops::RangeInclusive<u8> = 12..=17;

/// A header as it is stored, MAC apart. Nothing in it is authentic before the MAC is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// A data block holds `1 << block_shift` bytes of a file.
    pub block_shift: u8,
    /// The vault's identity.
    pub vault: VaultId,
    /// Grows with every change of the header.
    pub sequence: u64,
    /// The keyslots; `None` where one is free.
    pub slots: [Option<Keyslot>; KEYSLOTS],
}

/// Whether a header of this sequence number belongs to a state that was committed under `committed`.
///
/// A lower number is an old header put back, which may hold a slot that was removed. One above is a
/// change whose superblock did not arrive; more than that has no innocent explanation.
pub fn sequence_fits(found: u64, committed: u64) -> bool {
    found == committed || Some(found) == committed.checked_add(1)
}

/// A unit is not a header that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// The magic is another one.
    #[error("no vault header")]
    Magic,
    /// The format version is another one.
    #[error("format version {found} is not supported")]
    Version {
        /// The version found.
        found: u16,
    },
    /// The cipher suite is another one.
    #[error("cipher suite {found} is not supported")]
    Suite {
        /// The suite found.
        found: u16,
    },
    /// A field does not follow the format.
    #[error("malformed header")]
    Malformed(#[from] CodecError),
}

impl Header {
    /// Encodes the bytes that the MAC covers.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(UNIT);
        out.bytes(&HEADER_MAGIC).u16(FORMAT_VERSION).u16(SUITE).u8(self.block_shift).zeros(3);
        out.bytes(&self.vault.0).u64(self.sequence).pad_to(KEYSLOTS_AT);
        for slot in &self.slots {
            match slot {
                Some(slot) => out.bytes(&slot.encode()),
                None => out.zeros(KEYSLOT_LEN),
            };
        }
        out.pad_to(MAC_AT);
        out.finish()
    }

    /// Decodes a whole unit, without judging its MAC.
    pub fn decode(unit: &[u8]) -> Result<Self, HeaderError> {
        let mut reader = Reader::new(unit);
        if reader.array()? != HEADER_MAGIC {
            return Err(HeaderError::Magic);
        }
        match reader.u16()? {
            FORMAT_VERSION => {}
            found => return Err(HeaderError::Version { found }),
        }
        match reader.u16()? {
            SUITE => {}
            found => return Err(HeaderError::Suite { found }),
        }
        let block_shift = reader.u8()?;
        if !BLOCK_SHIFTS.contains(&block_shift) {
            return Err(CodecError::Field("data block shift").into());
        }
        reader.zeros(3)?;
        let vault = VaultId(reader.array()?);
        let sequence = reader.u64()?;
        if sequence == 0 {
            return Err(CodecError::Field("header sequence number").into());
        }
        reader.zeros(24)?;
        let mut slots = [const { None }; KEYSLOTS];
        for slot in &mut slots {
            *slot = Keyslot::decode(reader.bytes(KEYSLOT_LEN)?)?;
        }
        reader.zeros(MAC_AT - KEYSLOTS_AT - KEYSLOTS * KEYSLOT_LEN)?;
        reader.bytes(UNIT - MAC_AT)?;
        reader.finish()?;
        Ok(Self { block_shift, vault, sequence, slots })
    }

    /// Returns a slot in use.
    pub fn slot(&self, index: SlotIndex) -> Option<&Keyslot> {
        self.slots.get(usize::from(index.0))?.as_ref()
    }

    /// Returns the slots in use, in order.
    pub fn used_slots(&self) -> impl Iterator<Item = (SlotIndex, &Keyslot)> {
        (0..)
            .map(SlotIndex)
            .zip(&self.slots)
            .filter_map(|(index, slot)| Some((index, slot.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn header() -> Header {
        Header {
            block_shift: 14,
            vault: VaultId([9; 16]),
            sequence: 3,
            slots: [const { None }; KEYSLOTS],
        }
    }

    fn unit() -> Vec<u8> {
        let mut unit = header().encode();
        unit.resize(UNIT, 0xAA);
        unit
    }

    #[test]
    fn a_header_survives_a_round_trip() {
        assert_eq!(header().encode().len(), MAC_AT);
        assert_eq!(Header::decode(&unit()), Ok(header()));
    }

    #[test]
    fn other_magic_versions_and_suites_are_told_apart() {
        let with = |at: usize, value| {
            let mut unit = unit();
            unit[at] = value;
            Header::decode(&unit).unwrap_err()
        };
        assert_eq!(with(0, b'L'), HeaderError::Magic);
        assert_eq!(with(8, 2), HeaderError::Version { found: 2 });
        assert_eq!(with(9, 1), HeaderError::Version { found: 257 });
        assert_eq!(with(10, 0), HeaderError::Suite { found: 0 });
    }

    #[test]
    fn reserved_bytes_and_bounds_are_enforced() {
        let with = |at: usize, value| {
            let mut unit = unit();
            unit[at] = value;
            Header::decode(&unit)
        };
        for shift in [11, 18, 255] {
            assert!(with(12, shift).is_err(), "shift {shift}");
        }
        for at in [13, 15, 40, 63, 2112, 4063] {
            let refused = Err(HeaderError::Malformed(CodecError::NotZero));
            assert_eq!(with(at, 1), refused, "byte {at}");
        }
        let zero_sequence = HeaderError::Malformed(CodecError::Field("header sequence number"));
        assert_eq!(with(32, 0), Err(zero_sequence));
    }

    #[test]
    fn a_unit_of_another_length_is_refused() {
        let unit = unit();
        for len in [0, 7, 63, 64, 2111, MAC_AT, UNIT - 1] {
            assert!(Header::decode(&unit[..len]).is_err(), "{len} bytes");
        }
        assert!(Header::decode(&[unit, vec![0]].concat()).is_err());
    }
}
