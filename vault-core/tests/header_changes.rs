//! Keyslot changes of a vault that holds files: power cuts between all steps, and old headers put back.
#![allow(clippy::unwrap_used)]

use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use vault_core::crypto::kdf::HeapMemory;
use vault_core::crypto::secret::Passphrase;
use vault_core::device::{BlockDevice, MemoryDevice};
use vault_core::error::{Damage, FsError};
use vault_core::fs::{
    Creator, FileKind, MountError, NewFile, OpenOptions, Setup, Volume, WriteOrigin,
};
use vault_core::ids::{InodeNo, SlotIndex, UNIT};
use vault_core::keyslot::{Credential, KdfCost, KdfLimits, NewSlot, SlotPorts};
use vault_core::ports::{SystemClock, SystemEntropy};
use vault_core::vault::{CopyState, UnlockOptions, Unlocked, Vault, VaultError};

const LIMITS: KdfLimits =
    KdfLimits { allow_cheap: true, allow_costly: false, max_memory_kib: 1024 };
const COST: KdfCost = KdfCost { memory_kib: 8, passes: 1, lanes: 1 };
const SECTOR: usize = 512;

/// What reached the device, in order.
#[derive(Clone)]
enum Event {
    Write(usize, Vec<u8>),
    Barrier,
}

/// A device that notes writes and barriers.
struct Recorder {
    inner: MemoryDevice,
    events: Mutex<Vec<Event>>,
}

impl Recorder {
    fn over(bytes: Vec<u8>) -> Arc<Self> {
        let inner = MemoryDevice::from_bytes(bytes, 8 << 20);
        Arc::new(Self { inner, events: Mutex::default() })
    }
}

impl BlockDevice for Recorder {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.inner.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let at = usize::try_from(offset).unwrap();
        self.events.lock().push(Event::Write(at, bytes.to_vec()));
        self.inner.write_at(bytes, offset)
    }

    fn grow(&self, len: u64) -> io::Result<()> {
        self.inner.grow(len)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.inner.truncate(len)
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.inner.discard(offset, len)
    }

    fn flush(&self) -> io::Result<()> {
        self.events.lock().push(Event::Barrier);
        self.inner.flush()
    }
}

fn passphrase(text: &str) -> Credential {
    Credential::Passphrase(Passphrase::new(text.as_bytes().to_vec()))
}

fn slot(credential: &Credential) -> NewSlot<'_> {
    NewSlot { cost: COST, limits: LIMITS, ..NewSlot::new(credential) }
}

fn setup(vault: &Vault<Unlocked>) -> Setup {
    Setup {
        device: vault.device().clone(),
        keys: vault.subkeys().clone(),
        vault: vault.id(),
        block_shift: vault.header().block_shift,
        header_sequence: vault.header().sequence,
        entropy: Arc::new(SystemEntropy),
        clock: Arc::new(SystemClock),
    }
}

/// Makes an image with the passphrase "old" and one file.
fn image() -> Vec<u8> {
    let device = Arc::new(MemoryDevice::new(8 << 20));
    let old = passphrase("old");
    let mut vault = SlotPorts::with_system(|ports| {
        Vault::create_header(device.clone(), 14, &slot(&old), ports)
    })
    .unwrap();
    Volume::format(&setup(&vault), 1024, (0, 0)).unwrap();
    vault.mend_copies().unwrap();
    let (volume, _) = Volume::open(&setup(&vault), &OpenOptions::default()).unwrap();
    let new = NewFile { kind: FileKind::Regular, permissions: 0o600, device: 0 };
    let creator = Creator { uid: 0, gid: 0, umask: 0 };
    let file = volume.create(InodeNo::ROOT, b"file", &new, &creator).unwrap();
    volume.write(file.inode, 0, &[7; 9000], WriteOrigin::Direct, false).unwrap();
    volume.close().unwrap();
    device.snapshot()
}

fn unlock(device: Arc<dyn BlockDevice>, text: &str) -> Result<Vault<Unlocked>, VaultError> {
    let options = UnlockOptions { slot: None, limits: LIMITS };
    Vault::open(device)?.unlock(&passphrase(text), &options, &mut HeapMemory)
}

/// Opens the vault whole, reads the file, mends the header and returns the volume.
fn mount(vault: &mut Vault<Unlocked>) -> Result<Volume, MountError> {
    let (volume, _) = Volume::open(&setup(vault), &OpenOptions::default())?;
    let file = volume.lookup(InodeNo::ROOT, b"file")?;
    assert_eq!(volume.read(file.inode, 0, 10_000)?, [7; 9000]);
    vault.mend_copies().unwrap();
    assert_eq!(vault.copy_states(), [CopyState::Current; 2]);
    Ok(volume)
}

