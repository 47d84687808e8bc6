//! What an encrypted archive may be, and what becomes of it.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::args::archive::RecipientArgs;
use crate::encryption::Recipients;
use crate::ui::Ui;
use age::armor::{ArmoredWriter, Format};
use age::secrecy::ExposeSecret;
use age::x25519::Identity;
use std::error::Error as _;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

/// Three pieces of 64 KiB, the last one short.
const LEN: usize = 150_000;

fn content() -> Vec<u8> {
    (0..LEN).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

fn recipients(identities: &[&Identity]) -> Recipients {
    let named = identities.iter().map(|identity| identity.to_public().to_string()).collect();
    Recipients::gather(&RecipientArgs { named, files: Vec::new() }).unwrap().unwrap()
}

fn given(identity: &Identity) -> Identities {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("identity");
    fs::write(&path, identity.to_string().expose_secret()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    Identities::gather(&Ui::new(true, true), &[path]).unwrap().unwrap()
}

fn encrypted(to: &[&Identity]) -> Vec<u8> {
    let mut bytes = Vec::new();
    recipients(to)
        .encrypt(&mut bytes, |out| {
            out.write_all(&content()).map_err(vault_core::archive::ArchiveError::Write)
        })
        .unwrap();
    bytes
}

fn armoured(bytes: &[u8]) -> Vec<u8> {
    let mut writer = ArmoredWriter::wrap_output(Vec::new(), Format::AsciiArmor).unwrap();
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

/// What was read, and how it ended.
fn read(bytes: &[u8], identity: &Identity) -> (Vec<u8>, std::result::Result<(), Fault>) {
    let (found, source) = Encryption::recognise(Cursor::new(bytes.to_vec())).unwrap();
    let mut content = Vec::new();
    let opened = found.unwrap().decrypt(source, &given(identity), "archive");
    let mut reader = match opened {
        Ok(reader) => reader,
        Err(error) => {
            let fault = error.source().and_then(|source| source.downcast_ref::<Fault>());
            return (content, Err(*fault.unwrap_or_else(|| panic!("{error:?}"))));
        }
    };
    let end = reader.read_to_end(&mut content).map(drop);
    (content, end.map_err(|cause| Fault::reported(&cause).unwrap()))
}

#[test]
fn each_recipient_reads_what_was_encrypted_to_several() {
    let (one, two) = (Identity::generate(), Identity::generate());
    let bytes = encrypted(&[&one, &two]);
    let start = &content()[..16];
    assert!(!bytes.windows(16).any(|part| part == start));
    for identity in [&one, &two] {
        assert_eq!(read(&bytes, identity), (content(), Ok(())));
        assert_eq!(read(&armoured(&bytes), identity), (content(), Ok(())));
    }
}

#[test]
fn somebody_else_reads_nothing() {
    let bytes = encrypted(&[&Identity::generate()]);
    let (found, source) = Encryption::recognise(Cursor::new(bytes)).unwrap();
    let error = found.unwrap().decrypt(source, &given(&Identity::generate()), "archive");
    let error = error.err().unwrap();
    assert_eq!(error.kind(), Kind::User);
    assert!(error.to_string().contains("no identity that was given decrypts"), "{error}");
}

#[test]
fn every_cut_is_found_before_the_end_is_believed() {
    let identity = Identity::generate();
    let bytes = encrypted(&[&identity]);
    let header = bytes.len() - (LEN + 3 * 16);
    let piece = (1 << 16) + 16;
    let cuts = (MAGIC.len() + 2..header).step_by(7);
    for cut in cuts.chain([header, header + 1, header + piece, header + 2 * piece, bytes.len() - 1])
    {
        let (got, end) = read(&bytes[..cut], &identity);
        assert!(end.is_err(), "{cut}");
        assert_eq!(got, content()[..got.len()], "{cut}");
    }
    // Where pieces end, too: only the last one says that it is.
    assert_eq!(read(&bytes[..header + piece], &identity).1, Err(Fault::CutShort));
    let text = armoured(&bytes);
    for cut in [40, 200, text.len() / 2, text.len() - 40, text.len() - 2] {
        assert!(read(&text[..cut], &identity).1.is_err(), "{cut}");
    }
}

#[test]
fn every_altered_byte_is_found() {
    let identity = Identity::generate();
    let bytes = encrypted(&[&identity]);
    let header = bytes.len() - (LEN + 3 * 16);
    let here = (22..header).step_by(3).chain((header..bytes.len()).step_by(9973));
    for at in here.chain([bytes.len() - 1]) {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        // A stanza that is ours no more is as good as somebody else's.
        let (found, source) = Encryption::recognise(Cursor::new(changed)).unwrap();
        let Ok(mut reader) = found.unwrap().decrypt(source, &given(&identity), "archive") else {
            continue;
        };
        assert!(at >= header - 16, "a changed header was believed: {at}");
        let mut got = Vec::new();
        let end = reader.read_to_end(&mut got).unwrap_err();
        assert_eq!(Fault::reported(&end), Some(Fault::Part), "{at}");
        assert_eq!(got, content()[..got.len()], "{at}");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert_eq!(read(&longer, &identity).1, Err(Fault::Part));
}

#[test]
fn line_without_end_takes_no_memory() {
    let endless = [ARMOUR, b"\n"].concat().chain_repeat(b'A');
    let (found, source) = Encryption::recognise(endless).unwrap();
    let error = found.unwrap().decrypt(source, &given(&Identity::generate()), "archive");
    let error = error.err().unwrap();
    let fault = error.source().and_then(|source| source.downcast_ref::<Fault>());
    assert_eq!(fault, Some(&Fault::Armour));
}

/// Bytes, and then one byte for ever.
trait ChainRepeat {
    fn chain_repeat(self, byte: u8) -> io::Chain<Cursor<Vec<u8>>, io::Repeat>;
}

impl ChainRepeat for Vec<u8> {
    fn chain_repeat(self, byte: u8) -> io::Chain<Cursor<Vec<u8>>, io::Repeat> {
        Cursor::new(self).chain(io::repeat(byte))
    }
}

#[test]
fn largest_header_is_read_to_its_end() {
    let long = "A".repeat(64) + "\n";
    let many = "-> a\n\n".repeat(1000) + "-> b\n" + &long.repeat(1800);
    let bytes = format!("age-encryption.org/v1\n{many}\n--- {}\n0123456789abcdef", "A".repeat(43));
    let (found, source) = Encryption::recognise(Cursor::new(bytes)).unwrap();
    let error = found.unwrap().decrypt(source, &given(&Identity::generate()), "archive");
    assert!(error.err().unwrap().to_string().starts_with("no identity"));
}

#[test]
fn other_files_are_not_taken_for_encrypted_ones() {
    for bytes in [
        b"".as_slice(),
        b"age-encryption.org/v1/a-folder-of-that-name\0\0\0\0",
        b"-----BEGIN PGP MESSAGE-----\n",
        &[0; 512],
    ] {
        let (found, mut source) = Encryption::recognise(Cursor::new(bytes)).unwrap();
        assert_eq!(found, None);
        let mut whole = Vec::new();
        source.read_to_end(&mut whole).unwrap();
        assert_eq!(whole, bytes);
    }
    let newer = b"age-encryption.org/v2\nwhatever follows here, and more of it";
    assert_eq!(read(newer, &Identity::generate()).1, Err(Fault::Version));
}
