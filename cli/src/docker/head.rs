//! The head of an HTTP answer, for the few requests that are spoken raw.

use std::io::{self, Read};

/// The most bytes that a head may have.
const LONGEST: usize = 16 << 10;

/// Status and fields of an answer.
#[derive(Debug)]
pub(super) struct Head {
    /// The status.
    pub(super) status: u16,
    text: String,
}

impl Head {
    /// Reads a head to its last byte and not one further.
    pub(super) fn read(from: &mut impl Read) -> io::Result<Self> {
        let strange = || io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP");
        let mut head = Vec::with_capacity(256);
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if head.len() >= LONGEST || from.read(&mut byte)? == 0 {
                return Err(strange());
            }
            head.extend_from_slice(&byte);
        }
        let text = String::from_utf8_lossy(&head).into_owned();
        let mut words = text.lines().next().unwrap_or_default().split(' ');
        if !words.next().is_some_and(|word| word.starts_with("HTTP/1.")) {
            return Err(strange());
        }
        let status = words.next().and_then(|word| word.parse().ok()).ok_or_else(strange)?;
        Ok(Self { status, text })
    }

    /// Returns a field's value.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.text.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_head_is_read_to_its_end_and_its_fields_are_found_however_they_are_written() {
        let mut bytes = &b"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nX: HTTP/1.1: y\r\n\r\nbody"[..];
        let head = Head::read(&mut bytes).unwrap();
        assert_eq!((head.status, bytes), (200, &b"body"[..]));
        assert_eq!(head.field("api-version"), Some("1.41"));
        assert_eq!(head.field("X"), Some("HTTP/1.1: y"));
        assert_eq!(head.field("body"), None);
    }

    #[test]
    fn what_is_no_head_is_an_error() {
        for bytes in ["", "\r\n\r\n", "SSH-2.0-x\r\n\r\n", "HTTP/1.1 x\r\n\r\n", "HTTP/1.1 200"] {
            assert!(Head::read(&mut bytes.as_bytes()).is_err(), "{bytes}");
        }
        let endless = [b"HTTP/1.1 200 OK\r\n".as_slice(), &[b'x'; LONGEST]].concat();
        assert!(Head::read(&mut endless.as_slice()).is_err());
    }
}
