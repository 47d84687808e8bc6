//! The terminal: results on standard output, everything said about them on standard error.
//!
//! The only place that prints. Colour appears on a terminal alone and never against `NO_COLOR`.
//! Control characters in what we show (file names, labels, paths) are escaped, so that a hostile
//! image cannot drive the person's terminal.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod ask;
pub(crate) mod interrupt;
mod progress;
pub(crate) mod prompt;
mod render;
pub(crate) mod secret;
mod signals;

use crate::error::{Error, Kind, Result};
use crate::sys::output;
use serde::Serialize;
use std::io::{self, IsTerminal, StdoutLock, Write};
use std::process::ExitCode;

/// The terminal of one run.
#[derive(Debug)]
pub(crate) struct Ui {
    quiet: bool,
    progress: bool,
    colour: bool,
}

impl Ui {
    /// Makes the terminal; `quiet` drops notices and progress, and what answers `for_programs` shows no progress.
    pub(crate) fn new(quiet: bool, for_programs: bool) -> Self {
        let on_terminal = io::stderr().is_terminal();
        let progress = on_terminal && !quiet && !for_programs;
        Self { quiet, progress, colour: render::colour_wanted(on_terminal) }
    }

    /// Whether notices are dropped.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Prints a result, with a newline at its end.
    pub(crate) fn print(&self, text: &str) -> Result<()> {
        self.print_exactly(format!("{}\n", render::harmless(text)).as_bytes())
    }

    /// Prints a result as JSON, on one line.
    pub(crate) fn json(&self, value: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string(value)
            .map_err(|cause| Error::internal("cannot write JSON").caused_by(cause))?;
        self.print_exactly(format!("{text}\n").as_bytes())
    }

    /// Prints bytes as they are, for other programs to read.
    pub(crate) fn print_exactly(&self, bytes: &[u8]) -> Result<()> {
        let mut out = self.output()?;
        out.write_all(bytes).and_then(|()| out.flush()).map_err(cannot_print)
    }

    /// Returns standard output for what is too much to be held in memory; fails where it is closed.
    #[allow(clippy::unused_self, reason = "whoever prints holds the terminal")]
    pub(crate) fn output(&self) -> Result<StdoutLock<'static>> {
        output::must_be_open().map_err(cannot_print)?;
        Ok(io::stdout().lock())
    }

    /// Prints a secret that exists nowhere else, to be kept by whoever reads it. Fails where nobody does.
    pub(crate) fn hand_over(&self, secret: &str) -> Result<()> {
        if output::is_null_device() {
            output::must_be_open().map_err(cannot_print)?;
            return Err(Error::user(
                "nobody would see what is shown once: standard output is /dev/null",
            ));
        }
        self.print_exactly(secret.as_bytes())?;
        self.print_exactly(b"\n")
    }

    /// Says what is being done.
    pub(crate) fn notice(&self, text: &str) {
        if !self.quiet {
            self.say(&format!("{}\n", render::harmless(text)));
        }
    }

    /// Says what must be seen even by those who wanted quiet.
    pub(crate) fn say_anyway(&self, text: &str) {
        self.say(&format!("{}\n", render::harmless(text)));
    }

    /// Says what is wrong without being an error, and what to do about it.
    pub(crate) fn warn(&self, text: &str, hint: &str) {
        self.say(&render::warning(text, hint, self.colour));
    }

    /// Says why a program in a session does not run, as a shell would.
    pub(crate) fn say_failure(&self, text: &str) {
        self.say(&format!("tazpod: {}\n", render::harmless(text)));
    }

    /// Renders an error, the chain below it, and its hints.
    pub(crate) fn report(&self, error: &Error) {
        match error.kind() {
            // Whoever pressed Ctrl-C or closed the pipe knows.
            Kind::Interrupted(_) => {}
            _ => self.say(&render::error(error, self.colour)),
        }
    }

    /// Whether results go to a terminal, where secrets must not be shown.
    #[allow(clippy::unused_self, reason = "a question to this terminal")]
    pub(crate) fn shows_results(&self) -> bool {
        io::stdout().is_terminal()
    }

    #[allow(clippy::unused_self, reason = "whoever prints holds the terminal")]
    fn say(&self, text: &str) {
        // Nobody is left to be told that standard error is gone.
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }
}

fn cannot_print(cause: io::Error) -> Error {
    if cause.kind() == io::ErrorKind::BrokenPipe {
        return Error::interrupted(libc::SIGPIPE);
    }
    Error::environment("cannot write to standard output").caused_by(cause)
}

/// Prints what the command line's parser answers: help, version, or what is wrong with the usage.
pub(crate) fn command_line_answer(answer: &clap::Error) -> ExitCode {
    let wrong_usage = answer.use_stderr();
    let ui = Ui::new(false, false);
    let printed = || if wrong_usage { Ok(()) } else { output::must_be_open() };
    match printed().and_then(|()| answer.print()) {
        // Nobody is left to be told that standard error is gone.
        _ if wrong_usage => ExitCode::from(Kind::User.exit_status()),
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            let error = cannot_print(cause);
            ui.report(&error);
            ExitCode::from(error.exit_status())
        }
    }
}