fn device_of(bytes: &[u8]) -> Arc<MemoryDevice> {
    Arc::new(MemoryDevice::from_bytes(bytes.to_vec(), 8 << 20))
}

/// Runs a header change and returns the image before it and everything written since.
fn recorded(change: impl FnOnce(&mut Vault<Unlocked>, &Volume)) -> (Vec<u8>, Vec<Event>, Vec<u8>) {
    let device = Recorder::over(image());
    let mut vault = unlock(device.clone(), "old").unwrap();
    let volume = mount(&mut vault).unwrap();
    let before = device.inner.snapshot();
    device.events.lock().clear();
    change(&mut vault, &volume);
    let events = std::mem::take(&mut *device.events.lock());
    (before, events, device.inner.snapshot())
}

/// Calls `judge` with every image that a cut could leave: all writes up to a barrier, then any subset of
/// the following ones, and one of those torn at each sector.
fn every_cut(before: &[u8], events: &[Event], mut judge: impl FnMut(&[u8])) {
    let mut durable = before.to_vec();
    for writes in events.split(|event| matches!(event, Event::Barrier)) {
        let writes: Vec<(usize, &[u8])> = writes
            .iter()
            .filter_map(|event| match event {
                Event::Write(at, bytes) => Some((*at, bytes.as_slice())),
                Event::Barrier => None,
            })
            .collect();
        assert!(writes.len() <= 8, "{} writes between barriers are too many to try", writes.len());
        let put = |image: &mut Vec<u8>, at: usize, bytes: &[u8]| {
            let end = at + bytes.len();
            if image.len() < end {
                image.resize(end, 0);
            }
            image[at..end].copy_from_slice(bytes);
        };
        for subset in 0..1_u32 << writes.len() {
            let mut image = durable.clone();
            for (_, (at, bytes)) in writes.iter().enumerate().filter(|(i, _)| subset >> i & 1 == 1)
            {
                put(&mut image, *at, bytes);
            }
            judge(&image);
        }
        for (at, bytes) in &writes {
            for cut in (SECTOR..bytes.len().min(UNIT)).step_by(SECTOR) {
                let mut image = durable.clone();
                put(&mut image, *at, &bytes[..cut]);
                judge(&image);
                let mut image = durable.clone();
                put(&mut image, at + cut, &bytes[cut..]);
                judge(&image);
            }
        }
        for (at, bytes) in &writes {
            put(&mut durable, *at, bytes);
        }
    }
}

#[test]
fn a_change_of_passphrase_survives_every_power_cut() {
    let (before, events, after) = recorded(|vault, volume| {
        let new = passphrase("new");
        SlotPorts::with_system(|ports| {
            vault.replace_slot(SlotIndex(0), &slot(&new), ports, volume).unwrap();
        });
    });
    let (mut old, mut new) = (0, 0);
    every_cut(&before, &events, |image| {
        let device = device_of(image);
        let by_old = unlock(device.clone(), "old");
        let by_new = unlock(device, "new");
        // Exactly one of them opens, and with it everything.
        match (by_old, by_new) {
            (Ok(mut vault), Err(VaultError::NoSlotOpened)) => {
                old += 1;
                mount(&mut vault).unwrap();
            }
            (Err(VaultError::NoSlotOpened), Ok(mut vault)) => {
                new += 1;
                mount(&mut vault).unwrap();
            }
            both => panic!("{both:?}"),
        }
    });
    assert!(old > 5 && new > 20, "{old} cuts with the old passphrase, {new} with the new");
    assert!(unlock(device_of(&after), "old").is_err());
}

#[test]
fn a_second_change_after_a_cut_never_runs_two_ahead() {
    let (before, events, _) = recorded(|vault, volume| {
        let new = passphrase("new");
        SlotPorts::with_system(|ports| {
            vault.add_slot(None, &slot(&new), ports, volume).unwrap();
        });
    });
    every_cut(&before, &events, |image| {
        let device = Recorder::over(image.to_vec());
        let mut vault = unlock(device.clone(), "old").unwrap();
        let volume = mount(&mut vault).unwrap();
        let start = device.inner.snapshot();
        device.events.lock().clear();
        let third = passphrase("third");
        SlotPorts::with_system(|ports| {
            vault.add_slot(Some(SlotIndex(5)), &slot(&third), ports, &volume).unwrap();
        });
        let events = std::mem::take(&mut *device.events.lock());
        every_cut(&start, &events, |image| {
            let mut vault = unlock(device_of(image), "old").unwrap();
            mount(&mut vault).unwrap();
        });
    });
}

