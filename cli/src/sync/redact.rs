//! Masking values in what a program writes, as it comes.
//!
//! All values are looked for at once (Aho and Corasick), so that what a byte costs does not grow with what there is to
//! look for, and byte by byte, so that a value is found however the program cuts its output. What could be the beginning
//! of a value is held back until it is known.

use std::collections::VecDeque;
use std::ops::Range;
use zeroize::Zeroizing;

/// What stands in the place of a value.
const MASK: &[u8] = b"[redacted]";

/// A shorter value would mask half of any text.
pub(crate) const SHORTEST: usize = 4;

/// Lines of longer values are masked by themselves, if they have as much as this.
const SHORTEST_LINE: usize = 8;

/// The beginning of which nothing was seen yet, where every search starts. No other leads to it, so that it stands for
/// none too.
const NOTHING: u32 = 0;

/// Everything that is looked for, as a tree of the beginnings of texts.
pub(crate) struct Patterns {
    nodes: Vec<Node>,
    /// What each first byte leads to: the one node that may have many.
    first: [u32; 256],
}

/// One beginning of a text.
#[derive(Clone, Copy, Default)]
struct Node {
    length: u32,
    /// The longest other beginning that this one ends with.
    shorter: u32,
    /// The length of the longest whole text that this one ends with; 0 for none.
    whole: u32,
    /// One that is a byte longer, and the next one with the same bytes but for its last.
    longer: u32,
    sibling: u32,
    byte: u8,
}

impl Patterns {
    /// Takes the values, and the long lines of values that have several.
    pub(crate) fn of<'v>(values: impl IntoIterator<Item = &'v [u8]>) -> Self {
        let mut patterns = Self { nodes: vec![Node::default()], first: [NOTHING; 256] };
        for value in values {
            patterns.add(value);
            // A program may show the value with its last newline cut off, or indented.
            patterns.add(value.trim_ascii());
            let lines = value.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
            lines.filter(|line| line.len() >= SHORTEST_LINE).for_each(|line| patterns.add(line));
        }
        patterns.link();
        patterns
    }

    fn node(&self, number: u32) -> &Node {
        &self.nodes[number as usize]
    }

    fn add(&mut self, text: &[u8]) {
        // A number counts up to 4 GiB, which the values of a pull do not have together.
        let after = self.nodes.len().saturating_add(text.len());
        if text.len() < SHORTEST || u32::try_from(after).is_err() {
            return;
        }
        let mut at = NOTHING;
        for &byte in text {
            at = match self.longer(at, byte) {
                NOTHING => self.lengthen(at, byte),
                found => found,
            };
        }
        let node = &mut self.nodes[at as usize];
        node.whole = node.length;
    }

    /// The beginning that is longer by this byte; `NOTHING` if no text goes on like that.
    fn longer(&self, at: u32, byte: u8) -> u32 {
        if at == NOTHING {
            return self.first[usize::from(byte)];
        }
        let mut found = self.node(at).longer;
        while found != NOTHING && self.node(found).byte != byte {
            found = self.node(found).sibling;
        }
        found
    }

    fn lengthen(&mut self, at: u32, byte: u8) -> u32 {
        let new = u32::try_from(self.nodes.len()).unwrap_or(NOTHING);
        let Node { length, longer: sibling, .. } = *self.node(at);
        self.nodes.push(Node { length: length + 1, sibling, byte, ..Node::default() });
        self.nodes[at as usize].longer = new;
        if at == NOTHING {
            self.first[usize::from(byte)] = new;
        }
        new
    }

    /// Finds for each beginning the shorter one, from short to long.
    fn link(&mut self) {
        let mut waiting = VecDeque::from([NOTHING]);
        while let Some(at) = waiting.pop_front() {
            let mut longer = self.node(at).longer;
            while longer != NOTHING {
                let byte = self.node(longer).byte;
                let shorter =
                    if at == NOTHING { NOTHING } else { self.next(self.node(at).shorter, byte) };
                let inherited = self.node(shorter).whole;
                let node = &mut self.nodes[longer as usize];
                node.shorter = shorter;
                node.whole = node.whole.max(inherited);
                waiting.push_back(longer);
                longer = node.sibling;
            }
        }
    }

    /// The longest beginning that what was seen ends with, after one byte more.
    fn next(&self, mut at: u32, byte: u8) -> u32 {
        loop {
            match self.longer(at, byte) {
                NOTHING if at == NOTHING => return NOTHING,
                NOTHING => at = self.node(at).shorter,
                found => return found,
            }
        }
    }

    /// The longest beginning that can still become more than it is.
    fn open(&self, mut at: u32) -> u32 {
        while at != NOTHING && self.node(at).longer == NOTHING {
            at = self.node(at).shorter;
        }
        at
    }
}

