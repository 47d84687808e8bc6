//! Archives that mean harm. Each is first shown to do its harm to a program that trusts it.

// A tar header has large sizes in big-endian.
#![allow(clippy::unwrap_used, clippy::big_endian_bytes)]

mod common;

use std::fs;
use std::process::Command;
use std::sync::Arc;
use vault_core::archive::{self, ArchiveError, ImportOptions, Imported, export};
use vault_core::device::MemoryDevice;
use vault_core::fs::{Attr, DirEntry, FileKind, Volume};
use vault_core::ids::InodeNo;

/// One tar header in the oldest form, its content padded.
fn record(name: &[u8], kind: u8, link: &[u8], content: &[u8]) -> Vec<u8> {
    let mut bytes = header(name, kind, link, content.len() as u64);
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn header(name: &[u8], kind: u8, link: &[u8], size: u64) -> Vec<u8> {
    let mut header = vec![0; 512];
    let mut put = |at: usize, field: &[u8]| header[at..at + field.len()].copy_from_slice(field);
    put(0, name);
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    if size < 1 << 33 {
        put(124, format!("{size:011o}\0").as_bytes());
    } else {
        put(124, b"\x80\0\0\0");
        put(128, &size.to_be_bytes());
    }
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, &[kind]);
    put(157, link);
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

fn archive(records: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = records.concat();
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

fn extended(records: &[u8]) -> Vec<u8> {
    record(b"./PaxHeaders/x", b'x', b"", records)
}

/// A vault that holds one file and one folder.
fn furnished() -> Volume {
    let volume = common::fresh(Arc::new(MemoryDevice::new(64 << 20)), 16_384);
    let start = [record(b"folder/", b'5', b"", b""), record(b"kept", b'0', b"", b"precious\n")];
    import(&volume, &archive(&start)).unwrap();
    volume
}

fn import(volume: &Volume, bytes: &[u8]) -> Result<Imported, ArchiveError> {
    let options = ImportOptions { overwrite: true, keep_owners: true, owner: (1000, 1000) };
    archive::import(volume, options, |importer| importer.add_archive(bytes, &mut |_| ()))
}

/// Every path in the vault, and the size of each file.
fn tree(volume: &Volume) -> Vec<String> {
    let mut found = Vec::new();
    let mut pending = vec![(InodeNo::ROOT, String::new())];
    while let Some((folder, path)) = pending.pop() {
        let list = &mut |entry: DirEntry, attr: Attr| {
            if entry.name != b"." && entry.name != b".." {
                let path = format!("{path}/{}", String::from_utf8_lossy(&entry.name));
                if attr.kind == FileKind::Directory {
                    pending.push((attr.inode, path.clone()));
                }
                found.push(format!(
                    "{path} {}",
                    attr.size * u64::from(attr.kind == FileKind::Regular)
                ));
            }
            true
        };
        volume.read_dir_plus(folder, 0, list).unwrap();
    }
    found.sort();
    found
}

/// Imports an archive that must be refused, and looks at the vault afterwards.
fn refused(volume: &Volume, bytes: &[u8], because: &str) {
    let error = import(volume, bytes).expect_err(because).to_string();
    assert!(error.contains(because), "'{because}' is not in: {error}");
    assert_eq!(tree(volume), ["/folder 0", "/kept 9"], "after {because}");
}

/// What a trusting program does with the archive, seen from a folder inside another.
fn victim(bytes: &[u8], prepare: &str, harm: &str) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("hostile.tar"), bytes).unwrap();
    let script = format!(
        "mkdir victim outside; echo s > outside/secret; {prepare} cd victim; tar -xPf ../hostile.tar; {harm}"
    );
    let ran = Command::new("sh").args(["-ec", &script]).current_dir(dir.path()).output().unwrap();
    assert!(ran.status.success(), "GNU tar did no harm: {}", String::from_utf8_lossy(&ran.stderr));
}