#[test]
fn an_old_header_put_back_is_refused_by_the_superblock() {
    let (_, _, with_guest) = recorded(|vault, volume| {
        let guest = passphrase("guest");
        SlotPorts::with_system(|ports| {
            vault.add_slot(None, &slot(&guest), ports, volume).unwrap();
        });
    });
    let device = device_of(&with_guest);
    let mut vault = unlock(device.clone(), "old").unwrap();
    let volume = mount(&mut vault).unwrap();
    vault.remove_slot(SlotIndex(1), &volume).unwrap();
    drop(volume);
    let mut image = device.snapshot();
    assert!(matches!(unlock(device, "guest"), Err(VaultError::NoSlotOpened)));
    for copy in [0, 9 * UNIT] {
        image[copy..copy + UNIT].copy_from_slice(&with_guest[copy..copy + UNIT]);
    }
    // The guest's passphrase opens the old header, which the committed state disowns.
    let mut revived = unlock(device_of(&image), "guest").unwrap();
    let refused = mount(&mut revived).err().unwrap();
    assert!(
        matches!(refused, MountError::HeaderRolledBack { header: 2, expected: 3 }),
        "{refused}"
    );
}

/// Unlocks a backup over the image on `device` and opens the volume that it belongs to.
fn over(
    backup: &[u8],
    device: Arc<dyn BlockDevice>,
    text: &str,
) -> Result<(Vault<Unlocked>, Volume), VaultError> {
    let options = UnlockOptions { slot: None, limits: LIMITS };
    let locked = Vault::from_backup(backup, device)?;
    let vault = locked.unlock(&passphrase(text), &options, &mut HeapMemory)?;
    let mut setup = setup(&vault);
    setup.header_sequence = Volume::committed_header(&setup).map_err(VaultError::Commit)?;
    let (volume, _) = Volume::open(&setup, &OpenOptions::default()).unwrap();
    Ok((vault, volume))
}

#[test]
fn restored_header_opens_with_what_opened_it_then() {
    let first = image();
    let backup = unlock(device_of(&first), "old").unwrap().backup();
    // Changed since, and then both copies destroyed.
    let (_, _, mut changed) = recorded(|vault, volume| {
        let new = passphrase("new");
        SlotPorts::with_system(|ports| {
            vault.replace_slot(SlotIndex(0), &slot(&new), ports, volume).unwrap();
        });
    });
    // Another vault, although everything else is alike.
    let foreign = over(&backup, device_of(&changed), "old").err();
    assert!(
        matches!(foreign, Some(VaultError::Commit(FsError::Damaged(Damage::NoSuperblock)))),
        "{foreign:?}"
    );
    let own = unlock(device_of(&changed), "new").unwrap().backup();
    for copy in [0, 9 * UNIT] {
        changed[copy..copy + UNIT].fill(0);
    }
    assert!(unlock(device_of(&changed), "new").is_err());
    let device = device_of(&changed);
    let (mut vault, volume) = over(&own, device.clone(), "new").unwrap();
    let number = vault.header().sequence;
    vault.restore(&volume).unwrap();
    assert!(vault.header().sequence > number, "the number was used twice");
    drop(volume);
    mount(&mut unlock(device, "new").unwrap()).unwrap();
}

#[test]
fn a_spoiled_backup_is_refused() {
    let image = image();
    let backup = unlock(device_of(&image), "old").unwrap().backup();
    for at in [0, 9, 20, 70, 100, 170, 3000, 4095] {
        let mut spoiled = backup.clone();
        spoiled[at] ^= 1;
        assert!(over(&spoiled, device_of(&image), "old").is_err(), "byte {at}");
    }
    assert!(over(&backup[..4095], device_of(&image), "old").is_err());
    assert!(over(&backup, device_of(&image), "old").is_ok());
}

/// An old header put back over a good one: at every cut one of both passphrases opens everything.
#[test]
fn a_restored_header_survives_every_power_cut() {
    let mut backup = Vec::new();
    let (_, _, changed) = recorded(|vault, volume| {
        backup = vault.backup();
        let new = passphrase("new");
        SlotPorts::with_system(|ports| {
            vault.replace_slot(SlotIndex(0), &slot(&new), ports, volume).unwrap();
        });
    });
    let device = Recorder::over(changed);
    let (mut vault, volume) = over(&backup, device.clone(), "old").unwrap();
    let before = device.inner.snapshot();
    device.events.lock().clear();
    vault.restore(&volume).unwrap();
    let events = std::mem::take(&mut *device.events.lock());
    let (mut old, mut new) = (0, 0);
    every_cut(&before, &events, |image| {
        let device = device_of(image);
        match (unlock(device.clone(), "old"), unlock(device, "new")) {
            (Ok(mut vault), Err(_)) => {
                old += 1;
                mount(&mut vault).unwrap();
            }
            (Err(_), Ok(mut vault)) => {
                new += 1;
                mount(&mut vault).unwrap();
            }
            both => panic!("{both:?}"),
        }
    });
    assert!(old > 5 && new > 5, "{old} cuts with the old passphrase, {new} with the new");
}
