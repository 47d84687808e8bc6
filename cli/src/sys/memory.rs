//! Memory for secrets: locked so that it is not swapped out, kept out of core files, wiped.
//!
//! Locking is limited (8 MiB for an ordinary user); what cannot be locked is used unlocked rather
//! than not at all, since keeping out of dumps and wiping still hold.

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mlock, mmap_anonymous, munmap};
use std::ffi::c_void;
use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::slice;
use vault_core::crypto::kdf::{KdfBlock, KdfMemory, MemoryRefused};
use vault_core::crypto::secret::Passphrase;
use zeroize::Zeroize;

/// A private anonymous mapping of zeros, locked where the limit allows, out of core files and gone
/// in a child made by fork. Unmapped when dropped.
struct Pages {
    start: NonNull<c_void>,
    len: NonZeroUsize,
    locked: bool,
}

impl Pages {
    fn new(len: usize) -> io::Result<Self> {
        let len = NonZeroUsize::new(len).unwrap_or(NonZeroUsize::MIN);
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches nothing
        // that exists.
        let start = unsafe { mmap_anonymous(None, len, access, MapFlags::MAP_PRIVATE) }?;
        let mut pages = Self { start, len, locked: false };
        pages.advise(MmapAdvise::MADV_DONTDUMP)?;
        pages.advise(MmapAdvise::MADV_WIPEONFORK)?;
        // Large pages halve the time that Argon2 waits for memory; a kernel without them is fine.
        let _ = pages.advise(MmapAdvise::MADV_HUGEPAGE);
        // SAFETY: the range is the mapping just made, whole; locking changes no content.
        pages.locked = unsafe { mlock(start, len.get()) }.is_ok();
        Ok(pages)
    }

    fn advise(&self, advice: MmapAdvise) -> io::Result<()> {
        // SAFETY: the range is our mapping, whole, and none of the kinds of advice that are given
        // above changes its content in this process.
        Ok(unsafe { madvise(self.start, self.len.get(), advice) }?)
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping is `len` readable bytes, initialised to zero by the kernel, lives as
        // long as `self`, and is only written through `&mut self`.
        unsafe { slice::from_raw_parts(self.start.cast().as_ptr(), self.len.get()) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as `bytes`, and `&mut self` makes this the only reference.
        unsafe { slice::from_raw_parts_mut(self.start.cast().as_ptr(), self.len.get()) }
    }

    fn blocks_mut(&mut self) -> &mut [KdfBlock] {
        let count = self.len.get() / size_of::<KdfBlock>();
        // SAFETY: the mapping starts on a page, which is aligned for a block, and holds `count` whole
        // blocks; a block is an array of integers, for which every content is valid; `&mut self` makes
        // this the only reference.
        unsafe { slice::from_raw_parts_mut(self.start.cast().as_ptr(), count) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the range is our mapping, whole, and no reference to it outlives `self`.
        let _ = unsafe { munmap(self.start, self.len.get()) };
    }
}

/// Lends the KDF its working memory: locked where the limit allows, out of core files. The KDF
/// wipes it before it comes back.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LockedKdfMemory;

impl KdfMemory for LockedKdfMemory {
    fn with_memory(
        &mut self,
        blocks: usize,
        work: &mut dyn FnMut(&mut [KdfBlock]),
    ) -> Result<(), MemoryRefused> {
        let len = blocks.checked_mul(size_of::<KdfBlock>()).ok_or(MemoryRefused)?;
        let mut pages = Pages::new(len).map_err(|_| MemoryRefused)?;
        // The KDF is the first that shares its work.
        super::signals::keep_from_workers();
        work(pages.blocks_mut().get_mut(..blocks).ok_or(MemoryRefused)?);
        Ok(())
    }
}

/// A secret of bounded length that is gathered byte by byte and never moves.
pub(crate) struct SecretBuffer {
    pages: Pages,
    capacity: usize,
    len: usize,
}

impl Drop for SecretBuffer {
    fn drop(&mut self) {
        self.pages.bytes_mut().zeroize();
    }
}

/// The secret is longer than its buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl SecretBuffer {
    /// Makes an empty buffer for at most `capacity` bytes.
    pub(crate) fn new(capacity: usize) -> io::Result<Self> {
        Ok(Self { pages: Pages::new(capacity)?, capacity, len: 0 })
    }

    /// Returns the bytes gathered so far.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.pages.bytes().get(..self.len).unwrap_or_default()
    }

