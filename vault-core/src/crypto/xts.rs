//! AES-XTS (IEEE 1619) over sectors, with the sector's number as tweak (`plain64`).

use aes::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use aes::{Aes128, Aes256, Block};

/// Bytes of an AES block.
const BLOCK: usize = 16;

/// The two ciphers of one key.
pub(crate) enum Xts {
    Aes128 { data: Box<Aes128>, tweak: Box<Aes128> },
    Aes256 { data: Box<Aes256>, tweak: Box<Aes256> },
}

impl Xts {
    /// Takes a key of 32 or 64 bytes: one half for data, one for tweaks. Any other length is none.
    pub(crate) fn new(key: &[u8]) -> Option<Self> {
        let (data, tweak) = key.split_at_checked(key.len() / 2)?;
        match key.len() {
            32 => Some(Self::Aes128 {
                data: Box::new(Aes128::new_from_slice(data).ok()?),
                tweak: Box::new(Aes128::new_from_slice(tweak).ok()?),
            }),
            64 => Some(Self::Aes256 {
                data: Box::new(Aes256::new_from_slice(data).ok()?),
                tweak: Box::new(Aes256::new_from_slice(tweak).ok()?),
            }),
            _ => None,
        }
    }

    /// Decrypts whole blocks of one sector.
    pub(crate) fn decrypt(&self, number: u64, sector: &mut [u8]) {
        self.apply(number, sector, |blocks| match self {
            Self::Aes128 { data, .. } => data.decrypt_blocks(blocks),
            Self::Aes256 { data, .. } => data.decrypt_blocks(blocks),
        });
    }

    #[cfg(test)]
    fn encrypt(&self, number: u64, sector: &mut [u8]) {
        self.apply(number, sector, |blocks| match self {
            Self::Aes128 { data, .. } => data.encrypt_blocks(blocks),
            Self::Aes256 { data, .. } => data.encrypt_blocks(blocks),
        });
    }

    /// `C = E(P xor T) xor T` or its inverse, with `T` doubled in GF(2^128) from block to block.
    fn apply(&self, number: u64, sector: &mut [u8], cipher: impl Fn(&mut [Block])) {
        let mut first = Block::default();
        for (byte, part) in first.iter_mut().zip(number.to_le_bytes()) {
            *byte = part;
        }
        match self {
            Self::Aes128 { tweak, .. } => tweak.encrypt_block(&mut first),
            Self::Aes256 { tweak, .. } => tweak.encrypt_block(&mut first),
        }
        let first = u128::from_le_bytes(first.into());
        mask(first, sector);
        let (blocks, _) = Block::slice_as_chunks_mut(sector);
        cipher(blocks);
        mask(first, sector);
    }
}

fn mask(first: u128, sector: &mut [u8]) {
    let mut tweak = first;
    for block in sector.chunks_exact_mut(BLOCK) {
        for (byte, part) in block.iter_mut().zip(tweak.to_le_bytes()) {
            *byte ^= part;
        }
        let carry = if tweak >> 127 == 1 { 0x87 } else { 0 };
        tweak = (tweak << 1) ^ carry;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect()
    }

    fn holds(key: &str, number: u64, plain: &str, sealed: &str) {
        let xts = Xts::new(&bytes(key)).unwrap();
        let mut sector = bytes(plain);
        xts.encrypt(number, &mut sector);
        assert_eq!(sector, bytes(sealed));
        xts.decrypt(number, &mut sector);
        assert_eq!(sector, bytes(plain));
    }

    /// IEEE 1619-2007, annex B, vectors 1 to 3.
    #[test]
    fn vectors_of_the_standard_with_128_bit_keys() {
        holds(
            &"00".repeat(32),
            0,
            &"00".repeat(32),
            "917cf69ebd68b2ec9b9fe9a3eadda692cd43d2f59598ed858c02c2652fbf922e",
        );
        holds(
            &["11".repeat(16), "22".repeat(16)].concat(),
            0x33_3333_3333,
            &"44".repeat(32),
            "c454185e6a16936e39334038acef838bfb186fff7480adc4289382ecd6d394f0",
        );
        holds(
            "fffefdfcfbfaf9f8f7f6f5f4f3f2f1f022222222222222222222222222222222",
            0x33_3333_3333,
            &"44".repeat(32),
            "af85336b597afc1a900b2eb21ec949d292df4c047e0b21532186a5971a227a89",
        );
    }

    /// IEEE 1619-2007, annex B, vector 10: the first two blocks of its sector.
    #[test]
    fn vector_of_the_standard_with_256_bit_keys() {
        let plain = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
        holds(
            "2718281828459045235360287471352662497757247093699959574966967627\
             3141592653589793238462643383279502884197169399375105820974944592",
            0xff,
            plain,
            "1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b",
        );
    }

    #[test]
    fn keys_of_other_lengths_are_none() {
        for len in [0, 16, 33, 48, 128] {
            assert!(Xts::new(&vec![1; len]).is_none(), "{len}");
        }
    }
}
