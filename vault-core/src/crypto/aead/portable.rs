//! XAES-256-GCM in pure Rust, by the crates of the `RustCrypto` project.

use super::{Nonce, Tag, Unauthentic};
use crate::crypto::secret::SecretBytes;
use xaes_256_gcm::Xaes256Gcm;
use xaes_256_gcm::aead::{AeadInOut, KeyInit};

/// An expanded key; the crates wipe it on drop.
pub(super) struct Cipher(Xaes256Gcm);

impl Cipher {
    pub(super) fn new(key: &SecretBytes<32>) -> Self {
        Self(Xaes256Gcm::new(key.expose().into()))
    }

    pub(super) fn seal(&self, nonce: &Nonce, aad: &[u8], buffer: &mut [u8]) -> Tag {
        let tag = self
            .0
            .encrypt_inout_detached(nonce.bytes().into(), aad, buffer.into())
            .expect("blocks and AAD are far below the cipher's 64 GiB bound");
        Tag(tag.into())
    }

    pub(super) fn open(
        &self,
        nonce: &Nonce,
        aad: &[u8],
        buffer: &mut [u8],
        tag: &Tag,
    ) -> Result<(), Unauthentic> {
        self.0
            .decrypt_inout_detached(nonce.bytes().into(), aad, buffer.into(), (&tag.0).into())
            .map_err(|_| Unauthentic)
    }
}