    /// Returns the number of bytes gathered so far.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was gathered.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a byte.
    pub(crate) fn push(&mut self, byte: u8) -> Result<(), Full> {
        if self.len == self.capacity {
            return Err(Full);
        }
        let place = self.pages.bytes_mut().get_mut(self.len).ok_or(Full)?;
        *place = byte;
        self.len += 1;
        Ok(())
    }

    /// Takes the last UTF-8 character away, or the last byte of what is no UTF-8.
    pub(crate) fn pop_char(&mut self) {
        let is_continuation = |byte: &u8| byte & 0xc0 == 0x80;
        while self.bytes().last().is_some_and(is_continuation) {
            self.len -= 1;
        }
        self.len = self.len.saturating_sub(1);
    }

    /// Takes everything away.
    pub(crate) fn clear(&mut self) {
        self.pages.bytes_mut().zeroize();
        self.len = 0;
    }

    /// Takes one newline at the end away.
    pub(crate) fn strip_newline(&mut self) {
        let bytes = self.bytes();
        self.len = match bytes.strip_suffix(b"\n") {
            Some(rest) => rest.strip_suffix(b"\r").unwrap_or(rest).len(),
            None => bytes.len(),
        };
    }

    /// Reads until the source ends or the buffer is full, straight into place.
    pub(crate) fn fill_from(&mut self, source: &mut impl Read) -> io::Result<()> {
        loop {
            let end = self.capacity;
            let room = self.pages.bytes_mut().get_mut(self.len..end).unwrap_or_default();
            match source.read(room) {
                Ok(0) => return Ok(()),
                Ok(count) => self.len += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Hands the secret to the vault's own type; this copy is wiped.
    pub(crate) fn into_passphrase(self) -> Passphrase {
        Passphrase::new(self.bytes().to_vec())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn erasing_takes_whole_characters() {
        let mut buffer = SecretBuffer::new(16).unwrap();
        for byte in "aé€".bytes() {
            buffer.push(byte).unwrap();
        }
        buffer.pop_char();
        assert_eq!(buffer.bytes(), "aé".as_bytes());
        buffer.pop_char();
        buffer.pop_char();
        buffer.pop_char();
        assert!(buffer.is_empty());
    }

    #[test]
    fn buffer_never_holds_more_than_it_was_made_for() {
        let mut buffer = SecretBuffer::new(2).unwrap();
        assert_eq!((buffer.push(1), buffer.push(2), buffer.push(3)), (Ok(()), Ok(()), Err(Full)));
        let mut buffer = SecretBuffer::new(3).unwrap();
        buffer.fill_from(&mut io::repeat(7)).unwrap();
        assert_eq!(buffer.len(), 3);
    }

    #[test]
    fn pages_are_kept_out_of_core_files_and_locked() {
        // An odd length, so that the kernel does not merge the mapping with a neighbour.
        let pages = Pages::new(3 * 4096).unwrap();
        let address = format!("{:x}-", pages.start.as_ptr() as usize);
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let ours = maps.split(&address).nth(1).unwrap();
        let flags = ours.lines().find(|line| line.starts_with("VmFlags:")).unwrap();
        assert!(flags.contains(" dd") && flags.contains(" wf"), "{flags}");
        assert_eq!(flags.contains(" lo"), pages.locked);
    }

    #[test]
    fn the_kdf_gets_exactly_the_blocks_it_asked_for_and_they_are_zero() {
        let mut seen = None;
        LockedKdfMemory
            .with_memory(9, &mut |blocks| {
                let zero = blocks.iter().all(|block| block.as_ref().iter().all(|word| *word == 0));
                seen = Some((blocks.len(), zero));
            })
            .unwrap();
        assert_eq!(seen, Some((9, true)));
        assert!(LockedKdfMemory.with_memory(usize::MAX / 1024, &mut |_| panic!()).is_err());
    }

    #[test]
    fn the_derived_key_does_not_depend_on_the_memory() {
        use vault_core::crypto::kdf::{HeapMemory, KdfCost, argon2id};
        let cost = KdfCost { memory_kib: 64, passes: 2, lanes: 2 };
        let heap = argon2id(b"passphrase", &[1; 32], &cost, &mut HeapMemory).unwrap();
        let locked = argon2id(b"passphrase", &[1; 32], &cost, &mut LockedKdfMemory).unwrap();
        assert_eq!(heap.expose(), locked.expose());
    }
}
