//! The file system's operations, one behaviour at a time, over a device in memory.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

mod common;

use common::{CREATOR, fresh, reopen};
use std::sync::Arc;
use vault_core::check::{Depth, check};
use vault_core::device::MemoryDevice;
use vault_core::error::FsError;
use vault_core::fs::{
    Attr, FileKind, NewFile, OpenOptions, RenameMode, SetAttr, Volume, WriteOrigin,
};
use vault_core::ids::InodeNo;

const ROOT: InodeNo = InodeNo::ROOT;
const REGULAR: NewFile = NewFile { kind: FileKind::Regular, permissions: 0o644, device: 0 };

fn device() -> Arc<MemoryDevice> {
    Arc::new(MemoryDevice::new(256 << 20))
}

fn file(volume: &Volume, name: &[u8], content: &[u8]) -> Attr {
    let attr = volume.create(ROOT, name, &REGULAR, &CREATOR).unwrap();
    volume.write(attr.inode, 0, content, WriteOrigin::Direct, false).unwrap();
    volume.attr(attr.inode).unwrap()
}

#[test]
fn content_of_every_size_survives_reopening() {
    let device = device();
    let volume = fresh(device.clone(), 16_384);
    let sizes = [1, 100, 2048, 2049, 4096, 5000, 16_384, 16_385, 70_000, 1 << 20, (3 << 20) + 77];
    let content = |size: usize| (0..size).map(|i| (i * 31 + size) as u8).collect::<Vec<u8>>();
    for size in sizes {
        file(&volume, size.to_string().as_bytes(), &content(size));
    }
    volume.close().unwrap();
    drop(volume);
    let volume = reopen(device);
    for size in sizes {
        let attr = volume.lookup(ROOT, size.to_string().as_bytes()).unwrap();
        assert_eq!(attr.size, size as u64);
        let read = volume.read(attr.inode, 0, size + 10).unwrap();
        assert!(read == content(size), "content of {size} bytes");
        let tail = volume.read(attr.inode, size as u64 / 2, size).unwrap();
        assert!(tail == content(size)[size / 2..], "tail of {size} bytes");
    }
}

#[test]
fn unlinked_file_stays_readable_until_forgotten() {
    let device = device();
    let volume = fresh(device.clone(), 16_384);
    let free = volume.stat_fs().free;
    let attr = file(&volume, b"a", &vec![1; 100_000]);
    volume.unlink(ROOT, b"a").unwrap();
    assert!(matches!(volume.lookup(ROOT, b"a"), Err(FsError::NotFound)));
    assert_eq!(volume.read(attr.inode, 99_999, 10).unwrap(), [1]);
    volume.forget(attr.inode).unwrap();
    assert!(matches!(volume.attr(attr.inode), Err(FsError::Stale)));
    volume.sync().unwrap();
    assert!(volume.stat_fs().free + 16 >= free);
}

#[test]
fn orphan_of_a_crash_is_removed_by_the_next_opening() {
    let device = device();
    let volume = fresh(device.clone(), 16_384);
    let attr = file(&volume, b"a", &vec![1; 100_000]);
    volume.unlink(ROOT, b"a").unwrap();
    volume.sync().unwrap();
    drop(volume);
    let volume = reopen(device);
    assert!(matches!(volume.attr(attr.inode), Err(FsError::Stale)));
    assert_eq!(volume.stat_fs().files, 1);
}

#[test]
fn rename_replaces_refuses_and_exchanges() {
    let volume = fresh(device(), 16_384);
    let (a, b) = (file(&volume, b"a", b"A").inode, file(&volume, b"b", b"B").inode);
    let exists = volume.rename(ROOT, b"a", ROOT, b"b", RenameMode::NoReplace);
    assert!(matches!(exists, Err(FsError::Exists)));
    volume.rename(ROOT, b"a", ROOT, b"b", RenameMode::Exchange).unwrap();
    assert_eq!(volume.lookup(ROOT, b"a").unwrap().inode, b);
    volume.rename(ROOT, b"a", ROOT, b"b", RenameMode::Replace).unwrap();
    assert_eq!(volume.lookup(ROOT, b"b").unwrap().inode, b);
    assert_eq!(volume.attr(a).unwrap().links, 0);
    volume.make_dir(ROOT, b"d", 0o755, &CREATOR).unwrap();
    let d = volume.lookup(ROOT, b"d").unwrap().inode;
    volume.make_dir(d, b"e", 0o755, &CREATOR).unwrap();
    let e = volume.lookup(d, b"e").unwrap().inode;
    let looped = volume.rename(ROOT, b"d", e, b"x", RenameMode::Replace);
    assert!(matches!(looped, Err(FsError::InvalidArgument)));
    assert_eq!(volume.lookup(e, b"..").unwrap().inode, d);
    volume.rename(d, b"e", ROOT, b"e", RenameMode::Replace).unwrap();
    assert_eq!(volume.attr(ROOT).unwrap().links, 4);
    assert_eq!(volume.attr(d).unwrap().links, 2);
}

