//! The person's terminal and a program in a container, joined.
//!
//! With a terminal on both sides every byte is passed through as it is, and so is every change of
//! size. Without one the program's two outputs stay apart and the end of standard input is handed on.
//! The terminal's modes are put back on every way out, and the program is hung up ([`super::lifeline`])
//! on every one that it did not choose.

use super::attach::Frames;
use super::engine::{Engine, EngineError, Program, Stream};
use super::lifeline::{self, Lifeline};
use crate::error::{Error, Result};
use crate::sys::{signals, terminal};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Most bytes that wait for a side that does not take them.
const PENDING: usize = 64 << 10;

/// How long the engine may take to know how a program ended whose streams have ended.
const OUTCOME: Duration = Duration::from_secs(20);

/// The most bytes that a program may answer to [`ask`], and how long it may be silent.
const LONGEST_ANSWER: usize = 256 << 10;
const SILENCE: Duration = Duration::from_secs(20);

/// Runs a program in a container on this process's streams; returns its exit status.
pub(crate) fn run(engine: &dyn Engine, container: &str, program: &Program) -> Result<u8> {
    let (mark, program) = lifeline::marked(program);
    let (execution, socket) = begin(engine, container, &program)?;
    // Whoever leaves without releasing it hangs up.
    let mut lifeline = None;
    let resize = || {
        // The size was wrong before too, if this fails.
        if let Ok(size) = terminal::size(io::stdin()) {
            let _ = engine.resize(&execution, size.ws_row, size.ws_col);
        }
    };
    let ended = Relay::new(socket, program.tty)
        .and_then(|relay| {
            let stand_by = || lifeline = Lifeline::begin(engine, container, &program, &mark);
            relay.run(program.tty, resize, stand_by)
        })
        .map_err(|cause| match cause.kind() {
            io::ErrorKind::BrokenPipe => Error::interrupted(libc::SIGPIPE),
            _ => Error::environment("the connection to the container broke").caused_by(cause),
        })?;
    match ended {
        Ended::Program => {
            lifeline.into_iter().for_each(Lifeline::release);
            outcome(engine, &execution)
        }
        Ended::Signal(signal) => Err(Error::interrupted(signal as i32)),
    }
}

/// Runs a program without streams of ours; returns its exit status and what it printed.
pub(crate) fn ask(
    engine: &dyn Engine,
    container: &str,
    program: &Program,
) -> Result<(u8, Vec<u8>)> {
    ask_within(engine, container, program, SILENCE)
}

/// The same for one that may be silent for longer.
pub(crate) fn ask_within(
    engine: &dyn Engine,
    container: &str,
    program: &Program,
    silence: Duration,
) -> Result<(u8, Vec<u8>)> {
    let (execution, mut socket) = begin(engine, container, program)?;
    let broken = |cause: io::Error| {
        Error::environment("a program in the container does not answer").caused_by(cause)
    };
    socket.set_read_timeout(Some(silence)).map_err(broken)?;
    let mut answer = Vec::new();
    let mut frames = Frames::default();
    let mut buffer = vec![0; 16 << 10];
    loop {
        let count = socket.read(&mut buffer).map_err(broken)?;
        if count == 0 {
            break;
        }
        let bytes = buffer.get(..count).unwrap_or_default();
        let keep = |stream, content: &[u8]| {
            if stream == Stream::Output {
                answer.extend_from_slice(content);
            }
            if answer.len() > LONGEST_ANSWER {
                return Err(io::Error::other("its answer is too long"));
            }
            Ok(())
        };
        frames.feed(bytes, keep).map_err(broken)?;
    }
    Ok((outcome(engine, &execution)?, answer))
}

fn begin(engine: &dyn Engine, container: &str, program: &Program) -> Result<(String, UnixStream)> {
    let failed = |cause: EngineError| {
        let stopped = matches!(cause, EngineError::Conflict(_) | EngineError::NotFound(_));
        let error =
            Error::environment(format!("cannot run a program in '{container}'")).caused_by(cause);
        if stopped { error.hint("does it run? 'tazpod up' starts it") } else { error }
    };
    let execution = engine.prepare(container, program).map_err(failed)?;
    let socket = engine.run(&execution, program.tty).map_err(failed)?;
    Ok((execution, socket))
}

/// Waits for the engine to say how a program ended: its streams may end a moment before.
fn outcome(engine: &dyn Engine, execution: &str) -> Result<u8> {
    let deadline = Instant::now() + OUTCOME;
    loop {
        match engine.outcome(execution) {
            Ok(Some(status)) => return Ok(u8::try_from(status).unwrap_or(u8::MAX)),
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
            Ok(None) => {
                return Err(Error::environment("the program goes on without its streams")
                    .hint("it let go of them; 'tazpod down' ends it with the container"));
            }
            Err(cause) => {
                return Err(Error::environment("the container has ended, and the program with it")
                    .caused_by(cause)
                    .hint("'tazpod up' starts it again"));
            }
        }
    }
}

enum Ended {
    Program,
    Signal(Signal),
}

struct Relay {
    socket: UnixStream,
    signals: SignalFd,
    terminal: Option<Raw>,
    input_open: bool,
    to_program: Vec<u8>,
    frames: Frames,
}

