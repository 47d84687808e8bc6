//! Verbs about the vault image.

use super::access::{CredentialArgs, KdfArgs, PassphraseArgs};
use super::archive::{ExportArgs, ImportArgs};
use super::backup::BackupArgs;
use super::compare::DiffArgs;
use super::migrate::MigrateArgs;
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
    Info(VaultInfoArgs),
    Check(CheckArgs),
    Salvage(SalvageArgs),
    Rekey(RekeyArgs),
    Resize(ResizeArgs),
    Compact(CompactArgs),
    Passwd(PasswdArgs),
    Kdf(VaultKdfArgs),
    Slot(SlotArgs),
    Header(HeaderArgs),
    Mount(MountArgs),
    Unmount(UnmountArgs),
    Export(ExportArgs),
    Import(ImportArgs),
    Backup(BackupArgs),
    Diff(DiffArgs),
    Migrate(MigrateArgs),
}

/// Which image.
#[derive(Args, Clone, Debug)]
pub(crate) struct ImageArgs {
    /// The image [default: the project's vault]
    #[arg(long, value_name = "FILE")]
    pub(crate) image: Option<PathBuf>,
}

/// Make a new, empty vault
///
/// It is an image of TazPod's own format (fuse). A luks vault is made by the first 'tazpod pull'.
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

/// Which image, and in what form.
#[derive(Args, Clone, Debug)]
pub(crate) struct InfoArgs {
    #[command(flatten)]
    pub(crate) image: ImageArgs,
    /// Print one JSON object; a name that is no UTF-8 is {"base64": "..."} in it
    #[arg(long)]
    pub(crate) json: bool,
}

/// Show what an image says about itself, and once opened what is in it
///
/// Without a passphrase: format, identity, keyslots and their cost, size, generation. With --open
/// also how full it is, how many files there are, and what this machine remembers of it.
#[derive(Args, Clone, Debug)]
pub(crate) struct VaultInfoArgs {
    #[command(flatten)]
    pub(crate) info: InfoArgs,
    /// Open the vault, which must not be in use, and show what only that can tell
    #[arg(long)]
    pub(crate) open: bool,
    #[command(flatten)]
    pub(crate) credential: CredentialArgs,
}

/// List the keyslots
#[derive(Args, Clone, Debug)]
pub(crate) struct SlotListArgs {
    #[command(flatten)]
    pub(crate) info: InfoArgs,
}

/// Read and verify everything in the vault, and name the damaged files and ranges
///
/// Changes nothing, unless --repair is given. Exit status: 0 clean, 1 mended, 2 damage was found and
/// left as it is. Above that: see tazpod --help.
#[derive(Args, Clone, Debug)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) image: ImageArgs,
    #[command(flatten)]
    pub(crate) credential: CredentialArgs,
    /// Mend what can be mended: everything that is left is copied into a fresh image beside this one,
    /// which takes its place once it has been verified. Files that are not whole go to lost+found.
    #[arg(long, conflicts_with = "json")]
    pub(crate) repair: bool,
    /// With --repair: do not keep the damaged image as FILE.damaged
    #[arg(long, requires = "repair")]
    pub(crate) yes: bool,
    /// Print one JSON object; a name that is no UTF-8 is {"base64": "..."} in it
    #[arg(long)]
    pub(crate) json: bool,
}

/// Copy every file that is left in a damaged vault into a new one
///
/// For the day when nothing else opens the vault: the newest generation of which anything is left is
/// read, and what is lost is named. The damaged image is not touched. The new vault has the same
/// keyslots; nothing leaves the encryption. Exit status: 0 everything came over, 2 something is lost.
#[derive(Args, Clone, Debug)]
pub(crate) struct SalvageArgs {
    #[command(flatten)]
    pub(crate) image: ImageArgs,
    #[command(flatten)]
    pub(crate) credential: CredentialArgs,
    /// The image to be made
    #[arg(value_name = "NEW-FILE")]
    pub(crate) to: PathBuf,
}

