//! Masking values in what a program writes, as it comes.
//!
//! Each value is looked for by itself, byte by byte (Knuth, Morris and Pratt), so that it is found
//! however the program cuts its output. What could be the beginning of a value is held back until it
//! is known.

use zeroize::Zeroizing;

/// What stands in the place of a value.
const MASK: &[u8] = b"[redacted]";

/// A shorter value would mask half of any text.
pub(crate) const SHORTEST: usize = 4;

/// Lines of longer values are masked by themselves, if they have as much as this.
const SHORTEST_LINE: usize = 8;

/// One thing to look for.
struct Pattern {
    text: Zeroizing<Vec<u8>>,
    /// For each length of a match, the next shorter one that it also is.
    shorter: Vec<u32>,
    matched: usize,
}

impl Pattern {
    fn new(text: Zeroizing<Vec<u8>>) -> Self {
        let mut shorter = vec![0_u32; text.len()];
        let mut length = 0_usize;
        for at in 1..text.len() {
            while length > 0 && text[at] != text[length] {
                length = shorter[length - 1] as usize;
            }
            if text[at] == text[length] {
                length += 1;
            }
            shorter[at] = u32::try_from(length).unwrap_or(0);
        }
        Self { text, shorter, matched: 0 }
    }

    /// Takes the next byte; says whether a match ends with it.
    fn step(&mut self, byte: u8) -> bool {
        while self.matched > 0 && self.text[self.matched] != byte {
            self.matched = self.shorter[self.matched - 1] as usize;
        }
        if self.text[self.matched] == byte {
            self.matched += 1;
        }
        if self.matched == self.text.len() {
            self.matched = self.shorter[self.matched - 1] as usize;
            return true;
        }
        false
    }
}

/// A stream in which values are masked.
pub(crate) struct Redactor {
    patterns: Vec<Pattern>,
    /// What is not known to be harmless yet, with marks on what is part of a value.
    held: Zeroizing<Vec<u8>>,
    masked: Vec<bool>,
    /// Whether the last byte that went out belonged to a mask.
    in_mask: bool,
}

impl Redactor {
    /// Makes a redactor of the values, and of the long lines of values that have several.
    pub(crate) fn new<'v>(values: impl IntoIterator<Item = &'v [u8]>) -> Self {
        let mut texts: Vec<&[u8]> = Vec::new();
        for value in values {
            texts.push(value);
            // A program may show the value with its last newline cut off, or indented.
            texts.push(value.trim_ascii());
            texts.extend(
                value
                    .split(|byte| *byte == b'\n')
                    .map(<[u8]>::trim_ascii)
                    .filter(|line| line.len() >= SHORTEST_LINE),
            );
        }
        texts.retain(|text| text.len() >= SHORTEST);
        texts.sort_unstable();
        texts.dedup();
        let patterns = texts.into_iter().map(|text| Pattern::new(Zeroizing::new(text.to_vec())));
        Self {
            patterns: patterns.collect(),
            held: Zeroizing::new(Vec::new()),
            masked: Vec::new(),
            in_mask: false,
        }
    }

    /// Takes a part of the stream; returns what can be shown by now.
    pub(crate) fn push(&mut self, part: &[u8]) -> Vec<u8> {
        for &byte in part {
            self.held.push(byte);
            self.masked.push(false);
            for pattern in &mut self.patterns {
                if pattern.step(byte) {
                    let start = self.held.len().saturating_sub(pattern.text.len());
                    self.masked.iter_mut().skip(start).for_each(|mark| *mark = true);
                }
            }
        }
        let open = self.patterns.iter().map(|pattern| pattern.matched).max().unwrap_or(0);
        self.release(self.held.len().saturating_sub(open))
    }

    /// Ends the stream; returns the rest.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        self.release(self.held.len())
    }

    fn release(&mut self, count: usize) -> Vec<u8> {
        let mut shown = Vec::with_capacity(count);
        for (byte, masked) in self.held.drain(..count).zip(self.masked.drain(..count)) {
            if !masked {
                shown.push(byte);
            } else if !self.in_mask {
                shown.extend_from_slice(MASK);
            }
            self.in_mask = masked;
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn redacted(values: &[&str], parts: &[&str]) -> String {
        let mut redactor = Redactor::new(values.iter().map(|value| value.as_bytes()));
        let mut shown = Vec::new();
        for part in parts {
            shown.extend(redactor.push(part.as_bytes()));
        }
        shown.extend(redactor.finish());
        String::from_utf8_lossy(&shown).into_owned()
    }

    #[test]
    fn values_are_masked_however_the_output_is_cut() {
        assert_eq!(redacted(&["secret"], &["a se", "cr", "et b secre"]), "a [redacted] b secre");
        assert_eq!(redacted(&["aaab", "baaa"], &["aaaabaaa."]), "a[redacted].");
        assert_eq!(redacted(&["short", "shorter one"], &["shorter one"]), "[redacted]");
        assert_eq!(redacted(&["abc", ""], &["abc"]), "abc");
        assert_eq!(redacted(&["line one!\nline two!\n"], &["  line two!\n"]), "  [redacted]\n");
    }

    #[test]
    fn what_can_be_no_value_is_shown_at_once() {
        let mut redactor = Redactor::new([b"secret".as_slice()]);
        assert_eq!(redactor.push(b"prompt> "), b"prompt> ");
        assert_eq!(redactor.push(b"sec"), b"");
        assert_eq!(redactor.push(b"ond"), b"second");
    }

    proptest! {
        #[test]
        fn no_value_is_ever_shown_and_the_rest_is(
            values in proptest::collection::vec("[ab]{4,7}", 1..5),
            text in "[abc]{0,80}",
            cuts in proptest::collection::vec(0..80_usize, 0..6),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.push(text.len());
            cuts.sort_unstable();
            let mut start = 0;
            let parts: Vec<&str> = cuts.iter().map(|cut| {
                let part = &text[start..*cut];
                start = *cut;
                part
            }).collect();
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            let shown = redacted(&values, &parts);
            for value in &values {
                prop_assert!(!shown.contains(value));
            }
            // Marks found by looking at every place are what is masked.
            let mut masked = vec![false; text.len()];
            for value in &values {
                for (at, _) in text.match_indices("").filter(|(at, _)| text[*at..].starts_with(value)) {
                    masked[at..at + value.len()].fill(true);
                }
            }
            let mut expected = String::new();
            let mut before = false;
            for (byte, mark) in text.chars().zip(masked) {
                if !mark { expected.push(byte); } else if !before { expected += "[redacted]"; }
                before = mark;
            }
            prop_assert_eq!(shown, expected);
        }
    }
}
