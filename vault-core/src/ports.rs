//! What the vault needs from the world besides storage: randomness, time, and memory for the KDF.
//!
//! The library never asks the operating system itself, so tests and fuzzers can stand in.

use crate::error::EntropyError;
#[cfg(target_os = "linux")]
use nix::time::{ClockId, clock_gettime};
use std::time::{SystemTime, UNIX_EPOCH};

/// A source of cryptographically secure random bytes.
pub trait Entropy: Send + Sync {
    /// Fills `buffer` whole, or fails without a partial answer being used.
    fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError>;
}

/// A point in time as inodes store it: whole seconds since 1970 and nanoseconds after them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Seconds since 1970-01-01 00:00:00 UTC; negative before.
    pub seconds: i64,
    /// Nanoseconds after `seconds`, below 1,000,000,000.
    pub nanos: u32,
}

/// The current time.
pub trait Clock: Send + Sync {
    /// Returns the time now.
    fn now(&self) -> Timestamp;
}

/// The operating system's random number generator (`getrandom(2)`).
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError> {
        getrandom::fill(buffer).map_err(|_| EntropyError)
    }
}

/// The operating system's real-time clock.
///
/// On Linux it is the coarse one, which moves at every tick: the kernel stamps with it what it
/// caches, and a finer clock beside it would let a file that is made and then written seem to have
/// been written before it was made.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[cfg(target_os = "linux")]
    fn now(&self) -> Timestamp {
        match clock_gettime(ClockId::CLOCK_REALTIME_COARSE) {
            Ok(time) => Timestamp {
                seconds: time.tv_sec(),
                nanos: u32::try_from(time.tv_nsec()).unwrap_or_default(),
            },
            Err(_) => SystemTime::now().into(),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn now(&self) -> Timestamp {
        SystemTime::now().into()
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Timestamp {
                seconds: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
                nanos: after.subsec_nanos(),
            },
            Err(before) => {
                let before = before.duration();
                let whole = i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
                match before.subsec_nanos() {
                    0 => Timestamp { seconds: -whole, nanos: 0 },
                    nanos => Timestamp {
                        seconds: (-whole).saturating_sub(1),
                        nanos: 1_000_000_000 - nanos,
                    },
                }
            }
        }
    }
}
