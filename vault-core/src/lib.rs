//! The TazPod vault image: one file, copy-on-write, authenticated as a whole tree.
//!
//! FORMAT.md beside this crate is the byte-exact specification. From the bottom up: [`device`] is
//! storage, [`crypto`] one primitive per file, `format` encodes one structure per file, `store`
//! seals blocks and publishes commits, `tree` is the copy-on-write B+ tree, and [`fs`] the POSIX file
//! system on top. Nothing here knows FUSE, terminals, Docker or the clock on the wall: time and
//! randomness come in through [`ports`].
#![forbid(unsafe_code)]

pub mod archive;
pub mod backup;
pub mod check;
pub mod codec;
pub mod crypto;
pub mod device;
pub mod diff;
pub mod error;
pub mod foreign;
pub mod format;
pub mod fs;
pub mod ids;
pub mod keyslot;
pub mod ports;
pub mod recovery;
mod store;
#[cfg(feature = "testing")]
pub mod testing;
mod tree;
pub mod vault;
pub mod witness;