/// A stream in which values are masked.
pub(crate) struct Redactor<'p> {
    patterns: &'p Patterns,
    /// The longest beginning that the stream ends with.
    at: u32,
    /// What is not known to be harmless yet.
    held: Zeroizing<Vec<u8>>,
    /// What of it is part of a value, in order and apart from each other.
    masked: VecDeque<Range<usize>>,
    /// Whether the last byte that went out belonged to a mask.
    in_mask: bool,
}

impl<'p> Redactor<'p> {
    /// Looks for these in a new stream.
    pub(crate) fn new(patterns: &'p Patterns) -> Self {
        Self {
            patterns,
            at: NOTHING,
            held: Zeroizing::new(Vec::new()),
            masked: VecDeque::new(),
            in_mask: false,
        }
    }

    /// Takes a part of the stream; returns what can be shown by now.
    pub(crate) fn push(&mut self, part: &[u8]) -> Vec<u8> {
        for &byte in part {
            self.held.push(byte);
            let at = self.patterns.next(self.at, byte);
            let whole = self.patterns.node(at).whole as usize;
            if whole > 0 {
                self.mask(self.held.len().saturating_sub(whole));
            }
            self.at = self.patterns.open(at);
        }
        let open = self.patterns.node(self.at).length as usize;
        self.release(self.held.len().saturating_sub(open))
    }

    /// Ends the stream; returns the rest.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        self.release(self.held.len())
    }

    /// Marks everything from here to the end of what is held.
    fn mask(&mut self, mut start: usize) {
        while let Some(last) = self.masked.back().filter(|last| last.end >= start) {
            start = start.min(last.start);
            self.masked.pop_back();
        }
        self.masked.push_back(start..self.held.len());
    }

    fn release(&mut self, count: usize) -> Vec<u8> {
        let mut shown = Vec::with_capacity(count);
        let mut at = 0;
        while at < count {
            let mask = self.masked.front().map_or(count..count, Clone::clone);
            let plain = at..mask.start.clamp(at, count);
            let hidden = plain.end..mask.end.clamp(plain.end, count);
            if !plain.is_empty() {
                shown.extend_from_slice(&self.held[plain.clone()]);
                self.in_mask = false;
            }
            if !hidden.is_empty() && !self.in_mask {
                shown.extend_from_slice(MASK);
                self.in_mask = true;
            }
            at = hidden.end;
            if mask.end <= count {
                self.masked.pop_front();
            }
        }
        self.held.drain(..count);
        for mask in &mut self.masked {
            *mask = mask.start.saturating_sub(count)..mask.end - count;
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn redacted(values: &[&str], parts: &[&str]) -> String {
        let patterns = Patterns::of(values.iter().map(|value| value.as_bytes()));
        let mut redactor = Redactor::new(&patterns);
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
        let patterns = Patterns::of([b"secret".as_slice()]);
        let mut redactor = Redactor::new(&patterns);
        assert_eq!(redactor.push(b"prompt> "), b"prompt> ");
        assert_eq!(redactor.push(b"sec"), b"");
        assert_eq!(redactor.push(b"ond"), b"second");
    }

    /// Each line is looked for by itself, and every repetition ends with a whole value: were either gone through for each
    /// byte, these would take hours.
    #[test]
    fn large_values_of_many_lines_and_of_one_letter_are_masked_too() {
        let lines: String = (0..60_000)
            .fold(String::new(), |text, line| text + &format!("line {line:010} of it\n"));
        let letters = "a".repeat(1 << 20);
        let shown = redacted(&[&lines, &letters], &[&lines[7..], ".", &letters, &letters, "b"]);
        let expected = "[redacted]\n".repeat(59_999);
        assert!(shown == format!("00000000 of it\n{expected}.[redacted]b"), "{shown:.200}");
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
