//! Encoding and decoding of one structure each: pure functions of bytes, total on hostile input.
//!
//! Offsets and sizes follow FORMAT.md; each file names its section.

pub mod header;
pub mod keyslot;
pub mod magic;
pub mod witness;
