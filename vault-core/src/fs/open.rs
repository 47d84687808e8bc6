//! Making a volume in a new image, and opening the one that recovery finds.

use crate::crypto::subkeys::Subkeys;
use crate::device::BlockDevice;
use crate::error::{Damage, FsError, FsResult};
use crate::format::header::{BLOCK_SHIFTS, sequence_fits};
use crate::format::inode::Inode;
use crate::format::key::Key;
use crate::format::node::TreeId;
use crate::format::pointer::{ADDRESS_LIMIT, FIRST_BLOCK};
use crate::fs::state::Fs;
use crate::fs::types::FileKind;
use crate::ids::{Generation, InodeNo, UNIT_U64, VaultId};
use crate::ports::{Clock, Entropy};
use crate::store::blocks::Blocks;
use crate::store::pool::Pool;
use crate::store::recovery::{Recovered, recover};
use crate::store::ring::Ring;
use crate::store::sealed::Sealer;
use crate::witness::{Rollback, Witness};
use std::sync::Arc;
use thiserror::Error;

/// Smallest capacity in units: 4 MiB.
pub const MIN_CAPACITY: u64 = 1024;

/// What a volume stands on: storage, keys, and the ports to the world.
#[derive(Clone)]
pub struct Setup {
    /// The image.
    pub device: Arc<dyn BlockDevice>,
    /// The vault's subkeys.
    pub keys: Arc<Subkeys>,
    /// The vault's identity.
    pub vault: VaultId,
    /// A data block holds `1 << block_shift` bytes.
    pub block_shift: u8,
    /// Sequence number of the header that was read.
    pub header_sequence: u64,
    /// Randomness for nonces.
    pub entropy: Arc<dyn Entropy>,
    /// Time for inodes.
    pub clock: Arc<dyn Clock>,
}

/// How a volume is opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenOptions {
    /// Change nothing, not even what recovery would.
    pub read_only: bool,
    /// The newest generation that this machine has seen.
    pub witness: Option<Witness>,
    /// Take this generation although the witness knows a newer one.
    pub accept_generation: Option<Generation>,
    /// Leave free space in the file when idle and closing.
    pub keep_free_space: bool,
}

/// What opening found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The generation that is open.
    pub generation: Generation,
    /// The torn generation that recovery stepped back from, if any.
    pub stepped_back: Option<Generation>,
    /// Whether there was a witness to compare with.
    pub witnessed: bool,
    /// Whether the state was closed in order: two superblocks hold it.
    pub twinned: bool,
}

