//! HMAC-SHA256 (RFC 2104), which authenticates the header and the rollback witness.

use crate::crypto::secret::SecretBytes;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Length of a MAC in bytes.
pub const MAC_LEN: usize = 32;

/// Returns HMAC-SHA256(`key`, `message`).
pub fn mac(key: &SecretBytes<32>, message: &[u8]) -> [u8; MAC_LEN] {
    keyed(key, message).finalize().into_bytes().into()
}

/// Whether `expected` is the MAC of `message`, compared in constant time.
pub fn verifies(key: &SecretBytes<32>, message: &[u8], expected: &[u8; MAC_LEN]) -> bool {
    keyed(key, message).verify(expected.into()).is_ok()
}

fn keyed(key: &SecretBytes<32>, message: &[u8]) -> Hmac<Sha256> {
    let mut hmac = Hmac::<Sha256>::new_from_slice(key.expose()).expect("HMAC takes any key length");
    hmac.update(message);
    hmac
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_verifies_only_as_a_whole() {
        let key = SecretBytes::init(|bytes| bytes.fill(7));
        let code = mac(&key, b"message");
        assert!(verifies(&key, b"message", &code));
        assert!(!verifies(&key, b"massage", &code));
        for bit in 0..256 {
            let mut flipped = code;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!verifies(&key, b"message", &flipped));
        }
    }
}
