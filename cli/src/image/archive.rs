//! What can go wrong with archives, as a person reads it.

use super::explain::vault_error;
use crate::encryption::{Fault, altered};
use crate::error::Error;
use crate::quoting::{on_one_line, word};
use std::fmt::Write as _;
use std::io;
use vault_core::archive::ArchiveError;
use vault_core::error::FsError;
use vault_core::vault::VaultError;

/// Paths that one line names.
const NAMED: usize = 5;

/// Explains a failed export or import of the vault `shown`; `other` is the archive or folder.
pub(crate) fn archive_error(error: ArchiveError, shown: &str, other: &str) -> Error {
    match error {
        ArchiveError::Write(cause) if cause.kind() == io::ErrorKind::BrokenPipe => {
            Error::interrupted(libc::SIGPIPE)
        }
        ArchiveError::Write(cause) => {
            Error::environment(format!("cannot write '{other}'")).caused_by(cause)
        }
        ArchiveError::Vault { path, source: FsError::NoSpace } => {
            Error::environment(format!("there is no room in {shown} for '{}'", on_one_line(&path)))
                .hint("'tazpod vault info --open' shows what it may hold, 'tazpod vault resize' makes that more")
                .hint("if it has room: the disk that holds the image is full")
        }
        ArchiveError::Vault { source: FsError::Damaged(damage), .. } => {
            vault_error(VaultError::Damaged(damage), shown)
        }
        ArchiveError::Commit(cause) => vault_error(VaultError::Commit(cause), shown),
        ArchiveError::Vault { .. } => {
            Error::environment(format!("cannot go on with {shown}")).caused_by(error)
        }
        ArchiveError::Read(ref cause) | ArchiveError::Source { source: ref cause, .. } => {
            match Fault::reported(cause) {
                Some(fault) => altered(other, fault),
                None => Error::environment(format!("cannot read '{other}'")).caused_by(error),
            }
        }
        ArchiveError::Exists { .. } => Error::user(error.to_string())
            .hint("--overwrite replaces it; what it holds now is lost then"),
        ArchiveError::KindDiffers { .. } => Error::user(error.to_string())
            .hint("no folder is ever replaced by a file, nor a file by a folder"),
        ArchiveError::NoArchive => Error::user(format!("'{other}' is no tar archive"))
            .hint("'tazpod vault import' takes a tar archive or a folder"),
        ArchiveError::Nothing => Error::user(format!("there is nothing in '{other}'"))
            .hint("if a program makes the archive: it failed, or wrote somewhere else"),
        ArchiveError::Compressed { by } => Error::user(format!("'{other}' is compressed"))
            .hint(format!("{by} -dc {} | tazpod vault import -", word(other))),
        error => Error::user(format!("cannot take '{other}'")).caused_by(error),
    }
}

/// Counts entries.
pub(crate) fn entries(count: u64) -> String {
    format!("{count} {}", if count == 1 { "entry" } else { "entries" })
}

/// Names a few paths in one line.
pub(crate) fn paths(paths: &[Vec<u8>]) -> String {
    let mut line =
        paths.iter().take(NAMED).map(|path| on_one_line(path)).collect::<Vec<_>>().join(", ");
    if paths.len() > NAMED {
        let _ = write!(line, " and {} more", paths.len() - NAMED);
    }
    line
}
