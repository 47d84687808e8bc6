//! How far long work has come: one line on a terminal, rewritten in place, gone at the end.

use super::Ui;
use crate::units::ByteSize;
use std::io::{self, Write};
use std::time::{Duration, Instant};

const BETWEEN: Duration = Duration::from_millis(100);
/// Goes to the start of the line and takes away what stands there.
const CLEAR: &str = "\r\x1b[K";

/// One line of progress. Nothing is shown when standard error is no terminal.
pub(crate) struct Progress {
    label: &'static str,
    shown: Option<Instant>,
    wanted: bool,
}

impl Ui {
    /// Begins a line of progress.
    pub(crate) fn progress(&self, label: &'static str) -> Progress {
        Progress { label, shown: None, wanted: self.progress }
    }

    /// Takes a line of progress away that the work behind it cannot any more.
    pub(super) fn clear_progress(&self) {
        if self.progress {
            let _ = write!(io::stderr().lock(), "{CLEAR}");
        }
    }
}

impl Progress {
    /// Shows how much is done, at most ten times a second.
    pub(crate) fn show(&mut self, done: u64, total: u64) {
        self.draw(|| format!("{:3} %", (done.saturating_mul(100) / total.max(1)).min(100)));
    }

    /// Shows how many bytes are done of nobody knows how many, at most ten times a second.
    pub(crate) fn show_bytes(&mut self, done: u64) {
        self.draw(|| ByteSize(done).to_string());
    }

    fn draw(&mut self, amount: impl FnOnce() -> String) {
        if !self.wanted || self.shown.is_some_and(|last| last.elapsed() < BETWEEN) {
            return;
        }
        self.shown = Some(Instant::now());
        let _ = write!(io::stderr().lock(), "{CLEAR}{} {}", self.label, amount());
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
        StatusLine { shown: None, wanted: self.progress }
    }
}

impl StatusLine {
    /// Shows the text in place of the one before, at most ten times a second.
    pub(crate) fn show(&mut self, text: &str) {
        if !self.wanted || self.shown.is_some_and(|last| last.elapsed() < BETWEEN) {
            return;
        }
        self.shown = Some(Instant::now());
        let _ = write!(io::stderr().lock(), "{CLEAR}{}", super::render::harmless(text));
    }

    /// Takes the line away.
    pub(crate) fn clear(&mut self) {
        if self.shown.take().is_some() {
            let _ = write!(io::stderr().lock(), "{CLEAR}");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() {
            let _ = write!(io::stderr().lock(), "{CLEAR}");
        }
    }
}
