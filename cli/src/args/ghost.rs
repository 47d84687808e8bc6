//! Verbs about ghosts.

use super::access::{CredentialArgs, KdfArgs};
use super::container::PlaceArgs;
use crate::units::ByteSize;
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;

/// What keeps a vault's contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum BackendKind {
    /// LUKS2 on a loop device, by cryptsetup; needs root and a privileged container
    Luks,
    /// TazPod's own encrypted image, served by FUSE in the ghost
    Fuse,
}

impl std::fmt::Display for BackendKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Luks => "luks",
            Self::Fuse => "fuse",
        })
    }
}

/// How a vault is opened in a ghost, or an open ghost joined.
#[derive(Args, Clone, Debug)]
pub(crate) struct OpenArgs {
    /// What keeps the vault's contents [default: what the vault is, else what this machine can do]
    #[arg(long, value_enum)]
    pub(crate) backend: Option<BackendKind>,
    #[command(flatten)]
    pub(crate) credential: CredentialArgs,
    #[command(flatten)]
    pub(crate) kdf: KdfArgs,
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// Go without root: user namespaces only. Does not protect from processes of your own uid
    #[arg(long)]
    pub(crate) rootless: bool,
    /// Size that a new vault may grow to [default: 512M]
    #[arg(long, value_name = "SIZE")]
    pub(crate) size: Option<ByteSize>,
    /// Take an older image than this machine has seen, if it is exactly at this generation
    #[arg(long, value_name = "N")]
    pub(crate) accept_generation: Option<u64>,
    /// Keep free space in the image instead of giving it back to the disk
    #[arg(long)]
    pub(crate) no_discard: bool,
}

/// Open the vault in a ghost, pull the project's secrets into it, and start a shell or run a command
///
/// Without a vault, a new one is made. From a second terminal this joins the ghost that is open; in
/// a ghost it brings the secrets up to date. Nothing is written before everything was fetched: if a
/// secret is missing or the source cannot be reached, the vault keeps what it had.
#[derive(Args, Clone, Debug)]
pub(crate) struct PullArgs {
    #[command(flatten)]
    pub(crate) open: OpenArgs,
    #[command(flatten)]
    pub(crate) secrets: SecretsArgs,
    /// Run this command instead of a shell; the ghost ends with its status
    #[arg(last = true, value_name = "CMD", conflicts_with = "dry_run")]
    pub(crate) command: Vec<OsString>,
}

/// What happens to the secrets.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
pub(crate) struct SecretsArgs {
    /// Ask nobody: use what the vault has, and say how old it is
    #[arg(long, conflicts_with_all = ["dry_run", "prune"])]
    pub(crate) offline: bool,
    /// Show what would change; write nothing and start nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Remove secrets from the vault that secrets.yml does not name any more
    #[arg(long)]
    pub(crate) prune: bool,
    /// Print one JSON object about the secrets instead of a table; never a value
    #[arg(long)]
    pub(crate) json: bool,
}

/// Run one command with the secrets in its environment, as the last pull left them
///
/// In a ghost the command runs there; elsewhere the vault is opened for it. Nothing is fetched, and nothing runs while
/// the vault lacks a secret that is not optional.
#[derive(Args, Clone, Debug)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) open: OpenArgs,
    /// Mask the secrets' values in what the command prints
    #[arg(long)]
    pub(crate) redact: bool,
    /// The command
    #[arg(last = true, value_name = "CMD", required = true)]
    pub(crate) command: Vec<OsString>,
}

/// The first program of a session in a ghost.
#[derive(Args, Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
pub(crate) struct SessionArgs {
    #[command(flatten)]
    pub(crate) secrets: SecretsArgs,
    /// Leave the secrets as they are, and say nothing about them
    #[arg(long)]
    pub(crate) keep: bool,
    /// Start nothing while the vault lacks a secret that is not optional
    #[arg(long)]
    pub(crate) whole: bool,
    /// The command is a shell, which starts even if the secrets cannot be pulled
    #[arg(long)]
    pub(crate) shell: bool,
    /// Mask the secrets' values in what the command prints
    #[arg(long)]
    pub(crate) redact: bool,
    /// The command
    #[arg(last = true, value_name = "CMD", required = true)]
    pub(crate) command: Vec<OsString>,
}

/// Open the vault in a ghost without pulling secrets
#[derive(Args, Clone, Debug)]
pub(crate) struct UnlockArgs {
    #[command(flatten)]
    pub(crate) open: OpenArgs,
    /// Run this command instead of a shell; the ghost ends with its status
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

/// End the open ghost and close its vault
#[derive(Args, Clone, Debug)]
pub(crate) struct LockArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// End programs that still run in the ghost; what they have not saved is lost
    #[arg(long)]
    pub(crate) force: bool,
}
