//! What can go wrong on the command line: a kind, a message, the cause beneath it and hints.
//!
//! Every kind has a stable exit status. They follow `sysexits.h`, so that they can be told from the
//! status of a command that ran in a ghost, which `pull` hands on unchanged:
//!
//! | status | kind | meaning |
//! |---|---|---|
//! | 0 | | done |
//! | 1, 2 | | `vault check` mended what was wrong; left damage as it is |
//! | 1 | | `doctor` found what weakens the promise |
//! | 64 | user | the command line or an answer cannot be right |
//! | 65 | damage | the image is damaged or was altered, which cannot be told apart |
//! | 66 | format | not an image that this program reads: absent, another format, a newer version |
//! | 67 | logged out | Infisical knows no login of ours, or not any more |
//! | 68 | refused | Infisical lacks what was asked for, or does not hand it out |
//! | 69 | environment | the machine lacks something or refuses it |
//! | 70 | internal | a mistake of ours |
//! | 75 | in use | somebody else has it open; the same call works later |
//! | 76 | rollback | an older state than this machine has seen, or a fork of it |
//! | 77 | wrong passphrase | no keyslot opened |
//! | 78 | config | a configuration file has a mistake |
//! | 130 | interrupted | Ctrl-C; 128 + signal for other signals |

use std::error::Error as StdError;
use std::fmt;

/// The result of anything that a command does.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Who has to act, which decides the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The command line or an answer cannot be right.
    User,
    /// A configuration file has a mistake.
    Config,
    /// The machine lacks something or refuses it.
    Environment,
    /// Another process has it open.
    InUse,
    /// No keyslot opened.
    WrongPassphrase,
    /// Not an image that this program reads.
    Format,
    /// The image is damaged or was altered.
    Damage,
    /// An older state than this machine has seen, or a fork of it.
    Rollback,
    /// Infisical knows no login of ours, or not any more.
    LoggedOut,
    /// Infisical lacks what was asked for, or does not hand it out.
    Refused,
    /// A mistake of ours.
    Internal,
    /// A signal asked us to stop; the number is the signal's.
    Interrupted(u8),
}

impl Kind {
    /// Returns the exit status of this kind; the module page lists them all.
    pub(crate) fn exit_status(self) -> u8 {
        match self {
            Kind::User => 64,
            Kind::Damage => 65,
            Kind::Format => 66,
            Kind::LoggedOut => 67,
            Kind::Refused => 68,
            Kind::Environment => 69,
            Kind::Internal => 70,
            Kind::InUse => 75,
            Kind::Rollback => 76,
            Kind::WrongPassphrase => 77,
            Kind::Config => 78,
            Kind::Interrupted(signal) => 128_u8.saturating_add(signal),
        }
    }
}

/// An error with everything that a person needs to go on.
#[derive(Debug)]
pub(crate) struct Error {
    kind: Kind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
    hints: Vec<String>,
}

impl Error {
    /// Makes an error of `kind`; `message` is lower case without a full stop.
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None, hints: Vec::new() }
    }

    /// The command line or an answer cannot be right.
    pub(crate) fn user(message: impl Into<String>) -> Self {
        Self::new(Kind::User, message)
    }

    /// A configuration file has a mistake.
    pub(crate) fn config(message: impl Into<String>) -> Self {
        Self::new(Kind::Config, message)
    }

    /// The machine lacks something or refuses it.
    pub(crate) fn environment(message: impl Into<String>) -> Self {
        Self::new(Kind::Environment, message)
    }

    /// A mistake of ours.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, message)
    }

    /// A signal asked us to stop.
    pub(crate) fn interrupted(signal: i32) -> Self {
        Self::new(Kind::Interrupted(u8::try_from(signal).unwrap_or(0)), "interrupted")
    }

    /// Says what lies beneath; the renderer prints the whole chain, once.
    #[must_use]
    pub(crate) fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Adds what the person can do next.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Says what lies beneath of looking at a file of the project: older programs left files of root.
    #[must_use]
    pub(crate) fn caused_by_file_of_project(self, cause: std::io::Error) -> Self {
        let denied = cause.kind() == std::io::ErrorKind::PermissionDenied;
        let error = self.caused_by(cause);
        if !denied {
            return error;
        }
        error.hint("if it is another user's: sudo chown -R \"$USER\": .tazpod secrets.yml")
    }

    /// Returns the kind.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns the hints in the order in which they were added.
    pub(crate) fn hints(&self) -> &[String] {
        &self.hints
    }

    /// Returns the message and all that lies beneath it, for where there is one line.
    pub(crate) fn in_one_line(&self) -> String {
        let mut text = self.message.clone();
        let mut cause = StdError::source(self);
        while let Some(below) = cause {
            text = format!("{text}: {below}");
            cause = below.source();
        }
        text
    }

    /// Returns the exit status of the program that ends with this error.
    pub(crate) fn exit_status(&self) -> u8 {
        self.kind.exit_status()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
