//! Encoding and decoding of one structure each: pure functions of bytes, total on hostile input.
//!
//! Offsets and sizes follow FORMAT.md; each file names its section.

pub mod header;
pub mod inode;
pub mod key;
pub mod keyslot;
pub mod magic;
pub mod node;
pub mod pointer;
pub mod superblock;
pub mod witness;
