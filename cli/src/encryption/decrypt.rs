//! Reading an encrypted archive: recognised by its first bytes, and proven piece by piece.

use super::header::{self, ARMOUR, MAGIC};
use super::identity::Identities;
use crate::error::{Error, Kind, Result};
use crate::quoting::word;
use age::armor::{ArmoredReadError, ArmoredReader};
use age::{DecryptError, Decryptor};
use std::io::{self, BufRead, BufReader, Cursor, Read};
use thiserror::Error;

/// Bytes that are read at a time.
const BUFFER: usize = 1 << 18;
/// Bytes of a line of armour, which has 64: room for what others write, and an end to what has none.
const LONGEST_LINE: usize = 1 << 12;

const NOTHING: &str = "nothing was imported";

/// What is wrong with an encrypted archive. By damage or on purpose cannot be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum Fault {
    /// It ends before its last piece.
    #[error("it is cut short")]
    CutShort,
    /// It is of a version that is not known.
    #[error("it is encrypted in another version of the format than age-encryption.org/v1")]
    Version,
    /// The header is not one.
    #[error("its header is malformed")]
    Header,
    /// The header is larger than any that serves a purpose.
    #[error("its header is too large")]
    LargeHeader,
    /// Somebody changed the header.
    #[error("its header does not authenticate")]
    HeaderTag,
    /// The text around it is not as it must be.
    #[error("its armour is malformed")]
    Armour,
    /// A piece is not what was encrypted.
    #[error("a part of it does not authenticate")]
    Part,
}

/// Says that the archive `name` is not what was encrypted.
pub(crate) fn altered(name: &str, fault: Fault) -> Error {
    Error::new(Kind::Damage, format!("'{name}' was damaged or altered")).caused_by(fault)
}

/// How an encrypted archive is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encryption {
    /// As bytes.
    Binary,
    /// As text.
    Armoured,
}

impl Encryption {
    /// Looks whether `source` is encrypted. What comes back reads it from its beginning.
    pub(crate) fn recognise(
        mut source: impl Read + 'static,
    ) -> io::Result<(Option<Self>, Box<dyn Read>)> {
        let mut start = Vec::new();
        (&mut source).take(ARMOUR.len() as u64).read_to_end(&mut start)?;
        let found = if start.starts_with(MAGIC) && start.contains(&b'\n') {
            Some(Self::Binary)
        } else if start.starts_with(ARMOUR) {
            Some(Self::Armoured)
        } else {
            None
        };
        Ok((found, Box::new(Cursor::new(start).chain(source))))
    }

    /// Returns about how many bytes of content `len` bytes hold.
    pub(crate) fn content_len(self, len: u64) -> u64 {
        match self {
            Self::Binary => len,
            // Each line of 64 characters and a newline has 48.
            Self::Armoured => len / 65 * 48,
        }
    }

    /// Decrypts the archive `name`. What comes back must be read to its end before any of it is believed.
    pub(crate) fn decrypt(
        self,
        source: Box<dyn Read>,
        identities: &Identities,
        name: &str,
    ) -> Result<Box<dyn Read>> {
        let mut input: Box<dyn BufRead> = match self {
            Self::Binary => Box::new(BufReader::with_capacity(BUFFER, source)),
            Self::Armoured => Box::new(ArmoredReader::new(Lines { source, run: 0 })),
        };
        let unread = |cause: io::Error| match Fault::of(&cause) {
            Some(fault) => altered(name, fault).hint(NOTHING),
            None => Error::environment(format!("cannot read '{name}'")).caused_by(cause),
        };
        let header = header::take(&mut input)
            .map_err(unread)?
            .map_err(|fault| altered(name, fault).hint(NOTHING))?;
        let explain = |error: DecryptError| match error {
            DecryptError::Io(cause) => unread(cause),
            DecryptError::NoMatchingKeys => Error::user(format!(
                "no identity that was given decrypts '{name}'"
            ))
            .hint("it is encrypted to other recipients: --identity names the file of one of those")
            .hint(NOTHING),
            DecryptError::InvalidMac => altered(name, Fault::HeaderTag).hint(NOTHING),
            _ => altered(name, Fault::Header).hint(NOTHING),
        };
        let decryptor =
            Decryptor::new_buffered(Cursor::new(header).chain(input)).map_err(explain)?;
        if decryptor.is_scrypt() {
            return Err(Error::user(format!(
                "'{name}' is encrypted by a passphrase, not to recipients"
            ))
            .hint(format!("age -d {} | tazpod vault import -", word(name))));
        }
        let content = decryptor.decrypt(identities.iter()).map_err(explain)?;
        Ok(Box::new(Proven(content)))
    }
}

impl Fault {
    /// Finds the fault that decrypted content has reported.
    pub(crate) fn reported(cause: &io::Error) -> Option<Self> {
        cause.get_ref()?.downcast_ref().copied()
    }

    /// Finds the fault in what the format's reader has reported.
    fn of(cause: &io::Error) -> Option<Self> {
        if cause.get_ref().and_then(|inner| inner.downcast_ref::<ArmoredReadError>()).is_some() {
            return Some(Self::Armour);
        }
        Self::reported(cause).or(match cause.kind() {
            io::ErrorKind::UnexpectedEof => Some(Self::CutShort),
            io::ErrorKind::InvalidData => Some(Self::Part),
            _ => None,
        })
    }
}

/// Decrypted content whose errors say what is wrong with the archive.
struct Proven<R>(R);

impl<R: Read> Read for Proven<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|cause| match Fault::of(&cause) {
            Some(fault) => io::Error::new(io::ErrorKind::InvalidData, fault),
            None => cause,
        })
    }
}

/// Text without lines that have no end.
struct Lines<R> {
    source: R,
    /// Bytes since the last newline.
    run: usize,
}

impl<R: Read> Read for Lines<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        let bytes = buffer.get(..count).unwrap_or_default();
        self.run = match bytes.iter().rev().position(|byte| *byte == b'\n') {
            Some(after) => after,
            None => self.run.saturating_add(count),
        };
        if self.run > LONGEST_LINE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, Fault::Armour));
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
