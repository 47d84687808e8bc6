//! SHA-2, and PBKDF2 (RFC 8018) over its HMAC, as LUKS headers name them.

use pbkdf2::pbkdf2_hmac;
use sha2::{Digest as _, Sha256, Sha512};
use zeroize::Zeroize;

/// A hash that keys are derived and spread with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hash {
    Sha256,
    Sha512,
}

/// Returns the SHA-256 of `bytes`.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

impl Hash {
    /// Finds the hash by the name that the kernel has for it.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "sha256" => Some(Self::Sha256),
            "sha512" => Some(Self::Sha512),
            _ => None,
        }
    }

    /// Returns how many bytes it has.
    pub(crate) fn len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    /// Fills `out` with PBKDF2 of the secret; the caller has bounded the iterations.
    pub(crate) fn pbkdf2(self, secret: &[u8], salt: &[u8], iterations: u32, out: &mut [u8]) {
        let rounds = iterations.max(1);
        match self {
            Self::Sha256 => pbkdf2_hmac::<Sha256>(secret, salt, rounds, out),
            Self::Sha512 => pbkdf2_hmac::<Sha512>(secret, salt, rounds, out),
        }
    }

    /// Replaces at most one hash's length of bytes by the start of the hash of `number` and them: the
    /// diffusion of LUKS' anti-forensic splitter.
    #[allow(clippy::big_endian_bytes, reason = "LUKS is big-endian")]
    pub(crate) fn diffuse(self, number: u32, part: &mut [u8]) {
        let number = number.to_be_bytes();
        let mut digest = match self {
            Self::Sha256 => {
                Sha256::new().chain_update(number).chain_update(&*part).finalize().to_vec()
            }
            Self::Sha512 => {
                Sha512::new().chain_update(number).chain_update(&*part).finalize().to_vec()
            }
        };
        for (byte, new) in part.iter_mut().zip(&digest) {
            *byte = *new;
        }
        digest.zeroize();
    }
}
