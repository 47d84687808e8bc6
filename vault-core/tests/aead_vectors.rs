//! XAES-256-GCM against the vectors of its specification, <https://c2sp.org/XAES-256-GCM>.
#![allow(clippy::unwrap_used)]

#[path = "vectors/mod.rs"]
mod vectors;

use shake::digest::{ExtendableOutput, Update, XofReader};
use shake::{Shake128, Shake128Reader};
use vault_core::crypto::aead::{Nonce, SealingKey, Tag, Unauthentic};
use vault_core::crypto::secret::SecretBytes;
use vectors::hex;

struct Case {
    key: SealingKey,
    nonce: Nonce,
    plaintext: Vec<u8>,
    aad: Vec<u8>,
}

impl Case {
    fn of(key_byte: u8, aad: &str) -> Self {
        Self {
            key: SealingKey::new(&SecretBytes::init(|key| key.fill(key_byte))),
            nonce: Nonce::from_stored(*b"ABCDEFGHIJKLMNOPQRSTUVWX"),
            plaintext: b"XAES-256-GCM".to_vec(),
            aad: aad.into(),
        }
    }

    /// Draws the specification's structure: key, nonce, and two vectors with a length byte each.
    fn drawn(stream: &mut Shake128Reader) -> Self {
        let key = SecretBytes::init(|key| stream.read(key));
        let mut nonce = [0; 24];
        stream.read(&mut nonce);
        let mut vector = || {
            let mut len = [0];
            stream.read(&mut len);
            let mut bytes = vec![0; usize::from(len[0])];
            stream.read(&mut bytes);
            bytes
        };
        let (plaintext, aad) = (vector(), vector());
        Self { key: SealingKey::new(&key), nonce: Nonce::from_stored(nonce), plaintext, aad }
    }

    /// Returns ciphertext and tag, after opening them again.
    fn sealed(&self) -> Vec<u8> {
        let mut text = self.plaintext.clone();
        let tag = self.key.seal(&self.nonce, &self.aad, &mut text);
        let sealed = [text.as_slice(), &tag.0].concat();
        self.key.open(&self.nonce, &self.aad, &mut text, &tag).unwrap();
        assert_eq!(text, self.plaintext);
        sealed
    }
}

#[test]
fn c2sp_vector_with_clear_top_bit() {
    let expected = "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271";
    assert_eq!(Case::of(1, "").sealed(), hex(expected));
}

#[test]
fn c2sp_vector_with_set_top_bit() {
    let expected = "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d";
    assert_eq!(Case::of(3, "c2sp.org/XAES-256-GCM").sealed(), hex(expected));
}

fn accumulated(iterations: usize) -> Vec<u8> {
    let mut stream = Shake128::default().finalize_xof();
    let mut hash = Shake128::default();
    for _ in 0..iterations {
        hash.update(&Case::drawn(&mut stream).sealed());
    }
    let mut out = vec![0; 32];
    hash.finalize_xof().read(&mut out);
    out
}

#[test]
fn c2sp_accumulated_over_10_000_iterations() {
    let expected = "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939";
    assert_eq!(accumulated(10_000), hex(expected));
}

#[test]
fn c2sp_accumulated_over_1_000_000_iterations() {
    let expected = "2163ae1445985a30b60585ee67daa55674df06901b890593e824b8a7c885ab15";
    assert_eq!(accumulated(1_000_000), hex(expected));
}

#[test]
fn no_changed_bit_opens_and_nothing_of_it_becomes_plaintext() {
    let case = Case::of(1, "associated");
    let sealed = case.sealed();
    let (text, tag) = sealed.split_at(case.plaintext.len());
    let tag = Tag(tag.try_into().unwrap());
    let flipped = |bytes: &[u8], bit: usize| {
        let mut bytes = bytes.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        bytes
    };
    let refused = |nonce: &Nonce, aad: &[u8], text: &[u8], tag: &Tag| {
        let mut buffer = text.to_vec();
        assert_eq!(case.key.open(nonce, aad, &mut buffer, tag), Err(Unauthentic));
        assert_ne!(buffer, case.plaintext);
    };
    for bit in 0..text.len() * 8 {
        refused(&case.nonce, &case.aad, &flipped(text, bit), &tag);
    }
    for bit in 0..case.aad.len() * 8 {
        refused(&case.nonce, &flipped(&case.aad, bit), text, &tag);
    }
    for bit in 0..Nonce::LEN * 8 {
        let nonce = flipped(case.nonce.bytes(), bit).try_into().unwrap();
        refused(&Nonce::from_stored(nonce), &case.aad, text, &tag);
    }
    for bit in 0..Tag::LEN * 8 {
        refused(&case.nonce, &case.aad, text, &Tag(flipped(&tag.0, bit).try_into().unwrap()));
    }
}
