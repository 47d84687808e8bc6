//! Verbs about copies of a whole vault.

use super::vault::ImageArgs;
use clap::Args;
use std::path::PathBuf;

/// Copy the vault as it is, encrypted, into another file
///
/// Needs no passphrase, and works while a ghost has the vault open: the copy holds one whole state.
/// It opens with what opens the vault. An existing file is never replaced. To restore it, put it in the vault's place
/// and take it on purpose: tazpod pull --accept-generation N, with the N that this command prints.
#[derive(Args, Clone, Debug)]
pub(crate) struct BackupArgs {
    /// The file to write
    #[arg(value_name = "FILE")]
    pub(crate) target: PathBuf,
    #[command(flatten)]
    pub(crate) image: ImageArgs,
}
