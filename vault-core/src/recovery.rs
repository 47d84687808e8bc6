//! The recovery key: 256 random bits as 24 words that a person can write down.
//!
//! The words are BIP-39's English list with its checksum (FORMAT.md section 3.1): common words whose
//! first four letters tell them apart, so that a paper copy survives bad handwriting. A key that is
//! this random needs no slow derivation.

use crate::crypto::secret::SecretBytes;
use crate::error::EntropyError;
use crate::ports::Entropy;
use bip0039::English;
use sha2::{Digest, Sha256};
use std::fmt;
use thiserror::Error;
use zeroize::Zeroizing;

/// Number of words of a written recovery key.
pub const RECOVERY_WORDS: usize = 24;

const BITS_PER_WORD: usize = 11;
/// Letters that tell two words of the list apart.
const TELLING_LETTERS: usize = 4;

/// A generated key that opens a keyslot by itself.
pub struct RecoveryKey(SecretBytes<32>);

/// A written recovery key cannot be read. Positions count from 1; words are not repeated here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RecoveryKeyError {
    /// There are too many or too few words.
    #[error("a recovery key has 24 words, not {found}")]
    Count {
        /// How many there are.
        found: usize,
    },
    /// A word is not in the list.
    #[error("word {position} is not in the list of recovery words")]
    Word {
        /// Which one.
        position: usize,
    },
    /// The words are all in the list, but they do not belong together.
    #[error("the words do not fit together: one is wrong, or two are swapped")]
    Checksum,
}

impl RecoveryKey {
    /// Draws a fresh key.
    pub fn generate(entropy: &dyn Entropy) -> Result<Self, EntropyError> {
        SecretBytes::random(entropy).map(Self)
    }

    /// Takes 32 bytes that already are a recovery key.
    pub fn from_bytes(bytes: SecretBytes<32>) -> Self {
        Self(bytes)
    }

    /// Reads a key from its words, in any case, separated by whatever is no letter. The first four
    /// letters of a word are enough.
    pub fn from_words(text: &str) -> Result<Self, RecoveryKeyError> {
        let words = text.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty());
        let found = words.clone().count();
        if found != RECOVERY_WORDS {
            return Err(RecoveryKeyError::Count { found });
        }
        let mut bits = Zeroizing::new([0_u8; 33]);
        for (place, word) in words.enumerate() {
            let index = word_index(word).ok_or(RecoveryKeyError::Word { position: place + 1 })?;
            put_word(&mut bits, place, index);
        }
        let (key, check) = bits.split_at(32);
        let key = Self(SecretBytes::init(|bytes| bytes.copy_from_slice(key)));
        if check == [key.checksum()] { Ok(key) } else { Err(RecoveryKeyError::Checksum) }
    }

    /// Returns the 24 words with a space between each two. Each call site answers for where they go.
    pub fn expose_words(&self) -> Zeroizing<String> {
        let mut bits = Zeroizing::new([0_u8; 33]);
        bits[..32].copy_from_slice(self.0.expose());
        bits[32] = self.checksum();
        // No word has more than 8 letters: the text is never moved while it grows.
        let mut text = Zeroizing::new(String::with_capacity(RECOVERY_WORDS * 9));
        for place in 0..RECOVERY_WORDS {
            if place > 0 {
                text.push(' ');
            }
            text.push_str(English::words()[take_word(&bits, place)]);
        }
        text
    }

    /// Returns the secret bytes. Each call site answers for where they go.
    pub fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }

    fn checksum(&self) -> u8 {
        Sha256::digest(self.0.expose())[0]
    }
}

impl fmt::Debug for RecoveryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecoveryKey(redacted)")
    }
}

fn word_index(word: &str) -> Option<usize> {
    let mut typed = Zeroizing::new(String::with_capacity(word.len()));
    typed.push_str(word);
    typed.make_ascii_lowercase();
    let words = English::words();
    let index = words.partition_point(|&listed| listed < typed.as_str());
    let listed = words.get(index)?;
    let enough = typed.len() >= TELLING_LETTERS && listed.starts_with(typed.as_str());
    (enough || *listed == typed.as_str()).then_some(index)
}

/// Writes the 11 bits of a word, most significant first.
fn put_word(bits: &mut [u8; 33], place: usize, index: usize) {
    for bit in 0..BITS_PER_WORD {
        let at = place * BITS_PER_WORD + bit;
        let set = index >> (BITS_PER_WORD - 1 - bit) & 1 == 1;
        bits[at / 8] |= u8::from(set) << (7 - at % 8);
    }
}

fn take_word(bits: &[u8; 33], place: usize) -> usize {
    (0..BITS_PER_WORD).fold(0, |index, bit| {
        let at = place * BITS_PER_WORD + bit;
        index << 1 | usize::from(bits[at / 8] >> (7 - at % 8) & 1)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;

    fn key(bytes: [u8; 32]) -> RecoveryKey {
        RecoveryKey::from_bytes(SecretBytes::init(|key| *key = bytes))
    }

    /// Vectors published with BIP-39 (Trezor's list).
    #[test]
    fn published_vectors_agree() {
        let zoo = "zoo ".repeat(23) + "vote";
        let abandon = "abandon ".repeat(23) + "art";
        let legal = "legal winner thank year wave sausage worth useful legal winner thank year wave \
            sausage worth useful legal winner thank year wave sausage worth title";
        for (fill, words) in [(0, abandon.as_str()), (0xff, zoo.as_str()), (0x7f, legal)] {
            let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
            assert_eq!(*key([fill; 32]).expose_words(), words);
            assert_eq!(RecoveryKey::from_words(&words).unwrap().expose(), &[fill; 32]);
        }
    }

    #[test]
    fn case_separators_and_endings_do_not_matter() {
        let typed = "1. ABAN 2. aband\n".to_owned() + &"abandon, ".repeat(21) + "Art!";
        assert_eq!(RecoveryKey::from_words(&typed).unwrap().expose(), &[0; 32]);
    }

    #[test]
    fn mistakes_are_told_without_repeating_words() {
        let with = |text: &str| RecoveryKey::from_words(text).unwrap_err();
        assert_eq!(with(""), RecoveryKeyError::Count { found: 0 });
        assert_eq!(with(&"abandon ".repeat(25)), RecoveryKeyError::Count { found: 25 });
        assert_eq!(with(&"abandon ".repeat(24)), RecoveryKeyError::Checksum);
        for wrong in ["aba", "abandons", "zzzz", "ärger"] {
            let typed = format!("abandon {wrong} {}art", "abandon ".repeat(21));
            let error = with(&typed);
            assert_eq!(error, RecoveryKeyError::Word { position: 2 }, "{wrong}");
            assert!(!error.to_string().contains(wrong));
        }
    }

    #[test]
    fn the_list_is_what_the_lookup_relies_on() {
        let words = English::words();
        assert!(words.is_sorted());
        assert!(words.iter().all(|word| word.len() <= 8 && word.len() >= 3));
        let telling = |word: &'static str| word.get(..TELLING_LETTERS).unwrap_or(word);
        assert!(words.windows(2).all(|pair| telling(pair[0]) != telling(pair[1])));
    }

    proptest! {
        #[test]
        fn words_lead_back_to_the_key(bytes: [u8; 32]) {
            let words = key(bytes).expose_words();
            let read = RecoveryKey::from_words(&words).unwrap();
            prop_assert_eq!(read.expose(), &bytes);
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".{0,400}") {
            let _ = RecoveryKey::from_words(&text);
        }
    }
}
