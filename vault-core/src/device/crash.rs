//! Storage that remembers every write and barrier, and the images that a power cut would leave.
//!
//! Between two barriers a disk may keep any subset of the writes, in any order, and tear each one at
//! sectors of 512 bytes. [`Recorder`] logs what the store does; [`Timeline`] walks the log and makes
//! the image of any cut.

use super::{BlockDevice, MemoryDevice};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// Bytes that a disk writes whole or not at all.
pub const SECTOR: usize = 512;

/// One call that reached the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Bytes at an offset.
    Write(u64, Vec<u8>),
    /// A range that reads as zeros afterwards.
    Discard(u64, u64),
    /// A new length.
    Length(u64),
    /// A barrier that was waited for.
    Flush,
}

/// A device in memory that logs what changes it.
pub struct Recorder {
    inner: MemoryDevice,
    log: Mutex<Vec<Event>>,
}

impl Recorder {
    /// Starts with an image; may grow to `limit` bytes.
    pub fn new(image: Vec<u8>, limit: u64) -> Self {
        Self { inner: MemoryDevice::from_bytes(image, limit), log: Mutex::default() }
    }

    /// Returns how many events there are.
    pub fn events(&self) -> usize {
        self.log.lock().len()
    }

    /// Returns a copy of the log.
    pub fn log(&self) -> Vec<Event> {
        self.log.lock().clone()
    }

    fn record(&self, event: Event) {
        self.log.lock().push(event);
    }
}

impl BlockDevice for Recorder {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.inner.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.inner.write_at(bytes, offset)?;
        self.record(Event::Write(offset, bytes.to_vec()));
        Ok(())
    }

    fn grow(&self, len: u64) -> io::Result<()> {
        self.inner.grow(len)?;
        self.record(Event::Length(len));
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.inner.truncate(len)?;
        self.record(Event::Length(len));
        Ok(())
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.inner.discard(offset, len)?;
        self.record(Event::Discard(offset, len));
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        self.record(Event::Flush);
        Ok(())
    }
}

/// A log being walked: what is surely on the disk, and what may be.
pub struct Timeline {
    durable: Arc<Vec<u8>>,
    floating: Vec<Event>,
}

impl Timeline {
    /// Starts before the first event.
    pub fn new(image: Vec<u8>) -> Self {
        Self { durable: Arc::new(image), floating: Vec::new() }
    }

    /// Takes the next event of the log.
    pub fn advance(&mut self, event: &Event) {
        if *event != Event::Flush {
            self.floating.push(event.clone());
            return;
        }
        let image = Arc::make_mut(&mut self.durable);
        for event in self.floating.drain(..) {
            apply(image, &event);
        }
    }

    /// Makes the image of a cut here. `keep` is asked for each sector of each floating write
    /// whether it arrived; a later write to the same sector wins if it arrived.
    pub fn cut(&self, keep: &mut dyn FnMut() -> bool) -> CutImage {
        let mut image = CutImage::over(Arc::clone(&self.durable));
        for event in &self.floating {
            match event {
                Event::Write(offset, bytes) => {
                    for (sector, part) in (offset / SECTOR as u64..).zip(bytes.chunks(SECTOR)) {
                        if keep() {
                            image.patch(sector, part);
                        }
                    }
                }
                Event::Discard(offset, len) => {
                    let sectors = offset / SECTOR as u64..(offset + len) / SECTOR as u64;
                    if keep() {
                        sectors.for_each(|sector| image.patch(sector, &[0; SECTOR]));
                    }
                }
                // A file's length is metadata of the host, which journals it before the data that
                // needs it.
                Event::Length(len) => image.len = image.len.max(*len),
                Event::Flush => {}
            }
        }
        image
    }
}

fn apply(image: &mut Vec<u8>, event: &Event) {
    match event {
        Event::Write(offset, bytes) => {
            let start = usize_of(*offset);
            if let Some(target) = image.get_mut(start..start + bytes.len()) {
                target.copy_from_slice(bytes);
            }
        }
        Event::Discard(offset, len) => {
            let start = usize_of(*offset);
            if let Some(target) = image.get_mut(start..start + usize_of(*len)) {
                target.fill(0);
            }
        }
        Event::Length(len) => image.resize(usize_of(*len), 0),
        Event::Flush => {}
    }
}

/// An image as a power cut left it; takes writes of its own on top.
pub struct CutImage {
    base: Arc<Vec<u8>>,
    patches: Mutex<BTreeMap<u64, [u8; SECTOR]>>,
    len: u64,
}

impl CutImage {
    fn over(base: Arc<Vec<u8>>) -> Self {
        let len = base.len() as u64;
        Self { base, patches: Mutex::default(), len }
    }

    fn patch(&mut self, sector: u64, bytes: &[u8]) {
        if let Ok(bytes) = bytes.try_into() {
            self.patches.get_mut().insert(sector, bytes);
        }
    }
}

impl BlockDevice for CutImage {
    fn len(&self) -> io::Result<u64> {
        Ok(self.len)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if offset + buffer.len() as u64 > self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buffer.fill(0);
        let tail = self.base.get(usize_of(offset)..).unwrap_or_default();
        for (target, source) in buffer.iter_mut().zip(tail) {
            *target = *source;
        }
        let first = offset / SECTOR as u64;
        let last = (offset + buffer.len() as u64).div_ceil(SECTOR as u64);
        for (sector, bytes) in self.patches.lock().range(first..last) {
            let start = usize_of(sector * SECTOR as u64 - offset.min(sector * SECTOR as u64));
            if let Some(target) = buffer.get_mut(start..start + SECTOR) {
                target.copy_from_slice(bytes);
            }
        }
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut patches = self.patches.lock();
        for (sector, part) in (offset / SECTOR as u64..).zip(bytes.chunks(SECTOR)) {
            let part = part.try_into().map_err(|_| io::ErrorKind::InvalidInput)?;
            patches.insert(sector, part);
        }
        Ok(())
    }

    fn grow(&self, len: u64) -> io::Result<()> {
        if len <= self.len { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn discard(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

fn usize_of(value: u64) -> usize {
    usize::try_from(value).expect("test images fit in memory")
}
