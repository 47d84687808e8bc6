//! Keyslots: from what a person presents to the volume key, and back (FORMAT.md section 3).
//!
//! AES-GCM does not commit to its key, so two passphrases could be made to open one ciphertext. Each
//! slot therefore stores a commitment to its key-encryption key, compared in constant time before
//! anything is unwrapped. A slot that does not open says nothing about why.

use crate::codec::Writer;
use crate::crypto::aead::{Nonce, SealingKey};
use crate::crypto::kdf::{HeapMemory, KdfError, argon2id};
use crate::crypto::secret::{Passphrase, SecretBytes, VolumeKey};
use crate::crypto::subkeys::{SUITE, expand};
use crate::error::EntropyError;
use crate::format::keyslot::encode_bound;
use crate::ids::VaultId;
use crate::ports::{Clock, Entropy, SystemClock, SystemEntropy};
use hkdf::Hkdf;
use sha2::Sha256;
use std::fmt;
use subtle::ConstantTimeEq;
use thiserror::Error;

pub use crate::crypto::kdf::{KdfCost, KdfLimits, KdfMemory};
pub use crate::format::keyslot::{KEYSLOTS, Keyslot, SlotKind, SlotLabel};
pub use crate::ids::SlotIndex;
pub use crate::recovery::{RecoveryKey, RecoveryKeyError};

/// What is presented to open a keyslot.
pub enum Credential {
    /// A passphrase, typed or read from where the caller says.
    Passphrase(Passphrase),
    /// The content of a key file. It may have little entropy, so it is stretched like a passphrase.
    KeyFile(Passphrase),
    /// A generated recovery key.
    RecoveryKey(RecoveryKey),
}

impl Credential {
    /// Returns the kind of slot that it opens.
    pub fn kind(&self) -> SlotKind {
        match self {
            Self::Passphrase(_) => SlotKind::Passphrase,
            Self::KeyFile(_) => SlotKind::KeyFile,
            Self::RecoveryKey(_) => SlotKind::RecoveryKey,
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Passphrase(secret) | Self::KeyFile(secret) => secret.is_empty(),
            Self::RecoveryKey(_) => false,
        }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({}, redacted)", self.kind())
    }
}

/// A slot to be made.
#[derive(Debug)]
pub struct NewSlot<'a> {
    /// What shall open it.
    pub credential: &'a Credential,
    /// Cost of its KDF; not used for a recovery key.
    pub cost: KdfCost,
    /// Bounds that the cost must keep.
    pub limits: KdfLimits,
    /// The owner's name for it.
    pub label: SlotLabel,
}

impl<'a> NewSlot<'a> {
    /// A slot at the default cost, without a label.
    pub fn new(credential: &'a Credential) -> Self {
        Self {
            credential,
            cost: KdfCost::default(),
            limits: KdfLimits::default(),
            label: SlotLabel::default(),
        }
    }
}

/// What making a slot needs from the world.
pub struct SlotPorts<'a> {
    /// Where salts, nonces and keys come from.
    pub entropy: &'a dyn Entropy,
    /// What the slot's date is read from.
    pub clock: &'a dyn Clock,
    /// Where the KDF works.
    pub memory: &'a mut dyn KdfMemory,
}

impl fmt::Debug for SlotPorts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SlotPorts")
    }
}

impl SlotPorts<'_> {
    /// Calls `work` with the system's randomness and clock, and memory from the heap.
    pub fn with_system<T>(work: impl FnOnce(&mut SlotPorts<'_>) -> T) -> T {
        let memory = &mut HeapMemory;
        work(&mut SlotPorts { entropy: &SystemEntropy, clock: &SystemClock, memory })
    }
}

