#![allow(clippy::unwrap_used)]

use super::*;
use crate::crypto::kdf::{HeapMemory, KdfBlock, KdfCost, KdfError, MemoryRefused};
use crate::crypto::secret::Passphrase;
use crate::device::MemoryDevice;
use crate::error::FsError;
use crate::format::keyslot::SlotKind;
use crate::keyslot::RecoveryKey;
use crate::ports::SystemEntropy;
use parking_lot::Mutex;
use proptest::prelude::*;

const CHEAP: KdfCost = KdfCost { memory_kib: 8, passes: 1, lanes: 1 };
const LIMITS: KdfLimits =
    KdfLimits { allow_cheap: true, allow_costly: false, max_memory_kib: 1024 };
const COPY_A: usize = 0;
const COPY_B: usize = 9 * 4096;
const COPY_LEN: usize = 4096;

fn passphrase(text: &str) -> Credential {
    Credential::Passphrase(Passphrase::new(text.as_bytes().to_vec()))
}

fn cheap(credential: &Credential) -> NewSlot<'_> {
    NewSlot { cost: CHEAP, limits: LIMITS, ..NewSlot::new(credential) }
}

fn options() -> UnlockOptions {
    UnlockOptions { slot: None, limits: LIMITS }
}

fn device_of(bytes: &[u8]) -> Arc<MemoryDevice> {
    Arc::new(MemoryDevice::from_bytes(bytes.to_vec(), 1 << 20))
}

/// Makes an image that holds a header and nothing else.
fn new_vault() -> (Arc<MemoryDevice>, Vault<Unlocked>) {
    let device = device_of(&vec![0; 16 * 4096]);
    let mut vault = SlotPorts::with_system(|ports| {
        Vault::create_header(device.clone(), 14, &cheap(&passphrase("first")), ports)
    })
    .unwrap();
    vault.mend_copies().unwrap();
    (device, vault)
}

fn image() -> Vec<u8> {
    new_vault().0.snapshot()
}

fn unlock(bytes: &[u8], credential: &Credential) -> Result<Vault<Unlocked>, VaultError> {
    Vault::open(device_of(bytes))?.unlock(credential, &options(), &mut HeapMemory)
}

/// A superblock ring reduced to its sequence number. It notes what the device held at each commit.
struct Anchor {
    device: Arc<MemoryDevice>,
    sequence: Mutex<u64>,
    seen: Mutex<Vec<(u64, Vec<u8>)>>,
    fails: bool,
    full: bool,
}

impl Anchor {
    fn at(sequence: u64, device: &Arc<MemoryDevice>) -> Self {
        let (sequence, seen) = (Mutex::new(sequence), Mutex::default());
        Self { device: device.clone(), sequence, seen, fails: false, full: false }
    }
}

impl HeaderAnchor for Anchor {
    fn header_sequence(&self) -> u64 {
        *self.sequence.lock()
    }

    fn make_room(&self) -> FsResult<()> {
        if self.full { Err(FsError::NoSpace) } else { Ok(()) }
    }

    fn commit_header_sequence(&self, sequence: u64) -> FsResult<()> {
        if self.fails {
            return Err(FsError::NoSpace);
        }
        *self.sequence.lock() = sequence;
        self.seen.lock().push((sequence, self.device.snapshot()));
        Ok(())
    }
}

#[test]
fn a_new_vault_opens_with_its_passphrase_only() {
    let (device, made) = new_vault();
    let bytes = device.snapshot();
    assert_eq!(bytes[COPY_A..][..COPY_LEN], bytes[COPY_B..][..COPY_LEN]);
    let vault = unlock(&bytes, &passphrase("first")).unwrap();
    assert_eq!(vault.id(), made.id());
    assert_eq!(vault.opened_by(), SlotIndex(0));
    assert_eq!(vault.copy_states(), [CopyState::Current; 2]);
    assert_eq!(vault.subkeys().header_mac.expose(), made.subkeys().header_mac.expose());
    let wrong = unlock(&bytes, &passphrase("First")).unwrap_err();
    assert!(matches!(wrong, VaultError::NoSlotOpened));
}

