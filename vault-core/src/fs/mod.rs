//! The POSIX file system inside a vault.
//!
//! [`Volume`] is the door: thread-safe, it serialises changes, groups commits and retries when freed
//! space only waits for one. Behind it `state` holds the file system proper; `inode`, `directory`,
//! `extents`, `content`, `xattr`, `acl` and `orphan` each know one kind of item, `ops` the operations
//! on names. An operation reads and checks first, asks for space, and only then edits: after its
//! first edit it can fail only because the storage fails.

mod acl;
mod anchor;
mod content;
mod directory;
mod extents;
mod inode;
mod open;
mod ops;
mod orphan;
mod rename;
mod resize;
mod state;
pub mod transfer;
mod types;
mod unfinished;
mod unit;
mod volume;
mod xattr;

#[cfg(feature = "testing")]
pub use crate::store::alloc::Sabotage;
pub(crate) use directory::decode as decode_entry;
pub(crate) use extents::{Extent, extent_pointer};
pub(crate) use open::open_for_check;
pub use open::{MIN_CAPACITY, MountError, OpenOptions, Opened, Setup};
pub use resize::ResizeError;
pub use types::{
    Attr, Creator, DirEntry, Fallocate, FileKind, NewFile, RenameMode, SetAttr, SetTime, StatFs,
    WriteOrigin, XattrMode,
};
pub use unfinished::STAGING;
pub use volume::{Health, Volume};
pub(crate) use xattr::xattr_head;
