//! How far long work has come: one line on a terminal, rewritten in place, gone at the end.

use super::Ui;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

const BETWEEN: Duration = Duration::from_millis(100);

/// One line of progress. Nothing is shown when standard error is no terminal.
pub(crate) struct Progress {
    label: &'static str,
    shown: Option<Instant>,
    wanted: bool,
}

impl Ui {
    /// Begins a line of progress.
    pub(crate) fn progress(&self, label: &'static str) -> Progress {
        Progress { label, shown: None, wanted: !self.quiet && io::stderr().is_terminal() }
    }
}

impl Progress {
    /// Shows how much is done, at most ten times a second.
    pub(crate) fn show(&mut self, done: u64, total: u64) {
        if !self.wanted || self.shown.is_some_and(|last| last.elapsed() < BETWEEN) {
            return;
        }
        self.shown = Some(Instant::now());
        let percent = (done.saturating_mul(100) / total.max(1)).min(100);
        let _ = write!(io::stderr().lock(), "\r{} {percent:3} %", self.label);
    }
}

/// One line of changing text. Nothing is shown when standard error is no terminal.
pub(crate) struct StatusLine {
    shown: Option<Instant>,
    wanted: bool,
}

impl Ui {
    /// Begins a line of changing text.
    pub(crate) fn status_line(&self) -> StatusLine {
        StatusLine { shown: None, wanted: !self.quiet && io::stderr().is_terminal() }
    }
}

impl StatusLine {
    /// Shows the text in place of the one before, at most ten times a second.
    pub(crate) fn show(&mut self, text: &str) {
        if !self.wanted || self.shown.is_some_and(|last| last.elapsed() < BETWEEN) {
            return;
        }
        self.shown = Some(Instant::now());
        let _ = write!(io::stderr().lock(), "\r\x1b[K{}", super::render::harmless(text));
    }

    /// Takes the line away.
    pub(crate) fn clear(&mut self) {
        if self.shown.take().is_some() {
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() {
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
        }
    }
}
