//! A vault with a million files and one of 10 GiB: opening and asking for its size cost what they cost in
//! an empty one, and a check stays bounded in memory.
#![allow(clippy::unwrap_used)]

mod common;

use common::{CREATOR, setup};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use vault_core::check::{Depth, check};
use vault_core::device::BlockDevice;
use vault_core::fs::{FileKind, NewFile, OpenOptions, SetAttr, Volume, WriteOrigin};
use vault_core::ids::InodeNo;

const CAPACITY: u64 = 10 << 18;
const FILES: u64 = 1_000_000;
const PAGE: u64 = 4096;

/// A device that holds only what was written, and counts reads.
#[derive(Default)]
struct Sparse {
    pages: Mutex<BTreeMap<u64, Box<[u8]>>>,
    len: AtomicU64,
    reads: AtomicU64,
}

impl BlockDevice for Sparse {
    fn len(&self) -> io::Result<u64> {
        Ok(self.len.load(Ordering::Relaxed))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let pages = self.pages.lock();
        for (page, part) in (offset / PAGE..).zip(buffer.chunks_mut(4096)) {
            match pages.get(&page) {
                Some(bytes) => part.copy_from_slice(&bytes[..part.len()]),
                None => part.fill(0),
            }
        }
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut pages = self.pages.lock();
        for (page, part) in (offset / PAGE..).zip(bytes.chunks(4096)) {
            pages.insert(page, part.into());
        }
        Ok(())
    }

    fn grow(&self, len: u64) -> io::Result<()> {
        self.len.fetch_max(len, Ordering::Relaxed);
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.len.fetch_min(len, Ordering::Relaxed);
        Ok(())
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        let mut pages = self.pages.lock();
        (offset / PAGE..(offset + len) / PAGE).for_each(|page| drop(pages.remove(&page)));
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Calls of the device that opening and `statfs` take.
fn cost_of_opening(device: &Arc<Sparse>) -> u64 {
    device.reads.store(0, Ordering::Relaxed);
    let options = OpenOptions { read_only: true, ..OpenOptions::default() };
    let (volume, _) = Volume::open(&setup(device.clone()), &options).unwrap();
    let stat = volume.stat_fs();
    assert_eq!(stat.total, CAPACITY);
    device.reads.load(Ordering::Relaxed)
}

/// Memory in use by this process, in KiB.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_million_files_open_like_none_and_are_checked_in_bounded_memory() {
    let device = Arc::new(Sparse::default());
    Volume::format(&setup(device.clone()), CAPACITY, (0, 0)).unwrap();
    let (volume, _) = Volume::open(&setup(device.clone()), &OpenOptions::default()).unwrap();
    volume.close().unwrap();
    drop(volume);
    let empty = cost_of_opening(&device);

    let (volume, _) = Volume::open(&setup(device.clone()), &OpenOptions::default()).unwrap();
    let regular = NewFile { kind: FileKind::Regular, permissions: 0o600, device: 0 };
    let mut folder = InodeNo::ROOT;
    for number in 0..FILES {
        if number % 10_000 == 0 {
            let name = format!("folder-{number}").into_bytes();
            folder = volume.make_dir(InodeNo::ROOT, &name, 0o755, &CREATOR).unwrap().inode;
        }
        volume.create(folder, format!("f{number}").as_bytes(), &regular, &CREATOR).unwrap();
    }
    let large = volume.create(InodeNo::ROOT, b"large", &regular, &CREATOR).unwrap().inode;
    let size = SetAttr { size: Some(10 << 30), ..SetAttr::default() };
    volume.set_attr(large, &size).unwrap();
    volume.write(large, 9 << 30, b"far away", WriteOrigin::Direct, false).unwrap();
    volume.close().unwrap();
    drop(volume);

    let full = cost_of_opening(&device);
    assert!(full <= empty + 8, "{full} reads instead of {empty}");

    let before = resident();
    let mut most = 0;
    let report = check(&setup(device), &OpenOptions::default(), Depth::Everything, &mut |_| {
        most = most.max(resident().saturating_sub(before));
        Ok(())
    })
    .unwrap();
    assert_eq!((report.findings.len(), report.inodes), (0, FILES + 102));
    println!("{empty} and {full} reads to open, {most} KiB for the check");
    assert!(most < 300 << 10, "{most} KiB");
}
