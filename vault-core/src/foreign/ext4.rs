//! Reading ext4, as `mkfs.ext4` makes it and the kernel fills it.
//!
//! Numbers and names follow the kernel's page "ext4 Data Structures and Algorithms". Features that change
//! where things lie and that nobody turns on for a vault are refused by name. Where metadata has checksums they
//! are verified; the content of files has none.

mod checksum;
mod directory;
mod extents;
mod inode;
mod journal;
mod xattr;

use super::fields::Fields;
use super::{Bytes, ForeignError, ForeignResult};
use std::sync::Arc;

pub use extents::Run;
pub use inode::Node;

/// The inode of the top folder.
pub const ROOT: u32 = 2;

/// Where the superblock lies, and how long it is.
const SUPERBLOCK: u64 = 1024;
const SUPERBLOCK_LEN: usize = 1024;
const MAGIC: u16 = 0xef53;

/// Features that change how the file system is read, and are known here.
mod incompatible {
    pub(super) const FILETYPE: u32 = 0x2;
    pub(super) const RECOVER: u32 = 0x4;
    pub(super) const EXTENTS: u32 = 0x40;
    pub(super) const WIDE: u32 = 0x80;
    pub(super) const FLEX_BG: u32 = 0x200;
    pub(super) const EA_INODE: u32 = 0x400;
    pub(super) const CSUM_SEED: u32 = 0x2000;
    pub(super) const LARGEDIR: u32 = 0x4000;
    pub(super) const KNOWN: u32 =
        FILETYPE | RECOVER | EXTENTS | WIDE | FLEX_BG | EA_INODE | CSUM_SEED | LARGEDIR;
}

/// Metadata has checksums.
const METADATA_CSUM: u32 = 0x400;

/// A file system that was opened for reading.
pub struct Ext4 {
    bytes: Arc<dyn Bytes>,
    shape: Shape,
}

/// What the superblock says.
#[derive(Clone, Debug)]
struct Shape {
    block: u64,
    blocks: u64,
    free: u64,
    inodes: u32,
    inodes_free: u32,
    inodes_per_group: u32,
    inode_len: u64,
    groups: u64,
    /// The block of the first group descriptor, and the length of each.
    descriptors: u64,
    descriptor_len: u64,
    journal: u32,
    /// What checksums begin with, if there are any.
    seed: Option<u32>,
}

impl Ext4 {
    /// Reads and judges the superblock. What a journal holds is taken into account.
    pub fn open(bytes: Arc<dyn Bytes>) -> ForeignResult<Self> {
        let (shape, needs_recovery) = Shape::read(&*bytes)?;
        let fs = Self { bytes, shape };
        if !needs_recovery {
            return Ok(fs);
        }
        let bytes = journal::replay(&fs)?;
        // The superblock is journaled as well.
        let (shape, _) = Shape::read(&*bytes)?;
        Ok(Self { bytes, shape })
    }

    /// Returns the size of a block.
    pub fn block(&self) -> u64 {
        self.shape.block
    }

    /// Returns how many bytes the file system spans.
    pub fn size(&self) -> u64 {
        self.shape.blocks.saturating_mul(self.shape.block)
    }

    /// Returns about how many bytes are in use.
    pub fn used(&self) -> u64 {
        self.shape.blocks.saturating_sub(self.shape.free).saturating_mul(self.shape.block)
    }

    /// Returns about how many inodes are in use.
    pub fn files(&self) -> u64 {
        self.shape.inodes.saturating_sub(self.shape.inodes_free).into()
    }

    fn read_block(&self, number: u64) -> ForeignResult<Vec<u8>> {
        if number == 0 || number >= self.shape.blocks {
            return Err(ForeignError::damaged("a block's number"));
        }
        let mut block = vec![0; self.block_len()];
        self.bytes.read_at(&mut block, number.saturating_mul(self.shape.block))?;
        Ok(block)
    }

    fn block_len(&self) -> usize {
        usize::try_from(self.shape.block).unwrap_or(0)
    }
}

impl Shape {
    fn read(bytes: &dyn Bytes) -> ForeignResult<(Self, bool)> {
        let wrong = || ForeignError::damaged("the superblock");
        let mut superblock = vec![0; SUPERBLOCK_LEN];
        if bytes.len() < SUPERBLOCK * 2 {
            return Err(ForeignError::unsupported("a file system other than ext4"));
        }
        bytes.read_at(&mut superblock, SUPERBLOCK)?;
        let fields = Fields::new(&superblock, "the superblock");
        if fields.u16(56)? != MAGIC {
            return Err(ForeignError::unsupported("a file system other than ext4"));
        }
        let features = fields.u32(96)?;
        let unknown = features & !incompatible::KNOWN;
        if unknown != 0 || fields.u32(76)? != 1 || features & incompatible::FILETYPE == 0 {
            let what = format!("this kind of ext4 (features {unknown:#x})");
            return Err(ForeignError::unsupported(what));
        }
        let has_sums = fields.u32(100)? & METADATA_CSUM != 0;
        if has_sums && checksum::crc32c(u32::MAX, fields.slice(0, 1020)?) != fields.u32(1020)? {
            return Err(ForeignError::damaged("the checksum of the superblock"));
        }
        let seed = if features & incompatible::CSUM_SEED == 0 {
            checksum::crc32c(u32::MAX, fields.slice(104, 16)?)
        } else {
            fields.u32(0x270)?
        };
        let shift = fields.u32(24)?;
        // 1 KiB to 32 KiB: beyond that lengths of entries have another meaning.
        if shift > 5 {
            return Err(wrong());
        }
        let block = 1024_u64 << shift;
        let wide = features & incompatible::WIDE != 0;
        let high = |at| if wide { fields.u32(at).map(u64::from) } else { Ok(0) };
        let blocks = u64::from(fields.u32(4)?) | high(336)? << 32;
        let first = u64::from(fields.u32(20)?);
        let per_group = u64::from(fields.u32(32)?);
        let descriptor_len = if wide { u64::from(fields.u16(254)?) } else { 32 };
        let inode_len = u64::from(fields.u16(88)?);
        let inodes_per_group = fields.u32(40)?;
        if first != u64::from(shift == 0)
            || per_group == 0
            || inodes_per_group == 0
            || !(32..=block).contains(&descriptor_len)
            || (wide && descriptor_len < 64)
            || !(128..=block).contains(&inode_len)
            || !inode_len.is_power_of_two()
            || blocks.checked_mul(block).is_none_or(|len| len > bytes.len())
        {
            return Err(wrong());
        }
        let groups = blocks.saturating_sub(first).div_ceil(per_group);
        let shape = Self {
            block,
            blocks,
            free: u64::from(fields.u32(12)?) | high(0x158)? << 32,
            inodes: fields.u32(0)?,
            inodes_free: fields.u32(16)?,
            inodes_per_group,
            inode_len,
            groups,
            descriptors: first + 1,
            descriptor_len,
            journal: fields.u32(224)?,
            seed: has_sums.then_some(seed),
        };
        Ok((shape, features & incompatible::RECOVER != 0))
    }
}
