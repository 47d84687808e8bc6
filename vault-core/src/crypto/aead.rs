//! XAES-256-GCM, the one cipher of suite 1: 256-bit key, 192-bit nonce, 128-bit tag.
//!
//! Construction: <https://c2sp.org/XAES-256-GCM>. For each message a fresh AES-256-GCM key is
//! derived from the first 12 bytes of the nonce, which makes random nonces safe for 2^80 messages
//! (collision risk 2^-32). Nonces therefore always come from [`Nonce::random`] and never from a
//! counter: people copy images and write on in both copies.
//!
//! The cipher behind the interface is chosen when the program is built: pure Rust, or with the feature
//! `fast-aead` AWS-LC's assembly, several times as fast and the same bytes.

#[cfg(feature = "fast-aead")]
mod fast;
#[cfg(any(not(feature = "fast-aead"), test))]
mod portable;
#[cfg(all(feature = "fast-aead", test))]
mod tests;

#[cfg(feature = "fast-aead")]
use fast::Cipher;
#[cfg(not(feature = "fast-aead"))]
use portable::Cipher;

use crate::crypto::secret::SecretBytes;
use crate::error::EntropyError;
use crate::ports::Entropy;
use std::fmt;

/// A number used once per key: 24 random bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Nonce([u8; Nonce::LEN]);

impl Nonce {
    /// Length in bytes.
    pub const LEN: usize = 24;

    /// Draws a fresh nonce.
    pub fn random(entropy: &dyn Entropy) -> Result<Self, EntropyError> {
        let mut bytes = [0; Self::LEN];
        entropy.fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// Reads back a nonce that a writer stored.
    pub fn from_stored(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes, to be stored.
    pub fn bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nonce")
    }
}

/// Proof that ciphertext and AAD are what the key's holder sealed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Tag(pub [u8; Tag::LEN]);

impl Tag {
    /// Length in bytes.
    pub const LEN: usize = 16;
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tag(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// The sealed bytes or their AAD are not what was sealed under this key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("authentication failed")]
pub struct Unauthentic;

/// A key that seals and opens; its expanded form is wiped on drop.
pub struct SealingKey(Box<Cipher>);

impl SealingKey {
    /// Expands a 256-bit key.
    pub fn new(key: &SecretBytes<32>) -> Self {
        Self(Box::new(Cipher::new(key)))
    }

    /// Encrypts `buffer` in place and returns the tag over it and `aad`.
    pub fn seal(&self, nonce: &Nonce, aad: &[u8], buffer: &mut [u8]) -> Tag {
        self.0.seal(nonce, aad, buffer)
    }

    /// Decrypts `buffer` in place if it and `aad` are authentic; otherwise nothing of it is
    /// plaintext.
    pub fn open(
        &self,
        nonce: &Nonce,
        aad: &[u8],
        buffer: &mut [u8],
        tag: &Tag,
    ) -> Result<(), Unauthentic> {
        self.0.open(nonce, aad, buffer, tag)
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealingKey(redacted)")
    }
}
