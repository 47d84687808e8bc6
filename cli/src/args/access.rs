//! How a vault is opened: what is presented, and what the KDF may cost.

use crate::units::ByteSize;
use clap::Args;
use std::path::PathBuf;

/// Where a passphrase comes from. Without any of these: the terminal, or standard input when that
/// is not a terminal.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct PassphraseArgs {
    /// Read the passphrase from this file; one newline at its end does not count
    #[arg(long, value_name = "FILE", group = "passphrase-source")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Read the passphrase from this open file descriptor
    #[arg(long, value_name = "N", group = "passphrase-source")]
    pub(crate) passphrase_fd: Option<i32>,
}

/// What is presented to open a vault.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct CredentialArgs {
    #[command(flatten)]
    pub(crate) passphrase: PassphraseArgs,
    /// Open with the content of this key file instead of a passphrase
    #[arg(long, value_name = "FILE", group = "passphrase-source")]
    pub(crate) key_file: Option<PathBuf>,
    /// Open with the recovery key instead of a passphrase
    #[arg(long, conflicts_with = "key_file")]
    pub(crate) recovery: bool,
    /// Try this keyslot only
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..8))]
    pub(crate) slot: Option<u8>,
    /// Accept keyslots whose key derivation takes long
    #[arg(long)]
    pub(crate) allow_kdf_cost: bool,
}

impl CredentialArgs {
    /// Whether nothing is presented.
    pub(crate) fn is_empty(&self) -> bool {
        let PassphraseArgs { passphrase_file, passphrase_fd } = &self.passphrase;
        passphrase_file.is_none()
            && passphrase_fd.is_none()
            && self.key_file.is_none()
            && !self.recovery
    }
}

/// What the key derivation of a new keyslot costs.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct KdfArgs {
    /// Memory that opening the keyslot takes, 64M to 4G [default: 256M]
    #[arg(long, value_name = "SIZE")]
    pub(crate) kdf_memory: Option<ByteSize>,
    /// Passes over that memory, 1 to 16 [default: 3]
    #[arg(long, value_name = "PASSES", value_parser = clap::value_parser!(u32).range(1..=16))]
    pub(crate) kdf_time: Option<u32>,
}