#[test]
fn slots_are_listed_without_a_passphrase() {
    let locked = Vault::open(device_of(&image())).unwrap();
    let slots: Vec<_> = locked.slots().collect();
    assert_eq!(slots.len(), 1);
    assert_eq!(slots[0].0, SlotIndex(0));
    assert_eq!(slots[0].1.kind, SlotKind::Passphrase);
    assert_eq!(slots[0].1.cost, Some(CHEAP));
}

#[test]
fn a_header_that_was_never_written_is_no_vault() {
    let device = device_of(&vec![0; 16 * 4096]);
    SlotPorts::with_system(|ports| {
        Vault::create_header(device.clone(), 14, &cheap(&passphrase("first")), ports)
    })
    .unwrap();
    assert!(matches!(Vault::open(device).unwrap_err(), VaultError::NotAVault));
}

#[test]
fn what_is_no_vault_is_told_apart() {
    let with = |edit: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = image();
        edit(&mut bytes);
        Vault::open(device_of(&bytes)).unwrap_err()
    };
    let both = |at: usize, value: u8| {
        move |bytes: &mut Vec<u8>| {
            bytes[COPY_A + at] = value;
            bytes[COPY_B + at] = value;
        }
    };
    assert!(matches!(with(&both(0, b'L')), VaultError::NotAVault));
    assert!(matches!(with(&both(8, 3)), VaultError::Version { found: 3 }));
    assert!(matches!(with(&both(10, 9)), VaultError::Suite { found: 9 }));
    assert!(matches!(with(&both(13, 1)), VaultError::HeaderDamaged));
    let short = with(&|bytes| bytes.truncate(16 * 4096 - 1));
    assert!(matches!(short, VaultError::TooShort { len: 65535 }));
}

#[test]
fn slots_are_added_opened_replaced_and_removed() {
    let (device, mut vault) = new_vault();
    let anchor = Anchor::at(1, &device);
    let recovery = RecoveryKey::generate(&SystemEntropy).unwrap();
    let words = recovery.expose_words();
    let recovery = Credential::RecoveryKey(recovery);
    let key_file = Credential::KeyFile(Passphrase::new(b"first".to_vec()));
    SlotPorts::with_system(|ports| {
        assert_eq!(vault.add_slot(None, &cheap(&recovery), ports, &anchor).unwrap(), SlotIndex(1));
        let place = Some(SlotIndex(7));
        assert_eq!(vault.add_slot(place, &cheap(&key_file), ports, &anchor).unwrap(), SlotIndex(7));
    });
    let bytes = device.snapshot();
    let typed = Credential::RecoveryKey(RecoveryKey::from_words(&words).unwrap());
    assert_eq!(unlock(&bytes, &typed).unwrap().opened_by(), SlotIndex(1));
    assert_eq!(unlock(&bytes, &key_file).unwrap().opened_by(), SlotIndex(7));
    assert_eq!(unlock(&bytes, &passphrase("first")).unwrap().opened_by(), SlotIndex(0));

    SlotPorts::with_system(|ports| {
        vault.replace_slot(SlotIndex(0), &cheap(&passphrase("second")), ports, &anchor).unwrap();
    });
    vault.remove_slot(SlotIndex(7), &anchor).unwrap();
    let bytes = device.snapshot();
    assert!(matches!(unlock(&bytes, &key_file).unwrap_err(), VaultError::NoSlotOpened));
    assert!(matches!(unlock(&bytes, &passphrase("first")).unwrap_err(), VaultError::NoSlotOpened));
    assert_eq!(unlock(&bytes, &passphrase("second")).unwrap().opened_by(), SlotIndex(0));
    assert_eq!(anchor.header_sequence(), 5);
}

