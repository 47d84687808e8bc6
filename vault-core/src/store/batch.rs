//! Gathering writes that lie side by side into one call.

use crate::error::FsResult;
use crate::ids::{BlockNo, UNIT};
use crate::store::blocks::Blocks;

/// Bytes after which a gathered run is written.
const LIMIT: usize = 1 << 20;

/// Writes to the device, neighbours joined.
pub(crate) struct WriteBatch<'a> {
    blocks: &'a Blocks,
    start: u64,
    bytes: Vec<u8>,
    written: u64,
}

impl<'a> WriteBatch<'a> {
    pub(crate) fn new(blocks: &'a Blocks) -> Self {
        Self { blocks, start: 0, bytes: Vec::new(), written: 0 }
    }

    /// Adds whole units at an address.
    pub(crate) fn push(&mut self, address: BlockNo, bytes: &[u8]) -> FsResult<()> {
        let end = self.start + (self.bytes.len() / UNIT) as u64;
        if self.bytes.is_empty() || end != address.0 || self.bytes.len() + bytes.len() > LIMIT {
            self.flush()?;
            self.start = address.0;
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Writes what is gathered; returns all bytes written so far.
    pub(crate) fn flush(&mut self) -> FsResult<u64> {
        if !self.bytes.is_empty() {
            self.blocks.write(BlockNo(self.start), &self.bytes)?;
            self.written += self.bytes.len() as u64;
            self.bytes.clear();
        }
        Ok(self.written)
    }
}
