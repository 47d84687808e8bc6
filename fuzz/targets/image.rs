//! A whole image from a hostile author who knows the key: leaves of his making below a root that fits
//! them. Opening, walking, checking and changing it may fail, and must not crash, hang or grow.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::Arc;
use vault_core::check::{Depth, check};
use vault_core::device::MemoryDevice;
use vault_core::fs::{
    Creator, FileKind, NewFile, OpenOptions, RenameMode, SetAttr, Volume, WriteOrigin, XattrMode,
};
use vault_core::ids::InodeNo;
use vault_core::testing::{forge, known_setup};

/// Folders below each other that the walk enters; a folder may contain itself.
const DEEPEST: usize = 4;
const CREATOR: Creator = Creator { uid: 1, gid: 1, umask: 0 };

fuzz_target!(|bytes: &[u8]| {
    let Some(image) = forge(bytes) else { return };
    let setup = known_setup(Arc::new(MemoryDevice::from_bytes(image, 8 << 20)));
    let reading = OpenOptions { read_only: true, ..OpenOptions::default() };
    let _ = check(&setup, &reading, Depth::Everything, &mut |_| Ok(()));
    if let Ok((volume, _)) = Volume::open(&setup, &reading) {
        walk(&volume, InodeNo::ROOT, 0, &mut 200);
    }
    if let Ok((volume, _)) = Volume::open(&setup, &OpenOptions::default()) {
        change(&volume);
        let _ = volume.close();
    }
});

fn walk(volume: &Volume, folder: InodeNo, depth: usize, budget: &mut u32) {
    let mut entries = Vec::new();
    let _ = volume.read_dir(folder, 0, &mut |entry| {
        entries.push(entry);
        entries.len() < 100
    });
    let _ = volume.list_xattrs(folder).map(|names| {
        names.iter().for_each(|name| drop(volume.xattr(folder, name)));
    });
    for entry in entries {
        if *budget == 0 {
            return;
        }
        *budget -= 1;
        let _ = volume.lookup(folder, &entry.name);
        let _ = volume.attr(entry.inode);
        let _ = volume.read_link(entry.inode);
        let _ = volume.read(entry.inode, 0, 100_000);
        let _ = volume.read(entry.inode, (1 << 62) - 5, 10);
        if entry.kind == FileKind::Directory && depth < DEEPEST && entry.cookie > 2 {
            walk(volume, entry.inode, depth + 1, budget);
        }
    }
}

fn change(volume: &Volume) {
    let mut entries = Vec::new();
    let _ = volume.read_dir(InodeNo::ROOT, 2, &mut |entry| {
        entries.push(entry);
        entries.len() < 12
    });
    let new = NewFile { kind: FileKind::Regular, permissions: 0o644, device: 0 };
    let _ = volume.create(InodeNo::ROOT, b"new", &new, &CREATOR);
    for (index, entry) in entries.iter().enumerate() {
        let inode = entry.inode;
        let _ = match index % 6 {
            0 => volume.write(inode, 3, &[1; 5000], WriteOrigin::Direct, true),
            1 => volume.set_xattr(inode, b"user.a", &[1; 3000], XattrMode::Set),
            2 => volume.set_attr(inode, &SetAttr { size: Some(7), ..SetAttr::default() }).map(drop),
            3 => volume.rename(InodeNo::ROOT, &entry.name, inode, b"x", RenameMode::Replace),
            4 => volume.rename(InodeNo::ROOT, &entry.name, inode, b"new", RenameMode::Exchange),
            _ => volume.sync(),
        };
        let _ = volume.unlink(InodeNo::ROOT, &entry.name);
        let _ = volume.remove_dir(InodeNo::ROOT, &entry.name);
        let _ = volume.forget(inode);
    }
}
