//! Inodes: where they lie, and what they say.

use super::checksum::crc32c;
use super::{Ext4, Fields};
use crate::foreign::{ForeignError, ForeignResult};
use crate::fs::FileKind;
use crate::ports::Timestamp;

/// Flags that change where the content lies.
const EXTENTS: u32 = 0x8_0000;
const ENCRYPTED: u32 = 0x800;
const INLINE: u32 = 0x1000_0000;

/// Bytes of an inode that every version has.
const OLD_LEN: usize = 128;
/// The 60 bytes that hold block numbers, extents, a short target or a device.
const MAP: usize = 40;
const MAP_LEN: usize = 60;
/// A target that is not longer lies in those bytes.
const SHORT_TARGET: u64 = 60;
/// Bytes of a target, at the most.
const MAX_TARGET: u64 = 4096;

/// A file, folder, link or device.
#[derive(Clone, Debug)]
pub struct Node {
    /// The inode's number.
    pub number: u32,
    /// What it is.
    pub kind: FileKind,
    /// Permission bits.
    pub permissions: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// How many names it has.
    pub links: u16,
    /// Size in bytes.
    pub size: u64,
    /// Device number, Linux 32-bit encoding.
    pub device: u32,
    /// Last access.
    pub accessed: Timestamp,
    /// Last change of content.
    pub modified: Timestamp,
    /// Last change of the inode.
    pub changed: Timestamp,
    /// The 60 bytes of the block map.
    pub(super) map: Vec<u8>,
    /// Whether the map is a tree of extents.
    pub(super) has_extents: bool,
    /// The block of extended attributes, or 0.
    pub(super) attributes: u64,
    /// Extended attributes in the inode itself.
    pub(super) rest: Vec<u8>,
    /// What checksums of this inode's blocks begin with.
    pub(super) seed: Option<u32>,
}

impl Ext4 {
    /// Reads an inode that a name leads to.
    pub fn node(&self, number: u32) -> ForeignResult<Node> {
        let wrong = || ForeignError::damaged("an inode");
        let raw = self.raw(number)?;
        let fields = Fields::new(&raw, "an inode");
        let seed = self.verified(number, fields)?;
        let mode = fields.u16(0)?;
        let kind = u8::try_from(mode >> 12).ok().and_then(FileKind::from_type_bits);
        let kind = kind.ok_or_else(wrong)?;
        let flags = fields.u32(32)?;
        if flags & (ENCRYPTED | INLINE) != 0 {
            return Err(ForeignError::unsupported("a file with inline data or its own encryption"));
        }
        let links = fields.u16(26)?;
        if links == 0 {
            return Err(wrong());
        }
        // Folders with very many others in them say 1.
        let extra = if raw.len() > OLD_LEN { usize::from(fields.u16(OLD_LEN)?) } else { 0 };
        let end = OLD_LEN + extra;
        if end > raw.len() {
            return Err(wrong());
        }
        let time = |at, more: usize| time(fields, at, (more + 4 <= end).then_some(more));
        let wide = |low, high| {
            Ok::<u32, ForeignError>(
                u32::from(fields.u16(low)?) | u32::from(fields.u16(high)?) << 16,
            )
        };
        let map = fields.slice(MAP, MAP_LEN)?;
        let rest = if raw.len() > OLD_LEN { raw.get(end..).unwrap_or_default() } else { &[] };
        Ok(Node {
            number,
            kind,
            permissions: mode & 0o7777,
            uid: wide(2, 120)?,
            gid: wide(24, 122)?,
            links,
            size: u64::from(fields.u32(4)?) | u64::from(fields.u32(108)?) << 32,
            device: device(kind, map)?,
            accessed: time(8, 140)?,
            modified: time(16, 136)?,
            changed: time(12, 132)?,
            map: map.to_vec(),
            has_extents: flags & EXTENTS != 0,
            attributes: u64::from(fields.u32(104)?) | u64::from(fields.u16(118)?) << 32,
            rest: rest.to_vec(),
            seed,
        })
    }