#[test]
fn many_files_are_listed_once_each_and_can_all_be_removed() {
    let device = device();
    let volume = fresh(device.clone(), 65_536);
    let names: Vec<String> = (0..20_000).map(|i| format!("file-{i}")).collect();
    for name in &names {
        file(&volume, name.as_bytes(), name.as_bytes());
    }
    volume.sync().unwrap();
    let volume = {
        drop(volume);
        reopen(device.clone())
    };
    let mut listed = Vec::new();
    let mut cookie = 0;
    loop {
        let mut some = 0;
        volume
            .read_dir_plus(ROOT, cookie, &mut |entry, attr| {
                assert_eq!(entry.inode, attr.inode);
                cookie = entry.cookie;
                listed.push(entry.name);
                some += 1;
                some < 100
            })
            .unwrap();
        if some == 0 {
            break;
        }
    }
    listed.sort();
    let mut expected: Vec<Vec<u8>> = names.iter().map(|name| name.as_bytes().to_vec()).collect();
    expected.extend([b".".to_vec(), b"..".to_vec()]);
    expected.sort();
    assert_eq!(listed, expected);
    for name in &names {
        let inode = volume.lookup(ROOT, name.as_bytes()).unwrap().inode;
        volume.unlink(ROOT, name.as_bytes()).unwrap();
        volume.forget(inode).unwrap();
    }
    volume.close().unwrap();
    assert_eq!(volume.stat_fs().files, 1);
    let used = volume.stat_fs().total - volume.stat_fs().free;
    assert!(used < 64, "{used} units are still in use");
}

#[test]
fn full_vault_says_so_and_can_be_emptied() {
    let device = device();
    let volume = fresh(device.clone(), 2048);
    let mut count = 0;
    let failure = loop {
        let name = format!("f{count}");
        let attr = match volume.create(ROOT, name.as_bytes(), &REGULAR, &CREATOR) {
            Ok(attr) => attr,
            Err(error) => break error,
        };
        count += 1;
        let content = vec![count as u8; 200_000];
        if let Err(error) = volume.write(attr.inode, 0, &content, WriteOrigin::Direct, false) {
            break error;
        }
    };
    assert!(matches!(failure, FsError::NoSpace), "{failure}");
    assert!(count > 20, "only {count} files fit");
    volume.sync().unwrap();
    for i in 0..count {
        let name = format!("f{i}");
        let inode = volume.lookup(ROOT, name.as_bytes()).unwrap().inode;
        volume.unlink(ROOT, name.as_bytes()).unwrap();
        volume.forget(inode).unwrap();
    }
    volume.sync().unwrap();
    file(&volume, b"again", &vec![1; 2_000_000]);
    volume.close().unwrap();
}

#[test]
fn truncation_cuts_and_extends_with_zeros() {
    let volume = fresh(device(), 16_384);
    let inode = file(&volume, b"a", &vec![7; 50_000]).inode;
    let resize = |size| {
        volume.set_attr(inode, &SetAttr { size: Some(size), ..SetAttr::default() }).unwrap();
    };
    resize(20_001);
    resize(60_000);
    let read = volume.read(inode, 0, 60_000).unwrap();
    assert!(read[..20_001].iter().all(|&b| b == 7) && read[20_001..].iter().all(|&b| b == 0));
    volume.sync().unwrap();
    resize(100);
    resize(5000);
    let read = volume.read(inode, 0, 60_000).unwrap();
    assert!(read.len() == 5000 && read[..100].iter().all(|&b| b == 7));
    assert!(read[100..].iter().all(|&b| b == 0));
}

#[test]
fn very_deep_tree_is_checked_clean() {
    let device = device();
    let volume = fresh(device.clone(), 16_384);
    let mut folder = ROOT;
    for _ in 0..10_000 {
        folder = volume.make_dir(folder, b"d", 0o755, &CREATOR).unwrap().inode;
    }
    volume.close().unwrap();
    drop(volume);
    let options = OpenOptions::default();
    let setup = common::setup(device);
    let report = check(&setup, &options, Depth::Everything, &mut |_| Ok(())).unwrap();
    assert!(report.is_clean(), "{:?}", report.findings.first());
}
