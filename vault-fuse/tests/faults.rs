//! What programs see when the storage below fails, and when we do.

mod common;

use common::{Vault, assert_errno, noise};
use nix::errno::Errno;
use std::fs::{self, File};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use vault_core::device::{BlockDevice, FileDevice};
use vault_fuse::SessionError;

const SOUND: u8 = 0;
const WRITES_FAIL: u8 = 1;
const BARRIERS_FAIL: u8 = 2;
const READS_PANIC: u8 = 3;

/// A device that starts to fail when told.
struct Moody {
    inner: FileDevice,
    mood: Arc<AtomicU8>,
}

impl Moody {
    fn is(&self, mood: u8) -> bool {
        self.mood.load(Ordering::SeqCst) == mood
    }
}

impl BlockDevice for Moody {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        assert!(!self.is(READS_PANIC), "the planted bug");
        self.inner.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.is(WRITES_FAIL) {
            return Err(Errno::EIO.into());
        }
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
        if self.is(BARRIERS_FAIL) {
            return Err(Errno::EIO.into());
        }
        self.inner.flush()
    }
}

/// Mounts a vault with one synced file over a device whose mood the caller holds.
fn moody() -> (Vault, Arc<AtomicU8>) {
    let mut vault = Vault::new();
    fs::write(vault.path("kept"), noise(500_000, 8)).expect("written");
    vault.unmount().expect("a clean end");
    let mood = Arc::new(AtomicU8::new(SOUND));
    let inner = Arc::clone(&mood);
    vault.mount_over(|device| Arc::new(Moody { inner: device, mood: inner }));
    (vault, mood)
}

#[test]
fn fsync_fails_when_the_storage_does_and_the_vault_turns_read_only() {
    for broken in [WRITES_FAIL, BARRIERS_FAIL] {
        let (mut vault, mood) = moody();
        fs::write(vault.path("lost"), b"never durable").expect("in memory");
        let file = File::open(vault.path("lost")).expect("opened");
        mood.store(broken, Ordering::SeqCst);
        assert_errno(file.sync_all(), Errno::EIO);
        assert_errno(fs::create_dir(vault.path("more")), Errno::EROFS);
        // The owner hears of it once.
        let heard = vault.heard.lock().expect("no panic").clone();
        assert!(heard.len() == 1 && heard[0].starts_with("Failed(Io("), "{heard:?}");
        drop(file);
        // What was durable can still be read, and saved.
        assert!(fs::read(vault.path("kept")).expect("read") == noise(500_000, 8));
        mood.store(SOUND, Ordering::SeqCst);
        let _ = vault.unmount();
        vault.mount();
        assert!(fs::read(vault.path("kept")).expect("read") == noise(500_000, 8));
    }
}

#[test]
fn the_end_of_a_session_tells_of_a_commit_that_failed() {
    let (mut vault, mood) = moody();
    fs::write(vault.path("lost"), b"never durable").expect("in memory");
    mood.store(BARRIERS_FAIL, Ordering::SeqCst);
    assert!(matches!(vault.unmount(), Err(SessionError::Commit(_))));
}

#[test]
fn a_bug_ends_all_service_and_commits_nothing_more() {
    let (mut vault, mood) = moody();
    fs::create_dir(vault.path("uncommitted")).expect("made");
    mood.store(READS_PANIC, Ordering::SeqCst);
    assert_errno(fs::read(vault.path("kept")), Errno::EIO);
    // The session ends by itself; no request is answered from the broken state.
    assert!(matches!(vault.wait(), Err(SessionError::Halted)));
    assert_eq!(*vault.heard.lock().expect("no panic"), ["Halted"]);
    vault.mount();
    assert!(fs::read(vault.path("kept")).expect("read") == noise(500_000, 8));
    assert!(
        !vault.path("uncommitted").exists(),
        "a state that a bug may have touched was committed"
    );
}
