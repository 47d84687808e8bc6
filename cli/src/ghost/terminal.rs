//! The terminal agent: asks for the passphrase on a client's terminal, then relays between that
//! terminal and the ghost's pty.
//!
//! A process of its own per session, so that a terminal that does not take output stalls nobody
//! else. It belongs to the supervisor's session, not to the client's: the terminal's signals are
//! the client's business. On every way out, and on SIGTERM when the supervisor dies, it puts back
//! what it changed.

use super::link::{Link, Received};
use super::protocol::{Failure, FromAgent, ToAgent};
use crate::error::{Error, Result};
use crate::sys::{process, signals, terminal};
use crate::ui::prompt;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Most bytes written to a terminal at once: what it surely takes without blocking when it says
/// that it is ready.
const CHUNK: usize = 256;

/// Most bytes that wait for a side that does not take them.
const PENDING: usize = 16 * 1024;

/// Runs the agent; returns its exit status.
pub(crate) fn run(mut link: Link, terminal: &File, outer: Option<&File>) -> i32 {
    loop {
        match link.receive::<ToAgent>() {
            Ok(Received::Message(ToAgent::Ask { question, repeat }, _)) => {
                let answered = match ask(terminal, outer, &question, repeat) {
                    Ok(secret) => link.send_secret(secret.bytes()),
                    Err(error) => link.send(&FromAgent::Failed(Failure::from(error)), &[]),
                };
                if answered.is_err() {
                    return 1;
                }
            }
            Ok(Received::Message(ToAgent::Relay, masters)) => {
                let Some(master) = masters.into_iter().next() else { return 1 };
                return i32::from(relay(&mut link, terminal, &master).is_err());
            }
            _ => return 0,
        }
    }
}

fn ask(
    terminal: &File,
    outer: Option<&File>,
    question: &str,
    repeat: bool,
) -> Result<crate::sys::memory::SecretBuffer> {
    let first = prompt::secret_line_on(terminal, outer, question)?;
    if first.is_empty() {
        return Err(Error::user("the passphrase is empty").hint("nothing was changed"));
    }
    if repeat {
        let second = prompt::secret_line_on(terminal, outer, "Repeat: ")?;
        if second.bytes() != first.bytes() {
            return Err(Error::user("the two passphrases differ").hint("nothing was changed"));
        }
    }
    Ok(first)
}

/// Passes bytes both ways until the supervisor closes the link or a signal ends the agent.
fn relay(link: &mut Link, terminal: &File, master: &OwnedFd) -> io::Result<()> {
    let ending = signals::watch(&[Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT])?;
    let _raw = Raw::new(terminal)?;
    set_nonblocking(master)?;
    let (mut typed, mut shown) = (Pending::default(), Pending::default());
    let (mut terminal_open, mut master_open) = (true, true);
    loop {
        let wants = |open: bool, input: &Pending, output: &Pending| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::POLLIN, open && input.has_room());
            flags.set(PollFlags::POLLOUT, open && !output.is_empty());
            flags
        };
        // Left out is a closed side, and one that is waited for in neither way: either would report
        // its hang-up for ever.
        let from_terminal = wants(terminal_open, &typed, &shown);
        let from_master = wants(master_open, &shown, &typed);
        let mut fds = vec![
            PollFd::new(ending.as_fd(), PollFlags::POLLIN),
            PollFd::new(link.as_fd(), PollFlags::POLLIN),
        ];
        if !from_terminal.is_empty() {
            fds.push(PollFd::new(terminal.as_fd(), from_terminal));
        }
        if !from_master.is_empty() {
            fds.push(PollFd::new(master.as_fd(), from_master));
        }
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ready: Vec<PollFlags> =
            fds.iter().map(|fd| fd.revents().unwrap_or(PollFlags::empty())).collect();
        let finish = ready.iter().take(2).any(|flags| !flags.is_empty());
        let mut rest = ready.iter().skip(2);
        if !from_terminal.is_empty()
            && let Some(flags) = rest.next()
        {
            terminal_open = serve(terminal, from_terminal, *flags, &mut typed, &mut shown)?;
        }
        if !from_master.is_empty()
            && let Some(flags) = rest.next()
        {
            master_open = serve(master, from_master, *flags, &mut shown, &mut typed)?;
        }
        if finish {
            if master_open && terminal_open {
                drain(master, terminal, &mut shown);
            } else if terminal_open {
                shown.write_all(terminal);
            }
            return Ok(());
        }
    }
}

