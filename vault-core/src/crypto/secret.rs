//! Secrets as types: owned once, wiped on drop, never printed.
//!
//! None of these types implements `Clone`, and `Debug` prints only the name. The bytes are reached
//! through `expose`, a call that can be searched for.

use crate::error::EntropyError;
use crate::ports::Entropy;
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// A fixed-size secret on the heap, so that moving the owner never copies the bytes.
#[derive(ZeroizeOnDrop)]
pub struct SecretBytes<const N: usize>(Box<[u8; N]>);

impl<const N: usize> SecretBytes<N> {
    /// Makes a secret by filling its final place; a partly filled secret is wiped.
    pub fn try_init<E>(fill: impl FnOnce(&mut [u8; N]) -> Result<(), E>) -> Result<Self, E> {
        let mut secret = Self(Box::new([0; N]));
        fill(&mut secret.0)?;
        Ok(secret)
    }

    /// Makes a secret by filling its final place.
    pub fn init(fill: impl FnOnce(&mut [u8; N])) -> Self {
        let mut secret = Self(Box::new([0; N]));
        fill(&mut secret.0);
        secret
    }

    /// Makes a fresh random secret.
    pub fn random(entropy: &dyn Entropy) -> Result<Self, EntropyError> {
        Self::try_init(|bytes| entropy.fill(bytes))
    }

    /// Returns the secret bytes. Each call site answers for where they go.
    pub fn expose(&self) -> &[u8; N] {
        &self.0
    }
}

impl<const N: usize> fmt::Debug for SecretBytes<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes(redacted)")
    }
}

/// The random 256-bit root secret of a vault; every other key of the vault is derived from it.
pub type VolumeKey = SecretBytes<32>;

/// What a person or machine presents to open a keyslot: a passphrase or a key file's content.
#[derive(ZeroizeOnDrop)]
pub struct Passphrase(Vec<u8>);

impl Passphrase {
    /// Takes ownership of the bytes; they are wiped when the passphrase is dropped.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Copies the bytes in and wipes the source.
    pub fn take_from(source: &mut [u8]) -> Self {
        let passphrase = Self(source.to_vec());
        source.zeroize();
        passphrase
    }

    /// Returns the secret bytes. Each call site answers for where they go.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Whether nothing was given.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(redacted)")
    }
}
