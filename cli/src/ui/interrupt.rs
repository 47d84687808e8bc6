//! Long work that Ctrl-C may end at any time, with a word about what that means.
//!
//! A thread waits for the signals while the work goes on, because the work itself has no place to
//! ask. Ending in the middle is safe for the image: it is made for power cuts.

use super::signals::Held;
use super::{Ui, render};
use crate::error::{Error, Result};
use nix::sys::eventfd::EventFd;
use parking_lot::Mutex;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::{fs, io, process, thread};

/// What to do when the work is interrupted.
#[derive(Clone, Debug)]
pub(crate) struct OnInterrupt {
    /// What the person is told about the state of things.
    pub(crate) hint: &'static str,
    /// A file that makes no sense without the work's end.
    pub(crate) remove: Option<PathBuf>,
}

/// Where work has gone too far to be given up.
#[derive(Debug, Default)]
pub(crate) struct NoReturn(Mutex<bool>);

impl NoReturn {
    /// From here on the work goes on to its end.
    pub(crate) fn pass(&self) {
        *self.0.lock() = true;
    }
}

impl Ui {
    /// Does the work; a signal that asks us to stop ends the program in the middle of it.
    pub(crate) fn interruptible<T>(
        &self,
        on_interrupt: &OnInterrupt,
        work: impl FnOnce() -> T,
    ) -> Result<T> {
        self.interruptible_until(&NoReturn::default(), on_interrupt, work)
    }

    /// Does the work, which a signal ends only until it has passed `point`: what the person would be told is not true
    /// any more after that.
    pub(crate) fn interruptible_until<T>(
        &self,
        point: &NoReturn,
        on_interrupt: &OnInterrupt,
        work: impl FnOnce() -> T,
    ) -> Result<T> {
        let held = Held::new()?;
        let done = EventFd::new()
            .map_err(|cause| Error::internal("cannot watch for signals").caused_by(cause))?;
        Ok(thread::scope(|scope| {
            scope.spawn(|| {
                while let Err(interruption) = held.wait_for(done.as_fd()) {
                    // Held to the program's end: the work cannot pass the point meanwhile.
                    let passed = point.0.lock();
                    if !*passed {
                        self.end(&interruption, on_interrupt);
                    }
                }
            });
            // Also when the work panics: the scope waits for the thread.
            let _stop = Stop(&done);
            work()
        }))
    }

    fn end(&self, interruption: &Error, on_interrupt: &OnInterrupt) -> ! {
        if let Some(path) = &on_interrupt.remove {
            let _ = fs::remove_file(path);
        }
        let status = interruption.exit_status();
        self.clear_progress();
        let told = Error::internal("interrupted").hint(on_interrupt.hint);
        let _ = io::stderr().lock().write_all(render::error(&told, self.colour).as_bytes());
        process::exit(i32::from(status));
    }
}

struct Stop<'a>(&'a EventFd);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        // A counter at zero always takes one more.
        let _ = self.0.write(1);
    }
}
