//! `.dockerignore`: what stays out of a build, by the rules that Docker documents.
//!
//! Patterns are relative to the context's root, `*` and `?` stay within one name, `**` spans any
//! number of folders, `!` takes an exception back, and the last pattern that matches a path or a
//! folder above it decides.

use std::iter::Peekable;
use std::str::Chars;

/// What keeps files out of a build context.
#[derive(Debug, Default)]
pub(super) struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    pattern: Vec<String>,
    excludes: bool,
}

/// A line that is no pattern.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable {
    /// Its number, from 1.
    pub(super) line: usize,
    /// What is wrong with it.
    pub(super) what: &'static str,
}

impl Ignore {
    /// Reads the text of a `.dockerignore`. One line that means nothing spoils it: what it was to keep out would go along.
    pub(super) fn parse(text: &str) -> Result<Self, Unreadable> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut rules = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let fault = |what| Unreadable { line: index + 1, what };
            rules.extend(Rule::parse(line).map_err(fault)?);
        }
        Ok(Self { rules })
    }

    /// Whether a path, relative to the context, stays out.
    pub(super) fn excludes(&self, path: &str) -> bool {
        let parts: Vec<&str> = path.split('/').collect();
        let mut excluded = false;
        for rule in &self.rules {
            let covers = |end| parts.get(..end).is_some_and(|part| matches(&rule.pattern, part));
            if rule.excludes != excluded && (1..=parts.len()).any(covers) {
                excluded = rule.excludes;
            }
        }
        excluded
    }

    /// Whether something below an excluded folder may come back.
    pub(super) fn has_exceptions(&self) -> bool {
        self.rules.iter().any(|rule| !rule.excludes)
    }
}

impl Rule {
    fn parse(line: &str) -> Result<Option<Self>, &'static str> {
        if line.starts_with('#') {
            return Ok(None);
        }
        let line = line.trim();
        let (excludes, pattern) = match line.strip_prefix('!').map(str::trim) {
            Some(rest) if rest.trim_matches('/').is_empty() => {
                return Err("there is nothing after the '!'");
            }
            Some(rest) => (false, rest),
            None => (true, line),
        };
        let mut parts: Vec<String> = Vec::new();
        for part in pattern.split('/') {
            match part {
                "" | "." => {}
                ".." => {
                    parts.pop();
                }
                _ => parts.push(part.to_owned()),
            }
        }
        for part in &parts {
            tokens(part)?;
        }
        // The root itself cannot be left out.
        Ok((!parts.is_empty()).then_some(Self { pattern: parts, excludes }))
    }
}

/// Matches whole paths; a table instead of recursion, so that no pattern takes long.
fn matches(pattern: &[String], path: &[&str]) -> bool {
    let mut reached = vec![false; path.len() + 1];
    if let Some(first) = reached.first_mut() {
        *first = true;
    }
    for (number, part) in pattern.iter().enumerate() {
        // At the end it means what is in a folder, not the folder.
        let within = usize::from(number + 1 == pattern.len());
        let mut next = vec![false; path.len() + 1];
        let mut any = false;
        for (index, here) in reached.iter().enumerate() {
            if part == "**" {
                any |= *here;
                set(&mut next, index + within, any);
            } else if *here && path.get(index).is_some_and(|name| name_matches(part, name)) {
                set(&mut next, index + 1, true);
            }
        }
        reached = next;
    }
    reached.last().copied().unwrap_or(false)
}

fn set(table: &mut [bool], index: usize, value: bool) {
    if let Some(entry) = table.get_mut(index) {
        *entry = value;
    }
}

/// Matches one name against `*`, `?`, `[a-z]`, `[^a-z]` and `\` before a character.
fn name_matches(pattern: &str, name: &str) -> bool {
    let name: Vec<char> = name.chars().collect();
    let mut reached = vec![false; name.len() + 1];
    set(&mut reached, 0, true);
    // They were read before: a rule is made of nothing else.
    for token in tokens(pattern).unwrap_or_default() {
        let mut next = vec![false; name.len() + 1];
        let mut any = false;
        for (index, here) in reached.iter().enumerate() {
            if matches!(token, Token::Any) {
                any |= *here;
                set(&mut next, index, any);
            } else if *here && name.get(index).is_some_and(|c| token.takes(*c)) {
                set(&mut next, index + 1, true);
            }
        }
        reached = next;
    }
    reached.last().copied().unwrap_or(false)
}

enum Token {
    Any,
    One,
    Exactly(char),
    Class { negated: bool, ranges: Vec<(char, char)> },
}

impl Token {
    fn takes(&self, c: char) -> bool {
        match self {
            Self::Any | Self::One => true,
            Self::Exactly(expected) => c == *expected,
            Self::Class { negated, ranges } => {
                ranges.iter().any(|(first, last)| (*first..=*last).contains(&c)) != *negated
            }
        }
    }
}

