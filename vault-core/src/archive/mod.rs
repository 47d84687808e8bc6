//! A vault's tree as a stream of entries: `tar` out, `tar` or a folder in.
//!
//! The format is POSIX `pax`: an extended header before each entry carries what the old header has no
//! room for (nanoseconds, long names, large numbers, extended attributes, access control lists), and
//! holes go as GNU's sparse format 1.0. [`export()`] writes it; [`Reader`] understands that, and what
//! GNU tar and libarchive write; [`import()`] puts entries into a vault, from wherever they come.
//!
//! An archive is hostile input. No name leaves the place it is given: there are no links to be
//! followed here, a path is walked entry by entry, and `..`, absolute paths and paths through
//! anything but folders end the import. All that is read into memory is bounded first. An import happens whole or not
//! at all: entries gather in a folder of their own ([`STAGING`](crate::fs::STAGING)), which nobody is
//! shown and opening removes, and one commit moves them.

mod acl;
mod entry;
mod error;
mod export;
mod import;
mod merge;
mod pax;
mod reader;
mod sparse;

pub use entry::{Entry, EntryKind, EntryPath, NO_OWNER};
pub use error::ArchiveError;
pub use export::{Exported, export};
pub use import::{ImportOptions, Imported, Importer, import};
pub use reader::Reader;

/// Bytes of a tar record; headers and content are padded to it.
const RECORD: usize = 512;
/// Bytes of content that are moved at a time.
const CHUNK: usize = 1 << 20;
/// Longest path of an entry.
const MAX_PATH: usize = 65_535;
/// Prefix of extended attributes in extended headers.
const XATTR: &[u8] = b"SCHILY.xattr.";
/// The access control list that governs a file, as text.
const ACL_ACCESS: &[u8] = b"SCHILY.acl.access";
/// The access control list that a folder's new files inherit, as text.
const ACL_DEFAULT: &[u8] = b"SCHILY.acl.default";

/// Returns how many zeros follow `len` bytes.
fn padding(len: u64) -> u64 {
    len.wrapping_neg() % RECORD as u64
}
