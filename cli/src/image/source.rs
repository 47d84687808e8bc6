//! Where an import takes its entries from: an archive, standard input, or a folder.

use super::folder::Folder;
use crate::error::{Error, Result};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use vault_core::archive::{ArchiveError, Importer, Reader};

/// Bytes that are read at a time.
const BUFFER: usize = 1 << 20;

/// Where entries come from.
pub(crate) enum Source {
    /// An archive on standard input.
    Input,
    /// An archive in a file.
    Archive(File),
    /// A folder with everything in it.
    Folder(Folder),
}

impl Source {
    /// Opens what `path` names; `-` is standard input.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        if path == Path::new("-") {
            return Ok(Self::Input);
        }
        let failed = |cause: io::Error| {
            Error::user(format!("cannot read '{}'", path.display())).caused_by(cause)
        };
        if path.metadata().map_err(failed)?.is_dir() {
            return Ok(Self::Folder(Folder::new(path)));
        }
        File::open(path).map(Self::Archive).map_err(failed)
    }

    /// Whether standard input is read, where a passphrase might have come from.
    pub(crate) fn is_input(&self) -> bool {
        matches!(self, Self::Input)
    }

    /// Returns how many bytes there are, if that is known.
    pub(crate) fn len(&self) -> Option<u64> {
        match self {
            Self::Archive(file) => Some(file.metadata().ok()?.len()).filter(|len| *len > 0),
            _ => None,
        }
    }

    /// Hands every entry to the importer.
    pub(crate) fn feed(
        &mut self,
        importer: &mut Importer<'_>,
        show: &mut dyn FnMut(u64),
    ) -> std::result::Result<(), ArchiveError> {
        match self {
            Self::Input => take(importer, Box::new(io::stdin().lock()), show),
            Self::Archive(file) => take(importer, Box::new(file), show),
            Self::Folder(folder) => folder.feed(importer, show),
        }
    }

    /// Returns the sockets that were met, and left out.
    pub(crate) fn sockets(&self) -> &[Vec<u8>] {
        match self {
            Self::Folder(folder) => folder.sockets(),
            _ => &[],
        }
    }
}

fn take(
    importer: &mut Importer<'_>,
    source: Box<dyn Read + '_>,
    show: &mut dyn FnMut(u64),
) -> std::result::Result<(), ArchiveError> {
    let mut reader = Reader::new(BufReader::with_capacity(BUFFER, source));
    while let Some(entry) = reader.next_entry()? {
        importer.add(&entry, &mut reader.content(), show)?;
    }
    Ok(())
}
