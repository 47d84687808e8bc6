//! XAES-256-GCM with AES-256-GCM by AWS-LC.
//!
//! The derivation of the message key is the specification's, three AES blocks, one of them ahead of
//! time; AWS-LC does the rest.

use super::{Nonce, Tag, Unauthentic};
use crate::crypto::secret::SecretBytes;
use aes::Aes256;
use aes::cipher::{Array, BlockCipherEncrypt, KeyInit};
use aws_lc_rs::aead::{self, AES_256_GCM, Aad, LessSafeKey, UnboundKey};
use zeroize::Zeroizing;

/// An expanded key; both parts are wiped on drop.
pub(super) struct Cipher {
    aes: Aes256,
    /// CMAC's first subkey (NIST SP 800-38B, section 6.1).
    k1: Zeroizing<[u8; 16]>,
}

impl Cipher {
    pub(super) fn new(key: &SecretBytes<32>) -> Self {
        let aes = Aes256::new(key.expose().into());
        let mut left = Zeroizing::new([0; 16]);
        aes.encrypt_block((&mut *left).into());
        // K1 = L << 1, reduced by x^128 + x^7 + x^2 + x + 1 where a bit falls out; without a branch
        // on the secret bit.
        let mut k1 = Zeroizing::new([0; 16]);
        for i in 0..16 {
            let carry = left.get(i + 1).map_or(0, |next| next >> 7);
            k1[i] = left[i] << 1 | carry;
        }
        k1[15] ^= (left[0] >> 7) * 0b1000_0111;
        Self { aes, k1 }
    }

    pub(super) fn seal(&self, nonce: &Nonce, aad: &[u8], buffer: &mut [u8]) -> Tag {
        let (key, nonce) = self.for_message(nonce);
        let tag = key
            .seal_in_place_separate_tag(nonce, Aad::from(aad), buffer)
            .expect("blocks and AAD are far below the cipher's 64 GiB bound");
        Tag(tag.as_ref().try_into().expect("a GCM tag has 16 bytes"))
    }

    pub(super) fn open(
        &self,
        nonce: &Nonce,
        aad: &[u8],
        buffer: &mut [u8],
        tag: &Tag,
    ) -> Result<(), Unauthentic> {
        let (key, nonce) = self.for_message(nonce);
        key.open_in_place_separate_tag(nonce, Aad::from(aad), &tag.0, buffer)
            .map(|_| ())
            .map_err(|_| Unauthentic)
    }

    /// Derives the key of one message from the first half of its nonce; the second half is GCM's.
    fn for_message(&self, nonce: &Nonce) -> (LessSafeKey, aead::Nonce) {
        let (context, rest) = nonce.bytes().split_at(12);
        let mut key = Zeroizing::new([0; 32]);
        for (block, counter) in key.chunks_exact_mut(16).zip([1, 2]) {
            block[..4].copy_from_slice(&[0, counter, b'X', 0]);
            block[4..].copy_from_slice(context);
            block.iter_mut().zip(&*self.k1).for_each(|(byte, mask)| *byte ^= mask);
            let block = <&mut Array<u8, _>>::try_from(block).expect("a block has 16 bytes");
            self.aes.encrypt_block(block);
        }
        let key = UnboundKey::new(&AES_256_GCM, &*key).expect("an AES-256 key has 32 bytes");
        let nonce = aead::Nonce::try_assume_unique_for_key(rest).expect("12 bytes are left");
        (LessSafeKey::new(key), nonce)
    }
}
