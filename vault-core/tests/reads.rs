//! What an operation has to read from the image: no more than it needs.
#![allow(clippy::unwrap_used)]

mod common;

use common::{CREATOR, fresh, reopen};
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use vault_core::device::{BlockDevice, MemoryDevice};
use vault_core::fs::{FileKind, NewFile, Volume, WriteOrigin};
use vault_core::ids::InodeNo;

const FILES: u64 = 600;
const SMALL: usize = 2000;
const BLOCK: usize = 16 << 10;
const CONTENT: u64 = FILES * SMALL as u64;

/// A device that counts the bytes read from it, and remembers what it was asked for.
struct Counting {
    inner: Arc<MemoryDevice>,
    bytes: AtomicU64,
    asked: Mutex<Vec<Asked>>,
}

/// A range of bytes that somebody wants, soon or now.
#[derive(Debug)]
enum Asked {
    Soon(Range<u64>),
    Now(Range<u64>),
}

impl Counting {
    fn new(inner: Arc<MemoryDevice>) -> Arc<Self> {
        Arc::new(Self { inner, bytes: AtomicU64::new(0), asked: Mutex::default() })
    }

    /// Runs `work` and returns how many bytes it read.
    fn read_by(&self, work: impl FnOnce()) -> u64 {
        let before = self.bytes.load(Ordering::Relaxed);
        work();
        self.bytes.load(Ordering::Relaxed) - before
    }

    /// Takes what was asked for since the last time.
    fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

impl BlockDevice for Counting {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let len = buffer.len() as u64;
        self.bytes.fetch_add(len, Ordering::Relaxed);
        self.asked.lock().unwrap().push(Asked::Now(offset..offset + len));
        self.inner.read_at(buffer, offset)
    }

    fn prefetch(&self, offset: u64, len: u64) {
        self.asked.lock().unwrap().push(Asked::Soon(offset..offset + len));
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

/// Makes a vault with one file of a MiB, of which every `rewritten`-th block was written anew.
fn one_big_file(rewritten: Option<usize>) -> (Arc<MemoryDevice>, InodeNo, Vec<u8>) {
    let device = Arc::new(MemoryDevice::new(64 << 20));
    let volume = fresh(device.clone(), 8192);
    let new = NewFile { kind: FileKind::Regular, permissions: 0o644, device: 0 };
    let inode = volume.create(InodeNo::ROOT, b"big", &new, &CREATOR).unwrap().inode;
    let mut content = vec![1; 1 << 20];
    volume.write(inode, 0, &content, WriteOrigin::Direct, false).unwrap();
    volume.sync().unwrap();
    for (number, block) in content.chunks_mut(BLOCK).enumerate() {
        if rewritten.is_some_and(|step| number % step == 0) {
            block.fill(2);
            let offset = (number * BLOCK) as u64;
            volume.write(inode, offset, block, WriteOrigin::Direct, false).unwrap();
        }
    }
    volume.close().unwrap();
    (device, inode, content)
}

#[test]
fn a_file_rewritten_here_and_there_is_asked_for_before_it_is_read() {
    let (device, inode, content) = one_big_file(Some(3));
    let device = Counting::new(device);
    let volume = reopen(device.clone());
    device.asked();
    assert!(volume.read(inode, 0, content.len()).unwrap() == content);
    let asked = device.asked();
    let first = asked.iter().position(|asked| matches!(asked, Asked::Soon(_))).unwrap();
    let (mut soon, mut reads) = (Vec::new(), 0);
    for asked in asked.into_iter().skip(first) {
        match asked {
            Asked::Soon(range) => {
                assert_eq!(reads, 0, "{range:?} is told after the first read");
                soon.push(range);
            }
            Asked::Now(range) => {
                let told = soon.iter().any(|s| s.start <= range.start && range.end <= s.end);
                assert!(told, "{range:?} is none of {soon:?}");
                reads += 1;
            }
        }
    }
    // What was written first, and what came later: each lies together, in pieces of few blocks.
    assert!(soon.len() <= 4 && reads > 40, "{soon:?}, {reads} reads");
}

#[test]
fn a_file_that_lies_in_one_piece_is_left_to_the_readahead_of_the_host() {
    let (device, inode, content) = one_big_file(None);
    let device = Counting::new(device);
    let volume = reopen(device.clone());
    assert!(volume.read(inode, 0, content.len()).unwrap() == content);
    let asked = device.asked();
    assert!(!asked.iter().any(|asked| matches!(asked, Asked::Soon(_))), "{asked:?}");
}

#[test]
fn what_follows_a_long_read_of_a_scattered_file_is_asked_for_with_it() {
    const LONG: usize = 512 << 10;
    let (device, inode, content) = one_big_file(Some(3));
    let device = Counting::new(device);
    let volume = reopen(device.clone());
    device.asked();
    assert!(volume.read(inode, 0, LONG).unwrap() == content[..LONG]);
    let soon: Vec<_> = device
        .asked()
        .into_iter()
        .filter_map(|asked| if let Asked::Soon(range) = asked { Some(range) } else { None })
        .collect();
    assert!(volume.read(inode, LONG as u64, LONG).unwrap() == content[LONG..]);
    for asked in device.asked() {
        if let Asked::Now(range) = asked {
            let told = soon.iter().any(|s| s.start <= range.start && range.end <= s.end);
            assert!(told, "{range:?} is none of {soon:?}");
        }
    }
    // A short read says nothing of others to come.
    assert!(volume.read(inode, 0, BLOCK).unwrap() == content[..BLOCK]);
    let asked = device.asked();
    assert!(!asked.iter().any(|asked| matches!(asked, Asked::Soon(_))), "{asked:?}");
}
