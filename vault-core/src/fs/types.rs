//! The vocabulary of file system operations, in POSIX terms and our own types.

use crate::ids::InodeNo;
use crate::ports::Timestamp;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A folder.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A Unix socket.
    Socket,
    /// A character device node.
    CharDevice,
    /// A block device node.
    BlockDevice,
}

impl FileKind {
    /// Returns the file type bits of `st_mode`, shifted down by 12.
    pub fn type_bits(self) -> u8 {
        match self {
            Self::Fifo => 1,
            Self::CharDevice => 2,
            Self::Directory => 4,
            Self::BlockDevice => 6,
            Self::Regular => 8,
            Self::Symlink => 10,
            Self::Socket => 12,
        }
    }

    /// Reads file type bits (`st_mode >> 12`).
    pub fn from_type_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            1 => Self::Fifo,
            2 => Self::CharDevice,
            4 => Self::Directory,
            6 => Self::BlockDevice,
            8 => Self::Regular,
            10 => Self::Symlink,
            12 => Self::Socket,
            _ => return None,
        })
    }
}

/// The attributes of an inode, as `stat` shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    /// The inode number.
    pub inode: InodeNo,
    /// What it is.
    pub kind: FileKind,
    /// Permission bits, 0o7777 at most.
    pub permissions: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Link count.
    pub links: u32,
    /// Size in bytes.
    pub size: u64,
    /// Space held, in 512-byte blocks; never 0 for a file with content.
    pub blocks: u64,
    /// Device number, Linux 32-bit encoding.
    pub device: u32,
    /// Last access.
    pub accessed: Timestamp,
    /// Last change of content.
    pub modified: Timestamp,
    /// Last change of the inode.
    pub changed: Timestamp,
    /// Creation.
    pub born: Timestamp,
}

/// Who creates a file, and under which umask.
#[derive(Clone, Copy, Debug)]
pub struct Creator {
    /// Effective uid of the caller.
    pub uid: u32,
    /// Effective gid of the caller (a set-group-id folder overrides it).
    pub gid: u32,
    /// The caller's umask, applied unless the folder has a default ACL.
    pub umask: u16,
}

/// A new file other than a folder or symbolic link.
#[derive(Clone, Copy, Debug)]
pub struct NewFile {
    /// Any kind but `Directory` and `Symlink`.
    pub kind: FileKind,
    /// Permission bits before umask or default ACL.
    pub permissions: u16,
    /// Device number for device nodes.
    pub device: u32,
}

/// A time to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// The time of the operation.
    Now,
    /// This time.
    At(Timestamp),
}

/// A change of attributes; `None` leaves a field as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetAttr {
    /// New permission bits (0o7777).
    pub permissions: Option<u16>,
    /// New owner.
    pub uid: Option<u32>,
    /// New group.
    pub gid: Option<u32>,
    /// New size (truncate or extend; regular files only).
    pub size: Option<u64>,
    /// New access time.
    pub accessed: Option<SetTime>,
    /// New modification time.
    pub modified: Option<SetTime>,
    /// New change time; the time of the operation if `None` and anything else is set.
    pub changed: Option<SetTime>,
    /// Clear set-user-id, set-group-id (as chown, truncate and write by the unprivileged do) and
    /// `security.capability`.
    pub clear_privileges: bool,
}

/// How a rename treats an existing target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameMode {
    /// Replace it, if POSIX allows.
    Replace,
    /// Fail with `Exists` (`RENAME_NOREPLACE`).
    NoReplace,
    /// Swap the two names (`RENAME_EXCHANGE`).
    Exchange,
}

/// How a write reached us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOrigin {
    /// Straight from the caller: stamp mtime and ctime.
    Direct,
    /// From the kernel's writeback cache: the kernel sends times by itself.
    Writeback,
}

/// What `fallocate` is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallocate {
    /// Reserve space; extend the size unless `keep_size`.
    Reserve {
        /// Leave the size as it is.
        keep_size: bool,
    },
    /// Make a hole (size unchanged).
    PunchHole,
    /// Make the range read as zeros, reserved; extend the size unless `keep_size`.
    ZeroRange {
        /// Leave the size as it is.
        keep_size: bool,
    },
}

/// How an extended attribute is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XattrMode {
    /// Create or replace.
    Set,
    /// Fail with `Exists` if it is there (`XATTR_CREATE`).
    Create,
    /// Fail with `NoAttribute` if it is not (`XATTR_REPLACE`).
    Replace,
}

/// One entry of a folder listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The inode that the name stands for.
    pub inode: InodeNo,
    /// What it is.
    pub kind: FileKind,
    /// The name, raw bytes.
    pub name: Vec<u8>,
    /// Position just after this entry: pass it to the next listing.
    pub cookie: u64,
}

/// Space and file counts, in units of 4096 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatFs {
    /// Units the vault can grow to.
    pub total: u64,
    /// Units free.
    pub free: u64,
    /// Units free to ordinary operations (the reserve left out).
    pub available: u64,
    /// Inodes in use.
    pub files: u64,
}
