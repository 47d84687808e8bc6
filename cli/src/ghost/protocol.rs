//! The messages between the processes of a ghost; GHOST.md, section 2, says who sends which.
//!
//! Every type refuses unknown fields. Paths and variables are bytes, not text.

use crate::args::ghost::BackendKind;
use crate::bridge::MemoryPlace;
use crate::error::{Error, Kind};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Bytes of a path, a word or a variable. On the wire each byte is the character of that number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Raw(Vec<u8>);

impl Raw {
    /// Returns the bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the bytes as a path.
    pub(crate) fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }
}

impl From<&Path> for Raw {
    fn from(path: &Path) -> Self {
        Self(path.as_os_str().as_bytes().to_vec())
    }
}

impl From<PathBuf> for Raw {
    fn from(path: PathBuf) -> Self {
        Self(path.into_os_string().into_vec())
    }
}

impl From<OsString> for Raw {
    fn from(word: OsString) -> Self {
        Self(word.into_vec())
    }
}

impl From<&str> for Raw {
    fn from(word: &str) -> Self {
        Self(word.as_bytes().to_vec())
    }
}

impl Serialize for Raw {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0.iter().map(|byte| char::from(*byte)).collect::<String>())
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .chars()
            .map(|character| u8::try_from(u32::from(character)))
            .collect::<Result<Vec<u8>, _>>()
            .map(Self)
            .map_err(|_| D::Error::custom("not bytes"))
    }
}

/// What a caller asks the helper for. It crosses from the caller to root: judged as hostile.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    /// The project's folder, canonical.
    pub(crate) project: Raw,
    /// The caller's home folder.
    pub(crate) home: Raw,
    /// The caller's state folder.
    pub(crate) state: Raw,
    /// Which vault, and how it is opened.
    pub(crate) vault: VaultRequest,
    /// The first session.
    pub(crate) session: SessionRequest,
    /// Whether the ghost goes without root.
    pub(crate) rootless: bool,
    /// Whether a credential follows as a secret; without one the terminal is asked.
    pub(crate) has_secret: bool,
    /// Which of the caller's streams are terminals.
    pub(crate) terminals: [bool; 3],
    /// Folders and files of the caller that stay visible though they lie where a ghost has private
    /// folders.
    pub(crate) kept: Vec<Raw>,
    /// What a person should know, one sentence each.
    pub(crate) notices: Vec<String>,
    /// Whether only warnings and errors are wanted.
    pub(crate) quiet: bool,
    /// Seconds without a key or output after which the ghost locks itself.
    pub(crate) lock_after: Option<u64>,
    /// Where the assistant's memory lives.
    pub(crate) memory: MemoryPlace,
}

/// Which vault, and how it is opened.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VaultRequest {
    /// The image file.
    pub(crate) image: Raw,
    /// The image as the person would write it.
    pub(crate) shown: String,
    /// What keeps the vault's contents.
    pub(crate) backend: BackendKind,
    /// How to make it, where it does not exist yet.
    pub(crate) create: Option<NewVault>,
    /// What the credential is.
    pub(crate) credential: CredentialKind,
    /// Only this keyslot.
    pub(crate) slot: Option<u8>,
    /// Keyslots whose key derivation takes long are accepted.
    pub(crate) allow_kdf_cost: bool,
    /// An older image is accepted at exactly this generation.
    pub(crate) accept_generation: Option<u64>,
    /// Space is given back to the host.
    pub(crate) discard: bool,
}

/// How a new vault is made.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewVault {
    /// Bytes that the image may grow to.
    pub(crate) capacity: u64,
    /// Memory of the key derivation in KiB.
    pub(crate) kdf_memory_kib: u32,
    /// Passes of the key derivation.
    pub(crate) kdf_passes: u32,
}

/// What is presented to open a vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CredentialKind {
    /// A passphrase.
    Passphrase,
    /// The content of a key file.
    KeyFile,
    /// The recovery key, as text.
    RecoveryKey,
}

/// What runs in a session.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SessionRequest {
    /// Program and arguments; empty for the caller's shell.
    pub(crate) command: Vec<Raw>,
    /// The caller's shell.
    pub(crate) shell: Raw,
    /// The environment.
    pub(crate) environment: Vec<(Raw, Raw)>,
    /// The working folder.
    pub(crate) folder: Raw,
    /// The file mode creation mask.
    pub(crate) umask: u32,
    /// A home folder in the vault that is made if it is missing, for a ghost with a private one.
    pub(crate) private_home: Option<Raw>,
    /// Words for our own program, which runs first, inside, and becomes what the session runs; empty
    /// for none.
    pub(crate) through: Vec<Raw>,
}

/// An error on its way to the caller.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Failure {
    kind: String,
    message: String,
    causes: Vec<String>,
    hints: Vec<String>,
}

