//! The verb that moves a vault to the other backend.

use super::access::{CredentialArgs, KdfArgs};
use super::ghost::BackendKind;
use super::vault::ImageArgs;
use crate::units::ByteSize;
use clap::Args;

/// Move a vault to the other backend
///
/// Everything is copied into a new image beside the old one: files, links, owners, permissions, times,
/// extended attributes, access control lists, holes. The copy is read back and compared before it takes the
/// old image's place; the old image is kept beside it, as FILE.luks or FILE.fuse, until you delete it. What
/// opened the old vault opens the new one; other keyslots have to be added again. A luks vault is read without
/// the kernel: no root and no device mapper are needed. To make one takes root. Can be interrupted at any time.
#[derive(Args, Clone, Debug)]
pub(crate) struct MigrateArgs {
    /// What the vault shall be
    #[arg(long, value_enum, value_name = "BACKEND")]
    pub(crate) to: BackendKind,
    #[command(flatten)]
    pub(crate) image: ImageArgs,
    #[command(flatten)]
    pub(crate) credential: CredentialArgs,
    #[command(flatten)]
    pub(crate) kdf: KdfArgs,
    /// Size that the new vault may grow to [default: that of the old one]
    #[arg(long, value_name = "SIZE")]
    pub(crate) size: Option<ByteSize>,
    /// Do not ask about keyslots that will not open the new vault
    #[arg(long)]
    pub(crate) yes: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}
