//! The supervisor's side of a vault that the kernel reads itself: its holder, a process of root
//! outside of the ghost.
//!
//! Steps 9 and 14 of GHOST.md, for luks. The holder talks as a server does (`served.rs`); here is what
//! differs: it is the supervisor's child, it hands over a mount, and it closes the vault when the
//! ghost's processes are gone.

use super::link::Link;
use super::protocol::{ToInit, ToServer};
use super::supervisor::{ENDING, Phase, Supervisor};
use crate::backend::Opening;
use crate::error::{Error, Result};
use crate::sys::{process, signals};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

/// A living holder.
pub(super) struct Holder {
    pid: Pid,
    /// Whether the ghost has its mount.
    handed_over: bool,
    /// Whether it was told to close the vault.
    told: bool,
}

impl Supervisor {
    /// Starts the holder of a vault that needs one.
    pub(super) fn start_holder(&mut self) -> Result<()> {
        let Opening::Mounted(mounted) = self.backend.opening() else { return Ok(()) };
        let failed = |cause: io::Error| {
            Error::environment("cannot start the vault's holder").caused_by(cause)
        };
        let (ours, theirs) = Link::pair().map_err(failed)?;
        let pid = process::fork(|| mounted.hold(theirs)).map_err(failed)?;
        self.holder = Some(Holder { pid, handed_over: false, told: false });
        self.server = Some(ours);
        Ok(())
    }

    /// Gives the ghost the mount of the open vault.
    pub(super) fn hand_over(&mut self, mount: &OwnedFd) {
        if let Some(holder) = &mut self.holder {
            holder.handed_over = true;
        }
        self.phase = Phase::Revealing;
        self.tell_init(&ToInit::Reveal, &[mount.as_fd()]);
    }

    /// Has the vault closed, once the ghost has no process any more.
    pub(super) fn settle(&mut self) {
        if self.phase != Phase::Closing || self.init.is_some() {
            return;
        }
        let Some(holder) = self.holder.as_mut().filter(|holder| !holder.told) else { return };
        holder.told = true;
        self.deadline = Some(Instant::now() + ENDING);
        let told = match (&self.server, holder.handed_over) {
            (Some(server), true) => server.send(&ToServer::Close {}, &[]).is_ok(),
            _ => false,
        };
        if !told {
            // Nothing of the caller's was written. It may be at work on a keyslot for a while.
            let _ = signals::send(holder.pid, Signal::SIGKILL);
        }
    }

    /// A child has ended; if it was the holder, the ghost ends too.
    pub(super) fn holder_ended(&mut self, pid: Pid) {
        if self.holder.as_ref().is_none_or(|holder| holder.pid != pid) {
            return;
        }
        // What it still said comes first.
        self.hear_server();
        self.holder = None;
        self.server = None;
        if self.phase != Phase::Closing {
            self.fail(
                Error::internal("the vault's holder was killed from outside")
                    .hint("what was saved is safe: the kernel closes the vault by itself"),
            );
        }
    }

    /// Ends a holder that takes too long to close the vault.
    pub(super) fn end_holder(&self) {
        if let Some(holder) = &self.holder {
            let _ = signals::send(holder.pid, Signal::SIGKILL);
        }
    }
}