impl Relay {
    fn new(socket: UnixStream, tty: bool) -> io::Result<Self> {
        let ending = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGWINCH];
        let signals = signals::watch(&ending)?;
        socket.set_nonblocking(true)?;
        let terminal = tty.then(Raw::new).transpose()?;
        Ok(Self {
            socket,
            signals,
            terminal,
            input_open: true,
            to_program: Vec::new(),
            frames: Frames::default(),
        })
    }

    /// Passes everything on until one side ends; `stand_by` is called once, for a program that lasts.
    fn run(mut self, tty: bool, resize: impl Fn(), stand_by: impl FnOnce()) -> io::Result<Ended> {
        if tty {
            resize();
        }
        let mut lasting = Some((Instant::now() + lifeline::GRACE, stand_by));
        loop {
            let ready = self.wait(lasting.as_ref().map(|(when, _)| *when))?;
            if let Some((_, stand_by)) = lasting.take_if(|(when, _)| *when <= Instant::now()) {
                stand_by();
            }
            if ready.signal {
                match signals::next(&self.signals)? {
                    Some(Signal::SIGWINCH) if tty => resize(),
                    Some(Signal::SIGWINCH) | None => {}
                    Some(signal) => return Ok(Ended::Signal(signal)),
                }
            }
            if ready.input {
                self.read_input()?;
            }
            if ready.writable {
                self.write_program();
            }
            if ready.readable && !self.read_program()? {
                return Ok(Ended::Program);
            }
        }
    }

    fn wait(&self, until: Option<Instant>) -> io::Result<Ready> {
        let mut wanted = PollFlags::POLLIN;
        wanted.set(PollFlags::POLLOUT, !self.to_program.is_empty());
        let stdin = io::stdin();
        let mut fds = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.socket.as_fd(), wanted),
        ];
        if self.input_open && self.to_program.len() < PENDING {
            fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
        }
        loop {
            let left = until.map(|when| when.saturating_duration_since(Instant::now()));
            // Rounded up: a part of a millisecond would not be waited for.
            let left = left.map(|left| u16::try_from(left.as_millis() + 1).unwrap_or(u16::MAX));
            match poll(&mut fds, left.map_or(PollTimeout::NONE, PollTimeout::from)) {
                Ok(_) => break,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        let events =
            |index: usize| fds.get(index).and_then(PollFd::revents).unwrap_or(PollFlags::empty());
        let gone = PollFlags::POLLHUP | PollFlags::POLLERR;
        Ok(Ready {
            signal: !events(0).is_empty(),
            readable: events(1).intersects(PollFlags::POLLIN | gone),
            writable: events(1).contains(PollFlags::POLLOUT),
            input: !events(2).is_empty(),
        })
    }

    fn read_input(&mut self) -> io::Result<()> {
        let mut buffer = [0; 8192];
        match nix::unistd::read(io::stdin(), &mut buffer) {
            Ok(0) | Err(Errno::EIO) => self.end_input(),
            Ok(count) => self.to_program.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(())
    }

    fn end_input(&mut self) {
        self.input_open = false;
        if self.to_program.is_empty() {
            // The program sees the end of its input and may still answer.
            let _ = self.socket.shutdown(Shutdown::Write);
        }
    }

    fn write_program(&mut self) {
        match self.socket.write(&self.to_program) {
            Ok(count) => drop(self.to_program.drain(..count)),
            Err(cause) if is_transient(&cause) => return,
            // It takes nothing any more; its end is seen by reading.
            Err(_) => {
                self.to_program.clear();
                self.input_open = false;
            }
        }
        if !self.input_open && self.to_program.is_empty() {
            let _ = self.socket.shutdown(Shutdown::Write);
        }
    }

    /// Reads what the program says and shows it; false at its end.
    fn read_program(&mut self) -> io::Result<bool> {
        let mut buffer = vec![0; 32 << 10];
        let count = match self.socket.read(&mut buffer) {
            Ok(0) => return Ok(false),
            Ok(count) => count,
            Err(cause) if is_transient(&cause) => return Ok(true),
            Err(cause) if cause.kind() == io::ErrorKind::ConnectionReset => return Ok(false),
            Err(cause) => return Err(cause),
        };
        let bytes = buffer.get(..count).unwrap_or_default();
        if self.terminal.is_some() {
            write_all(io::stdout().as_fd(), bytes)?;
        } else {
            self.frames.feed(bytes, |stream, content| match stream {
                Stream::Output => write_all(io::stdout().as_fd(), content),
                Stream::Error => write_all(io::stderr().as_fd(), content),
            })?;
        }
        Ok(true)
    }
}

#[allow(clippy::struct_excessive_bools, reason = "four descriptors' answers")]
struct Ready {
    signal: bool,
    readable: bool,
    writable: bool,
    input: bool,
}

fn is_transient(cause: &io::Error) -> bool {
    matches!(cause.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Writes all of it, waiting where the other side was set not to wait by somebody.
fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match nix::unistd::write(to, bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                poll(&mut [PollFd::new(to, PollFlags::POLLOUT)], PollTimeout::NONE)?;
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// The terminal in raw modes, until dropped.
struct Raw {
    terminal: File,
    before: terminal::Modes,
}

impl Raw {
    fn new() -> io::Result<Self> {
        let terminal = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        let before = terminal::modes(&terminal)?;
        terminal::set_raw(&terminal, &before)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Whoever hung up has no use for modes.
        let _ = terminal::set_modes(&self.terminal, &self.before);
    }
}
