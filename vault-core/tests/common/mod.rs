//! What the volume tests share: a vault in memory with a clock that only moves forward.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::cast_possible_truncation)]

pub mod files;
pub mod model;
pub mod operation;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use vault_core::crypto::secret::SecretBytes;
use vault_core::crypto::subkeys::Subkeys;
use vault_core::device::BlockDevice;
use vault_core::fs::{Creator, OpenOptions, Setup, Volume};
use vault_core::ids::VaultId;
use vault_core::ports::{Clock, SystemEntropy, Timestamp};

pub const VAULT: VaultId = VaultId([7; 16]);
pub const CREATOR: Creator = Creator { uid: 1000, gid: 1000, umask: 0o022 };

/// A clock that ticks once for each look at it.
pub struct TickingClock(AtomicI64);

impl Clock for TickingClock {
    fn now(&self) -> Timestamp {
        Timestamp { seconds: self.0.fetch_add(1, Ordering::Relaxed), nanos: 5 }
    }
}

/// Returns a setup over a device, with the same keys each time.
pub fn setup(device: Arc<dyn BlockDevice>) -> Setup {
    setup_of(device, VAULT, 9)
}

/// Returns a setup of another vault with keys of its own.
pub fn setup_of(device: Arc<dyn BlockDevice>, vault: VaultId, seed: u8) -> Setup {
    let volume_key = SecretBytes::init(|key| key.fill(seed));
    Setup {
        device,
        keys: Arc::new(Subkeys::derive(&volume_key, vault)),
        vault,
        block_shift: 14,
        header_sequence: 1,
        entropy: Arc::new(SystemEntropy),
        clock: Arc::new(TickingClock(AtomicI64::new(1_700_000_000))),
    }
}

/// Makes a volume and opens it.
pub fn fresh(device: Arc<dyn BlockDevice>, capacity: u64) -> Volume {
    let setup = setup(device);
    Volume::format(&setup, capacity, (1000, 1000)).unwrap();
    Volume::open(&setup, &OpenOptions::default()).unwrap().0
}

/// Opens a volume that exists.
pub fn reopen(device: Arc<dyn BlockDevice>) -> Volume {
    Volume::open(&setup(device), &OpenOptions::default()).unwrap().0
}