/// Re-encrypt everything under a new volume key
///
/// After a leaked header or passphrase: whoever knows the old volume key can read nothing that is
/// written from then on. A new image is made beside the old one, compared with it byte for byte, and
/// takes its place; it has a new vault id, and the keyslot that opened. Other keyslots have to be added
/// again. Can be interrupted at any time: the same command continues.
#[derive(Args, Clone, Debug)]
pub(crate) struct RekeyArgs {
    #[command(flatten)]
    pub(crate) image: ImageArgs,
    #[command(flatten)]
    pub(crate) credential: CredentialArgs,
    #[command(flatten)]
    pub(crate) kdf: KdfArgs,
    /// Do not ask about keyslots that will not open the vault any more
    #[arg(long)]
    pub(crate) yes: bool,
}

/// Change the size that the vault may grow to, up or down
///
/// Below what the image has now, what lies at its end is moved and the file is cut. Can be interrupted
/// at any time: the vault stays as it is, and the same command goes on.
#[derive(Args, Clone, Debug)]
pub(crate) struct ResizeArgs {
    #[command(flatten)]
    pub(crate) image: ImageArgs,
    #[command(flatten)]
    pub(crate) credential: CredentialArgs,
    /// The size that the vault may grow to, 4M or more
    #[arg(value_name = "SIZE")]
    pub(crate) size: ByteSize,
}

/// Give every free byte back to the disk
///
/// Moves everything together at the start of the image and cuts the file. What the vault may grow to
/// stays. An open vault gives free runs of 1 MiB back by itself when it is idle.
#[derive(Args, Clone, Debug)]
pub(crate) struct CompactArgs {
    #[command(flatten)]
    pub(crate) image: ImageArgs,
    #[command(flatten)]
    pub(crate) credential: CredentialArgs,
}

/// Give the keyslot that opens another KDF cost
#[derive(Args, Clone, Debug)]
pub(crate) struct VaultKdfArgs {
    #[command(flatten)]
    pub(crate) image: ImageArgs,
    #[command(flatten)]
    pub(crate) credential: CredentialArgs,
    #[command(flatten)]
    pub(crate) kdf: KdfArgs,
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

/// Mount a vault at a folder, without a ghost
///
/// For scripts, as root. Nothing keeps other programs out but the permissions of the files: every
/// process of yours can read the vault until 'vault unmount'. The server stays in the background.
#[derive(Args, Clone, Debug)]
pub(crate) struct MountArgs {
    #[command(flatten)]
    pub(crate) image: ImageArgs,
    #[command(flatten)]
    pub(crate) credential: CredentialArgs,
    /// Take this generation although a newer one was seen on this machine
    #[arg(long, value_name = "N")]
    pub(crate) accept_generation: Option<u64>,
    /// An empty folder
    #[arg(value_name = "FOLDER")]
    pub(crate) folder: PathBuf,
    /// Be the server
    #[arg(long, hide = true)]
    pub(crate) serve: bool,
}

/// Unmount what 'vault mount' has mounted, and wait until the vault is closed
#[derive(Args, Clone, Debug)]
pub(crate) struct UnmountArgs {
    /// The folder
    #[arg(value_name = "FOLDER")]
    pub(crate) folder: PathBuf,
}

/// Keep the header elsewhere, and put it back
#[derive(Args, Debug)]
pub(crate) struct HeaderArgs {
    #[command(subcommand)]
    pub(crate) command: HeaderCommand,
}

/// What to do with the header.
#[derive(Debug, Subcommand)]
pub(crate) enum HeaderCommand {
    Backup(HeaderBackupArgs),
    Restore(HeaderRestoreArgs),
}

/// Write the header to a file
///
/// Without its header nothing opens a vault. A backup opens every copy of the vault, older and newer
/// ones, with the passphrases that open it today, also after they were changed or removed: keep it as
/// safe as the vault. Only 'tazpod vault rekey' makes it worthless.
#[derive(Args, Clone, Debug)]
pub(crate) struct HeaderBackupArgs {
    #[command(flatten)]
    pub(crate) image: ImageArgs,
    #[command(flatten)]
    pub(crate) credential: CredentialArgs,
    /// The file to be made
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

/// Put a header back that was written by 'header backup'
///
/// Takes what opened the vault when the backup was made. Another vault's header is refused.
#[derive(Args, Clone, Debug)]
pub(crate) struct HeaderRestoreArgs {
    #[command(flatten)]
    pub(crate) image: ImageArgs,
    #[command(flatten)]
    pub(crate) credential: CredentialArgs,
    /// The backup
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
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
