//! Whether standard output leads anywhere.
//!
//! Before `main` Rust opens `/dev/null` in the place of a standard stream that was closed, lest the next file that is
//! opened take its number, and it counts writing to a stream that cannot be written as done. Results would get lost with
//! exit status 0, so we look before that.

use rustix::fs::FileType;
use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};

const OUTPUT: RawFd = 1;
const NULL_DEVICE: u64 = libc::makedev(1, 3);

static UNUSABLE: AtomicBool = AtomicBool::new(false);

extern "C" fn look() {
    // SAFETY: fcntl with F_GETFL only reads the descriptor table; nothing of Rust's runtime is needed for it.
    let flags = unsafe { libc::fcntl(OUTPUT, libc::F_GETFL) };
    let can_be_written = flags >= 0 && flags & libc::O_ACCMODE != libc::O_RDONLY;
    UNUSABLE.store(!can_be_written, Ordering::Relaxed);
}

// SAFETY: what stands in this section is a pointer to a function of the type that the loader calls before `main`.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

/// Fails where standard output was closed, or not open for writing, when the program was started.
pub(crate) fn must_be_open() -> io::Result<()> {
    if UNUSABLE.load(Ordering::Relaxed) {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    Ok(())
}

/// Whether what is written there is seen by nobody.
pub(crate) fn is_null_device() -> bool {
    rustix::fs::fstat(io::stdout()).is_ok_and(|about| {
        FileType::from_raw_mode(about.st_mode) == FileType::CharacterDevice
            && about.st_rdev == NULL_DEVICE
    })
}
