//! Vault images made through the library: header, keyslot and content, as the program makes them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use vault_core::crypto::secret::Passphrase;
use vault_core::device::{Access, BlockDevice, FileDevice};
use vault_core::fs::{OpenOptions, Opened, Setup, Volume};
use vault_core::keyslot::{Credential, KdfCost, KdfLimits, NewSlot, SlotPorts};
use vault_core::ports::{SystemClock, SystemEntropy};
use vault_core::vault::{UnlockOptions, Unlocked, Vault};

/// The passphrase of every image made here.
pub const PASSPHRASE: &[u8] = b"correct horse battery staple";

/// The least that a slot may cost, and only in tests.
pub const CHEAP: KdfCost = KdfCost { memory_kib: 64, passes: 1, lanes: 1 };

/// An image file with one cheap passphrase slot.
pub struct Image {
    path: PathBuf,
}

impl Image {
    /// Makes an empty vault of at most `capacity` units, owned by root.
    ///
    /// # Panics
    /// When the file cannot be made.
    pub fn create(path: &Path, capacity: u64, block_shift: u8) -> Self {
        let device: Arc<dyn BlockDevice> =
            Arc::new(FileDevice::create_new(path).expect("a new image"));
        let credential = Credential::Passphrase(Passphrase::new(PASSPHRASE.to_vec()));
        let slot = NewSlot { cost: CHEAP, limits: cheap_limits(), ..NewSlot::new(&credential) };
        let made = SlotPorts::with_system(|ports| {
            Vault::create_header(Arc::clone(&device), block_shift, &slot, ports)
        });
        let mut vault = made.expect("a header");
        Volume::format(&setup(&vault), capacity, (0, 0)).expect("an empty file system");
        vault.mend_copies().expect("the header's copies");
        Self { path: path.to_owned() }
    }

    /// The image file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the vault's content for writing.
    ///
    /// # Panics
    /// When it does not open.
    pub fn open(&self) -> (Volume, Opened) {
        Volume::open(&setup(&self.unlock()), &OpenOptions::default()).expect("the volume opens")
    }

    /// Opens the keyslot.
    ///
    /// # Panics
    /// When it does not open.
    pub fn unlock(&self) -> Vault<Unlocked> {
        let device = FileDevice::open(&self.path, Access::ReadWrite).expect("the image opens");
        let vault = Vault::open(Arc::new(device)).expect("a header");
        let credential = Credential::Passphrase(Passphrase::new(PASSPHRASE.to_vec()));
        let options = UnlockOptions { slot: None, limits: cheap_limits() };
        vault
            .unlock(&credential, &options, &mut vault_core::crypto::kdf::HeapMemory)
            .expect("the slot opens")
    }
}

fn cheap_limits() -> KdfLimits {
    KdfLimits { allow_cheap: true, ..KdfLimits::default() }
}

fn setup(vault: &Vault<Unlocked>) -> Setup {
    Setup {
        device: Arc::clone(vault.device()),
        keys: Arc::clone(vault.subkeys()),
        vault: vault.id(),
        block_shift: vault.header().block_shift,
        header_sequence: vault.header().sequence,
        entropy: Arc::new(SystemEntropy),
        clock: Arc::new(SystemClock),
    }
}
