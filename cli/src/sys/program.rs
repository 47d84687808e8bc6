//! Running another program with a secret on its standard input and nothing of ours open in it.

use super::{process, signals};
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Most that is kept of what a program says.
const SAID: u64 = 64 << 10;

/// The status of a child that could not become the program.
const NOT_STARTED: u8 = 127;

/// How a program ended, and what it said.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// As a shell would report it.
    pub(crate) status: u8,
    /// Standard output.
    pub(crate) output: Vec<u8>,
    /// Standard error.
    pub(crate) complaint: String,
}

/// A second secret for a program, which finds it at a path.
pub(crate) struct MoreInput(OwnedFd);

impl MoreInput {
    /// Makes one of `secret`, which must fit into a pipe.
    pub(crate) fn new(secret: &[u8]) -> io::Result<Self> {
        let (end, feed) = pipe()?;
        rustix::io::ioctl_fionbio(&feed, true)?;
        File::from(feed).write_all(secret)?;
        Ok(Self(end))
    }

    /// Returns the path at which the program reads it.
    pub(crate) fn path(&self) -> String {
        super::folder::path_of(&self.0).to_string_lossy().into_owned()
    }
}

/// Runs `program` to its end, with `input` on its standard input and exactly `environment`.
///
/// It dies with this process. Must be called while this process has one thread, as `process::fork`
/// asks.
pub(crate) fn run(
    program: &Path,
    arguments: &[&str],
    environment: &[(&str, &str)],
    input: &[u8],
    more: Option<&MoreInput>,
) -> io::Result<Outcome> {
    use std::os::unix::ffi::OsStrExt;
    let path = CString::new(program.as_os_str().as_bytes())?;
    let words = std::iter::once(Ok(path.clone()))
        .chain(arguments.iter().map(|word| CString::new(*word)))
        .collect::<Result<Vec<_>, _>>()?;
    let variables = environment
        .iter()
        .map(|(name, value)| CString::new(format!("{name}={value}")))
        .collect::<Result<Vec<_>, _>>()?;
    let (stdin, feed) = pipe()?;
    let (output, stdout) = pipe()?;
    let (complaint, stderr) = pipe()?;
    let parent = nix::unistd::getpid();
    let pid = process::fork(|| {
        let prepared = process::die_with(parent)
            .and_then(|()| process::set_streams([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]))
            .and_then(|()| match more {
                None => process::close_all_except(&[]),
                Some(MoreInput(end)) => process::close_all_except(&[end.as_fd()])
                    .and_then(|()| Ok(rustix::io::fcntl_setfd(end, rustix::io::FdFlags::empty())?)),
            })
            .and_then(|()| signals::reset());
        if prepared.is_ok() {
            let _ = nix::unistd::execve(&path, &words, &variables);
        }
        i32::from(NOT_STARTED)
    })?;
    drop((stdin, stdout, stderr));
    feed_and_close(feed, input)?;
    // Both at once: a program stops when either pipe is full. The thread is gone before the next fork.
    let (complaint, output) = std::thread::scope(|scope| {
        let complaint = scope.spawn(|| read_some(complaint));
        let output = read_some(output);
        (complaint.join().unwrap_or_else(|_| Err(io::Error::other("reading failed"))), output)
    });
    let (complaint, output) = (complaint?, output?);
    let ended = process::wait(pid)?;
    if ended.status == NOT_STARTED && output.is_empty() && complaint.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "it cannot be started"));
    }
    let complaint = String::from_utf8_lossy(&complaint).trim().to_owned();
    Ok(Outcome { status: ended.status, output, complaint })
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?)
}

fn feed_and_close(feed: OwnedFd, input: &[u8]) -> io::Result<()> {
    match File::from(feed).write_all(input) {
        // It may end without reading all; its status says why.
        Err(cause) if cause.kind() != io::ErrorKind::BrokenPipe => Err(cause),
        _ => Ok(()),
    }
}

fn read_some(from: OwnedFd) -> io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    let mut from = File::from(from);
    Read::by_ref(&mut from).take(SAID).read_to_end(&mut kept)?;
    // A full pipe would stop the program.
    io::copy(&mut from, &mut io::sink())?;
    Ok(kept)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn program_gets_its_input_and_its_words_come_back() {
        let script = "cat; echo oh >&2; echo \"$A\"; exit 3";
        let arguments = ["-c", script];
        let outcome = run(Path::new("/bin/sh"), &arguments, &[("A", "b")], b"in\n", None).unwrap();
        assert_eq!((outcome.status, outcome.output.as_slice()), (3, &b"in\nb\n"[..]));
        assert_eq!(outcome.complaint, "oh");
    }

    #[test]
    fn second_secret_is_read_at_its_path() {
        let more = MoreInput::new(b"second").unwrap();
        let path = more.path();
        let outcome = run(Path::new("/bin/cat"), &["-", &path], &[], b"first ", Some(&more));
        assert_eq!(outcome.unwrap().output, b"first second");
    }

    #[test]
    fn program_that_is_not_there_is_an_error() {
        let error = run(Path::new("/nowhere"), &[], &[], b"", None).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