/// A volume cannot be made or opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MountError {
    /// The image is not the newest that this machine has seen.
    #[error(transparent)]
    RolledBack(#[from] Rollback),
    /// The header does not belong to the newest superblock.
    #[error("the header is number {header}, but the vault's state belongs to number {expected}")]
    HeaderRolledBack {
        /// The header's sequence number.
        header: u64,
        /// The superblock's.
        expected: u64,
    },
    /// The requested size or block size is not possible.
    #[error("capacity or block size is out of range")]
    Geometry,
    /// Reading failed, or the image is damaged.
    #[error(transparent)]
    Fs(#[from] FsError),
}

impl From<Damage> for MountError {
    fn from(damage: Damage) -> Self {
        Self::Fs(damage.into())
    }
}

impl Setup {
    fn blocks(&self) -> Blocks {
        let sealer = Sealer::new(self.vault, Arc::clone(&self.keys), Arc::clone(&self.entropy));
        Blocks::new(Arc::clone(&self.device), sealer)
    }

    fn block_units(&self) -> u64 {
        (1 << self.block_shift) / UNIT_U64
    }
}

/// Writes the first generation: an empty root folder that belongs to `owner` (uid, gid). The
/// header is left to the caller: an image without one is no vault yet.
pub(super) fn format(
    setup: &Setup,
    capacity: u64,
    owner: (u32, u32),
    above: Generation,
) -> Result<(), MountError> {
    let in_range = (MIN_CAPACITY..=ADDRESS_LIMIT).contains(&capacity);
    if !in_range || !BLOCK_SHIFTS.contains(&setup.block_shift) {
        return Err(MountError::Geometry);
    }
    setup.device.grow(FIRST_BLOCK * UNIT_U64).map_err(FsError::Io)?;
    let mut pool = Pool::create(setup.blocks(), capacity, FIRST_BLOCK, setup.block_units())?;
    pool.counters.header_sequence = setup.header_sequence;
    pool.start_above(above);
    let mut fs = Fs::new(pool, Arc::clone(&setup.clock), setup.block_shift);
    fs.ensure(crate::store::pool::Claim::Ordinary, 0, 8)?;
    let now = fs.now();
    let root = Inode {
        kind: FileKind::Directory,
        permissions: 0o700,
        uid: owner.0,
        gid: owner.1,
        links: 2,
        size: 0,
        units: 0,
        device: 0,
        inline: false,
        accessed: now,
        modified: now,
        changed: now,
        born: now,
        parent: InodeNo::ROOT.0,
        entries: 0,
        xattrs: 0,
    };
    fs.pool.put(Key::inode(InodeNo::ROOT), root.encode())?;
    let mut prepared = fs.pool.prepare(true, now.seconds)?;
    prepared.harden()?;
    fs.pool.publish(&mut prepared)?;
    prepared.harden()?;
    Ok(())
}

/// Opens the newest sound generation.
pub(super) fn open(
    setup: &Setup,
    options: &OpenOptions,
) -> Result<(Fs, Witness, Opened), MountError> {
    if !BLOCK_SHIFTS.contains(&setup.block_shift) {
        return Err(MountError::Geometry);
    }
    let blocks = setup.blocks();
    if !options.read_only {
        // What a killed process left in the page cache may be ahead of the disk; what is judged
        // below must be what a power cut would leave.
        setup.device.flush().map_err(FsError::Io)?;
    }
    let (mut ring, opened) = Ring::read(&*setup.device, &blocks.sealer)?;
    let known = options.witness.map(|witness| witness.generation);
    let Recovered { chosen, stepped_back, twinned } = recover(&blocks, opened, known)?;
    let length = chosen.superblock.length.saturating_mul(UNIT_U64);
    let actual = setup.device.len().map_err(FsError::Io)?;
    if actual < length {
        return Err(Damage::Truncated { actual, expected: length }.into());
    }
    let found = Witness {
        vault: setup.vault,
        generation: chosen.generation,
        header_sequence: chosen.superblock.header_sequence,
        root_tag: chosen.tag,
        retired: false,
    };
    let (header, expected) = (setup.header_sequence, found.header_sequence);
    if !sequence_fits(header, expected) {
        return Err(MountError::HeaderRolledBack { header, expected });
    }
    if let Some(known) = &options.witness {
        known.judge(&found, options.accept_generation)?;
    }
    ring.choose(&*setup.device, &chosen)?;
    let floor = known.unwrap_or(Generation(0));
    let pool = Pool::open(blocks, ring, &chosen, floor, setup.block_units());
    let mut fs = Fs::new(pool, Arc::clone(&setup.clock), setup.block_shift);
    if fs.pool.counters.header_sequence != setup.header_sequence {
        fs.pool.counters.header_sequence = setup.header_sequence;
        fs.pool.touch();
    }
    let witnessed = options.witness.is_some();
    let opened = Opened { generation: chosen.generation, stepped_back, witnessed, twinned };
    Ok((fs, found, opened))
}

/// Opens the state that would be opened, for reading only, past the file system.
pub(crate) fn open_for_check(
    setup: &Setup,
    options: &OpenOptions,
) -> Result<(Pool, Opened), MountError> {
    let options = OpenOptions { read_only: true, ..*options };
    let (fs, _, opened) = open(setup, &options)?;
    Ok((fs.pool, opened))
}

/// Returns the header's number in the newest superblock that opens.
pub(super) fn committed_header(setup: &Setup) -> FsResult<u64> {
    let blocks = setup.blocks();
    let (_, opened) = Ring::read(&*setup.device, &blocks.sealer)?;
    let newest = opened.first().ok_or(Damage::NoSuperblock)?;
    Ok(newest.superblock.header_sequence)
}

/// Opens the newest state of which anything is left, for reading only: the one that would be opened, else
/// the newest generation whose root can be read. What is missing shows when it is read.
pub(super) fn open_what_is_left(
    setup: &Setup,
    options: &OpenOptions,
) -> Result<(Fs, Opened), MountError> {
    if !BLOCK_SHIFTS.contains(&setup.block_shift) {
        return Err(MountError::Geometry);
    }
    let blocks = setup.blocks();
    let (ring, opened) = Ring::read(&*setup.device, &blocks.sealer)?;
    let known = options.witness.map(|witness| witness.generation);
    let usual = match recover(&blocks, opened.clone(), known) {
        Ok(recovered) => Some(recovered.chosen),
        Err(FsError::Damaged(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let newest = opened.first().map(|found| found.generation);
    let mut failure = Damage::NoSuperblock;
    for chosen in usual.into_iter().chain(opened) {
        let root = chosen.superblock.fs_root;
        match blocks.load_node(&root, &Blocks::root_place(TreeId::FileSystem, &root)) {
            Ok(_) => {}
            Err(FsError::Damaged(damage)) => {
                failure = damage;
                continue;
            }
            Err(error) => return Err(error.into()),
        }
        let generation = chosen.generation;
        let floor = known.unwrap_or(Generation(0));
        let pool = Pool::open(blocks, ring, &chosen, floor, setup.block_units());
        let fs = Fs::new(pool, Arc::clone(&setup.clock), setup.block_shift);
        let stepped_back = newest.filter(|newest| *newest != generation);
        let witnessed = options.witness.is_some();
        return Ok((fs, Opened { generation, stepped_back, witnessed, twinned: false }));
    }
    Err(failure.into())
}
