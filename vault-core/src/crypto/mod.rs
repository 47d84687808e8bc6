//! One primitive per file, behind our own names; the only files that import cipher crates.

pub mod aead;
pub(crate) mod hash;
pub mod kdf;
pub mod mac;
pub mod secret;
pub mod subkeys;
pub(crate) mod xts;
