//! An import meets a full vault at any moment: afterwards it holds what it held, or what was asked for.
#![allow(clippy::unwrap_used)]

mod common;

use common::{CREATOR, fresh, reopen, setup};
use std::collections::BTreeMap;
use std::sync::Arc;
use vault_core::archive::{
    self, ArchiveError, Entry, EntryKind, EntryPath, ImportOptions, NO_OWNER,
};
use vault_core::check::{Depth, check};
use vault_core::device::MemoryDevice;
use vault_core::error::FsError;
use vault_core::fs::{FileKind, NewFile, OpenOptions, STAGING, SetAttr, Volume, WriteOrigin};
use vault_core::ids::InodeNo;
use vault_core::ports::Timestamp;

const CAPACITY: u64 = 2048;
const FOLDERS: usize = 12;
const FILES: usize = 90;
const REGULAR: NewFile = NewFile { kind: FileKind::Regular, permissions: 0o644, device: 0 };

fn path(folder: usize, file: usize) -> String {
    format!("folder-{folder:02}/a-file-with-a-longer-name-{file:03}")
}

fn entry(path: &str, kind: EntryKind) -> Entry {
    Entry {
        path: EntryPath::parse(path.as_bytes()).unwrap(),
        kind,
        permissions: 0o640,
        uid: NO_OWNER,
        gid: NO_OWNER,
        modified: Timestamp { seconds: 1_600_000_000, nanos: 0 },
        accessed: None,
        xattrs: Vec::new(),
    }
}

/// Puts a file with this text at every path, over what is there.
fn import(volume: &Volume, text: &str) -> Result<(), ArchiveError> {
    let options = ImportOptions { overwrite: true, keep_owners: false, owner: (1000, 1000) };
    let size = text.len() as u64;
    let kind = || EntryKind::File { size, data: vec![0..size; usize::from(size > 0)] };
    archive::import(volume, options, |importer| {
        for folder in 0..FOLDERS {
            let about = entry(&format!("folder-{folder:02}"), EntryKind::Folder);
            importer.add(&about, &mut std::io::empty(), &mut |_| ())?;
            for file in 0..FILES {
                let about = entry(&path(folder, file), kind());
                importer.add(&about, &mut text.as_bytes(), &mut |_| ())?;
            }
        }
        Ok(())
    })
    .map(drop)
}

/// The text of every file by its path.
fn texts(volume: &Volume) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut pending = vec![(InodeNo::ROOT, String::new())];
    while let Some((folder, above)) = pending.pop() {
        let mut entries = Vec::new();
        volume
            .read_dir_plus(folder, 0, &mut |entry, attr| {
                if entry.name != b"." && entry.name != b".." {
                    entries.push((String::from_utf8(entry.name).unwrap(), attr));
                }
                true
            })
            .unwrap();
        for (name, attr) in entries {
            let path = format!("{above}{name}");
            match attr.kind {
                FileKind::Directory => pending.push((attr.inode, format!("{path}/"))),
                _ if path == "filler" => {}
                _ => {
                    let text = volume.read(attr.inode, 0, 100).unwrap();
                    found.insert(path, String::from_utf8(text).unwrap());
                }
            }
        }
    }
    found
}

/// What every path holds; anything else is a mixture.
fn only_text(volume: &Volume) -> String {
    let texts = texts(volume);
    assert_eq!(texts.len(), FOLDERS * FILES, "files are missing, or there are too many");
    let first = texts.values().next().unwrap().clone();
    let other = texts.iter().find(|(_, text)| **text != first);
    assert!(other.is_none(), "one file says '{first}', another {other:?}");
    first
}

/// A vault full of old files, with a file besides that takes up room.
fn furnished(device: &Arc<MemoryDevice>) -> (Volume, InodeNo) {
    let volume = fresh(device.clone(), CAPACITY);
    import(&volume, "old").unwrap();
    let filler = volume.create(InodeNo::ROOT, b"filler", &REGULAR, &CREATOR).unwrap().inode;
    fill(&volume, filler, u64::MAX);
    volume.close().unwrap();
    (volume, filler)
}

/// Writes into an empty file up to a size, or as long as there is room.
fn fill(volume: &Volume, filler: InodeNo, size: u64) {
    let block = vec![b'x'; 16 << 10];
    let mut at = 0;
    while at < size {
        match volume.write(filler, at, &block, WriteOrigin::Direct, false) {
            Ok(()) => at += block.len() as u64,
            Err(FsError::NoSpace) => break,
            Err(error) => panic!("{error}"),
        }
    }
}

/// With a little more room each time: the entries do not fit, then they do and what moves them does
/// not, and in the end everything does.
#[test]
fn import_without_room_leaves_every_file_as_it_was() {
    let device = Arc::new(MemoryDevice::new(CAPACITY * 4096));
    let (volume, filler) = furnished(&device);
    let full = volume.attr(filler).unwrap().size;
    drop(volume);
    let image = device.snapshot();
    let (mut gathering, mut moving, mut done) = (0, 0, 0);
    for room in (0..80).step_by(2) {
        let device = Arc::new(MemoryDevice::from_bytes(image.clone(), CAPACITY * 4096));
        let volume = reopen(device.clone());
        volume.set_attr(filler, &SetAttr { size: Some(0), ..SetAttr::default() }).unwrap();
        for _ in 0..3 {
            volume.settle().unwrap();
        }
        fill(&volume, filler, full.saturating_sub(room * (64 << 10)));
        let expected = match import(&volume, "new") {
            Ok(()) => {
                done += 1;
                "new"
            }
            Err(ArchiveError::Vault { source: FsError::NoSpace, path }) => {
                if path.contains(&b'/') {
                    gathering += 1;
                } else {
                    moving += 1;
                }
                "old"
            }
            Err(ArchiveError::Commit(FsError::NoSpace)) => {
                moving += 1;
                "old"
            }
            Err(error) => panic!("with room {room}: {error}"),
        };
        assert_eq!(only_text(&volume), expected, "with room {room}");
        assert!(volume.lookup(InodeNo::ROOT, STAGING).is_err(), "gathered files are left");
        volume.close().unwrap();
        drop(volume);
        let volume = reopen(device.clone());
        assert_eq!(only_text(&volume), expected, "with room {room}, opened again");
        drop(volume);
        let report =
            check(&setup(device), &OpenOptions::default(), Depth::Everything, &mut |_| Ok(()));
        assert!(report.unwrap().is_clean());
    }
    // Each of the three must have been met, or this shows nothing.
    assert!(gathering > 0 && moving > 0 && done > 0, "{gathering} {moving} {done}");
}
