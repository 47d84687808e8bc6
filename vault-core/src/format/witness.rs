//! The rollback witness (FORMAT.md section 12): what this machine last saw of a vault.

use crate::codec::{CodecError, Reader, Writer};
use crate::crypto::aead::Tag;
use crate::ids::{Generation, VaultId};

/// The first bytes of a witness.
pub const WITNESS_MAGIC: [u8; 8] = *b"TZWITN\n\x01";
/// Encoded length in bytes, MAC included.
pub const WITNESS_LEN: usize = 96;
/// Where the MAC lies, and how many bytes it covers.
pub const WITNESS_MAC_AT: usize = 64;

const FLAG_RETIRED: u64 = 1;

/// The newest durable state of a vault that was seen here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Witness {
    /// Which vault.
    pub vault: VaultId,
    /// Its generation.
    pub generation: Generation,
    /// Its header's sequence number.
    pub header_sequence: u64,
    /// Tag of that generation's superblock.
    pub root_tag: Tag,
    /// Whether the vault was re-keyed here, so that no state of it should open again.
    pub retired: bool,
}

impl Witness {
    /// Encodes the bytes that the MAC covers.
    pub fn encode_body(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(WITNESS_LEN);
        out.bytes(&WITNESS_MAGIC).bytes(&self.vault.0).u64(self.generation.0);
        out.u64(self.header_sequence).bytes(&self.root_tag.0);
        out.u64(if self.retired { FLAG_RETIRED } else { 0 });
        out.finish()
    }

    /// Decodes the bytes that the MAC covers.
    pub fn decode_body(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::new(bytes);
        if reader.array()? != WITNESS_MAGIC {
            return Err(CodecError::Field("witness magic"));
        }
        let witness = Self {
            vault: VaultId(reader.array()?),
            generation: Generation(reader.u64()?),
            header_sequence: reader.u64()?,
            root_tag: Tag(reader.array()?),
            retired: match reader.u64()? {
                0 => false,
                FLAG_RETIRED => true,
                _ => return Err(CodecError::Field("witness flags")),
            },
        };
        reader.finish()?;
        Ok(witness)
    }
}
