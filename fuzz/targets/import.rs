//! A tar archive from a hostile author, taken into a vault: whole or not at all, and nothing else is touched.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::io;
use std::sync::Arc;
use vault_core::archive::{ImportOptions, export, import};
use vault_core::check::{Depth, check};
use vault_core::device::MemoryDevice;
use vault_core::fs::{Creator, FileKind, NewFile, OpenOptions, Volume, WriteOrigin};
use vault_core::ids::InodeNo;
use vault_core::testing::known_setup;

const CREATOR: Creator = Creator { uid: 1000, gid: 1000, umask: 0o022 };
/// Units of the vault: an archive that announces more than it has runs out of room, not of memory.
const CAPACITY: u64 = 2048;
const RECORD: usize = 512;
const SUM: std::ops::Range<usize> = 148..156;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, archive)) = bytes.split_first() else { return };
    let options = ImportOptions {
        overwrite: first & 1 != 0,
        keep_owners: first & 2 != 0,
        owner: (1000, 1000),
    };
    let device = Arc::new(MemoryDevice::new(CAPACITY * 4096));
    let setup = known_setup(device);
    Volume::format(&setup, CAPACITY, (1000, 1000)).expect("an empty volume");
    let volume = Volume::open(&setup, &OpenOptions::default()).expect("it opens").0;
    furnish(&volume);
    let before = names(&volume);
    let archive = summed(archive);
    match import(&volume, options, |importer| importer.add_archive(&*archive, &mut |_| ())) {
        Ok(_) => {
            drop(export(&volume, &mut io::sink(), &mut |_| ()).expect("what came in goes out"))
        }
        Err(_) => assert_eq!(names(&volume), before, "a refused archive left something"),
    }
    if !options.overwrite {
        assert_eq!(content(&volume).as_deref(), Some(&b"precious"[..]), "it was replaced");
    }
    volume.close().expect("storage in memory does not fail");
    drop(volume);
    let options = OpenOptions::default();
    let report = check(&setup, &options, Depth::Everything, &mut |_| Ok(())).expect("a state");
    assert!(report.is_clean(), "{:?}", report.findings);
});

/// Gives every record that claims to be a header the sum it must have: an author who means harm can count.
fn summed(archive: &[u8]) -> Vec<u8> {
    let mut archive = archive.to_vec();
    for record in archive.chunks_exact_mut(RECORD).filter(|record| &record[257..262] == b"ustar") {
        record[SUM].fill(b' ');
        let sum: u32 = record.iter().map(|byte| u32::from(*byte)).sum();
        record[SUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    archive
}

fn furnish(volume: &Volume) {
    let node = |kind| NewFile { kind, permissions: 0o755, device: 0 };
    let kept = volume.create(InodeNo::ROOT, b"kept", &node(FileKind::Regular), &CREATOR);
    let kept = kept.expect("a file").inode;
    volume.write(kept, 0, b"precious", WriteOrigin::Direct, false).expect("room for it");
    volume.make_dir(InodeNo::ROOT, b"folder", 0o755, &CREATOR).expect("a folder");
    volume.sync().expect("storage in memory does not fail");
}

fn content(volume: &Volume) -> Option<Vec<u8>> {
    let kept = volume.lookup(InodeNo::ROOT, b"kept").ok()?;
    volume.read(kept.inode, 0, 100).ok()
}

/// Returns every name in the vault, with the kind and size of what it leads to.
fn names(volume: &Volume) -> Vec<(Vec<u8>, FileKind, u64)> {
    let mut found = Vec::new();
    let mut pending = vec![(Vec::new(), InodeNo::ROOT)];
    while let Some((path, folder)) = pending.pop() {
        let mut below = Vec::new();
        let listed = volume.read_dir_plus(folder, 0, &mut |entry, attr| {
            if entry.name != b"." && entry.name != b".." {
                below.push(([&path[..], &entry.name].join(&b'/'), attr));
            }
            true
        });
        listed.expect("it can be listed");
        for (path, attr) in below {
            if attr.kind == FileKind::Directory {
                pending.push((path.clone(), attr.inode));
                found.push((path, attr.kind, 0));
            } else {
                found.push((path, attr.kind, attr.size));
            }
        }
    }
    found.sort_unstable_by(|one, other| one.0.cmp(&other.0));
    found
}
