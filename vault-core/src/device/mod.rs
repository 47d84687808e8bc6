//! Where the image's bytes live: five operations that a file, a memory buffer or a fault injector
//! can fulfil.
//!
//! Everything above this trait is written against it alone, so that power cuts, I/O errors and full
//! disks can be tried at every single call.

#[cfg(target_os = "linux")]
pub mod file;
#[cfg(target_os = "linux")]
pub mod holder;
#[cfg(any(test, feature = "testing"))]
pub mod memory;

#[cfg(target_os = "linux")]
pub use file::{Access, FileDevice, OpenError, recognise};
#[cfg(feature = "testing")]
pub mod crash;
#[cfg(feature = "testing")]
pub mod faulty;
#[cfg(any(test, feature = "testing"))]
pub use memory::MemoryDevice;

use std::io;

/// Random-access storage with an explicit write barrier.
///
/// Reads and writes may come from several threads at once; callers never overlap a write with
/// another access to the same bytes.
pub trait BlockDevice: Send + Sync {
    /// Returns the length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Fills `buffer` from `offset`; an end of the device inside the range is `UnexpectedEof`.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Says that a range will be read soon, so that a slow device can begin with it. May do nothing.
    fn prefetch(&self, _offset: u64, _len: u64) {}

    /// Writes all of `bytes` at `offset`, inside the device's length.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Extends the device to `len` bytes with physically allocated space that reads as zeros, or
    /// fails (`StorageFull`) leaving the length as it was. A shorter `len` changes nothing.
    fn grow(&self, len: u64) -> io::Result<()>;

    /// Makes sure that a range inside the length is physically allocated, or fails (`StorageFull`).
    /// Content is unchanged; a device that cannot promise space does nothing.
    fn back(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }

    /// Cuts the device to `len` bytes.
    fn truncate(&self, len: u64) -> io::Result<()>;

    /// Gives the space of a range back to the host; it reads as zeros afterwards. May do nothing
    /// where the host cannot.
    fn discard(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Returns only once every earlier write is on stable storage (`fdatasync`).
    fn flush(&self) -> io::Result<()>;

    /// Whether the device has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}
