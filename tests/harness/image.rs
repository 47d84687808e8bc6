//! Vault images made through the library: header, keyslot and content, as the program makes them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use vault_core::crypto::kdf::HeapMemory;
use vault_core::crypto::secret::Passphrase;
use vault_core::device::{Access, BlockDevice, FileDevice};
use vault_core::fs::{Creator, FileKind, NewFile, OpenOptions, Opened, Setup, Volume, WriteOrigin};
use vault_core::ids::InodeNo;
use vault_core::keyslot::{Credential, KdfCost, KdfLimits, NewSlot, SlotPorts};
use vault_core::ports::{SystemClock, SystemEntropy};
use vault_core::vault::{UnlockOptions, Unlocked, Vault};

/// The passphrase of every image made here.
pub const PASSPHRASE: &[u8] = b"correct horse battery staple";

/// The least that a slot may cost, and only in tests.
pub const CHEAP: KdfCost = KdfCost { memory_kib: 64, passes: 1, lanes: 1 };

/// The least that the program accepts.
pub const ACCEPTED: KdfCost = KdfCost { memory_kib: 64 << 10, passes: 1, lanes: 1 };

/// An image file with one passphrase slot.
pub struct Image {
    path: PathBuf,
}

impl Image {
    /// Makes an empty vault of at most `capacity` units, owned by root, whose slot costs nearly nothing.
    ///
    /// # Panics
    /// When the file cannot be made.
    pub fn create(path: &Path, capacity: u64, block_shift: u8) -> Self {
        Self::with_cost(path, capacity, block_shift, CHEAP)
    }

    /// Makes one that the program opens as well.
    ///
    /// # Panics
    /// When the file cannot be made.
    pub fn accepted(path: &Path, capacity: u64) -> Self {
        Self::with_cost(path, capacity, 14, ACCEPTED)
    }

    /// An image that somebody else made with the same passphrase.
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    fn with_cost(path: &Path, capacity: u64, block_shift: u8, cost: KdfCost) -> Self {
        let device: Arc<dyn BlockDevice> =
            Arc::new(FileDevice::create_new(path).expect("a new image"));
        let credential = credential();
        let slot = NewSlot { cost, limits: cheap_limits(), ..NewSlot::new(&credential) };
        let made = SlotPorts::with_system(|ports| {
            Vault::create_header(Arc::clone(&device), block_shift, &slot, ports)
        });
        let mut vault = made.expect("a header");
        Volume::format(&setup(&vault), capacity, (0, 0)).expect("an empty file system");
        vault.mend_copies().expect("the header's copies");
        Self::at(path)
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
        self.unlocked(Access::ReadWrite)
    }

    /// Opens the keyslot without a change to the file.
    ///
    /// # Panics
    /// When it does not open.
    pub fn peek(&self) -> Vault<Unlocked> {
        self.unlocked(Access::ReadOnly)
    }

    fn unlocked(&self, access: Access) -> Vault<Unlocked> {
        let device = FileDevice::open(&self.path, access).expect("the image opens");
        let vault = Vault::open(Arc::new(device)).expect("a header");
        let options = UnlockOptions { slot: None, limits: cheap_limits() };
        vault.unlock(&credential(), &options, &mut HeapMemory).expect("the slot opens")
    }

    /// Fills the vault with 800 files in 20 folders: some in the tree's leaves, some in blocks.
    ///
    /// # Panics
    /// When the vault is too small.
    pub fn furnish(&self) {
        let (volume, _) = self.open();
        for folder in 0..20_u8 {
            let name = [b'd', b'A' + folder];
            let made = volume.make_dir(InodeNo::ROOT, &name, 0o755, &CREATOR);
            let at = made.expect("a folder").inode;
            for file in 0..40_u8 {
                let len = [3, 900, 3000, 20_000][usize::from(file % 4)];
                write(&volume, at, &[b'f', b'A' + file], &vec![folder | 1; len]);
            }
        }
        volume.close().expect("it is durable");
    }

    /// Writes one file into the vault's root.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn put(&self, name: &str, content: &[u8]) {
        let (volume, _) = self.open();
        write(&volume, InodeNo::ROOT, name.as_bytes(), content);
        volume.close().expect("it is durable");
    }

    /// Removes a file from the vault's root.
    ///
    /// # Panics
    /// When it is not there.
    pub fn remove(&self, name: &str) {
        let (volume, _) = self.open();
        let inode = volume.lookup(InodeNo::ROOT, name.as_bytes()).expect("the file").inode;
        volume.unlink(InodeNo::ROOT, name.as_bytes()).expect("it can be removed");
        volume.forget(inode).expect("nobody has it open");
        volume.close().expect("it is durable");
    }
}

const CREATOR: Creator = Creator { uid: 0, gid: 0, umask: 0 };

fn write(volume: &Volume, folder: InodeNo, name: &[u8], content: &[u8]) {
    let new = NewFile { kind: FileKind::Regular, permissions: 0o600, device: 0 };
    let inode = volume.create(folder, name, &new, &CREATOR).expect("a file").inode;
    volume.write(inode, 0, content, WriteOrigin::Direct, false).expect("room for it");
}

fn credential() -> Credential {
    Credential::Passphrase(Passphrase::new(PASSPHRASE.to_vec()))
}

fn cheap_limits() -> KdfLimits {
    KdfLimits { allow_cheap: true, ..KdfLimits::default() }
}

/// Returns what a volume of an unlocked vault stands on.
pub fn setup(vault: &Vault<Unlocked>) -> Setup {
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
