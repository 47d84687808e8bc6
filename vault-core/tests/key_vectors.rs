//! The key schedule, keyslots, header and witness against bytes that a Python script made from
//! FORMAT.md alone (`vectors/make_keys.py`), and the KDF against its RFC.
#![allow(clippy::unwrap_used)]

#[path = "vectors/mod.rs"]
mod vectors;

use argon2::{Algorithm, Argon2, AssociatedData, Block, ParamsBuilder, Version};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use vault_core::crypto::aead::{Nonce, SealingKey, Tag};
use vault_core::crypto::kdf::{HeapMemory, argon2id};
use vault_core::crypto::secret::{Passphrase, SecretBytes};
use vault_core::crypto::subkeys::Subkeys;
use vault_core::device::{BlockDevice, MemoryDevice};
use vault_core::error::EntropyError;
use vault_core::ids::{Generation, VaultId};
use vault_core::keyslot::{
    Credential, KdfCost, KdfLimits, NewSlot, RecoveryKey, SlotLabel, SlotPorts,
};
use vault_core::ports::{Clock, Entropy, Timestamp};
use vault_core::vault::{UnlockOptions, Unlocked, Vault};
use vault_core::witness::Witness;
use vectors::hex;

const HEADER: &[u8; 4096] = include_bytes!("vectors/header.bin");
const COST: KdfCost = KdfCost { memory_kib: 64, passes: 3, lanes: 2 };
const LIMITS: KdfLimits =
    KdfLimits { allow_cheap: true, allow_costly: false, max_memory_kib: 1024 };

/// Hands out 0, 1, 2, ... as the script assumes.
#[derive(Default)]
struct Counting(AtomicU8);

impl Entropy for Counting {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError> {
        buffer.fill_with(|| self.0.fetch_add(1, Ordering::Relaxed));
        Ok(())
    }
}

struct Frozen;

impl Clock for Frozen {
    fn now(&self) -> Timestamp {
        Timestamp { seconds: 1_700_000_000, nanos: 5 }
    }
}

fn vector(name: &str) -> Vec<u8> {
    let line = include_str!("vectors/keys.txt")
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "))
        .expect("the vector is in keys.txt");
    hex(line)
}

fn passphrase() -> Credential {
    Credential::Passphrase(Passphrase::new(b"correct horse battery staple".to_vec()))
}

fn counted<const N: usize>(from: u8) -> [u8; N] {
    std::array::from_fn(|i| from + u8::try_from(i).unwrap())
}

fn subkeys() -> Subkeys {
    Subkeys::derive(&SecretBytes::init(|key| *key = counted(16)), VaultId(counted(0)))
}

fn create(credential: &Credential) -> (Arc<MemoryDevice>, Vault<Unlocked>) {
    let device = Arc::new(MemoryDevice::new(1 << 20));
    device.grow(16 * 4096).unwrap();
    let label = SlotLabel::new("notebook").unwrap();
    let new = NewSlot { credential, cost: COST, limits: LIMITS, label };
    let (entropy, memory) = (Counting::default(), &mut HeapMemory);
    let mut ports = SlotPorts { entropy: &entropy, clock: &Frozen, memory };
    let mut vault = Vault::create_header(device.clone(), 14, &new, &mut ports).unwrap();
    vault.mend_copies().unwrap();
    (device, vault)
}

#[test]
fn header_equals_the_one_made_from_the_specification() {
    let (device, _) = create(&passphrase());
    let image = device.snapshot();
    assert!(image[..4096] == HEADER[..], "copy A");
    assert!(image[9 * 4096..10 * 4096] == HEADER[..], "copy B");
}

#[test]
fn header_made_from_the_specification_opens() {
    let mut image = vec![0; 16 * 4096];
    image[..4096].copy_from_slice(HEADER);
    let device = Arc::new(MemoryDevice::from_bytes(image, 1 << 20));
    let options = UnlockOptions { slot: None, limits: LIMITS };
    let vault = Vault::open(device).unwrap();
    let vault = vault.unlock(&passphrase(), &options, &mut HeapMemory).unwrap();
    assert_eq!(vault.id(), VaultId(counted(0)));
    assert_eq!(vault.subkeys().header_mac.expose()[..], vector("header-mac"));
}

#[test]
fn recovery_slot_equals_the_one_made_from_the_specification() {
    let key = SecretBytes::init(|key| *key = counted(64));
    let (device, _) = create(&Credential::RecoveryKey(RecoveryKey::from_bytes(key)));
    assert_eq!(device.snapshot()[64..64 + 256], vector("recovery-slot"));
}

#[test]
fn subkeys_equal_those_made_from_the_specification() {
    let subkeys = subkeys();
    assert_eq!(subkeys.header_mac.expose()[..], vector("header-mac"));
    assert_eq!(subkeys.directory_hash.expose()[..], vector("directory-hash"));
    assert_eq!(subkeys.witness_mac.expose()[..], vector("witness-mac"));
    let sealed = |key: &SealingKey| {
        let mut text = b"plaintext".to_vec();
        let tag = key.seal(&Nonce::from_stored(counted(80)), b"associated data", &mut text);
        [text.as_slice(), &tag.0].concat()
    };
    assert_eq!(sealed(&subkeys.superblock), vector("sealed-superblock"));
    assert_eq!(sealed(&subkeys.metadata), vector("sealed-metadata"));
    assert_eq!(sealed(&subkeys.data), vector("sealed-data"));
}

#[test]
fn witness_equals_the_one_made_from_the_specification() {
    let witness = Witness {
        vault: VaultId(counted(0)),
        generation: Generation(92),
        header_sequence: 3,
        root_tag: Tag(counted(200)),
        retired: false,
    };
    assert_eq!(witness.encode(&subkeys()), vector("witness"));
    assert_eq!(Witness::decode(&vector("witness"), witness.vault, &subkeys()), Ok(witness));
}

#[test]
fn argon2id_equals_an_independent_implementation() {
    let secret =
        argon2id(b"correct horse battery staple", &counted::<32>(48), &COST, &mut HeapMemory);
    assert_eq!(secret.unwrap().expose()[..], vector("argon2id"));
}

/// RFC 9106, section 5.3. Its secret and associated data have no place in our format, so the vector
/// is run on the crate that does the work, in memory lent to it as we lend it.
#[test]
fn argon2id_of_rfc_9106_section_5_3() {
    let params = ParamsBuilder::new()
        .m_cost(32)
        .t_cost(3)
        .p_cost(4)
        .output_len(32)
        .data(AssociatedData::new(&[4; 12]).unwrap())
        .build()
        .unwrap();
    let mut memory = vec![Block::new(); params.block_count()];
    let kdf =
        Argon2::new_with_secret(&[3; 8], Algorithm::Argon2id, Version::V0x13, params).unwrap();
    let mut tag = [0; 32];
    kdf.hash_password_into_with_memory(&[1; 32], &[2; 16], &mut tag, &mut memory[..]).unwrap();
    let expected = "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659";
    assert_eq!(tag[..], hex(expected));
}
