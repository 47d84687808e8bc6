//! Verbs about the vault image.

use super::access::{CredentialArgs, KdfArgs, PassphraseArgs};
use crate::units::ByteSize;
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Make, inspect, check and re-key vault images
#[derive(Args, Debug)]
pub(crate) struct VaultArgs {
    #[command(subcommand)]
    pub(crate) command: VaultCommand,
}

/// What to do with the image.
#[derive(Debug, Subcommand)]
pub(crate) enum VaultCommand {
    Create(CreateArgs),
    Info(InfoArgs),
    Check(CheckArgs),
    Passwd(PasswdArgs),
    Slot(SlotArgs),
}

/// Which image.
#[derive(Args, Clone, Debug)]
pub(crate) struct ImageArgs {
    /// The image [default: the project's vault]
    #[arg(long, value_name = "FILE")]
    pub(crate) image: Option<PathBuf>,
}

/// Make a new, empty vault
#[derive(Args, Clone, Debug)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    pub(crate) image: ImageArgs,
    #[command(flatten)]
    pub(crate) passphrase: PassphraseArgs,
    /// Let the content of this key file open the vault instead of a passphrase
    #[arg(long, value_name = "FILE", group = "passphrase-source")]
    pub(crate) key_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) kdf: KdfArgs,
    /// Size that the vault may grow to [default: 512M]
    #[arg(long, value_name = "SIZE")]
    pub(crate) size: Option<ByteSize>,
    /// Size of a block of file data: 4K to 128K
    #[arg(long, value_name = "SIZE", default_value = "16K")]
    pub(crate) block_size: ByteSize,
}

/// Show what an image says about itself without any passphrase
#[derive(Args, Clone, Debug)]
pub(crate) struct InfoArgs {
    #[command(flatten)]
    pub(crate) image: ImageArgs,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// List the keyslots
#[derive(Args, Clone, Debug)]
pub(crate) struct SlotListArgs {
    #[command(flatten)]
    pub(crate) info: InfoArgs,
}

/// Read and verify everything in the vault; changes nothing
///
/// Exit status: 0 clean, 2 damage was found and left as it is. Above that: see tazpod --help.
#[derive(Args, Clone, Debug)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) image: ImageArgs,
    #[command(flatten)]
    pub(crate) credential: CredentialArgs,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Change the passphrase of a keyslot
///
/// The volume key stays the same: whoever copied the image before can still open that copy with
/// the old passphrase, and with its volume key everything written since.
#[derive(Args, Clone, Debug)]
pub(crate) struct PasswdArgs {
    #[command(flatten)]
    pub(crate) image: ImageArgs,
    #[command(flatten)]
    pub(crate) credential: CredentialArgs,
    #[command(flatten)]
    pub(crate) kdf: KdfArgs,
    #[command(flatten)]
    pub(crate) new: NewPassphraseArgs,
    /// Change this keyslot [default: the one that opened, or after --recovery the only passphrase]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..8))]
    pub(crate) change: Option<u8>,
}

/// What shall open a keyslot from now on. Without any of these the terminal is asked.
#[derive(Args, Clone, Debug)]
pub(crate) struct NewPassphraseArgs {
    /// Read the new passphrase from this file; one newline at its end does not count
    #[arg(
        long = "new-passphrase-file",
        id = "new-passphrase-file",
        value_name = "FILE",
        group = "new-source"
    )]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Read the new passphrase from this open file descriptor
    #[arg(
        long = "new-passphrase-fd",
        id = "new-passphrase-fd",
        value_name = "N",
        group = "new-source"
    )]
    pub(crate) passphrase_fd: Option<i32>,
    /// Let the content of this key file open the slot
    #[arg(long = "new-key-file", id = "new-key-file", value_name = "FILE", group = "new-source")]
    pub(crate) key_file: Option<PathBuf>,
}

/// Add, remove and list keyslots
#[derive(Args, Debug)]
pub(crate) struct SlotArgs {
    #[command(subcommand)]
    pub(crate) command: SlotCommand,
}

/// What to do with the keyslots.
#[derive(Debug, Subcommand)]
pub(crate) enum SlotCommand {
    Add(SlotAddArgs),
    Remove(SlotRemoveArgs),
    List(SlotListArgs),
    Test(SlotTestArgs),
}

/// What opens a new keyslot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SlotKind {
    /// A passphrase, or the content of --new-key-file
    Passphrase,
    /// A generated 256-bit key that is shown once
    Recovery,
}

/// Add a keyslot
#[derive(Args, Clone, Debug)]
pub(crate) struct SlotAddArgs {
    #[command(flatten)]
    pub(crate) image: ImageArgs,
    #[command(flatten)]
    pub(crate) credential: CredentialArgs,
    #[command(flatten)]
    pub(crate) kdf: KdfArgs,
    /// What will open it
    #[arg(value_enum, default_value = "passphrase")]
    pub(crate) kind: SlotKind,
    #[command(flatten)]
    pub(crate) new: NewPassphraseArgs,
    /// Print the recovery key and do not ask for it to be typed back
    #[arg(long)]
    pub(crate) unchecked: bool,
    /// A name for the slot, readable by anyone who holds the image
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) label: String,
}

/// Remove a keyslot; the last one cannot be removed
#[derive(Args, Clone, Debug)]
pub(crate) struct SlotRemoveArgs {
    #[command(flatten)]
    pub(crate) image: ImageArgs,
    #[command(flatten)]
    pub(crate) credential: CredentialArgs,
    /// The slot to remove
    #[arg(value_name = "N", value_parser = clap::value_parser!(u8).range(0..8))]
    pub(crate) remove: u8,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}

/// Try whether a passphrase, key file or recovery key opens the vault, and say which slot
#[derive(Args, Clone, Debug)]
pub(crate) struct SlotTestArgs {
    #[command(flatten)]
    pub(crate) image: ImageArgs,
    #[command(flatten)]
    pub(crate) credential: CredentialArgs,
}
