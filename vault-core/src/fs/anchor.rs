//! What a change of the header needs of the file system: a superblock that carries its number.

use crate::error::FsResult;
use crate::fs::volume::Volume;
use crate::vault::HeaderAnchor;

impl HeaderAnchor for Volume {
    fn header_sequence(&self) -> u64 {
        self.anchor().header_sequence
    }

    fn make_room(&self) -> FsResult<()> {
        // What the first of them frees is there for the one that follows the second.
        self.commit_anyway()?;
        self.commit_anyway()
    }

    fn commit_header_sequence(&self, sequence: u64) -> FsResult<()> {
        self.change(|fs| {
            fs.pool.counters.header_sequence = sequence;
            fs.pool.touch();
            Ok(())
        })?;
        self.commit(true)
    }
}
