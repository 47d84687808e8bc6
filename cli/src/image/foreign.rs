//! What can go wrong when a LUKS image is read without the kernel, as a person reads it.

use super::explain::{cannot_make, kdf_error, vault_error};
use crate::error::{Error, Kind};
use crate::quoting::on_one_line;
use std::io;
use vault_core::error::FsError;
use vault_core::foreign::{CompareError, CopyError, ForeignError};

/// Explains why the LUKS image `shown` cannot be read.
pub(crate) fn container_error(error: ForeignError, shown: &str) -> Error {
    let cannot = format!("cannot read '{shown}'");
    match error {
        ForeignError::NoSlotOpened => Error::new(
            Kind::WrongPassphrase,
            format!("no keyslot of '{shown}' opened with what was given"),
        )
        .hint("check the keyboard layout; 'tazpod vault info' shows which slots exist"),
        ForeignError::Kdf(cause) => kdf_error(cause, shown),
        ForeignError::Damaged { .. } => Error::new(Kind::Damage, cannot)
            .caused_by(error)
            .hint("the image was damaged or altered; it was not touched"),
        ForeignError::Unsupported { .. } => Error::new(Kind::Format, cannot).caused_by(error).hint(
            "open it where luks works: 'tazpod pull', then 'tazpod vault import' of ~/secrets into a new vault",
        ),
        ForeignError::Journal => Error::environment(cannot).caused_by(error).hint(
            "open and close it once where luks works ('tazpod pull -- true'): that finishes what its journal holds",
        ),
        ForeignError::Io(cause) if cause.kind() == io::ErrorKind::UnexpectedEof => {
            Error::new(Kind::Damage, cannot)
                .caused_by(cause)
                .hint("the image is shorter than its header says")
        }
        error => Error::environment(cannot).caused_by(error),
    }
}

/// Explains why copying from `shown` into `to` ended.
pub(crate) fn copied_error(error: CopyError, shown: &str, to: &str) -> Error {
    match error {
        CopyError::Target { source: FsError::NoSpace, .. } => {
            cannot_make(io::ErrorKind::StorageFull.into(), to).hint(
                "the vault is as it was; make room for a second image, or name a larger --size",
            )
        }
        CopyError::Target { path, source } => {
            vault_error(source.into(), to).hint(format!("it happened at '{}'", on_one_line(&path)))
        }
        CopyError::Source { path, source } => {
            container_error(source, shown).hint(format!("it happened at '{}'", on_one_line(&path)))
        }
        other => Error::environment(format!("cannot copy '{shown}'")).caused_by(other),
    }
}

/// Explains why the new image is not believed.
pub(crate) fn comparison_error(error: CompareError, making: &str) -> Error {
    Error::internal(format!("'{making}' is not a faithful copy"))
        .caused_by(error)
        .hint("the vault is as it was; the new image was removed")
}
