//! Block pointers (FORMAT.md section 6): where a block is and what makes it authentic.

use crate::codec::{CodecError, Reader, Writer};
use crate::crypto::aead::{Nonce, Tag};
use crate::ids::{BlockNo, Generation};

/// The first unit that blocks may occupy; below lie headers and superblocks.
pub const FIRST_BLOCK: u64 = 16;
/// Addresses stay below this bound.
pub const ADDRESS_LIMIT: u64 = 1 << 40;
/// Most units of a tree node.
pub const MAX_NODE_UNITS: u16 = 4;
/// Most units of a data block (block shift 17).
pub const MAX_DATA_UNITS: u16 = 32;
/// Highest level of a node.
pub const MAX_LEVEL: u8 = 15;

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockKind {
    /// A tree node, sealed under the metadata key.
    Node,
    /// File content, sealed under the data key.
    Data,
}

impl BlockKind {
    /// Returns the byte that stands for the kind.
    pub fn byte(self) -> u8 {
        match self {
            Self::Node => 1,
            Self::Data => 2,
        }
    }
}

/// A reference to a sealed block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// First unit of the block.
    pub address: BlockNo,
    /// The generation whose commit wrote it.
    pub birth: Generation,
    /// Length in units.
    pub units: u16,
    /// What it holds.
    pub kind: BlockKind,
    /// Level of a node, 0 for leaves and data.
    pub level: u8,
    /// The nonce it was sealed with.
    pub nonce: Nonce,
    /// The tag over its ciphertext and place.
    pub tag: Tag,
}

impl Pointer {
    /// Encoded length in bytes.
    pub const LEN: usize = 64;

    /// Returns the unit just past the block.
    pub fn end(&self) -> u64 {
        self.address.0.saturating_add(u64::from(self.units))
    }

    /// Appends the 64 bytes.
    pub fn encode(&self, out: &mut Writer) {
        out.u64(self.address.0)
            .u64(self.birth.0)
            .u16(self.units)
            .u8(self.kind.byte())
            .u8(self.level)
            .zeros(4)
            .bytes(self.nonce.bytes())
            .bytes(&self.tag.0);
    }

    /// Reads 64 bytes and checks every bound that needs no context.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let address = reader.u64()?;
        let birth = reader.u64()?;
        let units = reader.u16()?;
        let kind = match reader.u8()? {
            1 => BlockKind::Node,
            2 => BlockKind::Data,
            _ => return Err(CodecError::Field("pointer kind")),
        };
        let level = reader.u8()?;
        reader.zeros(4)?;
        let nonce = Nonce::from_stored(reader.array()?);
        let tag = Tag(reader.array()?);
        let (most_units, most_level) = match kind {
            BlockKind::Node => (MAX_NODE_UNITS, MAX_LEVEL),
            BlockKind::Data => (MAX_DATA_UNITS, 0),
        };
        if !(FIRST_BLOCK..ADDRESS_LIMIT).contains(&address) {
            return Err(CodecError::Field("pointer address"));
        }
        if units == 0 || units > most_units {
            return Err(CodecError::Field("pointer length"));
        }
        if level > most_level {
            return Err(CodecError::Field("pointer level"));
        }
        let (address, birth) = (BlockNo(address), Generation(birth));
        Ok(Self { address, birth, units, kind, level, nonce, tag })
    }
}
