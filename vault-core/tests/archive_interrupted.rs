//! An import that was interrupted: nobody is shown what it gathered, and the next opening removes it.
#![allow(clippy::unwrap_used)]

mod common;

use common::{CREATOR, fresh, reopen, setup};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use vault_core::archive::{
    Entry, EntryKind, EntryPath, ImportOptions, Importer, NO_OWNER, export, import,
};
use vault_core::check::{Depth, check};
use vault_core::device::MemoryDevice;
use vault_core::diff::diff;
use vault_core::fs::{FileKind, NewFile, OpenOptions, STAGING, Volume, WriteOrigin};
use vault_core::ids::InodeNo;
use vault_core::ports::Timestamp;

const CAPACITY: u64 = 16_384;
const OPTIONS: ImportOptions =
    ImportOptions { overwrite: false, keep_owners: false, owner: (1000, 1000) };
const REGULAR: NewFile = NewFile { kind: FileKind::Regular, permissions: 0o644, device: 0 };

fn take(importer: &mut Importer<'_>, path: &str, kind: EntryKind, content: &[u8]) {
    let entry = Entry {
        path: EntryPath::parse(path.as_bytes()).unwrap(),
        kind,
        permissions: 0o755,
        uid: NO_OWNER,
        gid: NO_OWNER,
        modified: Timestamp { seconds: 1_600_000_000, nanos: 0 },
        accessed: None,
        xattrs: Vec::new(),
    };
    importer.add(&entry, &mut &*content, &mut |_| ()).unwrap();
}

/// Gathers folders and files, some of them large, and stops in the middle, with all of it durable.
fn interrupted_import(volume: &Volume) {
    let stopped = catch_unwind(AssertUnwindSafe(|| {
        import(volume, OPTIONS, |importer| {
            let content = vec![7; 100_000];
            for folder in ["a", "a/b", "a/b/c", "d"] {
                take(importer, folder, EntryKind::Folder, b"");
                for file in 0..20 {
                    let size = content.len() as u64;
                    let kind = EntryKind::File { size, data: vec![0..size; 1] };
                    take(importer, &format!("{folder}/{file}"), kind, &content);
                }
            }
            volume.sync().unwrap();
            std::panic::resume_unwind(Box::new("the power is cut"))
        })
    }));
    assert!(stopped.is_err());
}

fn exported(volume: &Volume) -> Vec<u8> {
    let mut archive = Vec::new();
    export(volume, &mut archive, &mut |_| ()).unwrap();
    archive
}

fn read_only(device: &Arc<MemoryDevice>) -> Volume {
    let options = OpenOptions { read_only: true, ..OpenOptions::default() };
    Volume::open(&setup(device.clone()), &options).unwrap().0
}

#[test]
fn what_an_interrupted_import_gathered_is_shown_to_nobody_and_removed() {
    let device = Arc::new(MemoryDevice::new(CAPACITY * 4096));
    let volume = fresh(device.clone(), CAPACITY);
    let kept = volume.create(InodeNo::ROOT, b"kept", &REGULAR, &CREATOR).unwrap().inode;
    volume.write(kept, 0, b"precious", WriteOrigin::Direct, false).unwrap();
    volume.close().unwrap();
    let before = Arc::new(MemoryDevice::from_bytes(device.snapshot(), CAPACITY * 4096));
    let free = volume.stat_fs().free;
    interrupted_import(&volume);
    drop(volume);

    let left = read_only(&device);
    assert!(left.lookup(InodeNo::ROOT, STAGING).is_ok(), "it left nothing that could be removed");
    let untouched = read_only(&before);
    let names = |archive: &[u8]| {
        archive.chunks(512).filter(|record| record.get(257..262) == Some(b"ustar")).count()
    };
    assert_eq!(names(&exported(&left)), names(&exported(&untouched)), "the export shows it");
    let mut changes = Vec::new();
    diff(&untouched, &left, &mut |change| changes.push(change.path)).unwrap();
    assert_eq!(changes, [b""; 0], "the comparison shows it");
    drop(left);

    let opened = reopen(device.clone());
    assert!(opened.lookup(InodeNo::ROOT, STAGING).is_err(), "opening left it");
    assert_eq!(opened.read(kept, 0, 100).unwrap(), b"precious");
    opened.close().unwrap();
    assert!(opened.stat_fs().free + 64 > free, "its space was not given back");
    drop(opened);
    let report = check(&setup(device), &OpenOptions::default(), Depth::Everything, &mut |_| Ok(()));
    assert!(report.unwrap().is_clean());
}

/// A folder that only has the name is somebody's.
#[test]
fn folder_of_that_name_which_no_import_made_is_kept() {
    let device = Arc::new(MemoryDevice::new(CAPACITY * 4096));
    let volume = fresh(device.clone(), CAPACITY);
    let own = volume.make_dir(InodeNo::ROOT, STAGING, 0o755, &CREATOR).unwrap().inode;
    let file = volume.create(own, b"file", &REGULAR, &CREATOR).unwrap().inode;
    volume.write(file, 0, b"precious", WriteOrigin::Direct, false).unwrap();
    let refused = import(&volume, OPTIONS, |_| Ok(())).unwrap_err().to_string();
    assert!(refused.contains("'.tazpod-import' is in the vault already"), "{refused}");
    volume.close().unwrap();
    drop(volume);
    let opened = reopen(device);
    assert_eq!(opened.read(file, 0, 100).unwrap(), b"precious");
    assert!(exported(&opened).windows(8).any(|bytes| bytes == b"precious"));
}
