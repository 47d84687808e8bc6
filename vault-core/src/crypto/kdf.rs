//! Argon2id (RFC 9106), which makes each guess at a passphrase expensive, and the bounds within
//! which a stored cost is believed.
//!
//! The cost of a keyslot is read from a header that nobody has authenticated yet, so every number is
//! judged by [`KdfLimits`] before a byte is allocated. The working memory comes through the port
//! [`KdfMemory`], so that a caller can lock it and keep it out of core dumps; it is wiped here, whoever
//! owns it, because the cipher crate leaves it as it was.

use crate::crypto::secret::SecretBytes;
use argon2::{Algorithm, Argon2, Params, Version};
use rayon::iter::{IntoParallelRefMutIterator, ParallelIterator};
use thiserror::Error;
use zeroize::Zeroize;

/// One KiB of Argon2's working memory.
pub use argon2::Block as KdfBlock;

/// What one derivation costs, as a keyslot stores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KdfCost {
    /// Working memory in KiB.
    pub memory_kib: u32,
    /// Passes over that memory.
    pub passes: u32,
    /// Lanes that may be computed at the same time.
    pub lanes: u32,
}

impl KdfCost {
    /// The cheapest memory that is believed without [`KdfLimits::allow_cheap`]: 64 MiB.
    pub const MIN_MEMORY_KIB: u32 = 64 * 1024;
    /// The largest memory that is ever believed: 4 GiB.
    pub const MAX_MEMORY_KIB: u32 = 4 * 1024 * 1024;
    /// The most passes that are ever believed.
    pub const MAX_PASSES: u32 = 16;
    /// The most lanes that are ever believed.
    pub const MAX_LANES: u32 = 8;
    /// KiB that each lane needs at the least (RFC 9106, section 3.1).
    pub const MIN_KIB_PER_LANE: u32 = 8;

    /// Returns the work in KiB passes, the unit of [`KdfLimits::MAX_WORK`].
    pub fn work(&self) -> u64 {
        u64::from(self.memory_kib) * u64::from(self.passes)
    }

    /// Judges the cost of one derivation before anything is allocated for it.
    pub fn check(&self, limits: &KdfLimits) -> Result<(), KdfError> {
        if !(1..=Self::MAX_PASSES).contains(&self.passes) {
            return Err(KdfError::Passes { passes: self.passes });
        }
        if !(1..=Self::MAX_LANES).contains(&self.lanes) {
            return Err(KdfError::Lanes { lanes: self.lanes });
        }
        let least = if limits.allow_cheap {
            Self::MIN_KIB_PER_LANE * self.lanes
        } else {
            Self::MIN_MEMORY_KIB
        };
        if !(least..=Self::MAX_MEMORY_KIB).contains(&self.memory_kib) {
            return Err(KdfError::Memory { memory_kib: self.memory_kib, least_kib: least });
        }
        if self.memory_kib > limits.max_memory_kib {
            return Err(KdfError::BeyondMachine {
                memory_kib: self.memory_kib,
                available_kib: limits.max_memory_kib,
            });
        }
        Ok(())
    }
}

impl Default for KdfCost {
    /// 256 MiB, 3 passes, 4 lanes: about half a second, and the same on every machine so that a
    /// vault opens on the next one too.
    fn default() -> Self {
        Self { memory_kib: 256 * 1024, passes: 3, lanes: 4 }
    }
}

/// What the caller is ready to spend on keyslots that nobody has authenticated.
#[derive(Clone, Copy, Debug)]
pub struct KdfLimits {
    /// Believe slots below 64 MiB; for tests, where the cost is only in the way.
    pub allow_cheap: bool,
    /// Believe more summed work than [`KdfLimits::MAX_WORK`].
    pub allow_costly: bool,
    /// The memory that the machine or the control group can spare, in KiB.
    pub max_memory_kib: u32,
}

