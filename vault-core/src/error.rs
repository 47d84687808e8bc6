//! The errors of the vault, one enum per boundary, with data in fields and no prose to parse.
//!
//! Damage and attack cannot be told apart from inside; both are [`Damage`].

use crate::codec::CodecError;
use crate::ids::{BlockNo, Generation, InodeNo};
use std::io;
use thiserror::Error;

/// The source of randomness failed; nothing was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the system's random number generator failed")]
pub struct EntropyError;

/// What is wrong with an image: damaged or altered, which cannot be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Damage {
    /// A block's ciphertext or its place is not what its pointer says.
    #[error("block {block} of generation {birth} failed authentication")]
    Block {
        /// Where the block lies.
        block: BlockNo,
        /// The generation that wrote it.
        birth: Generation,
    },
    /// An authentic node holds something that FORMAT.md does not allow.
    #[error("block {block} holds an invalid node")]
    Node {
        /// Where the node lies.
        block: BlockNo,
        /// What is wrong with it.
        #[source]
        source: CodecError,
    },
    /// A pointer leads outside the image or to an impossible length, kind, level or generation.
    #[error("a pointer to block {block} is impossible")]
    Pointer {
        /// Where the pointer leads.
        block: BlockNo,
    },
    /// An item of a file does not follow FORMAT.md or is missing.
    #[error("inode {inode} has an invalid or missing item: {what}")]
    Item {
        /// The file.
        inode: InodeNo,
        /// Which item.
        what: &'static str,
    },
    /// The allocation map contradicts the tree.
    #[error("the allocation map is wrong at block {block}")]
    Allocation {
        /// The unit concerned.
        block: BlockNo,
    },
    /// No superblock slot opens.
    #[error("no superblock is authentic")]
    NoSuperblock,
    /// Two superblocks claim one generation.
    #[error("two superblocks claim generation {generation}")]
    TwoHistories {
        /// The generation that both claim.
        generation: Generation,
    },
    /// The file is shorter than the superblock says.
    #[error("the image is cut short: {actual} bytes of {expected}")]
    Truncated {
        /// Bytes there are.
        actual: u64,
        /// Bytes there should be.
        expected: u64,
    },
}

/// A file system operation failed. vault-fuse maps each variant to one errno; the enum is exhaustive so
/// that the compiler asks for one when a variant is added.
#[derive(Debug, Error)]
pub enum FsError {
    /// The name or inode does not exist (ENOENT).
    #[error("no such file or folder")]
    NotFound,
    /// The inode number is not known any more (ESTALE).
    #[error("stale inode")]
    Stale,
    /// The name exists already (EEXIST).
    #[error("name exists already")]
    Exists,
    /// A folder was needed (ENOTDIR).
    #[error("not a folder")]
    NotDirectory,
    /// A folder is not allowed here (EISDIR).
    #[error("is a folder")]
    IsDirectory,
    /// The folder has entries (ENOTEMPTY).
    #[error("folder is not empty")]
    NotEmpty,
    /// The name or link target is too long (ENAMETOOLONG).
    #[error("name is too long")]
    NameTooLong,
    /// The link count is at its limit (EMLINK).
    #[error("too many links")]
    TooManyLinks,
    /// The vault or its host is full (ENOSPC).
    #[error("no space left")]
    NoSpace,
    /// The offset or size is beyond the format's limit (EFBIG).
    #[error("file too large")]
    FileTooBig,
    /// An argument makes no sense (EINVAL).
    #[error("invalid argument")]
    InvalidArgument,
    /// The operation is not permitted on this object (EPERM).
    #[error("operation not permitted")]
    NotPermitted,
    /// The extended attribute does not exist (ENODATA).
    #[error("no such attribute")]
    NoAttribute,
    /// The attribute's value or name is too large (E2BIG).
    #[error("attribute is too large")]
    AttributeTooBig,
    /// The operation is not offered (EOPNOTSUPP).
    #[error("operation not supported")]
    NotSupported,
    /// The vault is read-only, as asked or after an I/O error (EROFS).
    #[error("vault is read-only")]
    ReadOnly,
    /// Another writer published a superblock in this image meanwhile (EIO); nothing more is written.
    #[error("another process writes to the same image")]
    ForeignWriter,
    /// The image is damaged or was altered (EIO).
    #[error("the image is damaged or was altered")]
    Damaged(#[from] Damage),
    /// The storage failed (EIO).
    #[error("storage failed")]
    Io(#[from] io::Error),
    /// Randomness failed (EIO).
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

/// The result of a file system operation.
pub type FsResult<T> = Result<T, FsError>;
