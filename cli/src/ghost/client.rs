//! A client of a ghost: the process that owns the terminal, or stands for it.
//!
//! It hands signals and window sizes to the supervisor, shows what the supervisor says, and ends
//! with the status of its session. Whatever happens to the supervisor, it puts the terminal's modes
//! back.

use super::link::{Link, Received};
use super::protocol::{ToClient, ToSupervisor};
use crate::error::{Error, Result};
use crate::sys::{signals, terminal};
use crate::ui::Ui;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use std::os::fd::{AsFd, OwnedFd};

const WATCHED: [Signal; 8] = [
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGWINCH,
    Signal::SIGTSTP,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// How a client's part ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// With a status to exit with.
    Exit(u8),
    /// With an error to report.
    Failed(Error),
    /// Without a word: the supervisor was killed.
    Lost,
}

/// Signals that are held back for the supervisor. Made before the supervisor is, so that none is
/// lost in between.
pub(crate) struct Watch(nix::sys::signalfd::SignalFd);

impl Watch {
    /// Begins to hold signals back.
    pub(crate) fn begin() -> Result<Self> {
        signals::watch(&WATCHED)
            .map(Self)
            .map_err(|cause| Error::internal("cannot watch for signals").caused_by(cause))
    }
}

/// Attends a session until it ends.
pub(crate) fn attend(link: &mut Link, watch: &Watch, stdin: &OwnedFd, ui: &Ui) -> Outcome {
    let before = terminal::modes(stdin).ok();
    let outcome = listen(link, watch, ui);
    if let Some(before) = before {
        // A supervisor that was killed may have left them as it needed them.
        let _ = terminal::set_modes(stdin, &before);
    }
    outcome
}

fn listen(link: &mut Link, watch: &Watch, ui: &Ui) -> Outcome {
    loop {
        let mut fds = [
            PollFd::new(link.as_fd(), PollFlags::POLLIN),
            PollFd::new(watch.0.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => {
                return Outcome::Failed(
                    Error::internal("cannot wait for the ghost").caused_by(errno),
                );
            }
        }
        while let Ok(Some(signal)) = signals::next(&watch.0) {
            let message = match signal {
                // A stopped client would leave the session without a terminal.
                Signal::SIGTSTP => continue,
                Signal::SIGWINCH => ToSupervisor::Resized,
                other => ToSupervisor::Signal(other as i32),
            };
            // A supervisor that is gone is seen below.
            let _ = link.send(&message, &[]);
        }
        loop {
            match link.try_receive::<ToClient>() {
                Ok(None) => break,
                Ok(Some(Received::Message(message, _))) => {
                    if let Some(outcome) = show(message, link, ui) {
                        return outcome;
                    }
                }
                _ => return Outcome::Lost,
            }
        }
    }
}

fn show(message: ToClient, link: &Link, ui: &Ui) -> Option<Outcome> {
    match message {
        ToClient::ShowAll => {
            // A supervisor that is gone is seen by its silence.
            let _ = link.send(&ToSupervisor::Shown, &[]);
        }
        ToClient::Notice(text) => ui.notice(&text),
        ToClient::Warning(text, hint) => ui.warn(&text, &hint),
        ToClient::Exit(status) => return Some(Outcome::Exit(status)),
        ToClient::Failed(failure) => return Some(Outcome::Failed(failure.into())),
        ToClient::Status(_) | ToClient::Busy(_) => {}
    }
    None
}

/// Returns the error for a supervisor that ended without a word.
pub(crate) fn killed() -> Error {
    Error::environment("the ghost was killed from outside")
        .hint("its vault was not closed in order and opens at its last commit")
}
