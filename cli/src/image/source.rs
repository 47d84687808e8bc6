//! Where an import takes its entries from: an archive, standard input, or a folder.

use super::folder::Folder;
use crate::encryption::{Encryption, Identities};
use crate::error::{Error, Result};
use std::fs::File;
use std::io::{self, BufReader, IsTerminal, Read, StdinLock};
use std::path::Path;
use vault_core::archive::{ArchiveError, Importer};

/// Bytes that are read at a time.
const BUFFER: usize = 1 << 20;

/// Where entries come from.
pub(crate) enum Source {
    /// An archive.
    Archive(Archive),
    /// A folder with everything in it.
    Folder(Folder),
}

/// An archive, decrypted where it was encrypted.
pub(crate) struct Archive {
    content: Box<dyn Read>,
    len: Option<u64>,
    is_input: bool,
    is_encrypted: bool,
}

impl Source {
    /// Opens what `path` names; `-` is standard input. Whether an archive is encrypted shows in its first bytes, and
    /// must be what the person believes: a plain one is not taken in place of an encrypted one.
    pub(crate) fn open(path: &Path, identities: Option<&Identities>) -> Result<Self> {
        let name = path.display().to_string();
        let failed =
            |cause: io::Error| Error::user(format!("cannot read '{name}'")).caused_by(cause);
        let not_encrypted = |what: &str| {
            Error::user(format!("'{name}' is {what}, and --identity was given"))
                .hint("leave --identity out if it is what you mean to import")
        };
        let is_input = path == Path::new("-");
        let (source, len): (Box<dyn Read>, _) = if is_input {
            (Box::new(input()?), None)
        } else if path.metadata().map_err(failed)?.is_dir() {
            let folder = || Self::Folder(Folder::new(path));
            return identities.map_or_else(|| Ok(folder()), |_| Err(not_encrypted("a folder")));
        } else {
            let file = File::open(path).map_err(failed)?;
            let len = file.metadata().map_err(failed)?.len();
            (Box::new(file), Some(len).filter(|len| *len > 0))
        };
        let (encryption, source) = Encryption::recognise(source).map_err(failed)?;
        let content = match (encryption, identities) {
            (None, None) => source,
            (Some(encryption), Some(identities)) => {
                encryption.decrypt(source, identities, &name)?
            }
            (None, Some(_)) => return Err(not_encrypted("not encrypted")),
            (Some(_), None) => {
                return Err(Error::user(format!("'{name}' is encrypted to age recipients")).hint(
                    "--identity FILE names the file with the secret key, as age-keygen writes it",
                ));
            }
        };
        let len = len.map(|len| encryption.map_or(len, |encryption| encryption.content_len(len)));
        Ok(Self::Archive(Archive { content, len, is_input, is_encrypted: encryption.is_some() }))
    }

    /// Whether standard input is read, where a passphrase might have come from.
    pub(crate) fn is_input(&self) -> bool {
        matches!(self, Self::Archive(archive) if archive.is_input)
    }

    /// Whether the archive was encrypted.
    pub(crate) fn is_encrypted(&self) -> bool {
        matches!(self, Self::Archive(archive) if archive.is_encrypted)
    }

    /// Returns about how many bytes there are, if that is known.
    pub(crate) fn len(&self) -> Option<u64> {
        match self {
            Self::Archive(archive) => archive.len,
            Self::Folder(_) => None,
        }
    }

    /// Hands every entry to the importer.
    pub(crate) fn feed(
        &mut self,
        importer: &mut Importer<'_>,
        show: &mut dyn FnMut(u64),
    ) -> std::result::Result<(), ArchiveError> {
        match self {
            Self::Archive(archive) => {
                importer.add_archive(BufReader::with_capacity(BUFFER, &mut archive.content), show)
            }
            Self::Folder(folder) => folder.feed(importer, show),
        }
    }

    /// Returns the sockets that were met, and left out.
    pub(crate) fn sockets(&self) -> &[Vec<u8>] {
        match self {
            Self::Folder(folder) => folder.sockets(),
            Self::Archive(_) => &[],
        }
    }
}

fn input() -> Result<StdinLock<'static>> {
    let input = io::stdin();
    if input.is_terminal() {
        return Err(Error::user("the archive would come from the terminal")
            .hint("name a file or a folder, or pipe the archive in"));
    }
    Ok(input.lock())
}
