//! Storage that fails at the n-th call, and perhaps from then on.

use super::BlockDevice;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Which calls fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// One call fails with an I/O error.
    Once,
    /// All calls from then on fail with an I/O error.
    Forever,
    /// So many calls that need space fail because the host is full; then there is room again.
    FullFor(u64),
}

/// A device that counts calls and fails as planned.
pub struct FaultyDevice {
    inner: Arc<dyn BlockDevice>,
    calls: AtomicU64,
    at: AtomicU64,
    fault: Fault,
}

impl FaultyDevice {
    /// Never fails until [`FaultyDevice::fail_at`] is called.
    pub fn new(inner: Arc<dyn BlockDevice>, fault: Fault) -> Self {
        Self { inner, calls: AtomicU64::new(0), at: AtomicU64::new(u64::MAX), fault }
    }

    /// Fails the `n`-th call from now, counted from 0.
    pub fn fail_at(&self, n: u64) {
        self.calls.store(0, Ordering::Relaxed);
        self.at.store(n, Ordering::Relaxed);
    }

    /// Returns the number of calls so far.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    fn pass(&self, needs_space: bool) -> io::Result<()> {
        if !needs_space && matches!(self.fault, Fault::FullFor(_)) {
            return Ok(());
        }
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let at = self.at.load(Ordering::Relaxed);
        match self.fault {
            Fault::Once if call == at => Err(io::Error::other("injected I/O error")),
            Fault::Forever if call >= at => Err(io::Error::other("injected I/O error")),
            Fault::FullFor(count) if call >= at && call - at < count => {
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }
}

impl BlockDevice for FaultyDevice {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.pass(false)?;
        self.inner.read_at(buffer, offset)
    }

    fn prefetch(&self, offset: u64, len: u64) {
        self.inner.prefetch(offset, len);
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.pass(true)?;
        self.inner.write_at(bytes, offset)
    }

    fn grow(&self, len: u64) -> io::Result<()> {
        self.pass(true)?;
        self.inner.grow(len)
    }

    fn back(&self, offset: u64, len: u64) -> io::Result<()> {
        self.pass(true)?;
        self.inner.back(offset, len)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.pass(false)?;
        self.inner.truncate(len)
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.pass(false)?;
        self.inner.discard(offset, len)
    }

    fn flush(&self) -> io::Result<()> {
        self.pass(false)?;
        self.inner.flush()
    }
}
