//! Folders: every block is a list of names. Indexes look like empty lists, so that reading all of them
//! in turn finds every name once.

use super::checksum::crc32c;
use super::{Ext4, Fields, Node};
use crate::foreign::{ForeignError, ForeignResult};
use crate::fs::FileKind;

/// Bytes before a name.
const HEAD: usize = 8;
/// Bytes of the entry without a name that holds a block's checksum, and its kind.
const TAIL: usize = 12;
const TAIL_KIND: u8 = 0xde;

impl Ext4 {
    /// Returns the names in a folder with their inodes, without `.` and `..`.
    pub fn read_dir(&self, node: &Node) -> ForeignResult<Vec<(Vec<u8>, u32)>> {
        if node.kind != FileKind::Directory {
            return Err(ForeignError::damaged("a folder"));
        }
        let mut names = Vec::new();
        let mut block = vec![0; self.block_len()];
        let runs = self.runs(node)?;
        for run in &runs {
            let mut at = run.offset;
            while at < run.range().end {
                self.read(&runs, at, &mut block)?;
                list(&block, node.seed, &mut names)?;
                at = at.saturating_add(self.shape.block);
            }
        }
        Ok(names)
    }
}

fn list(block: &[u8], seed: Option<u32>, names: &mut Vec<(Vec<u8>, u32)>) -> ForeignResult<()> {
    let wrong = || ForeignError::damaged("a folder's block");
    let fields = Fields::new(block, "a folder's block");
    let tail = block.len().saturating_sub(TAIL);
    let mut at = 0;
    while at < block.len() {
        let inode = fields.u32(at)?;
        let len = usize::from(fields.u16(at + 4)?);
        let name_len = usize::from(fields.u8(at + 6)?);
        if len < HEAD || len % 4 != 0 || at + len > block.len() || HEAD + name_len > len {
            return Err(wrong());
        }
        // What looks like it in an index is left from the list that was there before.
        if let Some(seed) = seed
            && at == tail
            && (inode, len) == (0, TAIL)
            && fields.u8(at + 7)? == TAIL_KIND
            && crc32c(seed, fields.slice(0, tail)?) != fields.u32(tail + 8)?
        {
            return Err(ForeignError::damaged("the checksum of a folder's block"));
        }
        let name = fields.slice(at + HEAD, name_len)?;
        if inode != 0 && name != b"." && name != b".." {
            if name.is_empty() || name.contains(&b'/') || name.contains(&0) {
                return Err(ForeignError::damaged("a file's name"));
            }
            names.push((name.to_vec(), inode));
        }
        at += len;
    }
    Ok(())
}