#[test]
fn a_label_is_changed_without_the_slot() {
    let (device, mut vault) = new_vault();
    let label = SlotLabel::new("laptop").unwrap();
    vault.set_label(SlotIndex(0), label.clone(), &Anchor::at(1, &device)).unwrap();
    let vault = unlock(&device.snapshot(), &passphrase("first")).unwrap();
    assert_eq!(vault.header().slot(SlotIndex(0)).unwrap().label, label);
}

#[test]
fn the_last_slot_stays_and_a_ninth_finds_no_place() {
    let (device, mut vault) = new_vault();
    let anchor = Anchor::at(1, &device);
    let last = vault.remove_slot(SlotIndex(0), &anchor).unwrap_err();
    assert!(matches!(last, VaultError::LastSlot { slot: SlotIndex(0) }));
    let credential = passphrase("more");
    SlotPorts::with_system(|ports| {
        let new = cheap(&credential);
        let taken = vault.add_slot(Some(SlotIndex(0)), &new, ports, &anchor).unwrap_err();
        assert!(matches!(taken, VaultError::SlotTaken { slot: SlotIndex(0) }));
        let beyond = vault.add_slot(Some(SlotIndex(8)), &new, ports, &anchor).unwrap_err();
        assert!(matches!(beyond, VaultError::NoSuchSlot { slot: SlotIndex(8) }));
        for _ in 1..8 {
            vault.add_slot(None, &new, ports, &anchor).unwrap();
        }
        let full = vault.add_slot(None, &new, ports, &anchor).unwrap_err();
        assert!(matches!(full, VaultError::NoFreeSlot));
    });
    let missing = vault.remove_slot(SlotIndex(8), &anchor).unwrap_err();
    assert!(matches!(missing, VaultError::NoSuchSlot { slot: SlotIndex(8) }));
}

#[test]
fn only_the_slot_that_was_named_is_tried() {
    struct Counts(usize);
    impl KdfMemory for Counts {
        fn with_memory(
            &mut self,
            blocks: usize,
            work: &mut dyn FnMut(&mut [KdfBlock]),
        ) -> Result<(), MemoryRefused> {
            self.0 += 1;
            HeapMemory.with_memory(blocks, work)
        }
    }
    let (device, mut vault) = new_vault();
    let anchor = Anchor::at(1, &device);
    SlotPorts::with_system(|ports| {
        vault.add_slot(None, &cheap(&passphrase("second")), ports, &anchor).unwrap();
    });
    let locked = Vault::open(device).unwrap();
    let tries = |text, slot| {
        let mut counts = Counts(0);
        let options = UnlockOptions { slot, ..options() };
        let outcome = locked.unlock(&passphrase(text), &options, &mut counts);
        (outcome.map(|vault| vault.opened_by()), counts.0)
    };
    assert!(matches!(tries("second", None), (Ok(SlotIndex(1)), 2)));
    assert!(matches!(tries("second", Some(SlotIndex(1))), (Ok(SlotIndex(1)), 1)));
    assert!(matches!(tries("first", Some(SlotIndex(1))), (Err(VaultError::NoSlotOpened), 1)));
    assert!(matches!(tries("wrong", None), (Err(VaultError::NoSlotOpened), 2)));
    for slot in [2, 8, 255] {
        let outcome = tries("first", Some(SlotIndex(slot)));
        assert!(matches!(outcome, (Err(VaultError::SlotMissing { .. }), 0)), "slot {slot}");
    }
}

