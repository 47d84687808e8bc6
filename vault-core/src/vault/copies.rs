//! The two header copies as they were read: once, into memory, and judged there.

use super::{MIN_IMAGE_LEN, VaultError};
use crate::crypto::mac::verifies;
use crate::crypto::subkeys::Subkeys;
use crate::device::BlockDevice;
use crate::format::header::{Header, HeaderError, MAC_AT};
use crate::ids::{BlockNo, UNIT, UNIT_U64, VaultId};

/// One header copy: readable, or why not.
pub(super) struct HeaderCopy(Result<ReadableCopy, HeaderError>);

/// A header copy of the right form; not authentic.
pub(super) struct ReadableCopy {
    bytes: Box<[u8; UNIT]>,
    pub(super) header: Header,
}

impl HeaderCopy {
    /// Reads one copy.
    pub(super) fn read(device: &dyn BlockDevice, unit: BlockNo) -> Result<Self, VaultError> {
        let len = device.len()?;
        if len < MIN_IMAGE_LEN {
            return Err(VaultError::TooShort { len });
        }
        let mut bytes = Box::new([0; UNIT]);
        device.read_at(&mut bytes[..], unit.0 * UNIT_U64)?;
        Ok(Self::judge(bytes))
    }

    /// Takes a copy that was kept elsewhere; what is not one unit long is no header.
    pub(super) fn of(bytes: &[u8]) -> Self {
        match <[u8; UNIT]>::try_from(bytes) {
            Ok(bytes) => Self::judge(Box::new(bytes)),
            Err(_) => Self::missing(HeaderError::Magic),
        }
    }

    /// A copy that is not there.
    pub(super) fn missing(why: HeaderError) -> Self {
        Self(Err(why))
    }

    fn judge(bytes: Box<[u8; UNIT]>) -> Self {
        Self(Header::decode(&bytes[..]).map(|header| ReadableCopy { bytes, header }))
    }

    /// Returns the header if its MAC verifies under the keys of `vault`.
    pub(super) fn verified(&self, vault: VaultId, subkeys: &Subkeys) -> Option<&Header> {
        let copy = self.0.as_ref().ok()?;
        let (body, code) = copy.bytes.split_at(MAC_AT);
        let code = code.try_into().ok()?;
        let authentic = copy.header.vault == vault && verifies(&subkeys.header_mac, body, code);
        authentic.then_some(&copy.header)
    }
}

/// Returns the copies of the right form.
pub(super) fn readable(copies: &[HeaderCopy; 2]) -> impl Iterator<Item = &ReadableCopy> {
    copies.iter().filter_map(|copy| copy.0.as_ref().ok())
}

/// Says why no copy is readable, by the copy that tells most.
pub(super) fn why_unreadable(copies: &[HeaderCopy; 2]) -> VaultError {
    let errors = || copies.iter().filter_map(|copy| copy.0.as_ref().err());
    let other = errors().find_map(|error| match *error {
        HeaderError::Version { found } => Some(VaultError::Version { found }),
        HeaderError::Suite { found } => Some(VaultError::Suite { found }),
        _ => None,
    });
    match other {
        Some(error) => error,
        None if errors().all(|error| *error == HeaderError::Magic) => VaultError::NotAVault,
        None => VaultError::HeaderDamaged,
    }
}