#[test]
fn no_path_leads_out_of_the_vault() {
    let volume = furnished();
    let dots = archive(&[record(b"../outside/planted", b'0', b"", b"x")]);
    victim(&dots, "", "test -f ../outside/planted");
    refused(&volume, &dots, "leads out of the archive");
    let inner = archive(&[record(b"folder/../../outside/planted", b'0', b"", b"x")]);
    refused(&volume, &inner, "leads out of the archive");

    refused(&volume, &archive(&[record(b"/etc/planted", b'0', b"", b"x")]), "absolute path");

    let through = archive(&[
        record(b"way", b'2', b"../outside", b""),
        record(b"way/planted", b'0', b"", b"x"),
    ]);
    victim(&through, "", "test -f ../outside/planted");
    refused(&volume, &through, "leads through something that is no folder");
    let swapped = archive(&[
        record(b"way/", b'5', b"", b""),
        record(b"way", b'2', b"../outside", b""),
        record(b"way/planted", b'0', b"", b"x"),
    ]);
    refused(&volume, &swapped, "folder on one side only");
    refused(
        &volume,
        &archive(&[extended(b"26 path=../outside/by-pax\n"), record(b"fine", b'0', b"", b"x")]),
        "'../outside/by-pax' leads out",
    );
}

#[test]
fn hard_links_reach_only_into_the_archive() {
    let volume = furnished();
    let bytes = archive(&[record(b"stolen", b'1', b"../outside/secret", b"")]);
    victim(&bytes, "", "grep s stolen");
    refused(&volume, &bytes, "leads out of the archive");
    refused(&volume, &archive(&[record(b"stolen", b'1', b"kept", b"")]), "no file of this archive");
    let to_folder = [record(b"d/", b'5', b"", b""), record(b"l", b'1', b"d", b"")];
    refused(&volume, &archive(&to_folder), "no file of this archive");
    let to_self = [record(b"a", b'0', b"", b"x"), record(b"a", b'1', b"a", b"")];
    refused(&volume, &archive(&to_self), "hard link to itself");
}

#[test]
fn malformed_archives_are_refused_as_a_whole() {
    let volume = furnished();
    let good = record(b"good", b'0', b"", b"good");
    let after_good = |bad: Vec<u8>| archive(&[good.clone(), bad]);
    refused(&volume, &good, "cut short");
    refused(&volume, &archive(&[])[..100], "cut short");
    for at in [101, 200, 300, 511] {
        refused(&volume, &record(b"x", b'0', b"", b"content")[..at], "cut short");
    }
    // What is too short to be an archive was taken for the beginning of one.
    refused(&volume, b"a note\n", "no tar archive");
    refused(&volume, &[b'x'; 400], "no tar archive");
    refused(&volume, b"", "there is nothing in it");
    refused(&volume, &vec![b'x'; 2048], "no tar archive");
    for times in [1, 40] {
        let stream = b"\x1f\x8b\x08\0 and more of a gzip stream".repeat(times);
        refused(&volume, &stream, "compressed");
    }
    let mut flipped = record(b"second", b'0', b"", b"");
    flipped[5] ^= 1;
    refused(&volume, &after_good(flipped), "sum is wrong");
    refused(&volume, &after_good(header(b"huge", b'0', b"", 1 << 62)), "cut short");
    refused(&volume, &after_good(header(b"endless", b'0', b"", u64::MAX)), "too large");
    refused(&volume, &after_good(header(b"records", b'x', b"", 1 << 40)), "too large");
    refused(&volume, &after_good(header(b"name", b'L', b"", 1 << 30)), "too large");
    refused(&volume, &after_good(record(b"odd", b'Z', b"", b"")), "a type that is not read");
    for garbage in [
        b"garbage".as_slice(),
        b"5 a=b\n",
        b"99999999999999999999999 a=b\n",
        b"11 size=-1\n",
        b"12 mtime=1x\n",
        b"7 =aaa\n",
    ] {
        refused(&volume, &after_good(extended(garbage)), "extended header");
    }
}

fn sparse(real: &str, map: &str, data: &[u8]) -> Vec<u8> {
    let mut records = Vec::new();
    for (key, value) in [
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.minor", "0"),
        ("GNU.sparse.name", "bomb"),
        ("GNU.sparse.realsize", real),
    ] {
        let rest = key.len() + value.len() + 3;
        let len = if rest + 2 < 100 { rest + 2 } else { rest + 3 };
        records.extend_from_slice(format!("{len} {key}={value}\n").as_bytes());
    }
    let mut content = map.as_bytes().to_vec();
    content.resize(content.len().next_multiple_of(512), 0);
    content.extend_from_slice(data);
    archive(&[extended(&records), record(b"GNUSparseFile.1/bomb", b'0', b"", &content)])
}