impl KdfLimits {
    /// Summed KiB passes over all derivations of one attempt, about 20 seconds of work (36 GiB
    /// passes at the 1.8 GiB passes a second that two cores do).
    pub const MAX_WORK: u64 = 36 * 1024 * 1024;

    /// Judges all derivations of one attempt together, before the first one runs: a forged header
    /// can otherwise keep a person waiting for a quarter of an hour.
    pub fn check_all<'a>(
        &self,
        costs: impl IntoIterator<Item = &'a KdfCost>,
    ) -> Result<(), KdfError> {
        let mut work = 0_u64;
        for cost in costs {
            cost.check(self)?;
            work = work.saturating_add(cost.work());
        }
        if work > Self::MAX_WORK && !self.allow_costly {
            return Err(KdfError::Work { work, most: Self::MAX_WORK });
        }
        Ok(())
    }
}

impl Default for KdfLimits {
    /// The format's own bounds, for callers that do not know their machine.
    fn default() -> Self {
        Self { allow_cheap: false, allow_costly: false, max_memory_kib: KdfCost::MAX_MEMORY_KIB }
    }
}

/// A key derivation was refused or could not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KdfError {
    /// The memory is outside the format's bounds.
    #[error("KDF memory of {memory_kib} KiB is outside {least_kib} KiB to 4 GiB")]
    Memory {
        /// What the slot asks for.
        memory_kib: u32,
        /// The least that is believed.
        least_kib: u32,
    },
    /// The number of passes is outside the format's bounds.
    #[error("{passes} KDF passes are outside 1 to 16")]
    Passes {
        /// What the slot asks for.
        passes: u32,
    },
    /// The number of lanes is outside the format's bounds.
    #[error("{lanes} KDF lanes are outside 1 to 8")]
    Lanes {
        /// What the slot asks for.
        lanes: u32,
    },
    /// The derivation needs more memory than the machine has.
    #[error("KDF needs {memory_kib} KiB of memory and {available_kib} KiB are available")]
    BeyondMachine {
        /// What the slot asks for.
        memory_kib: u32,
        /// What the caller said there is.
        available_kib: u32,
    },
    /// The slots together would take far too long.
    #[error("the keyslots together cost {work} KiB passes, more than {most}")]
    Work {
        /// What all slots to be tried cost together.
        work: u64,
        /// The most that is spent without being told to.
        most: u64,
    },
    /// The working memory could not be had.
    #[error("cannot allocate {memory_kib} KiB for the KDF")]
    OutOfMemory {
        /// How much was asked for.
        memory_kib: u32,
    },
    /// The passphrase or salt has a length that Argon2 does not take.
    #[error("passphrase or salt has an impossible length")]
    Input,
}

/// Lends working memory to the KDF.
///
/// An implementation may lock the memory and keep it out of core dumps. It need not wipe it.
pub trait KdfMemory {
    /// Calls `work` once with `blocks` blocks, or fails without calling it.
    fn with_memory(
        &mut self,
        blocks: usize,
        work: &mut dyn FnMut(&mut [KdfBlock]),
    ) -> Result<(), MemoryRefused>;
}

/// The working memory could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("working memory could not be allocated")]
pub struct MemoryRefused;

/// Working memory from the heap, neither locked nor kept out of dumps.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeapMemory;

impl KdfMemory for HeapMemory {
    fn with_memory(
        &mut self,
        blocks: usize,
        work: &mut dyn FnMut(&mut [KdfBlock]),
    ) -> Result<(), MemoryRefused> {
        let mut memory = Vec::new();
        memory.try_reserve_exact(blocks).map_err(|_| MemoryRefused)?;
        memory.resize(blocks, KdfBlock::new());
        work(&mut memory);
        Ok(())
    }
}

