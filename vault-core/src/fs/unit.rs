//! Several changes that become durable together, or not at all.

use crate::error::{FsError, FsResult};
use crate::fs::open::{self, MountError, OpenOptions, Setup};
use crate::fs::volume::{Health, Unit, Volume};

impl Volume {
    /// Does `work` and makes it durable by one commit. If any of it fails, or there is no room for the
    /// commit, the volume returns to the state before, as after a power cut.
    ///
    /// Everything that `work` changes stays in memory until its end. Nobody else may use the volume
    /// meanwhile: their changes would be part of it, and a request for durability fails.
    pub(crate) fn all_or_nothing<R, E: From<FsError>>(
        &self,
        work: impl FnOnce() -> Result<R, E>,
    ) -> Result<R, E> {
        self.sync()?;
        // Inside, nothing can be committed to make freed space usable.
        self.mature()?;
        self.set_unit(Unit::Open);
        let outcome = work();
        let spoiled = self.set_unit(Unit::None) == Unit::Spoiled;
        let outcome = match outcome {
            Ok(_) if spoiled => Err(FsError::ReadOnly.into()),
            Ok(done) => self.commit(false).map(|()| done).map_err(E::from),
            Err(error) => Err(error),
        };
        if outcome.is_err() {
            self.return_to_committed()?;
        }
        outcome
    }

    /// Forgets everything since the last commit, by opening the image again. An I/O error has made the
    /// volume read-only before this is called, and leaves it so.
    fn return_to_committed(&self) -> FsResult<()> {
        if self.health() != Health::Writable {
            return Err(FsError::ReadOnly);
        }
        let setup =
            Setup { header_sequence: self.anchor().header_sequence, ..self.setup().clone() };
        let opened = open::open(&setup, &OpenOptions::default()).map_err(|error| match error {
            MountError::Fs(error) => error,
            _ => FsError::ReadOnly,
        });
        match opened {
            Ok((fs, found, _)) if found.generation == self.anchor().generation => {
                self.replace_state(fs);
                Ok(())
            }
            // What is on the disk is whole, but what it is cannot be told from here.
            outcome => {
                self.freeze();
                Err(outcome.err().unwrap_or(FsError::ReadOnly))
            }
        }
    }
}
