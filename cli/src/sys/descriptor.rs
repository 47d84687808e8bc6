//! Taking over file descriptors that were opened for us before we started.

use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};

/// Takes ownership of a copy of descriptor `fd`, which the starter of this program passed by
/// number. A number that names no open descriptor is `EBADF`.
pub(crate) fn inherit(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl with F_DUPFD_CLOEXEC only reads the descriptor table; a bad number fails.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call above just made `copy`, and nobody else knows the number.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Makes an open file the standard input of this process and of what it starts.
pub(crate) fn replace_standard_input(file: impl AsFd) -> io::Result<()> {
    Ok(rustix::stdio::dup2_stdin(file)?)
}
