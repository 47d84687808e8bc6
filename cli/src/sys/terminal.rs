//! Terminals: modes, size, exclusive use, and pseudo-terminal pairs.

use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, Termios};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

pub(crate) use rustix::termios::Winsize;

/// The modes of a terminal.
#[derive(Clone, Debug)]
pub(crate) struct Modes(Termios);

/// Whether `fd` is a terminal.
pub(crate) fn is_terminal(fd: impl AsFd) -> bool {
    rustix::termios::isatty(fd)
}

/// Returns the terminal's modes.
pub(crate) fn modes(fd: impl AsFd) -> io::Result<Modes> {
    Ok(Modes(rustix::termios::tcgetattr(fd)?))
}

/// Sets modes that were read earlier, after pending output.
pub(crate) fn set_modes(fd: impl AsFd, modes: &Modes) -> io::Result<()> {
    Ok(rustix::termios::tcsetattr(fd, OptionalActions::Drain, &modes.0)?)
}

/// Passes every byte through as typed.
pub(crate) fn set_raw(fd: impl AsFd, from: &Modes) -> io::Result<()> {
    let mut raw = from.0.clone();
    raw.make_raw();
    Ok(rustix::termios::tcsetattr(fd, OptionalActions::Drain, &raw)?)
}

/// Returns the terminal's size.
pub(crate) fn size(fd: impl AsFd) -> io::Result<Winsize> {
    Ok(rustix::termios::tcgetwinsize(fd)?)
}

/// Sets the terminal's size; its foreground processes get SIGWINCH.
pub(crate) fn set_size(fd: impl AsFd, size: Winsize) -> io::Result<()> {
    Ok(rustix::termios::tcsetwinsize(fd, size)?)
}

/// Refuses further opens of the terminal (EBUSY), except to root.
pub(crate) fn set_exclusive(fd: impl AsFd, exclusive: bool) -> io::Result<()> {
    if exclusive {
        return Ok(rustix::termios::ioctl_tiocexcl(fd)?);
    }
    Ok(rustix::termios::ioctl_tiocnxcl(fd)?)
}

/// Makes a terminal the controlling one of this session, which has none.
pub(crate) fn set_controlling(fd: impl AsFd) -> io::Result<()> {
    Ok(rustix::process::ioctl_tiocsctty(fd)?)
}

/// Opens a new pair in the devpts that is mounted at `/dev/pts`: the master, and the terminal.
pub(crate) fn open_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    // Not /dev/ptmx: that name may still lead to the outer devpts.
    let master = rustix::fs::open("/dev/pts/ptmx", flags, Mode::empty())?;
    rustix::pty::unlockpt(&master)?;
    let side = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let terminal = rustix::pty::ioctl_tiocgptpeer(&master, side)?;
    Ok((master, terminal))
}
