//! Superblocks (FORMAT.md section 5): the root of everything, sealed, in a ring of eight slots.

use crate::codec::{CodecError, Reader, Writer};
use crate::crypto::aead::{Nonce, Tag};
use crate::crypto::subkeys::SUITE;
use crate::format::header::FORMAT_VERSION;
use crate::format::pointer::{ADDRESS_LIMIT, BlockKind, FIRST_BLOCK, Pointer};
use crate::ids::{Generation, UNIT, VaultId};

/// Number of slots in the ring.
pub const SLOTS: usize = 8;
/// The unit of slot 0; the others follow.
pub const FIRST_SLOT_UNIT: u64 = 1;
const MAGIC: [u8; 8] = *b"TZSUPER\n";
const CLEAR_LEN: usize = 40;
const BODY_OFFSET: usize = 80;
/// Length of the sealed body in bytes.
pub const BODY_LEN: usize = UNIT - BODY_OFFSET;
const FLAG_PROVEN: u32 = 1;

/// What a superblock says once it is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Sequence number of the header that belongs to this state.
    pub header_sequence: u64,
    /// Whether a barrier followed all blocks before this was written.
    pub proven: bool,
    /// Units that the file may grow to.
    pub capacity: u64,
    /// Units of the file in use for allocation.
    pub length: u64,
    /// Set bits of the allocation map.
    pub allocated: u64,
    /// Units promised to unwritten extents.
    pub reserved: u64,
    /// The next inode number to give out.
    pub next_inode: u64,
    /// Number of inodes.
    pub inodes: u64,
    /// Root of the file system tree.
    pub fs_root: Pointer,
    /// Root of the allocation tree.
    pub allocation_root: Pointer,
    /// Time of the commit, seconds since 1970.
    pub committed_at: i64,
}

impl Superblock {
    /// Encodes the body, to be sealed.
    pub fn encode_body(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(BODY_LEN);
        out.u64(self.header_sequence)
            .u32(if self.proven { FLAG_PROVEN } else { 0 })
            .zeros(4)
            .u64(self.capacity)
            .u64(self.length)
            .u64(self.allocated)
            .u64(self.reserved)
            .u64(self.next_inode)
            .u64(self.inodes);
        self.fs_root.encode(&mut out);
        self.allocation_root.encode(&mut out);
        out.i64(self.committed_at).pad_to(BODY_LEN);
        out.finish()
    }

    /// Decodes an opened body and checks all bounds; `generation` bounds the roots' births.
    pub fn decode_body(body: &[u8], generation: Generation) -> Result<Self, CodecError> {
        if body.len() != BODY_LEN {
            return Err(CodecError::Truncated);
        }
        let mut reader = Reader::new(body);
        let header_sequence = reader.u64()?;
        let flags = reader.u32()?;
        reader.zeros(4)?;
        let superblock = Self {
            header_sequence,
            proven: flags == FLAG_PROVEN,
            capacity: reader.u64()?,
            length: reader.u64()?,
            allocated: reader.u64()?,
            reserved: reader.u64()?,
            next_inode: reader.u64()?,
            inodes: reader.u64()?,
            fs_root: Pointer::decode(&mut reader)?,
            allocation_root: Pointer::decode(&mut reader)?,
            committed_at: reader.i64()?,
        };
        reader.finish_zeros()?;
        superblock.judge(flags, generation)?;
        Ok(superblock)
    }

    fn judge(&self, flags: u32, generation: Generation) -> Result<(), CodecError> {
        let lengths = FIRST_BLOCK..=self.capacity;
        let check = |ok: bool, field| if ok { Ok(()) } else { Err(CodecError::Field(field)) };
        check(flags & !FLAG_PROVEN == 0, "superblock flags")?;
        check(self.capacity <= ADDRESS_LIMIT, "capacity")?;
        check(lengths.contains(&self.length), "length")?;
        check(self.allocated <= self.length, "allocated units")?;
        check(self.reserved <= self.capacity, "reserved units")?;
        check(self.next_inode >= 2, "next inode")?;
        check(self.inodes >= 1 && self.inodes < self.next_inode, "inode count")?;
        for root in [&self.fs_root, &self.allocation_root] {
            check(root.kind == BlockKind::Node, "root kind")?;
            check(root.birth <= generation, "root birth")?;
            check(root.end() <= self.length, "root address")?;
        }
        Ok(())
    }
}

/// A slot as it lies in the image: generation in the clear, body sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedSlot {
    /// The generation that the slot claims.
    pub generation: Generation,
    /// The nonce of the body.
    pub nonce: Nonce,
    /// The tag of the body.
    pub tag: Tag,
    /// The body's ciphertext, [`BODY_LEN`] bytes.
    pub body: Vec<u8>,
}

impl SealedSlot {
    /// Encodes the whole unit.
    pub fn encode(&self, vault: VaultId) -> Vec<u8> {
        let mut out = Writer::with_capacity(UNIT);
        out.bytes(&clear_part(vault, self.generation))
            .bytes(self.nonce.bytes())
            .bytes(&self.tag.0)
            .bytes(&self.body);
        out.finish()
    }

    /// Decodes a unit; nothing in it is authentic yet.
    pub fn decode(unit: &[u8], vault: VaultId) -> Result<Self, CodecError> {
        let mut reader = Reader::new(unit);
        let clear = reader.bytes(CLEAR_LEN)?;
        let nonce = Nonce::from_stored(reader.array()?);
        let tag = Tag(reader.array()?);
        let body = reader.bytes(BODY_LEN)?.to_vec();
        reader.finish()?;
        let mut fields = Reader::new(clear);
        fields.bytes(32)?;
        let generation = Generation(fields.u64()?);
        if clear != clear_part(vault, generation) {
            return Err(CodecError::Field("superblock head"));
        }
        if generation.0 == 0 {
            return Err(CodecError::Field("superblock generation"));
        }
        Ok(Self { generation, nonce, tag, body })
    }
}

/// Returns the AAD of a slot: its clear part and its place in the ring.
pub fn slot_aad(vault: VaultId, generation: Generation, slot: u8) -> Vec<u8> {
    let mut aad = clear_part(vault, generation);
    aad.push(slot);
    aad
}

fn clear_part(vault: VaultId, generation: Generation) -> Vec<u8> {
    let mut out = Writer::with_capacity(CLEAR_LEN);
    out.bytes(&MAGIC).u16(FORMAT_VERSION).u16(SUITE).zeros(4).bytes(&vault.0).u64(generation.0);
    out.finish()
}
