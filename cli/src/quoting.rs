//! Names and values as words of a command line, as part of one line that a person reads, and in JSON.

use crate::args::project::Shell;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Serialize, Serializer};
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;

/// Adds one word in single quotes, in which a shell expands nothing. It takes four bytes for each of `word`'s at most,
/// and two more.
pub(crate) fn push(out: &mut Vec<u8>, shell: Shell, word: &[u8]) {
    out.push(b'\'');
    for &byte in word {
        match (shell, byte) {
            (Shell::Bash | Shell::Zsh, b'\'') => out.extend(br"'\''"),
            (Shell::Fish, b'\'' | b'\\') => out.extend([b'\\', byte]),
            _ => out.push(byte),
        }
    }
    out.push(b'\'');
}

/// Returns the name of a file as a word of a command that a person may copy into bash or zsh; no program takes it for an
/// option.
pub(crate) fn word(name: impl AsRef<OsStr>) -> String {
    let name = name.as_ref().as_bytes();
    let is_input = name == b"-";
    let name = if name.starts_with(b"-") && !is_input { &[b"./", name].concat() } else { name };
    match str::from_utf8(name) {
        Ok(text) if !text.contains(char::is_control) => {
            let mut quoted = Vec::new();
            push(&mut quoted, Shell::Bash, name);
            String::from_utf8_lossy(&quoted).into_owned()
        }
        _ => escaped(name),
    }
}

/// What no terminal shows as it is goes by number, in the one form that both shells read.
fn escaped(name: &[u8]) -> String {
    let mut quoted = "$'".to_owned();
    for &byte in name {
        match byte {
            b'\n' => quoted.push_str("\\n"),
            b'\\' | b'\'' => quoted.extend(['\\', char::from(byte)]),
            b' '..=b'~' => quoted.push(char::from(byte)),
            // Three digits: one that follows is not taken for a fourth.
            _ => drop(write!(quoted, "\\{byte:03o}")),
        }
    }
    quoted.push('\'');
    quoted
}

/// Returns a path of a vault or an archive as text that cannot begin another line of what we say.
pub(crate) fn on_one_line(path: &[u8]) -> String {
    String::from_utf8_lossy(path).replace('\n', "\\n")
}

/// A name in JSON: text as it is. What is no UTF-8, which JSON has no place for, is an object with its bytes: a program
/// that does not know it stops there, and takes no other file for this one.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum JsonName {
    /// UTF-8.
    Text(String),
    /// Anything else.
    Bytes {
        /// All of it.
        base64: String,
    },
}

impl JsonName {
    /// Takes a name as it is.
    pub(crate) fn of(name: &[u8]) -> Self {
        match str::from_utf8(name) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Bytes { base64: BASE64_STANDARD.encode(name) },
        }
    }

    /// Takes what a person is shown of a path where that is all of it, else the path.
    pub(crate) fn shown(path: impl AsRef<OsStr>, shown: &str) -> Self {
        let path = path.as_ref();
        if path.to_str().is_some() {
            Self::Text(shown.to_owned())
        } else {
            Self::of(path.as_bytes())
        }
    }
}

/// Writes a path of the machine's into JSON.
pub(crate) fn in_json<S: Serializer>(path: impl AsRef<OsStr>, to: S) -> Result<S::Ok, S::Error> {
    JsonName::of(path.as_ref().as_bytes()).serialize(to)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::process::Command;

    #[test]
    fn words_name_the_same_file_to_a_shell() {
        let names: [&[u8]; 9] = [
            b"plain.age",
            b"two words",
            b"it's",
            b"$(reboot) `x` \"y\" \\ !! ~",
            b"a\nb'c\\d",
            b"\x1b]0;title\x07",
            b"\xff\xfe7",
            "größe €".as_bytes(),
            b"a\t1",
        ];
        for name in names {
            let word = word(OsStr::from_bytes(name));
            let shell = Command::new("bash").args(["-c", &format!("printf %s {word}")]).output();
            assert_eq!(shell.unwrap().stdout, name, "{word}");
            assert!(!word.contains(char::is_control), "{word:?}");
        }
    }

    #[test]
    fn usual_names_are_shown_as_they_are_and_none_is_an_option() {
        assert_eq!(word("backup.tar.age"), "'backup.tar.age'");
        assert_eq!(word("it's"), r"'it'\''s'");
        assert_eq!(word("-rf"), "'./-rf'");
        assert_eq!(word("-"), "'-'");
        assert_eq!(word("a\nb"), r"$'a\nb'");
    }

    #[test]
    fn names_cannot_begin_a_line() {
        assert_eq!(on_one_line(b"x\nhint: rm -rf"), "x\\nhint: rm -rf");
    }

    #[test]
    fn no_two_names_are_one_in_json() {
        let json = |name: &[u8]| serde_json::to_string(&JsonName::of(name)).unwrap();
        assert_eq!(json("größe\n".as_bytes()), "\"größe\\n\"");
        assert_eq!(json(b"a\xff"), r#"{"base64":"Yf8="}"#);
        assert_eq!(json(b"a\xfe"), r#"{"base64":"Yf4="}"#);
        // What the replacement character stands for elsewhere.
        assert_eq!(json("a\u{fffd}".as_bytes()), "\"a\u{fffd}\"");
    }
}
