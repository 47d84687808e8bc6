//! From a passphrase to the volume key: derive, decrypt, merge, compare.

use super::SECTOR;
use crate::crypto::hash::Hash;
use crate::crypto::kdf::{Argon2Kind, KdfCost, KdfError, KdfLimits, KdfMemory, argon2};
use crate::crypto::xts::Xts;
use crate::device::BlockDevice;
use crate::foreign::{ForeignError, ForeignResult};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Stripes, at the most; all tools write 4000.
const MOST_STRIPES: usize = 8000;
/// Iterations of PBKDF2 over all slots that are tried, about 20 seconds; more has to be allowed.
const MOST_ITERATIONS: u64 = 40_000_000;
/// Lanes that `cryptsetup` may write.
const MOST_LANES: u32 = 64;
/// A salt or digest, at the most.
const MOST_BYTES: usize = 1024;

/// A keyslot in use.
pub(super) struct Slot {
    pub(super) number: u8,
    pub(super) kdf: Kdf,
    /// Where its material lies.
    pub(super) area: u64,
    pub(super) area_key_len: usize,
    pub(super) key_len: usize,
    pub(super) stripes: usize,
    /// The hash that the material is spread with.
    pub(super) spread: Hash,
    pub(super) digest: Digest,
}

/// How a passphrase becomes the key of a keyslot's material.
pub(super) enum Kdf {
    Pbkdf2 { hash: Hash, salt: Vec<u8>, iterations: u32 },
    Argon2 { kind: Argon2Kind, salt: Vec<u8>, cost: KdfCost },
}

/// What a volume key is recognised by.
#[derive(Clone)]
pub(super) struct Digest {
    pub(super) hash: Hash,
    pub(super) salt: Vec<u8>,
    pub(super) iterations: u32,
    pub(super) value: Vec<u8>,
}

/// Judges what all slots to be tried ask for, before the first one is.
// Keeps its name where fuzzing tells what it has covered.
#[inline(never)]
pub(super) fn judge(slots: &[&Slot], limits: KdfLimits) -> ForeignResult<()> {
    let (mut work, mut iterations) = (0_u64, 0_u64);
    for slot in slots {
        let lengths = [slot.key_len, slot.area_key_len];
        if lengths.iter().any(|len| ![32, 64].contains(len)) {
            return Err(ForeignError::unsupported("a key of this length"));
        }
        if !(1..=MOST_STRIPES).contains(&slot.stripes)
            || !(16..=MOST_BYTES).contains(&slot.digest.value.len())
            || slot.digest.salt.len() > MOST_BYTES
        {
            return Err(ForeignError::damaged("a keyslot"));
        }
        iterations = iterations.saturating_add(slot.digest.iterations.into());
        match &slot.kdf {
            Kdf::Pbkdf2 { salt, iterations: own, .. } => {
                if salt.len() > MOST_BYTES {
                    return Err(ForeignError::damaged("a keyslot"));
                }
                // Each 32 or 64 bytes of key take them again.
                iterations = iterations.saturating_add(u64::from(*own).saturating_mul(2));
            }
            Kdf::Argon2 { salt, cost, .. } => {
                if !(8..=MOST_BYTES).contains(&salt.len())
                    || !(1..=MOST_LANES).contains(&cost.lanes)
                    || cost.passes == 0
                {
                    return Err(ForeignError::damaged("a keyslot"));
                }
                // `cryptsetup` measures the passes, so that there may be many over little memory: what
                // they cost together is bounded below. A cheap slot is a weak one, but no attack.
                let memory = KdfCost { passes: 1, lanes: 1, ..*cost };
                memory.check(&KdfLimits { allow_cheap: true, ..limits })?;
                work = work.saturating_add(cost.work());
            }
        }
    }
    if !limits.allow_costly && (work > KdfLimits::MAX_WORK || iterations > MOST_ITERATIONS) {
        return Err(KdfError::Work { work, most: KdfLimits::MAX_WORK }.into());
    }
    Ok(())
}

impl Slot {
    /// Returns the volume key if the secret opens this slot.
    pub(super) fn open(
        &self,
        device: &dyn BlockDevice,
        secret: &[u8],
        memory: &mut dyn KdfMemory,
    ) -> ForeignResult<Option<Zeroizing<Vec<u8>>>> {
        let mut key = Zeroizing::new(vec![0; self.area_key_len]);
        self.kdf.derive(secret, &mut key, memory)?;
        let cipher = Xts::new(&key).ok_or(ForeignError::damaged("a keyslot"))?;
        let len = self.key_len.saturating_mul(self.stripes);
        let sector = usize::try_from(SECTOR).unwrap_or(512);
        let mut material = Zeroizing::new(vec![0; len.next_multiple_of(sector)]);
        device.read_at(&mut material, self.area)?;
        for (number, part) in (0..).zip(material.chunks_exact_mut(sector)) {
            cipher.decrypt(number, part);
        }
        let found = merge(material.get(..len).unwrap_or_default(), self.key_len, self.spread);
        Ok(self.digest.is_of(&found).then_some(found))
    }
}

impl Digest {
    fn is_of(&self, key: &[u8]) -> bool {
        let mut value = vec![0; self.value.len()];
        self.hash.pbkdf2(key, &self.salt, self.iterations, &mut value);
        value.ct_eq(&self.value).into()
    }
}

impl Kdf {
    fn derive(
        &self,
        secret: &[u8],
        key: &mut [u8],
        memory: &mut dyn KdfMemory,
    ) -> ForeignResult<()> {
        match self {
            Self::Pbkdf2 { hash, salt, iterations } => {
                hash.pbkdf2(secret, salt, *iterations, key);
                Ok(())
            }
            Self::Argon2 { kind, salt, cost } => {
                Ok(argon2(*kind, secret, salt, cost, key, memory)?)
            }
        }
    }
}

/// Merges stripes to the key that was split into them (LUKS1, section 2.4): each is added to what was
/// gathered, and all but the last are followed by a diffusion.
fn merge(material: &[u8], key_len: usize, hash: Hash) -> Zeroizing<Vec<u8>> {
    let mut key = Zeroizing::new(vec![0; key_len]);
    let last = material.len() / key_len.max(1);
    for (index, stripe) in (1..).zip(material.chunks_exact(key_len.max(1))) {
        for (byte, part) in key.iter_mut().zip(stripe) {
            *byte ^= part;
        }
        if index < last {
            for (number, part) in (0..).zip(key.chunks_mut(hash.len())) {
                hash.diffuse(number, part);
            }
        }
    }
    key
}
