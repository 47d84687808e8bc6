//! Signals while a terminal is in a state that must be put back: blocked, and read as events.

use crate::error::{Error, Result};
use crate::sys::signals::ENDING;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::os::fd::{AsFd, BorrowedFd};

/// Holds back the signals that would end the program, until it is dropped.
pub(super) struct Held {
    before: SigSet,
    events: SignalFd,
}

impl Held {
    /// Starts to hold signals back.
    pub(super) fn new() -> Result<Self> {
        let failed = |cause: Errno| Error::internal("cannot hold back signals").caused_by(cause);
        let ending: SigSet = ENDING.into_iter().collect();
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let events = SignalFd::with_flags(&ending, flags).map_err(failed)?;
        let before = SigSet::thread_get_mask().map_err(failed)?;
        ending.thread_block().map_err(failed)?;
        Ok(Self { before, events })
    }

    /// Waits until `input` can be read; a signal ends the wait as `Interrupted`.
    pub(super) fn wait_for(&self, input: BorrowedFd<'_>) -> Result<()> {
        loop {
            let mut fds = [
                PollFd::new(input, PollFlags::POLLIN),
                PollFd::new(self.events.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(cause) => {
                    return Err(Error::environment("cannot wait for input").caused_by(cause));
                }
            }
            if let Ok(Some(event)) = self.events.read_signal() {
                return Err(Error::interrupted(i32::try_from(event.ssi_signo).unwrap_or(0)));
            }
            if fds.first().and_then(PollFd::revents).is_some_and(|events| !events.is_empty()) {
                return Ok(());
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // The mask was read from this very thread; setting it back cannot fail.
        let _ = self.before.thread_set_mask();
    }
}
