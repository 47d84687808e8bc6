//! Reading YAML files of bounded size, with errors that say where.

use crate::error::{Error, Result};
use serde::Deserialize;
use serde::de::{self, DeserializeOwned, Deserializer};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

/// The most bytes that a configuration file may have.
const LARGEST: u64 = 64 << 10;

/// Reads and parses a file; `None` if it does not exist or holds nothing.
pub(super) fn file<T: DeserializeOwned>(path: &Path, shown: &str) -> Result<Option<T>> {
    match read(path, shown)? {
        Some(bytes) => parse(&bytes, shown),
        None => Ok(None),
    }
}

/// Reads a file; `None` if it does not exist.
pub(super) fn read(path: &Path, shown: &str) -> Result<Option<Vec<u8>>> {
    match bounded(path) {
        Ok(bytes) if bytes.len() as u64 > LARGEST => {
            Err(Error::config(format!("{shown}: larger than {} KiB", LARGEST >> 10)))
        }
        Ok(bytes) => Ok(Some(bytes)),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => {
            Err(Error::config(format!("cannot read '{shown}'")).caused_by_file_of_project(cause))
        }
    }
}

fn bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Parses the content of a file; `None` if it holds nothing but comments.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8], shown: &str) -> Result<Option<T>> {
    serde_yaml::from_slice(bytes).map_err(|error| located(&error, shown))
}

fn located(error: &serde_yaml::Error, shown: &str) -> Error {
    let text = error.to_string();
    let Some(place) = error.location() else {
        return Error::config(format!("{shown}: {text}"));
    };
    let (line, column) = (place.line(), place.column());
    let suffix = format!(" at line {line} column {column}");
    let what = text.strip_suffix(&suffix).unwrap_or(&text);
    Error::config(format!("{shown}:{line}:{column}: {what}"))
}

/// The file's version; only the first one exists, written as a number or as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version;

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Version;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("version 1.0")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> std::result::Result<Version, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> std::result::Result<Version, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_str<E: de::Error>(self, text: &str) -> std::result::Result<Version, E> {
                match text {
                    "1" | "1.0" => Ok(Version),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// A span of time as people write it: `90s`, `30m`, `2h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span(pub(super) Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a span of time such as 90s, 30m or 2h")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> std::result::Result<Span, E> {
                span(text)
                    .map(Span)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

fn span(text: &str) -> Option<Duration> {
    let (number, seconds) = [("s", 1), ("m", 60), ("h", 3600)]
        .into_iter()
        .find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)))?;
    let number: u32 = number.parse().ok().filter(|number| *number > 0)?;
    Some(Duration::from_secs(u64::from(number) * seconds))
}
