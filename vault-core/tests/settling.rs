//! Giving space back to the host while others use the vault.
#![allow(clippy::unwrap_used)]

mod common;

use common::{CREATOR, fresh};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use vault_core::device::{BlockDevice, MemoryDevice};
use vault_core::fs::{FileKind, NewFile, WriteOrigin};
use vault_core::ids::InodeNo;

const FILE: usize = 48 << 20;

/// A device on a busy disk: it takes its time to give space back, and says when it begins.
struct Busy {
    inner: MemoryDevice,
    begins: SyncSender<()>,
    discards: AtomicUsize,
}

impl BlockDevice for Busy {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
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
        self.discards.fetch_add(1, Ordering::SeqCst);
        let _ = self.begins.try_send(());
        std::thread::sleep(Duration::from_millis(5));
        self.inner.discard(offset, len)
    }

    fn flush(&self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[test]
fn nobody_waits_until_all_free_space_is_given_back() {
    let (begins, begun): (_, Receiver<()>) = sync_channel(1);
    let inner = MemoryDevice::new(128 << 20);
    let device = Arc::new(Busy { inner, begins, discards: AtomicUsize::new(0) });
    let volume = fresh(device.clone(), 32 << 10);
    let new = NewFile { kind: FileKind::Regular, permissions: 0o644, device: 0 };
    let file = volume.create(InodeNo::ROOT, b"large", &new, &CREATOR).unwrap().inode;
    for part in 0..FILE >> 20 {
        let bytes = vec![1; 1 << 20];
        volume.write(file, (part as u64) << 20, &bytes, WriteOrigin::Direct, false).unwrap();
    }
    // Without anything behind it, the image would only be cut off.
    let end = volume.create(InodeNo::ROOT, b"end", &new, &CREATOR).unwrap().inode;
    volume.write(end, 0, &vec![2; 1 << 20], WriteOrigin::Direct, false).unwrap();
    volume.commit_if_dirty().unwrap();
    volume.unlink(InodeNo::ROOT, b"large").unwrap();
    volume.forget(file).unwrap();
    let begun = Mutex::new(begun);
    let when_answered = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            begun.lock().unwrap().recv().unwrap();
            volume.attr(InodeNo::ROOT).unwrap();
            device.discards.load(Ordering::SeqCst)
        });
        volume.close().unwrap();
        asking.join().unwrap()
    });
    let all = device.discards.load(Ordering::SeqCst);
    assert!(all >= FILE >> 21, "{all}");
    assert!(when_answered < all, "answered after {when_answered} of {all}");
}
