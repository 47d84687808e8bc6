//! From the keys to the tree: opening the newest sound state, judged by what this machine remembers.

use super::explain::{mount_error, vault_error};
use super::open::Image;
use crate::caller::Caller;
use crate::error::Result;
use crate::ui::Ui;
use crate::witness_store::WitnessStore;
use std::sync::Arc;
use vault_core::check::{Depth, Report, check};
use vault_core::fs::{OpenOptions, Setup, Volume};
use vault_core::ids::Generation;
use vault_core::ports::{SystemClock, SystemEntropy};
use vault_core::vault::{Unlocked, Vault, VaultError};
use vault_core::witness::Witness;

/// Returns what a volume of this vault stands on.
pub(crate) fn setup(vault: &Vault<Unlocked>) -> Setup {
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

impl Image {
    /// Opens the newest sound state of the unlocked vault.
    pub(crate) fn volume(
        &self,
        ui: &Ui,
        vault: &Vault<Unlocked>,
        read_only: bool,
        accepted: Option<u64>,
    ) -> Result<Volume> {
        let options = OpenOptions {
            read_only,
            witness: remembered(ui, vault)?,
            accept_generation: accepted.map(Generation),
            keep_free_space: false,
        };
        self.mounted(ui, vault, &options)
    }

    fn mounted(&self, ui: &Ui, vault: &Vault<Unlocked>, options: &OpenOptions) -> Result<Volume> {
        let explain = |error| mount_error(error, &self.shown);
        let (volume, opened) = Volume::open(&setup(vault), options).map_err(explain)?;
        if let Some(torn) = opened.stepped_back {
            let taken = opened.generation;
            ui.warn(
                &format!("commit {torn} of {} was torn, taking {taken}", self.shown),
                "the last commit before an interruption was not completed; all before it is there",
            );
        }
        Ok(volume)
    }

    /// Opens the newest sound state for reading, whatever this machine has seen of the vault.
    pub(crate) fn any_state(&self, ui: &Ui, vault: &Vault<Unlocked>) -> Result<Volume> {
        let options = OpenOptions { read_only: true, ..OpenOptions::default() };
        self.mounted(ui, vault, &options)
    }

    /// Verifies everything in the unlocked vault and changes nothing.
    pub(crate) fn check(
        &self,
        ui: &Ui,
        vault: &Vault<Unlocked>,
        show: &mut dyn FnMut(u64, u64),
    ) -> Result<Report> {
        let options = OpenOptions {
            read_only: true,
            witness: remembered(ui, vault)?,
            ..OpenOptions::default()
        };
        check(&setup(vault), &options, Depth::Everything, &mut |progress| {
            show(progress.done, progress.total);
            Ok(())
        })
        .map_err(|error| mount_error(error, &self.shown))
    }

    /// Changes keyslots: opens the state, mends what an interrupted change left, does the work, and
    /// closes again.
    pub(crate) fn change<T>(
        &self,
        ui: &Ui,
        vault: &mut Vault<Unlocked>,
        work: impl FnOnce(&mut Vault<Unlocked>, &Volume) -> std::result::Result<T, VaultError>,
    ) -> Result<T> {
        let volume = self.volume(ui, vault, false, None)?;
        let explain = |error| vault_error(error, &self.shown);
        vault.mend_copies().map_err(explain)?;
        let outcome = work(vault, &volume).map_err(explain);
        let closed = volume.close().map_err(|error| explain(error.into()));
        remember(vault, &volume.anchor());
        outcome.and_then(|outcome| closed.map(|()| outcome))
    }
}

/// Reads what this machine remembers of the vault.
pub(crate) fn remembered(ui: &Ui, vault: &Vault<Unlocked>) -> Result<Option<Witness>> {
    match WitnessStore::open(&Caller::detect()?.state_folder()) {
        Ok(store) => store.read(vault.id(), vault.subkeys()),
        Err(cause) => {
            ui.warn(
                &format!("the state folder cannot be used: {cause}"),
                "whether the image is the newest cannot be told",
            );
            Ok(None)
        }
    }
}

/// Remembers the newest durable state. Where that cannot be done the next opening says so.
pub(crate) fn remember(vault: &Vault<Unlocked>, newest: &Witness) {
    let store =
        Caller::detect().ok().and_then(|caller| WitnessStore::open(&caller.state_folder()).ok());
    if let Some(store) = store {
        let _ = store.write(vault.id(), &newest.encode(vault.subkeys()));
    }
}

/// Remembers that a vault was re-keyed: its old image is refused here from now on.
pub(crate) fn retire(vault: &Vault<Unlocked>, last: &Witness) {
    remember(vault, &Witness { retired: true, ..*last });
}
