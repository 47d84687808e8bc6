//! What an operation has to read from the image: no more than it needs.
#![allow(clippy::unwrap_used)]

mod common;

use common::{CREATOR, fresh, reopen};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use vault_core::device::{BlockDevice, MemoryDevice};
use vault_core::fs::{FileKind, NewFile, Volume, WriteOrigin};
use vault_core::ids::InodeNo;

const FILES: u64 = 600;
const SMALL: usize = 2000;
const CONTENT: u64 = FILES * SMALL as u64;

/// A device that counts the bytes read from it.
struct Counting {
    inner: Arc<MemoryDevice>,
    bytes: AtomicU64,
}

impl Counting {
    fn new(inner: Arc<MemoryDevice>) -> Arc<Self> {
        Arc::new(Self { inner, bytes: AtomicU64::new(0) })
    }

    /// Runs `work` and returns how many bytes it read.
    fn read_by(&self, work: impl FnOnce()) -> u64 {
        let before = self.bytes.load(Ordering::Relaxed);
        work();
        self.bytes.load(Ordering::Relaxed) - before
    }
}

impl BlockDevice for Counting {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.bytes.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        self.inner.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.inner.write_at(bytes, offset)
    }

    fn grow(&self, len: u64) -> io::Result<()> {
        self.inner.grow(len)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.inner.truncate(len)
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.inner.discard(offset, len)
    }

    fn flush(&self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Makes a folder of small files in a vault and closes it.
fn many_small_files() -> Arc<MemoryDevice> {
    let device = Arc::new(MemoryDevice::new(64 << 20));
    let volume = fresh(device.clone(), 8192);
    let new = NewFile { kind: FileKind::Regular, permissions: 0o644, device: 0 };
    for number in 0..FILES {
        let name = format!("file-{number}");
        let attr = volume.create(InodeNo::ROOT, name.as_bytes(), &new, &CREATOR).unwrap();
        volume.write(attr.inode, 0, &[7; SMALL], WriteOrigin::Direct, false).unwrap();
    }
    volume.close().unwrap();
    device
}

fn walk(volume: &Volume) -> Vec<InodeNo> {
    let mut found = Vec::new();
    volume
        .read_dir_plus(InodeNo::ROOT, 2, &mut |_, attr| {
            found.push(attr.inode);
            true
        })
        .unwrap();
    assert_eq!(found.len() as u64, FILES);
    found
}

#[test]
fn walking_small_files_reads_none_of_their_content() {
    let device = Counting::new(many_small_files());
    let volume = reopen(device.clone());
    let mut files = Vec::new();
    let walked = device.read_by(|| files = walk(&volume));
    // Names and attributes take about 170 bytes each; a leaf may be half full.
    assert!(walked < CONTENT / 4, "{walked} bytes for names and attributes");
    // The device counts at all: content has to come from somewhere.
    let content = device.read_by(|| {
        for inode in files {
            assert_eq!(volume.read(inode, 0, SMALL).unwrap(), [7; SMALL]);
        }
    });
    assert!(content >= CONTENT, "{content} bytes for content");
}