/// A cause whose type stayed in another process.
#[derive(Debug)]
struct Cause {
    text: String,
    next: Option<Box<Cause>>,
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Cause {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.next.as_deref().map(|next| next as _)
    }
}

const KINDS: [(Kind, &str); 11] = [
    (Kind::User, "user"),
    (Kind::Config, "config"),
    (Kind::Environment, "environment"),
    (Kind::InUse, "in-use"),
    (Kind::WrongPassphrase, "wrong-passphrase"),
    (Kind::Format, "format"),
    (Kind::Damage, "damage"),
    (Kind::Rollback, "rollback"),
    (Kind::LoggedOut, "logged-out"),
    (Kind::Refused, "refused"),
    (Kind::Internal, "internal"),
];

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        let name = KINDS.iter().find(|(kind, _)| *kind == error.kind()).map(|(_, name)| *name);
        let kind = match error.kind() {
            Kind::Interrupted(signal) => format!("interrupted-{signal}"),
            _ => name.unwrap_or("internal").to_owned(),
        };
        let first = std::error::Error::source(error);
        let causes = std::iter::successors(first, |cause| cause.source()).take(16);
        Self {
            kind,
            message: error.to_string(),
            causes: causes.map(ToString::to_string).collect(),
            hints: error.hints().to_vec(),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let named = KINDS.iter().find(|(_, name)| *name == failure.kind).map(|(kind, _)| *kind);
        let signal = failure.kind.strip_prefix("interrupted-").and_then(|text| text.parse().ok());
        let kind = named.or(signal.map(Kind::Interrupted)).unwrap_or(Kind::Internal);
        let cause = failure
            .causes
            .into_iter()
            .rev()
            .fold(None, |next, text| Some(Box::new(Cause { text, next })));
        let error = Error::new(kind, failure.message);
        let error = match cause {
            Some(cause) => error.caused_by(*cause),
            None => error,
        };
        failure.hints.into_iter().fold(error, Error::hint)
    }
}

/// From a client to the supervisor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) enum ToSupervisor {
    /// Joins the ghost; the three streams, and perhaps the terminal behind sudo's, come along.
    Join {
        /// What to run.
        session: Box<SessionRequest>,
        /// Whether a credential follows as a secret.
        has_secret: bool,
        /// Which of the streams are terminals.
        terminals: [bool; 3],
        /// What the credential is.
        credential: CredentialKind,
        /// Only this keyslot.
        slot: Option<u8>,
    },
    /// What the supervisor said so far is shown.
    Shown,
    /// The terminal's size changed.
    Resized,
    /// A signal for the session, or for the ghost that is still being made.
    Signal(i32),
    /// Asks what the ghost is.
    Status,
    /// Ends the ghost; without force only if no program would be lost.
    Lock {
        /// Whether programs that run are no reason to refuse.
        force: bool,
    },
}

/// From the supervisor to a client.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) enum ToClient {
    /// Something worth knowing.
    Notice(String),
    /// Something is not as it should be; the hint says what to do.
    Warning(String, String),
    /// Asks for [`ToSupervisor::Shown`] once everything before it is shown.
    ShowAll,
    /// The end of a client's session: the status to exit with.
    Exit(u8),
    /// The end, with what went wrong.
    Failed(Failure),
    /// What the ghost is.
    Status(GhostStatus),
    /// Programs that would be lost.
    Busy(Vec<Program>),
}

/// A program in the ghost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Program {
    /// Its process, as numbered outside the ghost.
    pub(crate) pid: i32,
    /// Its name.
    pub(crate) name: String,
}

/// What an open ghost says about itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GhostStatus {
    /// The project's folder.
    pub(crate) project: Raw,
    /// The image file.
    pub(crate) image: Raw,
    /// Where the vault is seen in the ghost.
    pub(crate) mount_point: Raw,
    /// What keeps the vault's contents.
    pub(crate) backend: BackendKind,
    /// Seconds since 1970 when it was opened.
    pub(crate) since: u64,
    /// The supervisor's process.
    pub(crate) supervisor: i32,
    /// Sessions in it.
    pub(crate) sessions: usize,
    /// Whether it goes without root.
    pub(crate) rootless: bool,
    /// What is weaker than usual, one sentence each.
    pub(crate) weaknesses: Vec<String>,
}

/// From the supervisor to init.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) enum ToInit {
    /// The maps are written.
    Begin,
    /// The vault is open: make it visible at the mount point. The mount of a vault that the kernel
    /// reads itself comes along.
    Reveal,
    /// Starts a session; its three streams come along.
    Start {
        /// The session's number.
        session: u32,
        /// What to run.
        request: Box<SessionRequest>,
        /// Whether the session gets a terminal of its own; streams that are none are kept.
        terminal: bool,
        /// Which of the streams are terminals.
        terminals: [bool; 3],
    },
    /// A signal for a session's foreground.
    Signal {
        /// The session's number.
        session: u32,
        /// The signal's number.
        signal: i32,
    },
    /// Ends one session.
    End {
        /// The session's number.
        session: u32,
    },
    /// Ends every process but the server, then unmounts.
    Close,
}