/// Derives 32 bytes from a passphrase: Argon2id, version 0x13, no secret, no associated data.
///
/// Call [`KdfCost::check`] first: this function allocates what `cost` says.
pub fn argon2id(
    passphrase: &[u8],
    salt: &[u8],
    cost: &KdfCost,
    memory: &mut dyn KdfMemory,
) -> Result<SecretBytes<32>, KdfError> {
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32))
        .map_err(|_| KdfError::Input)?;
    let blocks = params.block_count();
    let kdf = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    SecretBytes::try_init(|out| {
        let mut outcome = Err(KdfError::Input);
        memory
            .with_memory(blocks, &mut |memory| {
                let wiped = Wiped(memory);
                outcome = kdf
                    .hash_password_into_with_memory(passphrase, salt, out, &mut *wiped.0)
                    .map_err(|_| KdfError::Input);
            })
            .map_err(|MemoryRefused| KdfError::OutOfMemory { memory_kib: cost.memory_kib })?;
        outcome
    })
}

/// Which Argon2 a foreign keyslot asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Argon2Kind {
    /// Argon2i.
    Independent,
    /// Argon2id.
    Hybrid,
}

/// Fills `out` with Argon2 of any kind, as foreign keyslots ask for it. Bounds are the caller's.
pub(crate) fn argon2(
    kind: Argon2Kind,
    passphrase: &[u8],
    salt: &[u8],
    cost: &KdfCost,
    out: &mut [u8],
    memory: &mut dyn KdfMemory,
) -> Result<(), KdfError> {
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(out.len()))
        .map_err(|_| KdfError::Input)?;
    let blocks = params.block_count();
    let algorithm = match kind {
        Argon2Kind::Independent => Algorithm::Argon2i,
        Argon2Kind::Hybrid => Algorithm::Argon2id,
    };
    let kdf = Argon2::new(algorithm, Version::V0x13, params);
    let mut outcome = Err(KdfError::Input);
    memory
        .with_memory(blocks, &mut |memory| {
            let wiped = Wiped(memory);
            outcome = kdf
                .hash_password_into_with_memory(passphrase, salt, out, &mut *wiped.0)
                .map_err(|_| KdfError::Input);
        })
        .map_err(|MemoryRefused| KdfError::OutOfMemory { memory_kib: cost.memory_kib })?;
    outcome
}

/// Wipes the working memory on every way out, a panic included. All cores share the work: it is
/// hundreds of megabytes.
struct Wiped<'a>(&'a mut [KdfBlock]);

