//! The key schedule below the volume key (FORMAT.md section 3).
//!
//! `subkey(label) = HKDF-SHA256(salt = vault id, ikm = volume key,
//! info = "tazpod/v1/" || label || 0x00 || LE16(suite) || vault id)`, RFC 5869.

use crate::crypto::aead::SealingKey;
use crate::crypto::secret::{SecretBytes, VolumeKey};
use crate::ids::VaultId;
use hkdf::Hkdf;
use sha2::Sha256;

/// The one cipher suite of format 1.
pub const SUITE: u16 = 1;

/// Every key that an open vault uses, each for one purpose.
#[derive(Debug)]
pub struct Subkeys {
    /// Authenticates the header.
    pub header_mac: SecretBytes<32>,
    /// Seals superblocks.
    pub superblock: SealingKey,
    /// Seals tree nodes.
    pub metadata: SealingKey,
    /// Seals file content.
    pub data: SealingKey,
    /// Orders names in folders (SipHash-2-4).
    pub directory_hash: SecretBytes<16>,
    /// Authenticates the rollback witness.
    pub witness_mac: SecretBytes<32>,
}

impl Subkeys {
    /// Derives all subkeys of a vault.
    pub fn derive(volume_key: &VolumeKey, vault: VaultId) -> Self {
        let schedule = Hkdf::<Sha256>::new(Some(&vault.0), volume_key.expose());
        Self {
            header_mac: expand(&schedule, "header-mac", vault),
            superblock: SealingKey::new(&expand(&schedule, "superblock", vault)),
            metadata: SealingKey::new(&expand(&schedule, "metadata", vault)),
            data: SealingKey::new(&expand(&schedule, "data", vault)),
            directory_hash: expand(&schedule, "directory-hash", vault),
            witness_mac: expand(&schedule, "witness-mac", vault),
        }
    }
}

/// Expands one labelled key from an extracted schedule.
pub(crate) fn expand<const N: usize>(
    schedule: &Hkdf<Sha256>,
    label: &str,
    vault: VaultId,
) -> SecretBytes<N> {
    SecretBytes::init(|out| {
        let suite = SUITE.to_le_bytes();
        let info: [&[u8]; 5] = [b"tazpod/v1/", label.as_bytes(), &[0], &suite, &vault.0];
        schedule
            .expand_multi_info(&info, out)
            .expect("a subkey is far shorter than HKDF's 8160-byte bound");
    })
}