/// Reads from and writes to one side as it is ready; false when that side is gone and all that it
/// held was read. A pty hangs up while its last output still waits to be read.
fn serve(
    side: &impl AsFd,
    wanted: PollFlags,
    flags: PollFlags,
    input: &mut Pending,
    output: &mut Pending,
) -> io::Result<bool> {
    if flags.contains(PollFlags::POLLOUT) {
        output.write_to(side)?;
    }
    if flags.contains(PollFlags::POLLIN) {
        return input.read_from(side);
    }
    let gone = flags.intersects(PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL);
    Ok(!(gone && wanted.contains(PollFlags::POLLIN)))
}

/// Shows what the ended session left in its pty, as long as the terminal takes it.
fn drain(master: &OwnedFd, terminal: &File, shown: &mut Pending) {
    shown.write_all(terminal);
    while matches!(shown.read_from(master), Ok(true)) && !shown.is_empty() {
        shown.write_all(terminal);
    }
}

fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    // Ours alone: the pty's master was opened for this relay.
    Ok(rustix::fs::fcntl_setfl(fd, rustix::fs::OFlags::NONBLOCK)?)
}

/// Bytes that were read on one side and not yet taken by the other.
#[derive(Default)]
struct Pending(Vec<u8>);

impl Pending {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn has_room(&self) -> bool {
        self.0.len() < PENDING
    }

    /// Reads once; false at the end of that side.
    fn read_from(&mut self, side: &impl AsFd) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        match nix::unistd::read(side, &mut buffer) {
            // A pty's master says EIO once nobody has its terminal open.
            Ok(0) | Err(Errno::EIO) => Ok(false),
            Ok(count) => {
                self.0.extend_from_slice(buffer.get(..count).unwrap_or_default());
                Ok(true)
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(true),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Writes once, no more than surely does not block.
    fn write_to(&mut self, side: &impl AsFd) -> io::Result<()> {
        let part = self.0.get(..self.0.len().min(CHUNK)).unwrap_or_default();
        match nix::unistd::write(side, part) {
            Ok(count) => {
                self.0.drain(..count);
                Ok(())
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(()),
            // The end of a side is seen by reading from it.
            Err(Errno::EIO) => {
                self.0.clear();
                Ok(())
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// Writes all, giving up when the terminal takes nothing for a second.
    fn write_all(&mut self, terminal: &File) {
        while !self.is_empty() {
            let mut fds = [PollFd::new(terminal.as_fd(), PollFlags::POLLOUT)];
            let ready = poll(&mut fds, PollTimeout::from(1000_u16)).unwrap_or(0);
            if ready == 0 || self.write_to(terminal).is_err() {
                return;
            }
        }
    }
}

/// Raw modes, until dropped.
struct Raw<'a> {
    terminal: &'a File,
    before: terminal::Modes,
}

impl<'a> Raw<'a> {
    fn new(terminal: &'a File) -> io::Result<Self> {
        let before = terminal::modes(terminal)?;
        terminal::set_raw(terminal, &before)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        // Whoever hung up has no use for modes.
        let _ = terminal::set_modes(self.terminal, &self.before);
    }
}

/// Prepares an agent process: it ends with the supervisor, in order.
pub(crate) fn follow_parent() -> io::Result<()> {
    process::die_with_parent(Signal::SIGTERM)
}
