//! Comparing two images.

use super::access::CredentialArgs;
use clap::Args;
use std::path::PathBuf;

/// Say how the files of two images differ: added (+), removed (-), changed (M), other attributes (a)
///
/// Meant for a backup and the vault it was made of; both are opened with what is presented, unless
/// the second has a passphrase of its own. Exit status as diff's: 0 the same, 1 different.
#[derive(Args, Clone, Debug)]
pub(crate) struct DiffArgs {
    /// The first image, usually the older one
    #[arg(value_name = "A")]
    pub(crate) before: PathBuf,
    /// The second image
    #[arg(value_name = "B")]
    pub(crate) after: PathBuf,
    #[command(flatten)]
    pub(crate) credential: CredentialArgs,
    /// Read the passphrase of the second image from this file
    #[arg(long, value_name = "FILE")]
    pub(crate) second_passphrase_file: Option<PathBuf>,
    /// Print one JSON object; a name that is no UTF-8 is {"base64": "..."} in it
    #[arg(long)]
    pub(crate) json: bool,
}
