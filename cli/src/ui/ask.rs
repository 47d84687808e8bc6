//! Plain questions with plain answers.

use super::Ui;
use super::prompt::terminal;
use super::signals::Held;
use crate::error::{Error, Result};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;

const LONGEST_ANSWER: usize = 1024;

impl Ui {
    /// Asks a yes-or-no question on the terminal; anything but yes is no.
    pub(crate) fn confirm(&self, question: &str) -> Result<bool> {
        let answer = self
            .ask(&format!("{question} [y/N] "))
            .map_err(|error| error.hint("--yes answers in advance"))?;
        Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    }

    /// Shows a secret on the terminal's other screen until Enter is pressed, so that it stays neither
    /// on the screen nor in what can be scrolled back to.
    pub(crate) fn show_once(&self, secret: &str) -> Result<()> {
        const OTHER_SCREEN: &str = "\x1b[?1049h\x1b[2J\x1b[H";
        const FIRST_SCREEN: &str = "\x1b[2J\x1b[?1049l";
        let mut terminal = terminal().map_err(no_terminal)?;
        let mut say = |text: &str| {
            terminal.write_all(text.as_bytes()).map_err(|cause| {
                Error::environment("cannot write to the terminal").caused_by(cause)
            })
        };
        say(OTHER_SCREEN)?;
        say("Write this down and keep it apart from the vault. It is shown once:\n\n")?;
        say(secret)?;
        let pressed = self.ask("\n\nPress Enter when you have it. ");
        say(FIRST_SCREEN)?;
        pressed.map(drop)
    }

    /// Asks for a line on the terminal.
    #[allow(clippy::unused_self, reason = "a question to this terminal")]
    pub(crate) fn ask(&self, question: &str) -> Result<String> {
        let mut terminal = terminal().map_err(no_terminal)?;
        let held = Held::new()?;
        let failed =
            |cause: io::Error| Error::environment("cannot ask on the terminal").caused_by(cause);
        terminal.write_all(super::render::harmless(question).as_bytes()).map_err(failed)?;
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') && line.len() < LONGEST_ANSWER {
            held.wait_for(terminal.as_fd())?;
            let mut bytes = [0; 256];
            let count = terminal.read(&mut bytes).map_err(failed)?;
            if count == 0 {
                break;
            }
            line.extend_from_slice(bytes.get(..count).unwrap_or_default());
        }
        Ok(String::from_utf8_lossy(&line).into_owned())
    }
}

fn no_terminal(cause: io::Error) -> Error {
    Error::user("no terminal to ask on").caused_by(cause)
}
