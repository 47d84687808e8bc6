//! The two ciphers against each other: the same bytes, and each opens what the other sealed.
#![allow(clippy::unwrap_used)]

use super::{Nonce, Tag, Unauthentic, fast, portable};
use crate::crypto::secret::SecretBytes;
use proptest::prelude::*;

fn ciphers(key: [u8; 32]) -> (fast::Cipher, portable::Cipher) {
    let key = SecretBytes::init(|bytes| *bytes = key);
    (fast::Cipher::new(&key), portable::Cipher::new(&key))
}

fn agree(key: [u8; 32], nonce: [u8; 24], aad: &[u8], text: &[u8]) {
    let (fast, portable) = ciphers(key);
    let nonce = Nonce::from_stored(nonce);
    let mut by_fast = text.to_vec();
    let mut by_portable = text.to_vec();
    let fast_tag = fast.seal(&nonce, aad, &mut by_fast);
    let portable_tag = portable.seal(&nonce, aad, &mut by_portable);
    assert_eq!(by_fast, by_portable);
    assert_eq!(fast_tag, portable_tag);
    portable.open(&nonce, aad, &mut by_fast, &fast_tag).unwrap();
    fast.open(&nonce, aad, &mut by_portable, &portable_tag).unwrap();
    assert_eq!(by_fast, text);
    assert_eq!(by_portable, text);
}

proptest! {
    #[test]
    fn both_ciphers_give_the_same_bytes(
        key: [u8; 32],
        nonce: [u8; 24],
        aad in prop::collection::vec(any::<u8>(), 0..200),
        text in prop::collection::vec(any::<u8>(), 0..2000),
    ) {
        agree(key, nonce, &aad, &text);
    }

    #[test]
    fn both_ciphers_refuse_the_same_bytes(key: [u8; 32], at in 0..64_usize, flip in 1..=255_u8) {
        let (fast, portable) = ciphers(key);
        let nonce = Nonce::from_stored([7; 24]);
        let mut text = vec![0x5A; 48];
        let mut tag = fast.seal(&nonce, b"aad", &mut text);
        match at.checked_sub(48) {
            Some(at) => tag.0[at] ^= flip,
            None => text[at] ^= flip,
        }
        let refused = |outcome: Result<(), Unauthentic>, buffer: &[u8]| {
            assert_eq!(outcome, Err(Unauthentic));
            assert!(buffer.windows(8).all(|part| part != [0x5A; 8]), "plaintext was left behind");
        };
        let mut buffer = text.clone();
        refused(fast.open(&nonce, b"aad", &mut buffer, &tag), &buffer);
        let mut buffer = text.clone();
        refused(portable.open(&nonce, b"aad", &mut buffer, &tag), &buffer);
    }
}

#[test]
fn both_ciphers_agree_at_every_block_size() {
    for shift in 12..=17 {
        agree([3; 32], [9; 24], b"place", &vec![0xC3; 1 << shift]);
    }
    agree([0; 32], [0; 24], b"", b"");
    // The top bit of CMAC's L is set for this key (C2SP's second vector).
    agree([3; 32], *b"ABCDEFGHIJKLMNOPQRSTUVWX", b"", b"");
    assert_eq!(Tag::LEN, 16);
}