#[test]
fn sparse_bombs_do_not_explode() {
    let volume = furnished();
    refused(&volume, &sparse("9223372036854775808", "0\n", b""), "too large");
    refused(&volume, &sparse("100", "1\n0\n101\n", &[1; 101]), "outside its file");
    refused(&volume, &sparse("100", "2\n0\n50\n40\n10\n", &[1; 60]), "overlap");
    refused(&volume, &sparse("100", "1\n0\n50\n", &[1; 49]), "do not match its data");
    refused(&volume, &sparse("100", "4194305\n", b""), "too many sparse ranges");
    refused(&volume, &sparse("100", "18446744073709551616\n", b""), "sparse range");
    // The largest of all files is one hole, and costs nothing.
    import(&volume, &sparse("9223372036854775807", "0\n", b"")).unwrap();
    let mut out = Vec::new();
    export(&volume, &mut out, &mut |_| ()).unwrap();
    assert!(out.len() < 1 << 16);
    assert_eq!(tree(&volume)[0], "/bomb 9223372036854775807");
}

/// An archive larger than memory, of nothing but what has to be kept until its end.
#[test]
fn attributes_of_folders_do_not_gather_without_bound() {
    let volume = furnished();
    let value = vec![b'v'; 16 << 20];
    let mut records = format!("{} SCHILY.xattr.user.big=", value.len() + 32).into_bytes();
    records.extend_from_slice(&value);
    records.push(b'\n');
    let mut one = extended(&records);
    one.extend(record(b"folder/", b'5', b"", b""));
    refused(&volume, &archive(&[one.repeat(9)]), "too many folders and attributes");
}

#[test]
fn devices_are_left_out_and_named() {
    let volume = furnished();
    let bytes = [record(b"null", b'3', b"", b""), record(b"plain", b'0', b"", b"x")];
    let done = import(&volume, &archive(&bytes)).unwrap();
    assert_eq!(done.devices, [b"null"]);
    assert_eq!(tree(&volume), ["/folder 0", "/kept 9", "/plain 1"]);
}

#[test]
fn nothing_comes_in_under_the_name_that_an_import_gathers_under() {
    for name in [&b".tazpod-import"[..], b".tazpod-import/inner", b"./.tazpod-import/a/b"] {
        let bytes = [record(b"plain", b'0', b"", b"x"), record(name, b'0', b"", b"x")];
        refused(&furnished(), &archive(&bytes), "has the name that an import gathers under");
    }
}

/// A million sizes, links and records that nobody would write: refused or taken, and sound afterwards.
#[test]
fn altered_archives_neither_panic_nor_harm_what_is_there() {
    let volume = furnished();
    let seed = archive(&[
        extended(b"22 mtime=1700000000.5\n"),
        record(b"a/", b'5', b"", b""),
        record(b"a/b", b'0', b"", b"some content"),
        record(b"l", b'2', b"a/b", b""),
        record(b"h", b'1', b"a/b", b""),
    ]);
    let mut state = 1_u64;
    let mut random = move |below: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    let mut taken = 0;
    for _ in 0..2000 {
        let mut bytes = seed.clone();
        for _ in 0..=random(3) {
            let at = random(bytes.len());
            bytes[at] = u8::try_from(random(256)).unwrap();
        }
        mend_sums(&mut bytes);
        taken += u32::from(import(&volume, &bytes).is_ok());
        let tree = tree(&volume);
        assert!(tree.contains(&"/kept 9".to_owned()), "{tree:?}");
        assert!(!tree.iter().any(|path| path.starts_with("/.tazpod-import")), "{tree:?}");
    }
    assert!(taken > 100, "the alterations were all too rough: {taken}");
}

/// Recomputes each record's sum as if it were a header, so that alterations get past it.
fn mend_sums(bytes: &mut [u8]) {
    for record in bytes.chunks_mut(512) {
        if record.get(257..262) == Some(b"ustar") {
            record[148..156].fill(b' ');
            let sum: u32 = record.iter().map(|byte| u32::from(*byte)).sum();
            record[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
}
