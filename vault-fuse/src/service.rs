//! What the event threads and the timer share: the volume, and whether it may still be trusted.

use crate::errno::{errno, is_failure};
use fuser::Errno;
use parking_lot::{Condvar, Mutex};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use vault_core::error::{FsError, FsResult};
use vault_core::fs::Volume;

/// How long a change may wait before it is committed without anyone asking.
const COMMIT_INTERVAL: Duration = Duration::from_secs(5);

/// A volume in service.
pub(crate) struct Service {
    volume: Arc<Volume>,
    /// Set by a panic in the volume. Its state is then unknown: nothing of it is shown or committed any more.
    halted: AtomicBool,
    /// Counts requests that may have changed something.
    changes: AtomicU64,
    phase: Mutex<Phase>,
    changed: Condvar,
    listener: OnceLock<TroubleListener>,
    /// Whether the listener has heard of a failure; one is enough.
    told: AtomicBool,
}

/// What an owner should hear of while a vault is served. Programs get an errno for it, which says little.
#[derive(Debug)]
#[non_exhaustive]
pub enum Trouble<'a> {
    /// The image or what it lies on failed. Told once in a session.
    Failed(&'a FsError),
    /// A bug was met: nothing is served or committed any more.
    Halted,
}

/// Who hears of it; called from the thread that met it, so it must be quick.
pub type TroubleListener = Box<dyn Fn(Trouble<'_>) + Send + Sync>;

/// How far the session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Requests are answered.
    Serving,
    /// Someone asked for the end.
    Stopping,
    /// The kernel sends no more requests.
    Over,
}

impl Service {
    pub(crate) fn new(volume: Arc<Volume>) -> Self {
        Self {
            volume,
            halted: AtomicBool::new(false),
            changes: AtomicU64::new(0),
            phase: Mutex::new(Phase::Serving),
            changed: Condvar::new(),
            listener: OnceLock::new(),
            told: AtomicBool::new(false),
        }
    }

    /// Runs an operation that changes nothing.
    pub(crate) fn read<T>(
        &self,
        operation: impl FnOnce(&Volume) -> FsResult<T>,
    ) -> Result<T, Errno> {
        if self.halted.load(Ordering::Acquire) {
            return Err(Errno::EIO);
        }
        match catch_unwind(AssertUnwindSafe(|| operation(&self.volume))) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                if is_failure(&error) && !self.told.swap(true, Ordering::AcqRel) {
                    self.tell(Trouble::Failed(&error));
                }
                Err(errno(&error))
            }
            Err(_panic) => {
                if !self.halted.swap(true, Ordering::AcqRel) {
                    self.tell(Trouble::Halted);
                }
                self.advance(Phase::Stopping);
                Err(Errno::EIO)
            }
        }
    }

    /// Runs an operation that may change the volume.
    pub(crate) fn change<T>(
        &self,
        operation: impl FnOnce(&Volume) -> FsResult<T>,
    ) -> Result<T, Errno> {
        self.changes.fetch_add(1, Ordering::Relaxed);
        self.read(operation)
    }

    /// Sets who hears of trouble; the first one stays.
    pub(crate) fn on_trouble(&self, listener: TroubleListener) {
        let _ = self.listener.set(listener);
    }

    fn tell(&self, trouble: Trouble<'_>) {
        if let Some(listener) = self.listener.get() {
            listener(trouble);
        }
    }

    /// Returns whether a panic ended the service.
    pub(crate) fn is_halted(&self) -> bool {
        self.halted.load(Ordering::Acquire)
    }

    /// Commits what has waited long enough, and settles a volume that nobody changes, until the session is over.
    pub(crate) fn keep_committed(&self) {
        let mut settled_at = None;
        let mut seen = self.changes.load(Ordering::Relaxed);
        while !self.wait_until_over(COMMIT_INTERVAL) {
            let changes = self.changes.load(Ordering::Relaxed);
            if changes != seen {
                seen = changes;
                // A failure shows itself again to whoever asks for fsync, and at the end of the session.
                let _ = self.read(Volume::commit_if_dirty);
            } else if settled_at != Some(changes) {
                let _ = self.read(Volume::commit_if_dirty);
                if self.read(Volume::settle).is_ok() {
                    settled_at = Some(changes);
                }
            }
        }
    }

    /// Makes everything durable and gives space back: the last act of a session.
    pub(crate) fn finish(&self) -> FsResult<()> {
        if self.is_halted() { Ok(()) } else { self.volume.settle() }
    }

    /// Moves on to `phase`; a session never goes back.
    pub(crate) fn advance(&self, phase: Phase) {
        let mut current = self.phase.lock();
        if *current != Phase::Over {
            *current = phase;
            self.changed.notify_all();
        }
    }

    /// Waits for someone to ask for the end, or for the end itself.
    pub(crate) fn wait_for_end(&self) -> Phase {
        let mut phase = self.phase.lock();
        while *phase == Phase::Serving {
            self.changed.wait(&mut phase);
        }
        *phase
    }

    /// Waits for the end, for `limit` at most, and returns whether it came.
    pub(crate) fn wait_until_over(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut phase = self.phase.lock();
        while *phase != Phase::Over {
            if self.changed.wait_until(&mut phase, deadline).timed_out() {
                return *phase == Phase::Over;
            }
        }
        true
    }
}
