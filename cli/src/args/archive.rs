//! Verbs that carry a vault's files in and out.

use super::access::CredentialArgs;
use super::vault::ImageArgs;
use clap::Args;
use std::path::PathBuf;

/// Write all files of the vault into a tar archive
///
/// The archive keeps modes, owners, times to the nanosecond, extended attributes, access control
/// lists, links and holes; GNU tar and bsdtar read it. It is NOT encrypted unless --recipient or
/// --recipients-file says for whom. Unix sockets are left out. An existing file is never replaced. The
/// vault must not be open; in a ghost, tar does the same for ~/secrets.
#[derive(Args, Clone, Debug)]
pub(crate) struct ExportArgs {
    /// Where to write it; - is standard output
    #[arg(value_name = "FILE")]
    pub(crate) target: PathBuf,
    #[command(flatten)]
    pub(crate) recipients: RecipientArgs,
    #[command(flatten)]
    pub(crate) image: ImageArgs,
    #[command(flatten)]
    pub(crate) credential: CredentialArgs,
    /// Take an older image than this machine has seen, if it is exactly at this generation
    #[arg(long, value_name = "N")]
    pub(crate) accept_generation: Option<u64>,
}

/// Who can read the archive. Without any of these: everybody.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct RecipientArgs {
    /// Encrypt the archive to this age recipient (age1...); several can be given
    #[arg(long = "recipient", value_name = "RECIPIENT")]
    pub(crate) named: Vec<String>,
    /// Encrypt the archive to every age recipient in this file, one a line; several can be given
    #[arg(long = "recipients-file", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
}

/// Copy a tar archive or a folder into the vault
///
/// All or nothing: entries gather in a folder .tazpod-import at the vault's root and move to their
/// places in one commit at the end. Until then, and after an interruption, the vault holds what it
/// held before: whatever opens it next removes what was gathered. Folders that exist are
/// joined. An archive that is encrypted to age recipients needs --identity, also one that is written
/// as text; whatever is altered or missing in it ends the import. The vault must not be open.
#[derive(Args, Clone, Debug)]
pub(crate) struct ImportArgs {
    /// The archive or folder; - is an archive on standard input
    #[arg(value_name = "SOURCE")]
    pub(crate) source: PathBuf,
    /// Decrypt the archive with the age identity in this file; several can be given
    #[arg(long, value_name = "FILE")]
    pub(crate) identity: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) image: ImageArgs,
    #[command(flatten)]
    pub(crate) credential: CredentialArgs,
    /// Replace files that are in the vault already, and take over attributes of folders
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Keep the owners that the source names, by number, instead of making all files yours
    #[arg(long)]
    pub(crate) keep_owners: bool,
}