/// From init to the supervisor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) enum FromInit {
    /// Namespaces and mounts are made, the server is started.
    Ready {
        /// What is weaker than usual, one sentence each.
        weaknesses: Vec<String>,
    },
    /// The vault is visible at the mount point, and the bridges are.
    Revealed {
        /// What was moved into the vault, one sentence each.
        notices: Vec<String>,
        /// What could not be, each with what to do.
        warnings: Vec<(String, String)>,
    },
    /// A session runs; the master of its terminal comes along if it has one.
    Started {
        /// The session's number.
        session: u32,
    },
    /// A session could not be started, or its first process ended.
    Ended {
        /// The session's number.
        session: u32,
        /// What a shell would report.
        status: u8,
        /// What went wrong before the program ran.
        failure: Option<Failure>,
    },
    /// The server ended, expected or not.
    ServerEnded {
        /// What a shell would report.
        status: u8,
    },
    /// The mount point does not show the vault any more.
    Displaced,
    /// Everything is unmounted; init ends now.
    Unmounted,
    /// The ghost cannot go on.
    Failed(Failure),
}

/// From the supervisor to the server, or to the holder of a vault that the kernel reads itself.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) enum ToServer {
    /// Opens the vault with the secret that follows.
    Open {},
    /// Says whether the secret that follows opens the vault.
    Prove {
        /// What it is.
        credential: CredentialKind,
        /// Only this keyslot.
        slot: Option<u8>,
    },
    /// Closes the vault, now that the ghost's processes are gone. Only holders are told.
    Close {},
}

/// From the server to the supervisor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) enum FromServer {
    /// The image is there, or can be made; a credential is needed.
    Waiting {
        /// The vault's id; `None` for one that is still to be made.
        vault: Option<String>,
    },
    /// The credential opened nothing; another may be tried.
    Refused(Failure),
    /// The vault is open and served. A holder's mount comes along.
    Opened {
        /// The vault's id.
        vault: String,
        /// What a person should know, one sentence each.
        notices: Vec<String>,
        /// What is weaker than usual, one sentence each.
        weaknesses: Vec<String>,
    },
    /// Whether a joiner's secret opens the vault.
    Proved(bool),
    /// The newest state, to be kept outside the image.
    Witness(Vec<u8>),
    /// Something failed that programs only see as an errno: what, and what to do.
    Trouble(String, String),
    /// The vault is closed, everything is on the disk.
    Closed,
    /// The server cannot go on.
    Failed(Failure),
}

/// From the supervisor to a terminal agent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) enum ToAgent {
    /// Asks for a secret.
    Ask {
        /// The question.
        question: String,
        /// Whether it is asked twice, as for a new vault.
        repeat: bool,
    },
    /// Relays between the terminal and the master that comes along.
    Relay,
}

/// From a terminal agent to the supervisor; the answer to a question is a secret.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) enum FromAgent {
    /// The question was not answered.
    Failed(Failure),
}

/// From the helper behind sudo to its client.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) enum FromHelper {
    /// The helper runs; the request may be sent.
    Hello,
    /// Another ghost of the project came first; nothing was made.
    Taken,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn errors_keep_kind_causes_and_hints_across_a_link() {
        let cause = std::io::Error::other("no such thing");
        let error = Error::environment("cannot").caused_by(cause).hint("try").hint("again");
        let text = serde_json::to_string(&Failure::from(&error)).unwrap();
        let back = Error::from(serde_json::from_str::<Failure>(&text).unwrap());
        assert_eq!(back.kind(), Kind::Environment);
        assert_eq!(back.to_string(), "cannot");
        assert_eq!(std::error::Error::source(&back).unwrap().to_string(), "no such thing");
        assert_eq!(back.hints(), ["try", "again"]);
        let interrupted = Error::from(Failure::from(Error::interrupted(2)));
        assert_eq!(interrupted.exit_status(), 130);
    }

    #[test]
    fn every_byte_survives_as_raw() {
        let raw = Raw((0..=255).collect());
        let text = serde_json::to_string(&raw).unwrap();
        assert_eq!(serde_json::from_str::<Raw>(&text).unwrap(), raw);
        assert!(serde_json::from_str::<Raw>("\"\u{100}\"").is_err());
    }

    #[test]
    fn unknown_fields_are_refused() {
        assert!(serde_json::from_str::<ToSupervisor>(r#"{"lock":{"force":true,"x":1}}"#).is_err());
        assert!(serde_json::from_str::<ToSupervisor>(r#"{"shout":{}}"#).is_err());
    }
}
