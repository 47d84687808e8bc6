//! Memory that is wiped when it is given back, for processes that talk to a source of secrets.
//!
//! Our own types wipe what they hold, but a token also passes through the buffers of the libraries
//! that speak TLS, HTTP and JSON, which do not. From [`wipe_what_is_freed`] on, every allocation is
//! overwritten before it is returned, whoever made it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, Ordering};

#[global_allocator]
static ALLOCATOR: Wiping = Wiping { active: AtomicBool::new(false) };

/// Overwrites memory from now on whenever it is freed, until the process ends. Costs time for every
/// byte, so the process that serves a vault does without: it keeps its keys in pages of their own.
pub(crate) fn wipe_what_is_freed() {
    ALLOCATOR.active.store(true, Ordering::Relaxed);
}

struct Wiping {
    active: AtomicBool,
}

impl Wiping {
    fn is_active(&self) -> bool {
        // A switch that only ever goes one way; threads that see it late free nothing of interest.
        self.active.load(Ordering::Relaxed)
    }
}

// SAFETY: every call is handed to the system's allocator with the layout that it came with;
// overwriting a block that is about to be freed touches only that block, which is still ours.
unsafe impl GlobalAlloc for Wiping {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: our caller's promises are the system allocator's conditions.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: our caller's promises are the system allocator's conditions.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if self.is_active() {
            // SAFETY: the caller gives the block back: it is `layout.size()` bytes that nobody else
            // uses. The plain call could be left out by the compiler, this one cannot.
            unsafe { libc::explicit_bzero(block.cast(), layout.size()) };
        }
        // SAFETY: our caller's promises are the system allocator's conditions.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !self.is_active() {
            // SAFETY: our caller's promises are the system allocator's conditions.
            return unsafe { System.realloc(block, layout, size) };
        }
        // A block that grows may move, and the system's allocator would leave the old one as it is.
        // SAFETY: the caller promises that `size` rounded up to the alignment is a legal size.
        let grown = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: our caller promises that `size` is not zero.
        let new = unsafe { System.alloc(grown) };
        if !new.is_null() {
            // SAFETY: both blocks are ours, do not overlap, and have at least that many bytes.
            unsafe { new.copy_from_nonoverlapping(block, layout.size().min(size)) };
            // SAFETY: the old block is given back by our caller with its layout.
            unsafe { self.dealloc(block, layout) };
        }
        new
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    const SIZE: usize = 512;
    const CANARY: u8 = 0xa5;

    /// What the system's allocator writes into a free block for itself: addresses and a random key,
    /// each of whose bytes may well be the canary's.
    const ITS_OWN: usize = 4 * size_of::<usize>();

    /// Counts what is left of a block's content once `free` has given it back. The kernel reads, as
    /// a core file or a debugger would. The block waits in this thread's own list of free blocks.
    fn left_over(active: bool, free: fn(&Wiping, *mut u8, Layout)) -> usize {
        let wiping = Wiping { active: AtomicBool::new(active) };
        let memory = File::open("/proc/self/mem").unwrap();
        let layout = Layout::new::<[u8; SIZE]>();
        // SAFETY: the layout is not of size zero.
        let block = unsafe { wiping.alloc(layout) };
        assert!(!block.is_null());
        // SAFETY: the block has that many bytes and is ours until `free`.
        unsafe { block.write_bytes(CANARY, SIZE) };
        let address = block as u64;
        free(&wiping, block, layout);
        let mut found = [0; SIZE];
        memory.read_exact_at(&mut found, address).unwrap();
        found[ITS_OWN..].iter().map(|byte| usize::from(*byte == CANARY)).sum()
    }

    #[test]
    fn freed_memory_is_overwritten_once_that_is_asked_for() {
        let free = |wiping: &Wiping, block, layout| {
            // SAFETY: the block came from this allocator with this layout, and is used no more.
            unsafe { wiping.dealloc(block, layout) }
        };
        assert!(left_over(false, free) > SIZE / 2, "the canary must be found where nothing wipes");
        assert_eq!(left_over(true, free), 0);
    }

    #[test]
    fn block_that_is_outgrown_is_overwritten_and_its_content_moves_along() {
        let grow = |wiping: &Wiping, block, layout: Layout| {
            let size = 1 << 16;
            // SAFETY: the block came from this allocator with this layout; the new one has the bytes
            // that are read, and is freed with the layout that it has.
            unsafe {
                let new = wiping.realloc(block, layout, size);
                assert!((0..SIZE).all(|at| new.add(at).read() == CANARY));
                wiping.dealloc(new, Layout::from_size_align(size, 1).unwrap());
            }
        };
        assert_eq!(left_over(true, grow), 0);
    }
}
