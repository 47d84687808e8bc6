//! What can go wrong with a vault as a whole.

use crate::crypto::kdf::KdfError;
use crate::error::{Damage, EntropyError, FsError};
use crate::format::keyslot::SlotKind;
use crate::ids::SlotIndex;
use crate::keyslot::NewSlotError;
use crate::witness::{Rollback, WitnessError};
use std::io;
use thiserror::Error;

/// A vault could not be opened, unlocked, made or changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum VaultError {
    /// The image has no header of ours.
    #[error("not a vault image")]
    NotAVault,
    /// The image is too short to hold a header and the superblocks.
    #[error("image of {len} bytes is too short for a vault")]
    TooShort {
        /// Its length.
        len: u64,
    },
    /// The image's format version is not the one that this program knows.
    #[error("image has format version {found}, this program reads version 1")]
    Version {
        /// Its version.
        found: u16,
    },
    /// The image's cipher suite is not the one that this program knows.
    #[error("image has cipher suite {found}, this program knows suite 1")]
    Suite {
        /// Its suite.
        found: u16,
    },
    /// Both header copies are damaged or altered.
    #[error("both copies of the header are damaged")]
    HeaderDamaged,
    /// A keyslot opens, and the header around it is not the one that was written: a slot or a
    /// parameter was added, removed or changed.
    #[error("the header was damaged or altered")]
    HeaderAltered,
    /// The header does not belong to the vault's committed state: it is an old one, put back.
    #[error("header is at sequence number {found}, the vault is at {committed}")]
    HeaderReplaced {
        /// The header's number.
        found: u64,
        /// The number in the newest superblock.
        committed: u64,
    },
    /// No slot opens with what was presented.
    #[error("no keyslot opened")]
    NoSlotOpened,
    /// The slot that was asked for has nothing that this kind of credential could open.
    #[error("keyslot {slot} holds no {kind}")]
    SlotMissing {
        /// Which slot.
        slot: SlotIndex,
        /// What was presented.
        kind: SlotKind,
    },
    /// The slot is empty, or there is none of that number.
    #[error("there is no keyslot {slot}")]
    NoSuchSlot {
        /// Which slot.
        slot: SlotIndex,
    },
    /// The slot is in use.
    #[error("keyslot {slot} is in use")]
    SlotTaken {
        /// Which slot.
        slot: SlotIndex,
    },
    /// All eight slots are in use.
    #[error("all keyslots are in use")]
    NoFreeSlot,
    /// Without this slot nothing could open the vault any more.
    #[error("keyslot {slot} is the last one")]
    LastSlot {
        /// Which slot.
        slot: SlotIndex,
    },
    /// A slot could not be made.
    #[error("cannot make the keyslot")]
    NewSlot(#[from] NewSlotError),
    /// The KDF was refused or could not run.
    #[error("cannot derive a key")]
    Kdf(#[from] KdfError),
    /// A data block cannot have this size.
    #[error("data block shift {shift} is outside 12 to 17")]
    BlockShift {
        /// Its binary logarithm.
        shift: u8,
    },
    /// An earlier header change failed half-way; the vault must be opened again before another.
    #[error("an earlier change of the header was interrupted")]
    Interrupted,
    /// A counter of the format is at its end.
    #[error("the header's sequence number is exhausted")]
    Exhausted,
    /// The image is not the newest that this machine has seen.
    #[error("the image was rolled back")]
    RolledBack(#[from] Rollback),
    /// The rollback witness cannot be believed.
    #[error(transparent)]
    Witness(#[from] WitnessError),
    /// The image is damaged or was altered.
    #[error("the image is damaged or was altered")]
    Damaged(#[from] Damage),
    /// The vault's content could not be changed.
    #[error("cannot commit to the vault")]
    Commit(#[from] FsError),
    /// A change of the header counts from now on, but what follows it failed; the next opening makes up for that.
    #[error("the change was made but not completed")]
    NotCompleted(#[source] FsError),
    /// The storage failed.
    #[error("storage failed")]
    Io(#[from] io::Error),
    /// No randomness could be had.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}
