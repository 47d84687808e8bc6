//! A keyslot: the volume key, wrapped (FORMAT.md section 4).

use crate::codec::{CodecError, Reader, Writer};
use crate::crypto::aead::{Nonce, Tag};
use crate::crypto::kdf::KdfCost;
use crate::ids::SlotIndex;
use std::fmt;

/// Encoded length in bytes.
pub const KEYSLOT_LEN: usize = 256;
/// Number of keyslots in a header.
pub const KEYSLOTS: usize = 8;
/// Bytes of a slot, from its start, that the wrapped key is bound to.
pub const BOUND_LEN: usize = 48;

const LABEL_FIELD: usize = 63;

/// What opens a keyslot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SlotKind {
    /// A passphrase, typed.
    Passphrase,
    /// The content of a key file.
    KeyFile,
    /// The generated 256-bit recovery key.
    RecoveryKey,
}

impl SlotKind {
    /// Returns the number that stands for it.
    pub fn number(self) -> u8 {
        match self {
            Self::Passphrase => 1,
            Self::KeyFile => 2,
            Self::RecoveryKey => 3,
        }
    }

    fn from_number(number: u8) -> Option<Self> {
        [Self::Passphrase, Self::KeyFile, Self::RecoveryKey]
            .into_iter()
            .find(|kind| kind.number() == number)
    }
}

impl fmt::Display for SlotKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passphrase => "passphrase",
            Self::KeyFile => "key file",
            Self::RecoveryKey => "recovery key",
        })
    }
}

/// A name that its owner gave to a slot: at most 63 bytes of UTF-8, no control characters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SlotLabel(String);

impl SlotLabel {
    /// The longest label in bytes.
    pub const MAX_LEN: usize = LABEL_FIELD;

    /// Takes `text` if it can be a label.
    pub fn new(text: &str) -> Option<Self> {
        let fits = text.len() <= Self::MAX_LEN && !text.chars().any(char::is_control);
        fits.then(|| Self(text.to_owned()))
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SlotLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A keyslot that is in use. Nothing in it is authentic before the header's MAC is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyslot {
    /// What opens it.
    pub kind: SlotKind,
    /// Cost of Argon2id; `None` for a recovery key, which needs none.
    pub cost: Option<KdfCost>,
    /// Salt of Argon2id and HKDF.
    pub salt: [u8; 32],
    /// Says which key-encryption key the wrapped key belongs to.
    pub commitment: [u8; 32],
    /// Nonce of the wrapped key.
    pub nonce: Nonce,
    /// The volume key, sealed.
    pub wrapped: [u8; 32],
    /// Tag of the wrapped key.
    pub tag: Tag,
    /// Seconds since 1970 at which the slot was made.
    pub created: i64,
    /// The owner's name for it.
    pub label: SlotLabel,
}

impl Keyslot {
    /// Encodes the 256 bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(KEYSLOT_LEN);
        out.bytes(&encode_bound(self.kind, self.cost, &self.salt));
        out.bytes(&self.commitment).bytes(self.nonce.bytes()).bytes(&self.wrapped);
        out.bytes(&self.tag.0).i64(self.created);
        let label = self.label.0.as_bytes();
        out.u8(label.len().try_into().expect("a label has at most 63 bytes")).bytes(label);
        out.pad_to(KEYSLOT_LEN);
        out.finish()
    }

    /// Decodes 256 bytes; an empty slot is `None`.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, CodecError> {
        let mut reader = Reader::new(bytes);
        let kind = reader.u8()?;
        if kind == 0 {
            reader.zeros(KEYSLOT_LEN - 1)?;
            return reader.finish().map(|()| None);
        }
        let kind = SlotKind::from_number(kind).ok_or(CodecError::Field("keyslot kind"))?;
        reader.zeros(3)?;
        let slot = Self {
            kind,
            cost: decode_cost(kind, &mut reader)?,
            salt: reader.array()?,
            commitment: reader.array()?,
            nonce: Nonce::from_stored(reader.array()?),
            wrapped: reader.array()?,
            tag: Tag(reader.array()?),
            created: reader.i64()?,
            label: decode_label(&mut reader)?,
        };
        reader.zeros(32)?;
        reader.finish()?;
        Ok(Some(slot))
    }

    /// Returns the bytes that the wrapped key is bound to: kind, cost and salt.
    pub fn bound(&self) -> [u8; BOUND_LEN] {
        encode_bound(self.kind, self.cost, &self.salt)
    }
}

/// Encodes the first 48 bytes of a slot, which are part of the wrapped key's AAD.
pub fn encode_bound(kind: SlotKind, cost: Option<KdfCost>, salt: &[u8; 32]) -> [u8; BOUND_LEN] {
    let none = KdfCost { memory_kib: 0, passes: 0, lanes: 0 };
    let cost = cost.unwrap_or(none);
    let mut out = Writer::with_capacity(BOUND_LEN);
    out.u8(kind.number()).zeros(3).u32(cost.memory_kib).u32(cost.passes).u32(cost.lanes);
    out.bytes(salt);
    out.finish().try_into().expect("the fields add up to 48 bytes")
}