    /// Returns where a symbolic link leads.
    pub fn link_target(&self, node: &Node) -> ForeignResult<Vec<u8>> {
        let wrong = ForeignError::damaged("a symbolic link");
        if node.kind != FileKind::Symlink || node.size == 0 || node.size > MAX_TARGET {
            return Err(wrong);
        }
        let len = usize::try_from(node.size).unwrap_or(0);
        let target = if node.has_extents {
            let runs = self.runs(node)?;
            let mut target = vec![0; len];
            self.read(&runs, 0, &mut target)?;
            target
        } else if node.size < SHORT_TARGET {
            node.map.get(..len).unwrap_or_default().to_vec()
        } else {
            return Err(ForeignError::unsupported("a file with an old block map"));
        };
        if target.contains(&0) { Err(wrong) } else { Ok(target) }
    }

    fn raw(&self, number: u32) -> ForeignResult<Vec<u8>> {
        let wrong = || ForeignError::damaged("an inode's number");
        let shape = &self.shape;
        let index = number.checked_sub(1).filter(|_| number <= shape.inodes).ok_or_else(wrong)?;
        let group = u64::from(index / shape.inodes_per_group);
        if group >= shape.groups {
            return Err(wrong());
        }
        let place = group * shape.descriptor_len;
        let block = self.read_block(shape.descriptors + place / shape.block)?;
        let at = usize::try_from(place % shape.block).map_err(|_| wrong())?;
        let fields = Fields::new(&block, "a group's descriptor");
        let high = if shape.descriptor_len >= 64 { u64::from(fields.u32(at + 40)?) } else { 0 };
        let table = u64::from(fields.u32(at + 8)?) | high << 32;
        let place = u64::from(index % shape.inodes_per_group) * shape.inode_len;
        let block = self.read_block(table.checked_add(place / shape.block).ok_or_else(wrong)?)?;
        let at = usize::try_from(place % shape.block).map_err(|_| wrong())?;
        let len = usize::try_from(shape.inode_len).map_err(|_| wrong())?;
        Ok(Fields::new(&block, "an inode").slice(at, len)?.to_vec())
    }

    /// Verifies an inode's checksum, where there are any, and returns what those of its blocks begin with.
    fn verified(&self, number: u32, fields: Fields<'_>) -> ForeignResult<Option<u32>> {
        let Some(seed) = self.shape.seed else { return Ok(None) };
        let seed = crc32c(crc32c(seed, &number.to_le_bytes()), fields.slice(100, 4)?);
        let has_high = fields.len() > OLD_LEN && fields.u16(OLD_LEN)? >= 4;
        let mut raw = fields.slice(0, fields.len())?.to_vec();
        let mut found = u32::from(fields.u16(124)?);
        raw.get_mut(124..126).unwrap_or_default().fill(0);
        if has_high {
            found |= u32::from(fields.u16(130)?) << 16;
            raw.get_mut(130..132).unwrap_or_default().fill(0);
        }
        let sum = crc32c(seed, &raw);
        let sum = if has_high { sum } else { sum & 0xffff };
        if sum == found {
            Ok(Some(seed))
        } else {
            Err(ForeignError::damaged("an inode's checksum"))
        }
    }
}

/// Seconds since 1970, signed, with two more bits and the nanoseconds in a field that came later.
fn time(fields: Fields<'_>, at: usize, more: Option<usize>) -> ForeignResult<Timestamp> {
    let seconds = i64::from(fields.u32(at)?.cast_signed());
    let Some(more) = more else { return Ok(Timestamp { seconds, nanos: 0 }) };
    let more = fields.u32(more)?;
    let nanos = more >> 2;
    if nanos >= 1_000_000_000 {
        return Err(ForeignError::damaged("a file's time"));
    }
    Ok(Timestamp { seconds: seconds + (i64::from(more & 3) << 32), nanos })
}

/// Small numbers are written in the old way, others in the new; both mean the same below 2^16.
fn device(kind: FileKind, map: &[u8]) -> ForeignResult<u32> {
    if !matches!(kind, FileKind::CharDevice | FileKind::BlockDevice) {
        return Ok(0);
    }
    let fields = Fields::new(map, "a device");
    match fields.u32(0)? {
        0 => fields.u32(4),
        old => Ok(old & 0xffff),
    }
}