#[test]
fn cost_is_judged_for_all_slots_before_the_first_runs() {
    struct Never;
    impl KdfMemory for Never {
        fn with_memory(
            &mut self,
            _: usize,
            _: &mut dyn FnMut(&mut [KdfBlock]),
        ) -> Result<(), MemoryRefused> {
            panic!("nothing may be allocated");
        }
    }
    let (device, mut vault) = new_vault();
    let anchor = Anchor::at(1, &device);
    SlotPorts::with_system(|ports| {
        vault.add_slot(None, &cheap(&passphrase("second")), ports, &anchor).unwrap();
    });
    let mut bytes = device.snapshot();
    // 4 GiB and 16 passes in slot 1 of copy A, while slot 0 is cheap.
    bytes[64 + 256 + 4..][..4].copy_from_slice(&0x0040_0000_u32.to_le_bytes());
    bytes[64 + 256 + 8] = 16;
    let locked = Vault::open(device_of(&bytes)).unwrap();
    let unlock = |max_memory_kib, memory: &mut dyn KdfMemory| {
        let limits = KdfLimits { max_memory_kib, ..LIMITS };
        locked.unlock(&passphrase("first"), &UnlockOptions { slot: None, limits }, memory)
    };
    let refused = unlock(KdfCost::MAX_MEMORY_KIB, &mut Never).unwrap_err();
    assert!(matches!(refused, VaultError::Kdf(KdfError::Work { .. })));
    // Where the machine could not run it anyway it is passed over.
    assert_eq!(unlock(1024, &mut HeapMemory).unwrap().opened_by(), SlotIndex(0));
    let wrong = locked.unlock(&passphrase("wrong"), &options(), &mut HeapMemory).unwrap_err();
    assert!(matches!(wrong, VaultError::Kdf(KdfError::BeyondMachine { .. })));
}

/// Whoever forges a slot without the volume key cannot renew the MAC.
#[test]
fn a_slot_that_was_added_downgraded_or_removed_is_detected() {
    let image = image();
    let forged = |edit: &dyn Fn(&mut [u8])| {
        let mut bytes = image.clone();
        for copy in [COPY_A, COPY_B] {
            edit(&mut bytes[copy..copy + COPY_LEN]);
        }
        unlock(&bytes, &passphrase("first")).unwrap_err()
    };
    let own_slot = image[64..64 + 256].to_vec();
    let added = forged(&|header| header[64 + 256..][..256].copy_from_slice(&own_slot));
    assert!(matches!(added, VaultError::HeaderAltered));
    let renamed = forged(&|header| {
        header[64 + 160] = 1;
        header[64 + 161] = b'x';
    });
    assert!(matches!(renamed, VaultError::HeaderAltered));
    let downgraded = forged(&|header| header[64 + 8] = 2);
    assert!(matches!(downgraded, VaultError::NoSlotOpened));
    let block_shift = forged(&|header| header[12] = 15);
    assert!(matches!(block_shift, VaultError::HeaderAltered));
    let sequence = forged(&|header| header[32] = 2);
    assert!(matches!(sequence, VaultError::HeaderAltered));
}

/// An attacker puts copy B of an earlier state back under the newer copy A.
#[test]
fn a_removed_slot_in_the_older_copy_opens_nothing() {
    let (device, mut vault) = new_vault();
    let anchor = Anchor::at(1, &device);
    SlotPorts::with_system(|ports| {
        vault.add_slot(None, &cheap(&passphrase("guest")), ports, &anchor).unwrap();
    });
    let with_guest = device.snapshot();
    vault.remove_slot(SlotIndex(1), &anchor).unwrap();
    let mut bytes = device.snapshot();
    bytes[COPY_B..][..COPY_LEN].copy_from_slice(&with_guest[COPY_B..][..COPY_LEN]);
    let removed = unlock(&bytes, &passphrase("guest")).unwrap_err();
    assert!(matches!(removed, VaultError::NoSlotOpened), "as if it had never been there");
    let vault = unlock(&bytes, &passphrase("first")).unwrap();
    assert_eq!(vault.header().sequence, 3);
    assert_eq!(vault.copy_states(), [CopyState::Current, CopyState::Older]);
    // The whole old header back in both copies: it opens, and its number betrays it.
    let old = unlock(&with_guest, &passphrase("guest")).unwrap();
    let refused = old.judge_sequence(anchor.header_sequence()).unwrap_err();
    assert!(matches!(refused, VaultError::HeaderReplaced { found: 2, committed: 3 }));
}

