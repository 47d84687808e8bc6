//! Extended attributes: in the inode behind its fields, and in a block that several inodes may share.

use super::checksum::crc32c;
use super::{Ext4, Fields, Node};
use crate::codec::Writer;
use crate::foreign::{ForeignError, ForeignResult};

const MAGIC: u32 = 0xea02_0000;
/// Bytes before the entries, in an inode and in a block.
const INODE_HEAD: usize = 4;
const BLOCK_HEAD: usize = 32;
/// Bytes of an entry before its name.
const ENTRY: usize = 16;
/// What names begin with, by number.
const PREFIXES: [(u8, &str); 6] = [
    (1, "user."),
    (2, "system.posix_acl_access"),
    (3, "system.posix_acl_default"),
    (4, "trusted."),
    (6, "security."),
    (7, "system."),
];

type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

impl Ext4 {
    /// Returns a file's extended attributes; access control lists are among them, as the kernel has them.
    pub fn xattrs(&self, node: &Node) -> ForeignResult<Attributes> {
        let mut found = Vec::new();
        let rest = Fields::new(&node.rest, "extended attributes");
        if rest.len() >= INODE_HEAD && rest.u32(0)? == MAGIC {
            // Values are placed from the first entry on.
            list(rest, INODE_HEAD, INODE_HEAD, &mut found)?;
        }
        if node.attributes != 0 {
            let mut block = self.read_block(node.attributes)?;
            self.verify(&mut block, node.attributes)?;
            let fields = Fields::new(&block, "extended attributes");
            if fields.u32(0)? != MAGIC || fields.u32(8)? != 1 {
                return Err(ForeignError::damaged("extended attributes"));
            }
            list(fields, BLOCK_HEAD, 0, &mut found)?;
        }
        Ok(found)
    }

    fn verify(&self, block: &mut [u8], number: u64) -> ForeignResult<()> {
        let Some(seed) = self.shape.seed else { return Ok(()) };
        let sum = Fields::new(block, "extended attributes").u32(16)?;
        block.get_mut(16..20).unwrap_or_default().fill(0);
        if crc32c(crc32c(seed, &number.to_le_bytes()), block) == sum {
            Ok(())
        } else {
            Err(ForeignError::damaged("the checksum of extended attributes"))
        }
    }
}

fn list(
    fields: Fields<'_>,
    first: usize,
    base: usize,
    found: &mut Attributes,
) -> ForeignResult<()> {
    let wrong = || ForeignError::damaged("extended attributes");
    let mut at = first;
    // Values share no bytes: together they are no longer than what they lie in.
    let mut room = fields.len();
    // Four zeros end the list, or its space does.
    while at + 4 <= fields.len() && fields.u32(at)? != 0 {
        let (name_len, prefix) = (usize::from(fields.u8(at)?), fields.u8(at + 1)?);
        let place = usize::from(fields.u16(at + 2)?);
        let len = usize::try_from(fields.u32(at + 8)?).map_err(|_| wrong())?;
        if fields.u32(at + 4)? != 0 {
            return Err(ForeignError::unsupported("an attribute of more than a block"));
        }
        let (_, prefix) = PREFIXES.iter().find(|(known, _)| *known == prefix).ok_or_else(wrong)?;
        let name = [prefix.as_bytes(), fields.slice(at + ENTRY, name_len)?].concat();
        room = room.checked_sub(len).ok_or_else(wrong)?;
        let value = if len > 0 { fields.slice(base + place, len)? } else { &[] };
        let value = if name.starts_with(b"system.posix_acl_") {
            access_list(value)?
        } else {
            value.to_vec()
        };
        if name.contains(&0) || found.iter().any(|(known, _)| *known == name) {
            return Err(wrong());
        }
        found.push((name, value));
        at = (at + ENTRY + name_len).next_multiple_of(4);
    }
    Ok(())
}

/// On the disk an entry has an id only where one is named; elsewhere every entry has one.
fn access_list(value: &[u8]) -> ForeignResult<Vec<u8>> {
    let fields = Fields::new(value, "an access control list");
    if fields.u32(0)? != 1 {
        return Err(ForeignError::damaged("an access control list"));
    }
    let mut list = Writer::with_capacity(value.len() * 2);
    list.u32(2);
    let mut at = 4;
    while at < value.len() {
        let (tag, bits) = (fields.u16(at)?, fields.u16(at + 2)?);
        let named = [0x02, 0x08].contains(&tag);
        let id = if named { fields.u32(at + 4)? } else { u32::MAX };
        list.u16(tag).u16(bits).u32(id);
        at += if named { 8 } else { 4 };
    }
    Ok(list.finish())
}
