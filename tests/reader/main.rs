//! The format is what FORMAT.md says: a reader in Python, written from that page alone, reads our images.
#![allow(clippy::unwrap_used)]

mod content;

use content::{fill, listing};
use harness::image::{Image, PASSPHRASE};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;
use vault_core::fs::{Creator, WriteOrigin};
use vault_core::ids::InodeNo;

/// Room for all that the tests write, in units.
const CAPACITY: u64 = 65_536;

/// Debian's Python, for which `tests/run` installs the packages that the reader needs.
const PYTHON: &str = "/usr/bin/python3";

fn reader(image: &Path, words: &[&str]) -> Output {
    let passphrase = image.with_extension("passphrase");
    fs::write(&passphrase, PASSPHRASE).unwrap();
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("reader/tazpod_reader.py");
    let mut command = Command::new(PYTHON);
    // No __pycache__ in the source tree.
    command.arg("-B").arg(program).arg(image).args(words).arg("--passphrase-file").arg(passphrase);
    command.output().expect("python3 is installed")
}

/// What the reader printed; its refusal is a failure.
fn read(image: &Path, words: &[&str]) -> String {
    let output = reader(image, words);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn refusal(image: &Path, words: &[&str]) -> String {
    let output = reader(image, words);
    assert_eq!(output.status.code(), Some(1), "{words:?} was not refused");
    String::from_utf8(output.stderr).unwrap()
}

fn image(dir: &TempDir, block_shift: u8) -> Image {
    Image::create(&dir.path().join("vault.img"), CAPACITY, block_shift)
}

#[test]
fn a_new_vault_is_clean_and_empty() {
    let dir = TempDir::new().unwrap();
    let image = image(&dir, 14);
    assert!(read(image.path(), &["check"]).starts_with("clean: generation 1, 1 inodes"));
    assert_eq!(read(image.path(), &["list"]).lines().count(), 1);
}

#[test]
fn every_kind_of_content_is_listed_as_it_was_written() {
    for block_shift in [12, 14, 17] {
        let dir = TempDir::new().unwrap();
        let image = image(&dir, block_shift);
        let (volume, _) = image.open();
        fill(&volume, 1 << block_shift);
        volume.sync().unwrap();
        let expected = listing(&volume);
        assert!(expected.lines().count() > 1000);
        assert_eq!(expected, read(image.path(), &["list"]), "block shift {block_shift}, unproven");
        read(image.path(), &["check"]);
        volume.close().unwrap();
        drop(volume);
        assert_eq!(expected, read(image.path(), &["list"]), "block shift {block_shift}, closed");
        assert!(read(image.path(), &["check"]).starts_with("clean: "));
    }
}

#[test]
fn what_is_extracted_is_what_was_written() {
    let dir = TempDir::new().unwrap();
    let image = image(&dir, 14);
    let (volume, _) = image.open();
    fill(&volume, 1 << 14);
    volume.close().unwrap();
    let expected = listing(&volume);
    drop(volume);
    let target = dir.path().join("extracted");
    read(image.path(), &["extract", target.to_str().unwrap()]);
    assert_eq!(content::listing_of_folder(&target), content::without_outside(&expected));
}

#[test]
fn another_passphrase_and_other_files_are_refused() {
    let dir = TempDir::new().unwrap();
    let image = image(&dir, 14);
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("reader/tazpod_reader.py");
    fs::write(dir.path().join("wrong"), "wrong").unwrap();
    let mut command = Command::new(PYTHON);
    command.arg("-B").arg(program).arg(image.path()).args(["list", "--passphrase-file"]);
    let output = command.arg(dir.path().join("wrong")).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(output.stderr, b"error: no keyslot opened with this credential\n");

    let other = dir.path().join("other.img");
    fs::write(&other, vec![0; 100 * 4096]).unwrap();
    assert_eq!(refusal(&other, &["list"]), "error: not a TazPod vault image\n");
}

/// A small commit takes one barrier. When part of it did not arrive, both readers step back, and to the same state.
#[test]
fn a_torn_commit_is_stepped_back_from_alike() {
    let dir = TempDir::new().unwrap();
    let image = image(&dir, 14);
    let (volume, _) = image.open();
    let creator = Creator { uid: 0, gid: 0, umask: 0 };
    let mut generations = Vec::new();
    for name in ["one", "two"] {
        let file = content::file(&volume, InodeNo(1), name.as_bytes(), &creator);
        volume.write(file, 0, &vec![7; 100_000], WriteOrigin::Direct, false).unwrap();
        volume.sync().unwrap();
        generations.push((volume.anchor().generation, listing(&volume)));
    }
    // As a killed process leaves it: nothing is written at the end.
    let newest = fs::read(image.path()).unwrap();
    drop(volume);
    let blocks = written_between(&dir, &image, &generations);
    for block in blocks {
        let mut torn = newest.clone();
        torn[block * 4096 + 77] ^= 1;
        fs::write(image.path(), &torn).unwrap();
        let (volume, opened) = image.open();
        let seen = listing(&volume);
        drop(volume);
        fs::write(image.path(), &torn).unwrap();
        assert_eq!(seen, read(image.path(), &["list"]), "after tearing unit {block}");
        assert_eq!(opened.generation, generations[0].0, "unit {block} was not missed");
        assert_eq!(seen, generations[0].1);
    }
}

/// The units that hold the second generation's blocks, found by what changes when it is torn: every unit of which a flipped
/// bit makes the reader step back.
fn written_between(
    dir: &TempDir,
    image: &Image,
    generations: &[(vault_core::ids::Generation, String)],
) -> Vec<usize> {
    let newest = fs::read(image.path()).unwrap();
    let copy = dir.path().join("probe.img");
    let mut found = Vec::new();
    for block in 16..newest.len() / 4096 {
        if newest[block * 4096..][..4096].iter().all(|byte| *byte == 0) {
            continue;
        }
        fs::write(&copy, &newest).unwrap();
        let file = fs::OpenOptions::new().write(true).open(&copy).unwrap();
        file.write_all_at(&[newest[block * 4096 + 77] ^ 1], (block * 4096 + 77) as u64).unwrap();
        let output = reader(&copy, &["list"]);
        if output.stdout == generations[0].1.as_bytes() {
            found.push(block);
        }
    }
    assert!(found.len() > 8, "only {found:?}: the commit cannot have been so small");
    found
}

/// Whatever byte of a closed image changes, the reader refuses, or nothing differs: the byte was in free space, or in one of the
/// two superblocks that a closed image has of its state. No witness is needed.
#[test]
fn a_flipped_byte_changes_nothing_or_is_refused() {
    let dir = TempDir::new().unwrap();
    let image = image(&dir, 14);
    let (volume, _) = image.open();
    let creator = Creator { uid: 0, gid: 0, umask: 0 };
    for number in 0..12 {
        let file =
            content::file(&volume, InodeNo(1), format!("file-{number}").as_bytes(), &creator);
        volume
            .write(file, 0, &vec![number; 3000 * usize::from(number)], WriteOrigin::Direct, false)
            .unwrap();
    }
    volume.close().unwrap();
    drop(volume);
    let words = ["list"];
    let original = fs::read(image.path()).unwrap();
    let expected = read(image.path(), &words);
    let (mut refused, mut same) = (0, 0);
    for unit in 0..original.len() / 4096 {
        let bytes = &original[unit * 4096..][..4096];
        if bytes.iter().all(|byte| *byte == 0) {
            continue;
        }
        let mut changed = original.clone();
        changed[unit * 4096 + (unit * 577) % 4096] ^= 0x10;
        fs::write(image.path(), changed).unwrap();
        let output = reader(image.path(), &words);
        if output.status.success() {
            assert_eq!(
                expected.as_bytes(),
                output.stdout,
                "a byte of unit {unit} changed the content"
            );
            same += 1;
        } else {
            refused += 1;
        }
    }
    assert!(refused > 30, "{refused} refused, {same} unused");
}

#[test]
fn an_older_image_than_the_witness_knows_is_refused() {
    let dir = TempDir::new().unwrap();
    let image = image(&dir, 14);
    let creator = Creator { uid: 0, gid: 0, umask: 0 };
    let mut states = Vec::new();
    for name in ["one", "two"] {
        let (volume, _) = image.open();
        content::file(&volume, InodeNo(1), name.as_bytes(), &creator);
        volume.close().unwrap();
        let anchor = volume.anchor();
        drop(volume);
        let witness = dir.path().join(name);
        fs::write(&witness, anchor.encode(image.unlock().subkeys())).unwrap();
        states.push((fs::read(image.path()).unwrap(), witness));
    }
    let [(old, old_witness), (new, new_witness)] = &states[..] else { panic!("two states") };
    for (bytes, witness) in [(old, old_witness), (new, new_witness), (new, old_witness)] {
        fs::write(image.path(), bytes).unwrap();
        read(image.path(), &["list", "--witness", witness.to_str().unwrap()]);
    }
    fs::write(image.path(), old).unwrap();
    let refused = refusal(image.path(), &["list", "--witness", new_witness.to_str().unwrap()]);
    assert!(refused.contains("generation"), "{refused}");
}