impl Drop for Wiped<'_> {
    fn drop(&mut self) {
        self.0.par_iter_mut().for_each(Zeroize::zeroize);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use std::cell::Cell;

    const CHEAP: KdfCost = KdfCost { memory_kib: 32, passes: 3, lanes: 4 };

    /// Keeps the memory alive after the derivation, as an attacker would find it.
    #[derive(Default)]
    struct Kept(Vec<KdfBlock>);

    impl KdfMemory for Kept {
        fn with_memory(
            &mut self,
            blocks: usize,
            work: &mut dyn FnMut(&mut [KdfBlock]),
        ) -> Result<(), MemoryRefused> {
            let mut dirty = KdfBlock::new();
            dirty.as_mut().fill(0xA5A5_A5A5);
            self.0 = vec![dirty; blocks];
            work(&mut self.0);
            Ok(())
        }
    }

    struct Refuses;

    impl KdfMemory for Refuses {
        fn with_memory(
            &mut self,
            _: usize,
            _: &mut dyn FnMut(&mut [KdfBlock]),
        ) -> Result<(), MemoryRefused> {
            Err(MemoryRefused)
        }
    }

    #[test]
    fn working_memory_is_wiped_and_its_content_does_not_matter() {
        let mut kept = Kept::default();
        let from_kept = argon2id(b"passphrase", &[7; 32], &CHEAP, &mut kept).unwrap();
        let from_heap = argon2id(b"passphrase", &[7; 32], &CHEAP, &mut HeapMemory).unwrap();
        assert_eq!(from_kept.expose(), from_heap.expose());
        assert_eq!(kept.0.len(), 32);
        assert!(kept.0.iter().all(|block| block.as_ref().iter().all(|&word| word == 0)));
    }

    #[test]
    fn refused_memory_is_an_error() {
        let error = argon2id(b"passphrase", &[7; 32], &CHEAP, &mut Refuses).unwrap_err();
        assert_eq!(error, KdfError::OutOfMemory { memory_kib: 32 });
    }

    #[test]
    fn every_bound_is_checked_on_both_sides() {
        let limits = KdfLimits::default();
        let with = |edit: fn(&mut KdfCost)| {
            let mut cost = KdfCost::default();
            edit(&mut cost);
            cost.check(&limits)
        };
        assert_eq!(with(|_| ()), Ok(()));
        assert_eq!(with(|cost| cost.memory_kib = 64 * 1024), Ok(()));
        assert!(matches!(
            with(|cost| cost.memory_kib = 64 * 1024 - 1),
            Err(KdfError::Memory { .. })
        ));
        assert_eq!(with(|cost| cost.memory_kib = 4 * 1024 * 1024), Ok(()));
        assert!(matches!(
            with(|cost| cost.memory_kib = 4 * 1024 * 1024 + 1),
            Err(KdfError::Memory { .. })
        ));
        assert_eq!(with(|cost| cost.passes = 0), Err(KdfError::Passes { passes: 0 }));
        assert_eq!(with(|cost| cost.passes = 16), Ok(()));
        assert_eq!(with(|cost| cost.passes = 17), Err(KdfError::Passes { passes: 17 }));
        assert_eq!(with(|cost| cost.lanes = 0), Err(KdfError::Lanes { lanes: 0 }));
        assert_eq!(with(|cost| cost.lanes = 8), Ok(()));
        assert_eq!(with(|cost| cost.lanes = 9), Err(KdfError::Lanes { lanes: 9 }));
    }

    #[test]
    fn cheap_slots_need_permission_and_still_have_a_floor() {
        let limits = KdfLimits { allow_cheap: true, ..KdfLimits::default() };
        assert!(CHEAP.check(&KdfLimits::default()).is_err());
        assert_eq!(CHEAP.check(&limits), Ok(()));
        assert!(KdfCost { memory_kib: 31, ..CHEAP }.check(&limits).is_err());
    }

    #[test]
    fn a_cost_beyond_the_machine_is_refused() {
        let limits = KdfLimits { max_memory_kib: 200_000, ..KdfLimits::default() };
        assert_eq!(
            KdfCost::default().check(&limits),
            Err(KdfError::BeyondMachine { memory_kib: 262_144, available_kib: 200_000 })
        );
    }

    #[test]
    fn summed_work_is_bounded_unless_allowed() {
        let limits = KdfLimits::default();
        let costly = KdfCost { memory_kib: KdfCost::MAX_MEMORY_KIB, passes: 8, lanes: 4 };
        assert_eq!(limits.check_all([&KdfCost::default(); 8]), Ok(()));
        assert_eq!(limits.check_all([&costly]), Ok(()));
        assert!(matches!(limits.check_all([&costly, &costly]), Err(KdfError::Work { .. })));
        let allowed = KdfLimits { allow_costly: true, ..limits };
        assert_eq!(allowed.check_all([&costly, &costly]), Ok(()));
    }

    #[test]
    fn memory_is_asked_for_once_and_in_whole_lanes() {
        struct Counts(Cell<usize>);
        impl KdfMemory for Counts {
            fn with_memory(
                &mut self,
                blocks: usize,
                work: &mut dyn FnMut(&mut [KdfBlock]),
            ) -> Result<(), MemoryRefused> {
                self.0.set(self.0.get() + blocks);
                HeapMemory.with_memory(blocks, work)
            }
        }
        let mut counts = Counts(Cell::new(0));
        let odd = KdfCost { memory_kib: 47, passes: 1, lanes: 4 };
        argon2id(b"passphrase", &[7; 32], &odd, &mut counts).unwrap();
        assert_eq!(counts.0.get(), 32, "47 KiB rounded down to 4 lanes of 2 blocks per slice");
    }
}
