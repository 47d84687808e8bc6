//! A header kept apart from its image, and put back.
//!
//! A backup is the 4096 bytes of a header copy (FORMAT.md section 4) and authenticates itself by its MAC.
//! It opens every image of its vault that ever existed, also with passphrases that were changed or
//! removed since. Putting it back gives it a new number, or it would be refused as an old header.

use super::copies::HeaderCopy;
use super::{HeaderAnchor, Locked, Unlocked, Vault, VaultError};
use crate::device::BlockDevice;
use crate::format::header::{HEADER_UNITS, HeaderError};
use crate::ids::UNIT;
use std::sync::Arc;

impl Vault<Locked> {
    /// Reads a backup in place of the header of the image on `device`, which is not looked at.
    pub fn from_backup(bytes: &[u8], device: Arc<dyn BlockDevice>) -> Result<Self, VaultError> {
        if bytes.len() != UNIT {
            return Err(VaultError::NotAVault);
        }
        let copies = [HeaderCopy::of(bytes), HeaderCopy::missing(HeaderError::Magic)];
        if super::readable(&copies).next().is_none() {
            return Err(super::copies::why_unreadable(&copies));
        }
        Ok(Self { device, state: Locked { copies } })
    }
}

impl Vault<Unlocked> {
    /// Returns the header's bytes, to be kept elsewhere.
    pub fn backup(&self) -> Vec<u8> {
        self.encode(&self.state.header)
    }

    /// Writes this header, which came from a backup, to the image under a new number.
    ///
    /// Like every change of the header this is one copy at a time with the superblock between them: a
    /// header on the image that is still good stays so until the new one is.
    pub fn restore(&mut self, anchor: &dyn HeaderAnchor) -> Result<(), VaultError> {
        self.not_interrupted()?;
        let mut highest = anchor.header_sequence().max(self.state.header.sequence);
        for unit in HEADER_UNITS {
            let copy = HeaderCopy::read(self.device.as_ref(), unit)?;
            if let Some(header) = copy.verified(self.id(), &self.state.subkeys) {
                highest = highest.max(header.sequence);
            }
        }
        // No number is used for another content. A superblock that is behind is brought up first,
        // since a header may be one ahead of it and never two.
        if highest > anchor.header_sequence() {
            anchor.commit_header_sequence(highest)?;
        }
        let mut header = self.state.header.clone();
        header.sequence = highest.checked_add(1).ok_or(VaultError::Exhausted)?;
        self.publish(anchor, header)?;
        self.state.copies = [super::CopyState::Current; 2];
        Ok(())
    }
}
