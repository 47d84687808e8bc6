//! Where in a YAML file something stands, for errors about what was read without complaint.
//!
//! The parser tells places only of what it refuses. So the file is read once more, and the value in
//! question refused.

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// One step on the way from the whole file to a value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step<'a> {
    /// The value of a key.
    Key(&'a str),
    /// The entry with this number.
    Entry(usize),
}

/// Returns line and column of a value, both from 1.
pub(super) fn place(bytes: &[u8], path: &[Step<'_>]) -> Option<(usize, usize)> {
    let parser = serde_yaml::Deserializer::from_slice(bytes);
    let refused = Way(path).deserialize(parser).err()?;
    refused.location().map(|place| (place.line(), place.column()))
}

/// The rest of the way.
struct Way<'a>(&'a [Step<'a>]);

impl<'de> DeserializeSeed<'de> for Way<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.0 {
            [] => {
                deserializer.deserialize_any(Refusing)?;
                Ok(())
            }
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Way<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("keys and values")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let [Step::Key(wanted), rest @ ..] = self.0 else { return Ok(()) };
        while let Some(key) = map.next_key::<String>()? {
            if key == *wanted {
                map.next_value_seed(Way(rest))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let [Step::Entry(wanted), rest @ ..] = self.0 else { return Ok(()) };
        for _ in 0..*wanted {
            list.next_element::<IgnoredAny>()?;
        }
        list.next_element_seed(Way(rest))?;
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

/// Refuses whatever it meets.
struct Refusing;

impl<'de> Visitor<'de> for Refusing {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing")
    }

    fn visit_map<A: MapAccess<'de>>(self, _map: A) -> Result<(), A::Error> {
        Err(A::Error::custom("here"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _list: A) -> Result<(), A::Error> {
        Err(A::Error::custom("here"))
    }
}

#[cfg(test)]
mod tests {
    use super::Step::{Entry, Key};
    use super::*;

    #[test]
    fn the_place_of_a_value_is_found_again() {
        let text =
            b"config:\n  path: /x\nsecrets:\n- name: A\n- {name: B, file: here}\n-   env: C\n";
        let of = |path: &[Step<'_>]| place(text, path);
        assert_eq!(of(&[Key("config"), Key("path")]), Some((2, 9)));
        assert_eq!(of(&[Key("secrets"), Entry(1), Key("file")]), Some((5, 19)));
        assert_eq!(of(&[Key("secrets"), Entry(2), Key("env")]), Some((6, 10)));
        assert_eq!(of(&[Key("secrets"), Entry(0)]), Some((4, 3)));
        assert_eq!(of(&[Key("secrets"), Entry(9)]), None);
        assert_eq!(of(&[Key("nothing")]), None);
    }
}
