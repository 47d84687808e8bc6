//! Telling apart what a file is by its first bytes, so that a wrong file is named and not damaged.

use crate::codec::Reader;
use crate::format::header::{FORMAT_VERSION, HEADER_MAGIC, HEADER_UNITS};
use crate::ids::UNIT;
use std::fmt;

/// How many bytes from the start of a file are needed to recognise it.
pub const RECOGNISE_LEN: usize = 16 * UNIT;

const LUKS_MAGIC: [u8; 6] = *b"LUKS\xba\xbe";
const EXT_MAGIC: [u8; 2] = [0x53, 0xef];
const EXT_MAGIC_AT: usize = 1080;

/// What a file seems to be. A guess by magic numbers; nothing is authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageFormat {
    /// A vault image that this crate reads.
    Vault,
    /// A vault image of a format version that this crate does not know.
    OtherVault {
        /// Its version.
        version: u16,
    },
    /// A LUKS container.
    Luks {
        /// 1 or 2, or whatever its header says.
        version: u16,
    },
    /// An ext2, ext3 or ext4 file system, not encrypted.
    Ext,
    /// Nothing but zeros, or no bytes at all.
    Empty,
    /// Something else.
    Unknown,
}

impl ImageFormat {
    /// Recognises a file by its first [`RECOGNISE_LEN`] bytes, or all if it is shorter.
    ///
    /// Either header copy of a vault is enough: one of them may be damaged.
    pub fn recognise(start: &[u8]) -> Self {
        if let Some(version) = luks_version(start) {
            return Self::Luks { version };
        }
        let versions = HEADER_UNITS.into_iter().filter_map(|unit| vault_version(start, unit.0));
        match versions.min_by_key(|&version| version != FORMAT_VERSION) {
            Some(FORMAT_VERSION) => return Self::Vault,
            Some(version) => return Self::OtherVault { version },
            None => {}
        }
        let ext_magic = start.get(EXT_MAGIC_AT..EXT_MAGIC_AT + EXT_MAGIC.len());
        match () {
            () if ext_magic == Some(&EXT_MAGIC) => Self::Ext,
            () if start.iter().all(|&byte| byte == 0) => Self::Empty,
            () => Self::Unknown,
        }
    }
}

impl fmt::Display for ImageFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vault => f.write_str("a TazPod vault image (fuse)"),
            Self::OtherVault { version } => write!(f, "a TazPod vault image of format {version}"),
            Self::Luks { version } => write!(f, "a LUKS{version} container"),
            Self::Ext => f.write_str("an unencrypted ext file system"),
            Self::Empty => f.write_str("an empty file"),
            Self::Unknown => f.write_str("an unknown file"),
        }
    }
}

fn vault_version(start: &[u8], unit: u64) -> Option<u16> {
    let at = usize::try_from(unit).ok()?.checked_mul(UNIT)?;
    let mut reader = Reader::new(start.get(at..)?);
    (reader.array().ok()? == HEADER_MAGIC).then(|| reader.u16().ok())?
}

fn luks_version(start: &[u8]) -> Option<u16> {
    let mut reader = Reader::new(start);
    // LUKS is big-endian throughout.
    let version = (reader.array().ok()? == LUKS_MAGIC).then(|| reader.array::<2>().ok())??;
    Some(u16::from(version[0]) << 8 | u16::from(version[1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(parts: &[(usize, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; RECOGNISE_LEN];
        for (at, part) in parts {
            bytes[*at..*at + part.len()].copy_from_slice(part);
        }
        bytes
    }

    #[test]
    fn each_format_is_recognised() {
        let ours: &[u8] = b"TAZPOD\r\n\x01\0";
        let newer: &[u8] = b"TAZPOD\r\n\x03\0";
        let cases = [
            (start(&[(0, ours), (9 * UNIT, ours)]), ImageFormat::Vault),
            (start(&[(9 * UNIT, ours)]), ImageFormat::Vault),
            (start(&[(0, newer), (9 * UNIT, ours)]), ImageFormat::Vault),
            (start(&[(0, ours)])[..10].to_vec(), ImageFormat::Vault),
            (start(&[(0, newer)]), ImageFormat::OtherVault { version: 3 }),
            (start(&[(0, b"LUKS\xba\xbe\0\x01")]), ImageFormat::Luks { version: 1 }),
            (start(&[(0, b"LUKS\xba\xbe\0\x02")]), ImageFormat::Luks { version: 2 }),
            (start(&[(1080, b"\x53\xef")]), ImageFormat::Ext),
            (start(&[]), ImageFormat::Empty),
            (Vec::new(), ImageFormat::Empty),
            (start(&[(5, b"x")]), ImageFormat::Unknown),
            (b"TAZPOD".to_vec(), ImageFormat::Unknown),
        ];
        for (bytes, expected) in cases {
            assert_eq!(ImageFormat::recognise(&bytes), expected);
        }
    }
}