/// A slot cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NewSlotError {
    /// The passphrase or key file has no bytes.
    #[error("a {kind} must not be empty")]
    Empty {
        /// What was empty.
        kind: SlotKind,
    },
    /// Its cost is out of bounds, or could not be spent.
    #[error(transparent)]
    Kdf(#[from] KdfError),
    /// No randomness could be had.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

/// Wraps the volume key for a credential.
pub(crate) fn wrap(
    volume_key: &VolumeKey,
    vault: VaultId,
    index: SlotIndex,
    new: &NewSlot<'_>,
    ports: &mut SlotPorts<'_>,
) -> Result<Keyslot, NewSlotError> {
    let kind = new.credential.kind();
    if new.credential.is_empty() {
        return Err(NewSlotError::Empty { kind });
    }
    let cost = (kind != SlotKind::RecoveryKey).then_some(new.cost);
    new.limits.check_all(&cost)?;
    let mut salt = [0; 32];
    ports.entropy.fill(&mut salt)?;
    let nonce = Nonce::random(ports.entropy)?;
    let secret = stretch(new.credential, cost, &salt, ports.memory)?;
    let keys = SlotKeys::derive(&secret, &salt, vault);
    let mut wrapped = *volume_key.expose();
    let tag =
        keys.wrap.seal(&nonce, &aad(vault, index, &encode_bound(kind, cost, &salt)), &mut wrapped);
    Ok(Keyslot {
        kind,
        cost,
        salt,
        commitment: *keys.commitment.expose(),
        nonce,
        wrapped,
        tag,
        created: ports.clock.now().seconds,
        label: new.label.clone(),
    })
}

/// One attempt to open keyslots with one credential. Derivations are remembered, so that the two
/// copies of a slot cost one.
pub(crate) struct Attempt<'a> {
    credential: &'a Credential,
    memory: &'a mut dyn KdfMemory,
    derived: Vec<(Stretching, SecretBytes<32>)>,
}

/// The inputs of a derivation, passphrase apart.
type Stretching = (Option<KdfCost>, [u8; 32]);

impl<'a> Attempt<'a> {
    /// Begins an attempt, after judging what all `slots` together would cost.
    pub(crate) fn begin<'s>(
        credential: &'a Credential,
        memory: &'a mut dyn KdfMemory,
        limits: KdfLimits,
        slots: impl IntoIterator<Item = &'s Keyslot>,
    ) -> Result<Self, KdfError> {
        let mut costs: Vec<Stretching> =
            slots.into_iter().map(|slot| (slot.cost, slot.salt)).collect();
        costs.sort_unstable_by_key(|(cost, salt)| {
            (cost.map(|cost| (cost.memory_kib, cost.passes, cost.lanes)), *salt)
        });
        costs.dedup();
        limits.check_all(costs.iter().filter_map(|(cost, _)| cost.as_ref()))?;
        Ok(Self { credential, memory, derived: Vec::new() })
    }

    /// Opens a slot, or returns `None`, whatever the reason.
    pub(crate) fn open(
        &mut self,
        slot: &Keyslot,
        index: SlotIndex,
        vault: VaultId,
    ) -> Result<Option<VolumeKey>, KdfError> {
        let keys = SlotKeys::derive(self.stretched(slot)?, &slot.salt, vault);
        Ok(unwrap(&keys, slot, index, vault))
    }

    fn stretched(&mut self, slot: &Keyslot) -> Result<&SecretBytes<32>, KdfError> {
        let inputs = (slot.cost, slot.salt);
        let known = self.derived.iter().position(|(known, _)| *known == inputs);
        let at = known.unwrap_or(self.derived.len());
        if known.is_none() {
            let secret = stretch(self.credential, slot.cost, &slot.salt, self.memory)?;
            self.derived.push((inputs, secret));
        }
        Ok(&self.derived[at].1)
    }
}

/// The keys of one slot.
struct SlotKeys {
    wrap: SealingKey,
    commitment: SecretBytes<32>,
}

impl SlotKeys {
    /// PRK = HKDF-Extract(slot salt, secret); wrap key and commitment are expanded from it.
    fn derive(secret: &SecretBytes<32>, salt: &[u8; 32], vault: VaultId) -> Self {
        let schedule = Hkdf::<Sha256>::new(Some(salt), secret.expose());
        Self {
            wrap: SealingKey::new(&expand(&schedule, "slot-wrap", vault)),
            commitment: expand(&schedule, "slot-commitment", vault),
        }
    }
}

