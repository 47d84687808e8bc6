//! The POSIX file system inside a vault.

mod types;

pub use types::{
    Attr, Creator, DirEntry, Fallocate, FileKind, NewFile, RenameMode, SetAttr, SetTime, StatFs,
    WriteOrigin, XattrMode,
};
