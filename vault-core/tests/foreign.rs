//! File systems of another make, whole and broken: what is read is right, and what is broken ends in an error.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, OnceLock};
use vault_core::device::MemoryDevice;
use vault_core::foreign::ext4::Ext4;
use vault_core::foreign::{Plain, compare, copy};
use vault_core::fs::{OpenOptions, Volume};
use vault_core::testing::known_setup;

/// An image of a tree in 1 KiB blocks, made by the tools of ext4.
fn image(features: &str) -> Vec<u8> {
    image_with(features, "")
}

/// One that is then changed by requests to `debugfs`.
fn image_with(features: &str, requests: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    let script =
        "mkdir -p tree/folder/below; cd tree; head -c 70000 /dev/urandom >big; echo small >small
        ln small folder/again; ln -s small link; ln -s $(printf %0100d 1) long; mkfifo fifo
        truncate -s 3M hole; truncate -s 200k sparse; echo x >>sparse
        for n in $(seq 200); do echo $n >folder/below/a-rather-long-name-for-a-file-$n; done";
    run(dir.path(), "sh", &["-ec", script]);
    let tree = tree.to_str().unwrap();
    let words = ["-q", "-F", "-t", "ext4", "-b", "1024", "-O", features, "-d", tree, "image", "4M"];
    run(dir.path(), "/sbin/mke2fs", &words);
    std::fs::write(dir.path().join("requests"), requests).unwrap();
    run(dir.path(), "/sbin/debugfs", &["-w", "-f", "requests", "image"]);
    std::fs::read(dir.path().join("image")).unwrap()
}

fn run(folder: &Path, program: &str, words: &[&str]) {
    let output = Command::new(program).args(words).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

fn open(image: Vec<u8>) -> Result<Ext4, vault_core::foreign::ForeignError> {
    let device = Arc::new(MemoryDevice::from_bytes(image, 64 << 20));
    Ext4::open(Arc::new(Plain::new(device).unwrap()))
}

fn said(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", said(cause)),
        None => error.to_string(),
    }
}

/// Copies everything into a new volume and compares; returns how many files there were.
fn through(fs: &Ext4) -> Result<u64, String> {
    let setup = known_setup(Arc::new(MemoryDevice::new(64 << 20)));
    Volume::format(&setup, 4096, (0, 0)).unwrap();
    let (volume, _) = Volume::open(&setup, &OpenOptions::default()).unwrap();
    let copied = copy(fs, &volume, &mut |_, _| ()).map_err(|error| said(&error))?;
    compare(fs, &volume, true, &mut |_, _| ()).map_err(|error| said(&error))?;
    Ok(copied.files)
}

#[test]
fn trees_with_and_without_checksums_come_over_whole() {
    for features in ["metadata_csum,64bit", "^metadata_csum,^64bit", "^has_journal,^dir_index"] {
        let fs = open(image(features)).unwrap();
        // 200 in a folder, 7 files and links, one more name that counts for nothing, 3 folders.
        assert_eq!(through(&fs).unwrap(), 210, "{features}");
    }
}

#[test]
fn comparison_sees_every_difference() {
    let bytes = image("^metadata_csum");
    let fs = open(bytes.clone()).unwrap();
    let setup = known_setup(Arc::new(MemoryDevice::new(64 << 20)));
    Volume::format(&setup, 4096, (0, 0)).unwrap();
    let (volume, _) = Volume::open(&setup, &OpenOptions::default()).unwrap();
    copy(&fs, &volume, &mut |_, _| ()).unwrap();
    compare(&fs, &volume, true, &mut |_, _| ()).unwrap();
    let small = volume.lookup(vault_core::ids::InodeNo::ROOT, b"small").unwrap().inode;
    let origin = vault_core::fs::WriteOrigin::Writeback;
    volume.write(small, 0, b"S", origin, false).unwrap();
    let error = compare(&fs, &volume, false, &mut |_, _| ()).unwrap_err().to_string();
    assert!(error.contains("small' differs") || error.contains("again' differs"), "{error}");
    volume.write(small, 0, b"s", origin, false).unwrap();
    compare(&fs, &volume, false, &mut |_, _| ()).unwrap();
    volume.unlink(vault_core::ids::InodeNo::ROOT, b"fifo").unwrap();
    let error = compare(&fs, &volume, false, &mut |_, _| ()).unwrap_err().to_string();
    assert!(error.contains("differs") || error.contains("missing"), "{error}");
}

#[test]
fn features_that_are_not_known_are_named() {
    for features in ["encrypt", "inline_data", "meta_bg,^resize_inode"] {
        let error = open(image(features)).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("is not read without the kernel"), "{features}: {error}");
    }
}

/// Two extents that lead to the same blocks would let a few blocks stand for very many.
#[test]
fn files_and_folders_that_claim_more_than_there_is_are_refused() {
    let twice = |inode: &str| {
        format!(
            "sif {inode} block[0] 0x0002f30a\nsif {inode} block[3] 0\nsif {inode} block[4] 3000\n\
             sif {inode} block[5] 50\nsif {inode} block[6] 8192\nsif {inode} block[7] 3000\n\
             sif {inode} block[8] 50\nsif {inode} size 20000000\n"
        )
    };
    for (inode, words) in
        [("small", "more blocks than there are"), ("folder", "size of the folders")]
    {
        let fs = open(image_with("^metadata_csum", &twice(inode))).unwrap();
        let error = through(&fs).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any bytes of the metadata may be anything: with checksums it is seen, without them it must not hurt.
    #[test]
    fn damaged_file_systems_end_in_an_error(
        changes in prop::collection::vec((0..600_usize << 10, any::<u8>()), 1..400),
    ) {
        static PLAIN: OnceLock<Vec<u8>> = OnceLock::new();
        let mut bytes = PLAIN.get_or_init(|| image("^metadata_csum")).clone();
        for (at, byte) in changes {
            bytes[1024 + at] = byte;
        }
        if let Ok(fs) = open(bytes) {
            let _ = through(&fs);
        }
    }
}