fn stretch(
    credential: &Credential,
    cost: Option<KdfCost>,
    salt: &[u8; 32],
    memory: &mut dyn KdfMemory,
) -> Result<SecretBytes<32>, KdfError> {
    match (credential, cost) {
        (Credential::Passphrase(secret) | Credential::KeyFile(secret), Some(cost)) => {
            argon2id(secret.expose(), salt, &cost, memory)
        }
        (Credential::RecoveryKey(key), None) => {
            Ok(SecretBytes::init(|secret| secret.copy_from_slice(key.expose())))
        }
        _ => Err(KdfError::Input),
    }
}

/// Unwraps the volume key, after the commitment has shown that the key-encryption key is the one
/// that the slot was made for.
fn unwrap(keys: &SlotKeys, slot: &Keyslot, index: SlotIndex, vault: VaultId) -> Option<VolumeKey> {
    if !bool::from(keys.commitment.expose().ct_eq(&slot.commitment)) {
        return None;
    }
    open_wrapped(keys, slot, index, vault)
}

fn open_wrapped(
    keys: &SlotKeys,
    slot: &Keyslot,
    index: SlotIndex,
    vault: VaultId,
) -> Option<VolumeKey> {
    let Keyslot { nonce, wrapped, tag, .. } = slot;
    SecretBytes::try_init(|key| {
        key.copy_from_slice(wrapped);
        keys.wrap.open(nonce, &aad(vault, index, &slot.bound()), key, tag)
    })
    .ok()
}

