//! Asking on the terminal itself, with nothing shown of a secret that is typed.
//!
//! While a secret is typed the terminal is exclusive (no other process of the same user can open it
//! and read along) and, where we are root, belongs to root alone. Characters come one by one with
//! echo and signals off, so Ctrl-C is a character like any other, and every way out goes through
//! [`Guard`]'s drop, which puts the terminal back.

use super::signals::Held;
use crate::error::{Error, Result};
use crate::sys::memory::SecretBuffer;
use nix::sys::termios::{
    FlushArg, InputFlags, LocalFlags, SetArg, SpecialCharacterIndices, Termios,
};
use nix::sys::termios::{tcflush, tcgetattr, tcsetattr};
use nix::unistd::{Uid, ttyname};
use rustix::termios::{ioctl_tiocexcl, ioctl_tiocnxcl};
use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

/// The longest passphrase that can be typed or read.
pub(super) const LONGEST: usize = 4096;

/// The device number of `/dev/tty`.
const EVERYBODYS: u64 = libc::makedev(5, 0);

const INTERRUPT: u8 = 0x03;
const END_OF_INPUT: u8 = 0x04;
const ERASE: [u8; 2] = [0x08, 0x7f];
const KILL_LINE: u8 = 0x15;

/// Opens the controlling terminal, by its own name where it can be found: `/dev/tty` is one file
/// for all users, so what happens to its owner and mode must not happen during a prompt.
pub(super) fn terminal() -> io::Result<File> {
    let open = |path: &Path| {
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open(path)
    };
    let streams = [ttyname(io::stdin()), ttyname(io::stdout()), ttyname(io::stderr())];
    let named = streams.into_iter().flatten().find_map(|path| open(&path).ok());
    named.map_or_else(|| open(Path::new("/dev/tty")), Ok)
}

/// Asks for one secret line on the terminal.
pub(super) fn secret_line(question: &str) -> Result<SecretBuffer> {
    let unusable = |cause: io::Error| {
        Error::user("no terminal to ask for the passphrase on")
            .caused_by(cause)
            .hint("give it with --passphrase-file, --passphrase-fd or on standard input")
    };
    let terminal = terminal().map_err(unusable)?;
    secret_line_on(&terminal, None, question)
}

/// Asks for one secret line on `terminal`. Where sudo put a terminal of its own in between, `outer`
/// is the one on which the person really types, and is closed to others too.
pub(crate) fn secret_line_on(
    terminal: &File,
    outer: Option<&File>,
    question: &str,
) -> Result<SecretBuffer> {
    let unusable = |cause: io::Error| {
        Error::environment("cannot prepare the terminal for the passphrase").caused_by(cause)
    };
    let held = Held::new()?;
    let _outer = outer.map(Closed::new).transpose().map_err(unusable)?;
    let _guard = Guard::new(terminal).map_err(unusable)?;
    let answer = write!(&mut &*terminal, "{question}")
        .map_err(|cause| Error::environment("cannot write to the terminal").caused_by(cause))
        .and_then(|()| type_line(terminal, &held));
    let _ = (&mut &*terminal).write_all(b"\n");
    answer
}

fn type_line(mut terminal: &File, held: &Held) -> Result<SecretBuffer> {
    let mut line = SecretBuffer::new(LONGEST)
        .map_err(|cause| Error::environment("no memory for the passphrase").caused_by(cause))?;
    loop {
        held.wait_for(terminal.as_fd())?;
        let mut byte = [0_u8];
        let count = terminal.read(&mut byte).map_err(|cause| {
            Error::environment("cannot read from the terminal").caused_by(cause)
        })?;
        match byte[0] {
            _ if count == 0 => return Err(Error::interrupted(libc::SIGHUP)),
            INTERRUPT => return Err(Error::interrupted(libc::SIGINT)),
            END_OF_INPUT if line.is_empty() => return Err(Error::interrupted(libc::SIGINT)),
            b'\r' | b'\n' | END_OF_INPUT => return Ok(line),
            KILL_LINE => line.clear(),
            erase if ERASE.contains(&erase) => line.pop_char(),
            typed => line.push(typed).map_err(|_| too_long())?,
        }
    }
}

/// Returns the error for a secret of more than [`LONGEST`] bytes.
pub(super) fn too_long() -> Error {
    Error::user(format!("the passphrase is longer than {LONGEST} bytes"))
}

/// The terminal's former modes, put back when dropped.
struct Guard<'a> {
    terminal: &'a File,
    settings: Termios,
    _closed: Closed<'a>,
}

impl<'a> Guard<'a> {
    fn new(terminal: &'a File) -> io::Result<Self> {
        let settings = tcgetattr(terminal)?;
        let mut silent = settings.clone();
        silent.local_flags &=
            !(LocalFlags::ECHO | LocalFlags::ECHONL | LocalFlags::ICANON | LocalFlags::ISIG);
        silent.local_flags &= !LocalFlags::IEXTEN;
        silent.input_flags |= InputFlags::ICRNL;
        silent.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
        silent.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
        // From here on every return drops the guard.
        let guard = Self { terminal, settings, _closed: Closed::new(terminal)? };
        tcsetattr(terminal, SetArg::TCSAFLUSH, &silent)?;
        Ok(guard)
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        // What was typed ahead of the answer is not for the shell that comes next.
        let _ = tcflush(self.terminal, FlushArg::TCIFLUSH);
        let _ = tcsetattr(self.terminal, SetArg::TCSAFLUSH, &self.settings);
    }
}

/// Keeps others from opening a terminal and reading along, until it is dropped. Exclusive use stops
/// all but root; as root the node is made root's too, against whoever opened it by a path of its own.
struct Closed<'a> {
    terminal: &'a File,
    owner: Option<Metadata>,
}

impl<'a> Closed<'a> {
    fn new(terminal: &'a File) -> io::Result<Self> {
        let mut closed = Self { terminal, owner: None };
        ioctl_tiocexcl(terminal)?;
        let before = terminal.metadata()?;
        if Uid::effective().is_root() && before.rdev() != EVERYBODYS {
            fchown(terminal, Some(0), Some(0))?;
            closed.owner = Some(before);
            terminal.set_permissions(Permissions::from_mode(0o600))?;
        }
        Ok(closed)
    }
}

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        if let Some(before) = &self.owner {
            let _ = fchown(self.terminal, Some(before.uid()), Some(before.gid()));
            let _ = self.terminal.set_permissions(Permissions::from_mode(before.mode() & 0o7777));
        }
        let _ = ioctl_tiocnxcl(self.terminal);
    }
}