/// Returns whether `index` names one of the eight slots.
pub fn is_slot(index: SlotIndex) -> bool {
    usize::from(index.0) < KEYSLOTS
}

/// The cost is taken as it stands; [`KdfCost::check`] judges it before it is spent.
fn decode_cost(kind: SlotKind, reader: &mut Reader<'_>) -> Result<Option<KdfCost>, CodecError> {
    let cost = KdfCost { memory_kib: reader.u32()?, passes: reader.u32()?, lanes: reader.u32()? };
    match kind {
        SlotKind::Passphrase | SlotKind::KeyFile => Ok(Some(cost)),
        SlotKind::RecoveryKey if (cost.memory_kib, cost.passes, cost.lanes) == (0, 0, 0) => {
            Ok(None)
        }
        SlotKind::RecoveryKey => Err(CodecError::NotZero),
    }
}

fn decode_label(reader: &mut Reader<'_>) -> Result<SlotLabel, CodecError> {
    let bad = CodecError::Field("keyslot label");
    let len = usize::from(reader.u8()?);
    let rest = LABEL_FIELD.checked_sub(len).ok_or(bad)?;
    let text = std::str::from_utf8(reader.bytes(len)?).map_err(|_| bad)?;
    reader.zeros(rest)?;
    SlotLabel::new(text).ok_or(bad)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn slot(kind: SlotKind) -> Keyslot {
        Keyslot {
            kind,
            cost: (kind != SlotKind::RecoveryKey).then(KdfCost::default),
            salt: [1; 32],
            commitment: [2; 32],
            nonce: Nonce::from_stored([3; 24]),
            wrapped: [4; 32],
            tag: Tag([5; 16]),
            created: -6,
            label: SlotLabel::new("büro").unwrap(),
        }
    }

    #[test]
    fn slots_of_every_kind_survive_a_round_trip() {
        for kind in [SlotKind::Passphrase, SlotKind::KeyFile, SlotKind::RecoveryKey] {
            let slot = slot(kind);
            let bytes = slot.encode();
            assert_eq!(bytes.len(), KEYSLOT_LEN);
            assert_eq!(bytes[..BOUND_LEN], slot.bound());
            assert_eq!(Keyslot::decode(&bytes), Ok(Some(slot)));
        }
    }

    #[test]
    fn an_empty_slot_is_zero_throughout() {
        let mut bytes = [0; KEYSLOT_LEN];
        assert_eq!(Keyslot::decode(&bytes), Ok(None));
        bytes[255] = 1;
        assert_eq!(Keyslot::decode(&bytes), Err(CodecError::NotZero));
    }

    /// Each rule of the layout, broken by one byte.
    #[test]
    fn bytes_outside_the_layout_are_refused() {
        let with = |kind, at: usize, value| {
            let mut bytes = slot(kind).encode();
            bytes[at] = value;
            Keyslot::decode(&bytes)
        };
        let passphrase = SlotKind::Passphrase;
        assert_eq!(with(passphrase, 0, 4), Err(CodecError::Field("keyslot kind")), "fido2");
        assert_eq!(with(passphrase, 0, 255), Err(CodecError::Field("keyslot kind")));
        for at in [1, 3, 223, 224, 255] {
            assert_eq!(with(passphrase, at, 1), Err(CodecError::NotZero), "byte {at}");
        }
        for at in [4, 8, 12] {
            let refused = with(SlotKind::RecoveryKey, at, 1);
            assert_eq!(refused, Err(CodecError::NotZero), "cost of a recovery key, byte {at}");
        }
        assert_eq!(with(passphrase, 160, 64), Err(CodecError::Field("keyslot label")));
        assert_eq!(with(passphrase, 160, 4), Err(CodecError::NotZero), "label cut short");
        assert_eq!(with(passphrase, 161, 0xff), Err(CodecError::Field("keyslot label")));
        assert_eq!(with(passphrase, 161, 0x1b), Err(CodecError::Field("keyslot label")));
    }

    #[test]
    fn a_slot_of_another_length_is_refused() {
        let bytes = slot(SlotKind::KeyFile).encode();
        assert_eq!(Keyslot::decode(&bytes[..255]), Err(CodecError::Truncated));
        let longer = [bytes, vec![0]].concat();
        assert_eq!(Keyslot::decode(&longer), Err(CodecError::NotZero));
        assert_eq!(Keyslot::decode(&[]), Err(CodecError::Truncated));
    }

    #[test]
    fn labels_are_bounded_and_printable() {
        assert!(SlotLabel::new(&"x".repeat(63)).is_some());
        assert!(SlotLabel::new(&"x".repeat(64)).is_none());
        assert!(SlotLabel::new("\u{1b}[2J").is_none());
        assert!(SlotLabel::new("two\nlines").is_none());
        assert!(SlotLabel::new("").is_some());
    }
}