fn aad(vault: VaultId, index: SlotIndex, bound: &[u8]) -> Vec<u8> {
    let mut out = Writer::with_capacity(96);
    out.bytes(b"tazpod/v1/keyslot").bytes(&vault.0).u16(SUITE).u8(index.0).bytes(bound);
    out.finish()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::crypto::aead::Tag;

    const VAULT: VaultId = VaultId([8; 16]);
    const SLOT: SlotIndex = SlotIndex(2);
    const CHEAP: KdfCost = KdfCost { memory_kib: 8, passes: 1, lanes: 1 };
    const LIMITS: KdfLimits =
        KdfLimits { allow_cheap: true, allow_costly: false, max_memory_kib: 1024 };

    fn passphrase(text: &str) -> Credential {
        Credential::Passphrase(Passphrase::new(text.as_bytes().to_vec()))
    }

    fn volume_key() -> VolumeKey {
        SecretBytes::init(|key| key.fill(0x42))
    }

    fn wrapped(credential: &Credential) -> Keyslot {
        let new = NewSlot { cost: CHEAP, limits: LIMITS, ..NewSlot::new(credential) };
        SlotPorts::with_system(|ports| wrap(&volume_key(), VAULT, SLOT, &new, ports)).unwrap()
    }

    fn open(credential: &Credential, slot: &Keyslot, index: SlotIndex, vault: VaultId) -> bool {
        let mut memory = HeapMemory;
        let mut attempt = Attempt::begin(credential, &mut memory, LIMITS, [slot]).unwrap();
        let opened = attempt.open(slot, index, vault).unwrap();
        if let Some(key) = &opened {
            assert_eq!(key.expose(), volume_key().expose());
        }
        opened.is_some()
    }

    #[test]
    fn each_kind_of_credential_opens_its_slot_and_no_other() {
        let recovery = RecoveryKey::generate(&SystemEntropy).unwrap();
        let credentials = [
            passphrase("correct horse"),
            passphrase("correct house"),
            Credential::KeyFile(Passphrase::new(b"correct horse\n".to_vec())),
            Credential::RecoveryKey(recovery),
        ];
        for (i, credential) in credentials.iter().enumerate() {
            let slot = wrapped(credential);
            for (j, presented) in credentials.iter().enumerate() {
                if credential.kind() == presented.kind() {
                    assert_eq!(open(presented, &slot, SLOT, VAULT), i == j, "{i} by {j}");
                }
            }
        }
    }

    #[test]
    fn a_slot_opens_only_at_its_place_and_in_its_vault() {
        let credential = passphrase("correct horse");
        let slot = wrapped(&credential);
        assert!(open(&credential, &slot, SLOT, VAULT));
        assert!(!open(&credential, &slot, SlotIndex(3), VAULT));
        assert!(!open(&credential, &slot, SLOT, VaultId([9; 16])));
    }

    /// The wrapped key alone would open: only the commitment stands in the way.
    #[test]
    fn a_commitment_that_does_not_match_never_unwraps() {
        let credential = passphrase("correct horse");
        let slot = wrapped(&credential);
        let secret = stretch(&credential, slot.cost, &slot.salt, &mut HeapMemory).unwrap();
        let keys = SlotKeys::derive(&secret, &slot.salt, VAULT);
        for bit in 0..256 {
            let mut altered = slot.clone();
            altered.commitment[bit / 8] ^= 1 << (bit % 8);
            assert!(open_wrapped(&keys, &altered, SLOT, VAULT).is_some());
            assert!(unwrap(&keys, &altered, SLOT, VAULT).is_none(), "bit {bit}");
        }
    }

    #[test]
    fn a_changed_salt_cost_nonce_or_ciphertext_opens_nothing() {
        let credential = passphrase("correct horse");
        let slot = wrapped(&credential);
        let edits: [fn(&mut Keyslot); 5] = [
            |slot| slot.salt[0] ^= 1,
            |slot| slot.cost = Some(KdfCost { passes: 2, ..CHEAP }),
            |slot| slot.nonce = Nonce::from_stored([1; 24]),
            |slot| slot.wrapped[31] ^= 0x80,
            |slot| slot.tag = Tag([0; 16]),
        ];
        for edit in edits {
            let mut altered = slot.clone();
            edit(&mut altered);
            assert!(!open(&credential, &altered, SLOT, VAULT));
        }
    }

    #[test]
    fn two_slots_for_one_passphrase_share_nothing() {
        let credential = passphrase("correct horse");
        let (first, second) = (wrapped(&credential), wrapped(&credential));
        assert_ne!(first.salt, second.salt);
        assert_ne!(first.commitment, second.commitment);
        assert_ne!(first.nonce.bytes(), second.nonce.bytes());
        assert_ne!(first.wrapped, second.wrapped);
    }

    #[test]
    fn empty_credentials_and_costs_out_of_bounds_make_no_slot() {
        let try_wrap = |credential: &Credential, cost| {
            let new = NewSlot { cost, limits: LIMITS, ..NewSlot::new(credential) };
            SlotPorts::with_system(|ports| wrap(&volume_key(), VAULT, SLOT, &new, ports))
                .unwrap_err()
        };
        let empty = try_wrap(&passphrase(""), CHEAP);
        assert_eq!(empty, NewSlotError::Empty { kind: SlotKind::Passphrase });
        let empty = try_wrap(&Credential::KeyFile(Passphrase::new(Vec::new())), CHEAP);
        assert_eq!(empty, NewSlotError::Empty { kind: SlotKind::KeyFile });
        let costly = try_wrap(&passphrase("x"), KdfCost::default());
        assert!(matches!(costly, NewSlotError::Kdf(KdfError::BeyondMachine { .. })));
    }

    #[test]
    fn equal_derivations_run_once() {
        #[derive(Default)]
        struct Counts(usize);
        impl KdfMemory for Counts {
            fn with_memory(
                &mut self,
                blocks: usize,
                work: &mut dyn FnMut(&mut [crate::crypto::kdf::KdfBlock]),
            ) -> Result<(), crate::crypto::kdf::MemoryRefused> {
                self.0 += 1;
                HeapMemory.with_memory(blocks, work)
            }
        }
        let credential = passphrase("correct horse");
        let slot = wrapped(&credential);
        let mut damaged = slot.clone();
        damaged.commitment[0] ^= 1;
        let mut counts = Counts::default();
        let mut attempt =
            Attempt::begin(&credential, &mut counts, LIMITS, [&damaged, &slot]).unwrap();
        assert!(attempt.open(&damaged, SLOT, VAULT).unwrap().is_none());
        assert!(attempt.open(&slot, SLOT, VAULT).unwrap().is_some());
        assert_eq!(counts.0, 1);
    }

    #[test]
    fn credentials_do_not_print() {
        let printed = format!("{:?}", passphrase("correct horse"));
        assert_eq!(printed, "Credential(passphrase, redacted)");
    }
}
