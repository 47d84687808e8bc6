//! Names that the container engine must accept, judged where the file says them.

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::ops::Deref;

/// A name of one kind; every kind says what is legal in it.
macro_rules! name {
    ($(#[$about:meta])* $name:ident, $legal:ident, $expected:literal) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub(crate) struct $name(String);

        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                struct Text;
                impl Visitor<'_> for Text {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expected)
                    }

                    fn visit_str<E: Error>(self, text: &str) -> Result<$name, E> {
                        if $legal(text) {
                            return Ok($name(text.to_owned()));
                        }
                        Err(E::invalid_value(Unexpected::Str(text), &self))
                    }
                }
                from.deserialize_str(Text)
            }
        }
    };
}

name!(
    /// The name of a container.
    ContainerName,
    is_container,
    "letters, digits, '_', '.' and '-', beginning with a letter or digit"
);
name!(
    /// The name of an image.
    ImageName,
    is_image,
    "an image such as tazpod:base or registry.example/team/image:tag"
);
name!(
    /// The name of a user in a container.
    UserName,
    is_user,
    "the name of a user in the image"
);

fn is_container(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    (2..=128).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.bytes().all(legal)
}

/// Not the whole grammar: what could mean something else in a request is kept out, the engine judges
/// the rest.
fn is_image(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-/:@".contains(&byte);
    (1..=512).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.bytes().all(legal)
        && !name.contains("..")
}

fn is_user(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    (1..=64).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.bytes().all(legal)
}
