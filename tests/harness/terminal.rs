//! A person at a terminal: `script` makes one, and what is typed comes through a pipe.

use rustix::fs::{Mode, OFlags};
use rustix::termios::Winsize;
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// A shell line on a terminal of its own.
pub struct Terminal {
    child: Child,
    keyboard: ChildStdin,
    screen: Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    /// Runs a line; `script` is the command of that name, with environment, folder and user.
    ///
    /// # Panics
    /// Without `script`.
    pub fn run(mut script: Command, line: &str) -> Self {
        script.args(["--quiet", "--return", "--flush", "--echo", "never", "--command", line]);
        script.arg("/dev/null").env("TERM", "xterm");
        let mut child = script
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script is installed");
        let keyboard = child.stdin.take().expect("a child of ours");
        let mut output = child.stdout.take().expect("a child of ours");
        let (sender, screen) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                if sender.send(bytes[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, keyboard, screen, seen: String::new() }
    }

    /// Reads the screen until `text` is there.
    ///
    /// # Panics
    /// When it is not there in time.
    pub fn wait_for(&mut self, text: &str) {
        self.wait_for_times(text, 1);
    }

    /// Reads the screen until `text` is there so many times.
    ///
    /// # Panics
    /// When it is not there in time.
    pub fn wait_for_times(&mut self, text: &str, times: usize) {
        let end = Instant::now() + Duration::from_secs(patience());
        let seen = self.is_seen(text, times, end);
        assert!(seen, "no {text:?} in time: {:?}", self.seen);
    }

    /// Types the same keys each second until `text` is there: for what a program does at the next key only, once it
    /// has heard of something that comes by another way than the keys do.
    ///
    /// # Panics
    /// When it is not there in time.
    pub fn press_until(&mut self, keys: &str, text: &str) {
        let end = Instant::now() + Duration::from_secs(patience());
        loop {
            self.press(keys);
            let next = (Instant::now() + Duration::from_secs(1)).min(end);
            if self.is_seen(text, 1, next) {
                return;
            }
            assert!(Instant::now() < end, "no {text:?} in time: {:?}", self.seen);
        }
    }

    /// Reads the screen until `text` is there so many times, or until `end`.
    fn is_seen(&mut self, text: &str, times: usize, end: Instant) -> bool {
        while self.seen.matches(text).count() < times {
            match self.screen.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.seen += &String::from_utf8_lossy(&bytes),
                Err(RecvTimeoutError::Timeout) => return false,
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("ended without {text:?}: {:?}", self.seen)
                }
            }
        }
        true
    }

    /// Types.
    ///
    /// # Panics
    /// When nobody reads any more.
    pub fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("a child of ours");
    }

    /// What was on the screen so far.
    #[must_use]
    pub fn seen(&self) -> &str {
        &self.seen
    }

    /// What follows the last `mark` on the screen, up to white space.
    #[must_use]
    pub fn word_after(&self, mark: &str) -> String {
        let rest = self.seen.rsplit(mark).next().unwrap_or_default();
        rest.split_whitespace().next().unwrap_or_default().to_owned()
    }

    /// Reads to the end; returns all that was on the screen, and the line's status.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn end(mut self) -> (String, i32) {
        while let Ok(bytes) = self.screen.recv_timeout(Duration::from_secs(patience())) {
            self.seen += &String::from_utf8_lossy(&bytes);
        }
        let ended = has_ended(&mut self.child);
        assert!(ended, "still on the terminal: {:?}", self.seen);
        let status = self.child.wait().expect("a child of ours");
        (self.seen.clone(), status.code().unwrap_or(-1))
    }
}

/// Changes the size of the terminal at `path` in one step, as a window manager does. `stty rows N cols M` takes two, and
/// bash forgets a signal that comes while it runs the trap of the one before.
///
/// # Panics
/// When it is no terminal that this process may open.
pub fn resize(path: &str, rows: u16, columns: u16) {
    let terminal =
        rustix::fs::open(path, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())
            .expect("a terminal of ours");
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&terminal, size).expect("a terminal has a size");
}

/// How many seconds a test waits for what comes at once on a quiet machine; `TAZPOD_PATIENCE` has it longer on a slow one.
#[must_use]
pub fn patience() -> u64 {
    std::env::var("TAZPOD_PATIENCE").ok().and_then(|text| text.parse().ok()).unwrap_or(60)
}

fn has_ended(child: &mut Child) -> bool {
    let end = Instant::now() + Duration::from_secs(patience());
    while Instant::now() < end {
        if child.try_wait().is_ok_and(|status| status.is_some()) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // One that a failed test leaves behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
