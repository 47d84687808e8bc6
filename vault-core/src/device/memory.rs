//! Storage in memory, for tests and fuzzing: a byte vector with a limit.

use super::BlockDevice;
use parking_lot::RwLock;
use std::io;

/// A device that lives in memory and is as durable as the process.
#[derive(Debug)]
pub struct MemoryDevice {
    bytes: RwLock<Vec<u8>>,
    limit: u64,
}

impl MemoryDevice {
    /// Starts empty; may grow to `limit` bytes.
    pub fn new(limit: u64) -> Self {
        Self { bytes: RwLock::new(Vec::new()), limit }
    }

    /// Starts with the bytes of an image; may grow to `limit` bytes.
    pub fn from_bytes(bytes: Vec<u8>, limit: u64) -> Self {
        Self { bytes: RwLock::new(bytes), limit }
    }

    /// Returns a copy of all bytes.
    pub fn snapshot(&self) -> Vec<u8> {
        self.bytes.read().clone()
    }
}

impl BlockDevice for MemoryDevice {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.read().len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let bytes = self.bytes.read();
        let range = range(offset, buffer.len() as u64);
        let source =
            range.and_then(|range| bytes.get(range)).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(source);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut held = self.bytes.write();
        let range = range(offset, bytes.len() as u64);
        let target =
            range.and_then(|range| held.get_mut(range)).ok_or(io::ErrorKind::UnexpectedEof)?;
        target.copy_from_slice(bytes);
        Ok(())
    }

    fn grow(&self, len: u64) -> io::Result<()> {
        if len > self.limit {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::StorageFull)?;
        let mut bytes = self.bytes.write();
        if len > bytes.len() {
            bytes.resize(len, 0);
        }
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        self.bytes.write().truncate(len);
        Ok(())
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        let mut bytes = self.bytes.write();
        let end = (bytes.len() as u64).min(offset.saturating_add(len));
        let inside = range(offset, end.saturating_sub(offset));
        if let Some(hole) = inside.and_then(|range| bytes.get_mut(range)) {
            hole.fill(0);
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

fn range(offset: u64, len: u64) -> Option<std::ops::Range<usize>> {
    let start = usize::try_from(offset).ok()?;
    let end = start.checked_add(usize::try_from(len).ok()?)?;
    Some(start..end)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn reads_and_writes_stay_inside_the_length() {
        let device = MemoryDevice::new(100);
        device.grow(10).unwrap();
        device.write_at(b"abc", 7).unwrap();
        assert_eq!(device.write_at(b"abc", 8).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let mut buffer = [0; 4];
        device.read_at(&mut buffer, 6).unwrap();
        assert_eq!(&buffer, b"\0abc");
        assert!(device.read_at(&mut buffer, 7).is_err());
        assert!(device.read_at(&mut buffer, u64::MAX).is_err());
    }

    #[test]
    fn growing_past_the_limit_leaves_the_length() {
        let device = MemoryDevice::new(100);
        device.grow(60).unwrap();
        assert_eq!(device.grow(101).unwrap_err().kind(), io::ErrorKind::StorageFull);
        device.grow(20).unwrap();
        assert_eq!(device.len().unwrap(), 60);
    }

    #[test]
    fn discarded_ranges_read_as_zeros_and_keep_the_length() {
        let device = MemoryDevice::from_bytes(vec![1; 16], 16);
        device.discard(4, 4).unwrap();
        device.discard(14, 100).unwrap();
        assert_eq!(device.snapshot(), [1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0]);
    }
}