#[test]
fn the_sequence_number_may_be_one_ahead_and_no_more() {
    let (_, vault) = new_vault();
    vault.judge_sequence(1).unwrap();
    vault.judge_sequence(0).unwrap();
    vault.judge_sequence(2).unwrap_err();
    vault.judge_sequence(u64::MAX).unwrap_err();
    let (device, mut vault) = new_vault();
    let anchor = Anchor::at(1, &device);
    vault.set_label(SlotIndex(0), SlotLabel::default(), &anchor).unwrap();
    vault.set_label(SlotIndex(0), SlotLabel::default(), &anchor).unwrap();
    vault.judge_sequence(2).unwrap();
    vault.judge_sequence(1).unwrap_err();
}

/// At the moment of the superblock's commit copy A is new and copy B is still the old one, whole.
#[test]
fn a_change_writes_copy_a_then_the_superblock_then_copy_b() {
    let (device, mut vault) = new_vault();
    let before = device.snapshot();
    let anchor = Anchor::at(1, &device);
    SlotPorts::with_system(|ports| {
        vault.replace_slot(SlotIndex(0), &cheap(&passphrase("second")), ports, &anchor).unwrap();
    });
    let after = device.snapshot();
    let seen = anchor.seen.lock();
    let [(sequence, during)] = &seen[..] else { panic!("one commit") };
    assert_eq!(*sequence, 2);
    assert_eq!(during[COPY_A..][..COPY_LEN], after[COPY_A..][..COPY_LEN]);
    assert_eq!(during[COPY_B..][..COPY_LEN], before[COPY_B..][..COPY_LEN]);
    assert_eq!(after[COPY_A..][..COPY_LEN], after[COPY_B..][..COPY_LEN]);
}

/// Every state that a power cut can leave, each copy torn at every 512 bytes: the new header opens
/// once its superblock is there, the old one before that, and the vault is mended.
#[test]
fn every_cut_of_a_change_opens_again() {
    let (device, mut vault) = new_vault();
    let old = device.snapshot();
    let anchor = Anchor::at(1, &device);
    SlotPorts::with_system(|ports| {
        vault.replace_slot(SlotIndex(0), &cheap(&passphrase("second")), ports, &anchor).unwrap();
    });
    let new = device.snapshot();
    for sectors in 0..256_u32 {
        let torn = |copy: usize| {
            let mut bytes = if copy == COPY_A { old.clone() } else { new.clone() };
            for sector in (0..8).filter(|sector| sectors >> sector & 1 == 1) {
                let at = copy + sector * 512;
                let source = if copy == COPY_A { &new } else { &old };
                bytes[at..at + 512].copy_from_slice(&source[at..at + 512]);
            }
            bytes
        };
        // Copy A is being written, the superblock is at 1.
        let bytes = torn(COPY_A);
        let opened = unlock(&bytes, &passphrase("first"))
            .or_else(|_| unlock(&bytes, &passphrase("second")))
            .unwrap();
        opened.judge_sequence(1).unwrap();
        // Copy B is being written, the superblock is at 2.
        let bytes = torn(COPY_B);
        unlock(&bytes, &passphrase("first")).unwrap_err();
        let device = device_of(&bytes);
        let locked = Vault::open(device.clone()).unwrap();
        let mut opened = locked.unlock(&passphrase("second"), &options(), &mut HeapMemory).unwrap();
        opened.judge_sequence(2).unwrap();
        opened.mend_copies().unwrap();
        assert_eq!(device.snapshot(), new);
    }
}

#[test]
fn a_change_that_failed_forbids_another_until_the_vault_is_opened_again() {
    let (device, mut vault) = new_vault();
    let failing = Anchor { fails: true, ..Anchor::at(1, &device) };
    let label = || SlotLabel::new("laptop").unwrap();
    let failed = vault.set_label(SlotIndex(0), label(), &failing).unwrap_err();
    assert!(matches!(failed, VaultError::NotCompleted(FsError::NoSpace)));
    let anchor = Anchor::at(1, &device);
    let again = vault.set_label(SlotIndex(0), label(), &anchor).unwrap_err();
    assert!(matches!(again, VaultError::Interrupted));
    assert!(matches!(vault.mend_copies().unwrap_err(), VaultError::Interrupted));
    // Opened again: copy A is one ahead. Another change first commits that number.
    let mut vault = unlock(&device.snapshot(), &passphrase("first")).unwrap();
    vault.judge_sequence(anchor.header_sequence()).unwrap();
    assert_eq!(vault.copy_states(), [CopyState::Current, CopyState::Older]);
    vault.set_label(SlotIndex(0), SlotLabel::default(), &anchor).unwrap();
    let committed: Vec<u64> = anchor.seen.lock().iter().map(|(sequence, _)| *sequence).collect();
    assert_eq!(committed, [2, 3]);
}

