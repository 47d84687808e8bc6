//! Access control lists as text with numbers, which GNU tar and libarchive read, and as the kernel
//! has them (`acl(5)`, version 2).

use crate::codec::{Reader, Writer};
use std::fmt::Write as _;

/// The attribute of the list that governs a file.
pub(super) const ACCESS: &[u8] = b"system.posix_acl_access";
/// The attribute of the list that a folder's new files inherit.
pub(super) const DEFAULT: &[u8] = b"system.posix_acl_default";
const VERSION: u32 = 2;
const UNDEFINED: u32 = u32::MAX;
/// Tags in the kernel's order, with the words that they have in text and whether one with an id is meant.
const TAGS: [(u16, &str, bool); 6] = [
    (0x01, "user", false),
    (0x02, "user", true),
    (0x04, "group", false),
    (0x08, "group", true),
    (0x10, "mask", false),
    (0x20, "other", false),
];

/// Writes a list as text, if it is one.
pub(super) fn to_text(value: &[u8]) -> Option<String> {
    let mut reader = Reader::new(value);
    if reader.u32().ok()? != VERSION {
        return None;
    }
    let mut text = String::new();
    while reader.remaining() > 0 {
        let (tag, bits, id) = (reader.u16().ok()?, reader.u16().ok()?, reader.u32().ok()?);
        let (_, word, named) = TAGS.iter().find(|(known, ..)| *known == tag)?;
        let id = if *named { id.to_string() } else { String::new() };
        let bit = |mask: u16, letter: char| if bits & mask == 0 { '-' } else { letter };
        let comma = if text.is_empty() { "" } else { "," };
        let _ = write!(text, "{comma}{word}:{id}:{}{}{}", bit(4, 'r'), bit(2, 'w'), bit(1, 'x'));
    }
    Some(text)
}

/// Reads a list from text; `None` if it names users or groups without their numbers, or is no list.
pub(super) fn from_text(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let mut entries = Vec::new();
    for part in text.split(['\n', ',']).map(str::trim).filter(|part| !part.is_empty()) {
        entries.push(entry(part)?);
    }
    if entries.is_empty() {
        return None;
    }
    entries.sort_unstable();
    let mut out = Writer::with_capacity(4 + entries.len() * 8);
    out.u32(VERSION);
    for (tag, id, bits) in entries {
        out.u16(tag).u16(bits).u32(id);
    }
    Some(out.finish())
}

fn entry(part: &str) -> Option<(u16, u32, u16)> {
    // Solaris and star put the number behind the permissions.
    let fields: Vec<_> = part.split(':').collect();
    let (word, name, permissions, number) = match fields.as_slice() {
        [word, permissions] => (*word, "", *permissions, None),
        [word, name, permissions] => (*word, *name, *permissions, None),
        [word, name, permissions, number] => (*word, *name, *permissions, Some(*number)),
        _ => return None,
    };
    let named = !name.is_empty();
    let (tag, ..) = TAGS.iter().find(|(_, known, has_id)| *known == word && *has_id == named)?;
    let id = if named { number.unwrap_or(name).parse().ok()? } else { UNDEFINED };
    let mut bits = 0;
    for letter in permissions.split([' ', '\t', '#']).next()?.chars() {
        bits |= match letter {
            'r' => 4,
            'w' => 2,
            'x' => 1,
            '-' => 0,
            _ => return None,
        };
    }
    Some((*tag, id, bits))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn list_comes_back_from_text() {
        let text = "user::rw-,user:1000:r--,group::r-x,group:7:---,mask::rwx,other::---";
        let value = from_text(text.as_bytes()).unwrap();
        assert_eq!(to_text(&value).unwrap(), text);
        let lines =
            b"other::---\nuser:fred:r--:1000\ngroup::r-x\nuser::rw-\ngroup:7:---\nmask::rwx\n";
        assert_eq!(from_text(lines).unwrap(), value);
    }

    #[test]
    fn list_with_unknown_names_or_tags_is_none() {
        for bad in ["user:fred:rwx", "owner::rwx", "user::rwz", "user", "", "user:1:2:3:4"] {
            assert_eq!(from_text(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(to_text(&[2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(to_text(&[1, 0, 0, 0]), None);
    }
}
