//! What a build says, as lines for people.
//!
//! The engine hands on whatever programs wrote, in pieces that end anywhere, and colours what went to standard error.

/// The most characters of a line that has no end yet.
const LONGEST: usize = 16 << 10;

/// Puts lines together.
#[derive(Debug, Default)]
pub(super) struct BuildLog {
    unfinished: String,
    in_escape: Escape,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Escape {
    #[default]
    No,
    /// After ESC.
    Begun,
    /// In a sequence that a letter ends.
    Control,
}

impl BuildLog {
    /// Takes a piece; returns the lines that it completes, those without content left out.
    pub(super) fn feed(&mut self, piece: &str) -> Vec<String> {
        let mut lines = Vec::new();
        for c in piece.chars() {
            match (self.in_escape, c) {
                (Escape::No, '\u{1b}') => self.in_escape = Escape::Begun,
                (Escape::No, '\n') => lines.extend(self.line()),
                (Escape::No, _) => {
                    self.unfinished.push(c);
                    if self.unfinished.len() >= LONGEST {
                        lines.extend(self.line());
                    }
                }
                (Escape::Begun, '[') => self.in_escape = Escape::Control,
                (Escape::Control, '\u{20}'..='\u{3f}') => {}
                (Escape::Begun | Escape::Control, _) => self.in_escape = Escape::No,
            }
        }
        lines
    }

    /// Returns what was said last, if no end of line came after it.
    pub(super) fn line(&mut self) -> Option<String> {
        let line = std::mem::take(&mut self.unfinished);
        // What a progress bar has overwritten, nobody would see.
        let seen = line.trim_end().rsplit('\r').next().unwrap_or_default();
        (!seen.trim().is_empty()).then(|| seen.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_become_lines_without_the_engines_colours() {
        let mut log = BuildLog::default();
        let mut said = Vec::new();
        for piece in [
            "Step 1/2 : RUN dd\n",
            " ---> Running in 93\n",
            "\u{1b}[91mdd: \u{1b}[0m",
            "\u{1b}[91merror writing '/big'\u{1b}[0m",
            "\u{1b}[91m: No space left on device\u{1b}",
            "[0m",
            "\u{1b}[91m\n\u{1b}[0m",
            "\n",
            "10 %\r20 %\r100 %\r\nlast",
        ] {
            said.extend(log.feed(piece));
        }
        said.extend(log.line());
        assert_eq!(
            said,
            [
                "Step 1/2 : RUN dd",
                " ---> Running in 93",
                "dd: error writing '/big': No space left on device",
                "100 %",
                "last"
            ]
        );
        assert_eq!(log.line(), None);
    }

    #[test]
    fn a_line_without_end_is_told_in_parts() {
        let mut log = BuildLog::default();
        assert_eq!(log.feed(&"x".repeat(3 * LONGEST)).len(), 3);
    }
}
