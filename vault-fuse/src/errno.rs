//! From the vault's errors to the numbers that programs see.

use fuser::Errno;
use vault_core::error::FsError;

/// Returns the errno of a failed operation.
pub(crate) fn errno(error: &FsError) -> Errno {
    match error {
        FsError::NotFound => Errno::ENOENT,
        FsError::Stale => Errno::ESTALE,
        FsError::Exists => Errno::EEXIST,
        FsError::NotDirectory => Errno::ENOTDIR,
        FsError::IsDirectory => Errno::EISDIR,
        FsError::NotEmpty => Errno::ENOTEMPTY,
        FsError::NameTooLong => Errno::ENAMETOOLONG,
        FsError::TooManyLinks => Errno::EMLINK,
        FsError::NoSpace => Errno::ENOSPC,
        FsError::FileTooBig => Errno::EFBIG,
        FsError::InvalidArgument => Errno::EINVAL,
        FsError::NotPermitted => Errno::EPERM,
        FsError::NoAttribute => Errno::ENODATA,
        FsError::AttributeTooBig => Errno::E2BIG,
        FsError::NotSupported => Errno::EOPNOTSUPP,
        FsError::ReadOnly => Errno::EROFS,
        FsError::Damaged(_) | FsError::Io(_) | FsError::Entropy(_) | FsError::ForeignWriter => {
            Errno::EIO
        }
    }
}

/// Returns whether the owner should hear of it: the vault or what it lies on failed, not the caller's request.
pub(crate) fn is_failure(error: &FsError) -> bool {
    errno(error) == Errno::EIO
}