fn tokens(pattern: &str) -> Result<Vec<Token>, &'static str> {
    let mut tokens = Vec::new();
    let mut rest = pattern.chars().peekable();
    while let Some(c) = rest.next() {
        tokens.push(match c {
            '*' => {
                while rest.next_if_eq(&'*').is_some() {}
                Token::Any
            }
            '?' => Token::One,
            '\\' => Token::Exactly(rest.next().ok_or(NOTHING_ESCAPED)?),
            '[' => class(&mut rest)?,
            _ => Token::Exactly(c),
        });
    }
    Ok(tokens)
}

const NOTHING_ESCAPED: &str = "there is nothing after the '\\'";
const OPEN_CLASS: &str = "a '[' begins a set of characters, and no ']' ends it";

/// Reads what stands between brackets: at least one character or range.
fn class(rest: &mut Peekable<Chars<'_>>) -> Result<Token, &'static str> {
    let negated = rest.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    while ranges.is_empty() || rest.next_if_eq(&']').is_none() {
        let first = member(rest)?;
        let last = if rest.next_if_eq(&'-').is_some() { member(rest)? } else { first };
        ranges.push((first, last));
    }
    Ok(Token::Class { negated, ranges })
}

fn member(rest: &mut Peekable<Chars<'_>>) -> Result<char, &'static str> {
    match rest.next().ok_or(OPEN_CLASS)? {
        '\\' => rest.next().ok_or(NOTHING_ESCAPED),
        ']' => Err("a set of characters '[...]' is empty, or a range in it has no end"),
        '-' => {
            Err("a '-' in a set of characters '[...]' stands between two of them, or after a '\\'")
        }
        c => Ok(c),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn patterns_mean_what_docker_documents() {
        for (rules, excluded, kept) in [
            ("*/temp*", vec!["a/temp", "a/temporary.txt", "a/temp/x"], vec!["temp", "a/b/temp"]),
            ("*/*/temp*", vec!["a/b/temporary"], vec!["a/temp"]),
            ("temp?", vec!["tempa", "tempb/x"], vec!["temp", "tempab", "x/tempa"]),
            ("**/*.go", vec!["x.go", "a/b/x.go"], vec!["x.gone"]),
            ("a/**", vec!["a/x", "a/b/c"], vec!["a", "b"]),
            ("**", vec!["a", "a/b"], vec![]),
            ("**/a/**", vec!["a/x", "b/a/x"], vec!["a", "b/a"]),
            ("a/**/c", vec!["a/c", "a/b/c", "a/b/b/c/d"], vec!["a/b"]),
            ("/a\n./b\nc/\nd/../e", vec!["a", "b/x", "c/x", "e"], vec!["d", "x/a"]),
            ("*.md\n!README.md", vec!["x.md"], vec!["README.md"]),
            ("*.md\n!README*.md\nREADME-secret.md", vec!["README-secret.md"], vec!["README-x.md"]),
            ("dir\n!dir/keep", vec!["dir/x"], vec!["dir/keep"]),
            ("# no\n\n  x  ", vec!["x"], vec!["# no", "no"]),
            ("[a-c]x\n[^a-y]q", vec!["ax", "zq"], vec!["dx", "aq"]),
            ("[!a]x\n[\\]\\-]y", vec!["!x", "ax", "]y", "-y"], vec!["bx", "\\y"]),
            ("\\*", vec!["*"], vec!["a"]),
            ("x\n!.", vec!["x"], vec![]),
            ("*\n!src", vec!["a", ".git/x"], vec!["src", "src/x"]),
        ] {
            let ignore = Ignore::parse(rules).unwrap();
            for path in excluded {
                assert!(ignore.excludes(path), "{rules:?} must exclude {path}");
            }
            for path in kept {
                assert!(!ignore.excludes(path), "{rules:?} must keep {path}");
            }
        }
    }

    #[test]
    fn what_docker_refuses_is_refused_with_its_line() {
        for pattern in [
            "!", " ! ", "!/", "[", "a[", "[]", "[]a]", "[^]", "[a", "[a-", "[a-]", "[-a]",
            "[a-b-c]", "[-]", "\\", "a/\\", "[\\", "![", "b/[/c", "**/[",
        ] {
            let fault = Ignore::parse(&format!("# [\n\nfine\n{pattern}\n*.md")).unwrap_err();
            assert_eq!(fault.line, 4, "{pattern}: {fault:?}");
        }
        assert!(Ignore::parse("[/../x\n]\n-\na-b").is_ok());
    }

    #[test]
    fn no_pattern_takes_long() {
        let ignore =
            Ignore::parse(&format!("{}b\n{}b", "a*".repeat(200), "**/a/".repeat(200))).unwrap();
        assert!(!ignore.excludes(&"a".repeat(4000)));
        assert!(!ignore.excludes(&vec!["a"; 1000].join("/")));
    }
}
