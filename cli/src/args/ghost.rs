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

/// Open the vault in a ghost and start a shell there, or run one command
///
/// Without a vault, a new one is made. From a second terminal this joins the ghost that is open.
#[derive(Args, Clone, Debug)]
pub(crate) struct PullArgs {
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
    /// Run this command instead of a shell; the ghost ends with its status
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

/// Open the vault in a ghost without pulling secrets
#[derive(Args, Clone, Debug)]
pub(crate) struct UnlockArgs {
    #[command(flatten)]
    pub(crate) pull: PullArgs,
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
