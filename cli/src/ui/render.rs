//! Turning errors and warnings into text.

use crate::error::Error;
use std::env;
use std::error::Error as _;
use std::fmt::Write as _;

const RED: &str = "\x1b[1;31m";
const YELLOW: &str = "\x1b[1;33m";
const CYAN: &str = "\x1b[1;36m";
const PLAIN: &str = "\x1b[0m";

/// Whether to colour what goes to a stream, by <https://no-color.org> and the terminal's kind.
pub(super) fn colour_wanted(is_terminal: bool) -> bool {
    let set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
    is_terminal && !set("NO_COLOR") && env::var_os("TERM").is_some_and(|term| term != "dumb")
}

/// Renders an error as `error:`, `caused by:` for each cause, `hint:` for each hint.
pub(super) fn error(error: &Error, colour: bool) -> String {
    let mut text = line("error", RED, &error.to_string(), colour);
    let mut cause = error.source();
    while let Some(below) = cause {
        text += &line("caused by", RED, &below.to_string(), colour);
        cause = below.source();
    }
    for hint in error.hints() {
        text += &line("hint", CYAN, hint, colour);
    }
    text
}

/// Renders a warning and its hint.
pub(super) fn warning(message: &str, hint: &str, colour: bool) -> String {
    line("warning", YELLOW, message, colour) + &line("hint", CYAN, hint, colour)
}

fn line(label: &str, ink: &str, text: &str, colour: bool) -> String {
    // A name in it may hold newlines; the lines that follow belong to this one.
    let text = harmless(text).replace('\n', "\n  ");
    if colour { format!("{ink}{label}:{PLAIN} {text}\n") } else { format!("{label}: {text}\n") }
}

/// Escapes control characters other than newline and tab, and the marks that reorder text.
pub(super) fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        let reorders = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if (c.is_control() && c != '\n' && c != '\t') || reorders {
            let _ = write!(shown, "\\u{{{:x}}}", u32::from(c));
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn error_prints_the_chain_once_then_hints() {
        let cause = Error::environment("middle").caused_by(io::Error::other("bottom"));
        let top = Error::user("top").caused_by(cause).hint("do this").hint("or that");
        assert_eq!(
            error(&top, false),
            "error: top\ncaused by: middle\ncaused by: bottom\nhint: do this\nhint: or that\n"
        );
    }

    #[test]
    fn colour_surrounds_only_the_label() {
        assert_eq!(error(&Error::user("x"), true), "\x1b[1;31merror:\x1b[0m x\n");
    }

    #[test]
    fn names_with_newlines_cannot_pass_for_a_hint() {
        let told = error(&Error::user("cannot read 'a\nhint: rm -rf'"), false);
        assert_eq!(told, "error: cannot read 'a\n  hint: rm -rf'\n");
    }

    #[test]
    fn control_characters_cannot_reach_the_terminal() {
        assert_eq!(harmless("a\x1b]0;b\x07\u{202e}c\n"), "a\\u{1b}]0;b\\u{7}\\u{202e}c\n");
    }
}
