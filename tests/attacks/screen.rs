//! A terminal to run things on, as a person would: typed into and read through `script`.

use super::scene::Scene;
use harness::stage::{User, within};
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};

/// A command on a terminal of its own. Dropping it hangs the terminal up.
pub(crate) struct Screen {
    child: Child,
    keyboard: Option<ChildStdin>,
    seen: Arc<Mutex<String>>,
}

impl Screen {
    /// Runs a shell line on a new terminal as `user`.
    pub(crate) fn run(scene: &dyn Scene, user: User, line: &str) -> Self {
        let script = scene.action(user, "script").env("SHELL", "/bin/bash").args([
            "--quiet",
            "--return",
            "--flush",
            "--echo",
            "never",
            "--command",
            line,
            "/dev/null",
        ]);
        Self::show(script.command())
    }

    /// Shows what a `script` makes of a terminal.
    pub(crate) fn show(mut script: Command) -> Self {
        let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let keyboard = child.stdin.take();
        let mut output = child.stdout.take().unwrap();
        let seen = Arc::new(Mutex::new(String::new()));
        let text = Arc::clone(&seen);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                text.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        });
        Self { child, keyboard, seen }
    }

    /// Everything that was on the screen so far.
    pub(crate) fn text(&self) -> String {
        self.seen.lock().unwrap().clone()
    }

    /// Waits until the screen has shown `text`.
    pub(crate) fn wait_for(&self, text: &str) {
        assert!(
            within(60, || self.text().contains(text)),
            "no {text:?} on the screen: {}",
            self.text()
        );
    }

    /// Types.
    pub(crate) fn press(&mut self, keys: &str) {
        // A program that has just asked may still be setting the terminal up, and drops what was typed before.
        std::thread::sleep(std::time::Duration::from_millis(300));
        self.keyboard.as_mut().unwrap().write_all(keys.as_bytes()).unwrap();
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the command and returns its status.
    pub(crate) fn end(mut self) -> Option<i32> {
        assert!(
            within(60, || self.child.try_wait().unwrap().is_some()),
            "still running: {}",
            self.text()
        );
        self.child.wait().unwrap().code()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        drop(self.keyboard.take());
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