#[test]
fn a_change_is_not_begun_without_room_to_commit_it() {
    let (device, mut vault) = new_vault();
    let before = device.snapshot();
    let full = Anchor { full: true, ..Anchor::at(1, &device) };
    let label = || SlotLabel::new("laptop").unwrap();
    let failed = vault.set_label(SlotIndex(0), label(), &full).unwrap_err();
    assert!(matches!(failed, VaultError::Commit(FsError::NoSpace)));
    assert!(device.snapshot() == before, "the header was touched");
    vault.set_label(SlotIndex(0), label(), &Anchor::at(1, &device)).unwrap();
}

#[test]
fn no_secret_is_printed() {
    let (_, vault) = new_vault();
    let printed = format!("{vault:?} {:?}", vault.subkeys());
    for secret in [vault.subkeys().header_mac.expose(), vault.state.volume_key.expose()] {
        assert!(!printed.contains(&format!("{secret:?}")[1..30]));
    }
    assert!(printed.starts_with("Vault(unlocked, "));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// A change of copy A alone is survived by copy B, whatever it is; a change of both is refused.
    #[test]
    fn a_changed_header_is_recovered_or_refused(
        at in 0..COPY_LEN,
        flip in 1..=255_u8,
        second_at in 0..COPY_LEN,
        second_flip in 1..=255_u8,
    ) {
        let (device, made) = new_vault();
        let mut bytes = device.snapshot();
        bytes[COPY_A + at] ^= flip;
        let opened = unlock(&bytes, &passphrase("first")).unwrap();
        prop_assert_eq!(opened.header(), made.header());
        prop_assert_eq!(opened.copy_states(), [CopyState::Unusable, CopyState::Current]);
        bytes[COPY_B + second_at] ^= second_flip;
        prop_assert!(unlock(&bytes, &passphrase("first")).is_err());
    }

    #[test]
    fn arbitrary_units_never_panic(
        unit in prop::collection::vec(any::<u8>(), COPY_LEN),
        start in 0..HEADER_START.len(),
    ) {
        let mut bytes = vec![0; 16 * 4096];
        bytes[..COPY_LEN].copy_from_slice(&unit);
        bytes[..start].copy_from_slice(&HEADER_START[..start]);
        let _ = unlock(&bytes, &passphrase("first"));
    }
}

const HEADER_START: &[u8] = b"TAZPOD\r\n\x01\0\x01\0\x0e\0\0\0";

/// Every single byte of both copies, one bit each: recovered from the other copy.
#[test]
fn every_byte_of_one_copy_may_be_wrong() {
    let image = image();
    let expected = unlock(&image, &passphrase("first")).unwrap();
    for at in (COPY_A..COPY_LEN).chain(COPY_B..COPY_B + COPY_LEN) {
        let mut bytes = image.clone();
        bytes[at] ^= 1 << (at % 8);
        let opened = unlock(&bytes, &passphrase("first")).unwrap();
        assert_eq!(opened.header(), expected.header(), "byte {at}");
    }
}

/// Every byte wrong in both copies alike, as an attacker would do it: refused.
#[test]
fn every_byte_of_both_copies_matters() {
    let image = image();
    for at in 0..COPY_LEN {
        let mut bytes = image.clone();
        for copy in [COPY_A, COPY_B] {
            bytes[copy + at] ^= 1 << (at % 8);
        }
        assert!(unlock(&bytes, &passphrase("first")).is_err(), "byte {at}");
    }
}
