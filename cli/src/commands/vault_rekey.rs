//! `tazpod vault rekey`: everything again under a new volume key, in a new image that takes the old one's
//! place.
//!
//! Names beside the image tell how far an interrupted one has come. `FILE.rekey` is the new image on its
//! way: the copy is continued. `FILE.rekey-old` is a second name of the old image, made just before the
//! new one takes its place: if it leads to another file than `FILE` does, the old image has been
//! replaced and only has to be retired and removed.

use crate::app::App;
use crate::args::vault::RekeyArgs;
use crate::caller::Caller;
use crate::error::{Error, Kind, Result};
use crate::image::credential::new_slot;
use crate::image::explain::{mount_error, vault_error};
use crate::image::fresh::{beside, copy_error, device, is_same_file, keep, replace, require_clean};
use crate::image::volume::{remembered, retire, setup};
use crate::image::{self, Image};
use crate::sys::memory::LockedKdfMemory;
use crate::ui::interrupt::{NoReturn, OnInterrupt};
use std::fs;
use std::path::Path;
use vault_core::device::Access;
use vault_core::format::keyslot::Keyslot;
use vault_core::fs::transfer::{Care, CompareError, Source, compare, copy};
use vault_core::fs::{OpenOptions, Volume};
use vault_core::keyslot::{Credential, SlotPorts};
use vault_core::ports::{SystemClock, SystemEntropy};
use vault_core::vault::{Unlocked, Vault};
use vault_core::witness::Witness;

/// Units that the new image may grow to beyond the old one: a full vault must fit too.
const SLACK: u64 = 4096;

/// Renews the volume key.
pub(crate) fn run(app: &App, args: &RekeyArgs) -> Result<u8> {
    let caller = Caller::detect()?;
    let _as_caller = caller.act()?;
    let (path, shown) = Image::place(app, &args.image)?;
    let image = Image::open(&path, &shown, Access::ReadWrite)?;
    let credential = image::credential(&app.ui, &args.credential, &shown)?;
    let vault = image.unlock(&credential, &args.credential)?;
    let rekey = Rekey { app, args, path: &path, shown: &shown };
    if rekey.finish_interrupted(&credential)? {
        app.ui
            .print(&format!("finished: {shown} is vault {} with a new volume key", vault.id()))?;
        return Ok(0);
    }
    rekey.confirm_lost_slots(&vault)?;
    let on_interrupt = OnInterrupt {
        hint: "the vault is as it was; the same command continues where this one ended",
        remove: None,
    };
    let renewed = NoReturn::default();
    let id = app.ui.interruptible_until(&renewed, &on_interrupt, || {
        rekey.renew(&vault, &credential, &renewed)
    })??;
    app.ui.print(&format!("{shown} is now vault {id} with a new volume key"))?;
    app.ui.notice("Copies of the image made before still open with what opened them then.");
    Ok(0)
}

struct Rekey<'a> {
    app: &'a App,
    args: &'a RekeyArgs,
    path: &'a Path,
    shown: &'a str,
}

impl Rekey<'_> {
    /// Without its secret a keyslot cannot be made for another volume key.
    fn confirm_lost_slots(&self, vault: &Vault<Unlocked>) -> Result<()> {
        let others: Vec<String> = vault
            .slots()
            .filter(|(index, _)| *index != vault.opened_by())
            .map(|(index, slot)| format!("{index} ({})", slot.kind))
            .collect();
        if others.is_empty() || self.args.yes {
            return Ok(());
        }
        let list = others.join(", ");
        if self
            .app
            .ui
            .confirm(&format!("Keyslots {list} will not open the vault any more. Go on?"))?
        {
            return Ok(());
        }
        Err(Error::user("nothing was changed")
            .hint("'tazpod vault slot add' adds them again later"))
    }

    /// Removes the old image of a rekey that was interrupted after the new one had taken its place.
    fn finish_interrupted(&self, credential: &Credential) -> Result<bool> {
        let old = beside(self.path, ".rekey-old");
        if old.symlink_metadata().is_err() {
            return Ok(false);
        }
        if is_same_file(self.path, &old) {
            // Interrupted before: the new image had not taken the place yet.
            return remove(&old, self.shown).map(|()| false);
        }
        let old_shown = format!("{}.rekey-old", self.shown);
        let image = Image::open(&old, &old_shown, Access::ReadWrite)?;
        let vault = image.unlock(credential, &self.args.credential)?;
        retire_vault(self.app, &vault);
        remove(&old, &old_shown).map(|()| true)
    }

    fn renew(
        &self,
        old: &Vault<Unlocked>,
        credential: &Credential,
        renewed: &NoReturn,
    ) -> Result<vault_core::ids::VaultId> {
        let options =
            OpenOptions { witness: remembered(&self.app.ui, old)?, ..OpenOptions::default() };
        let source =
            Source::open(&setup(old), &options).map_err(|error| mount_error(error, self.shown))?;
        let making = beside(self.path, ".rekey");
        let making_shown = format!("{}.rekey", self.shown);
        let new = match self.begun(&making, &making_shown, old, credential) {
            Some(vault) => vault,
            None => {
                self.begin(&making, &making_shown, old, credential, &source).inspect_err(|_| {
                    // There is nothing in it to go on with.
                    let _ = fs::remove_file(&making);
                })?
            }
        };
        let newest = self.fill(&source, &new, &making_shown).map_err(|error| {
            // The others say themselves what is to be done with it.
            if error.kind() != Kind::Environment {
                return error;
            }
            error.hint(format!(
                "'{making_shown}' holds what is done so far: the same command goes on there; remove it if you need its room"
            ))
        })?;
        renewed.pass();
        let kept = beside(self.path, ".rekey-old");
        keep(self.path, &kept, &format!("{}.rekey-old", self.shown))?;
        replace(&making, self.path, self.shown, &new, &newest)?;
        retire_vault(self.app, old);
        remove(&kept, self.shown)?;
        Ok(new.id())
    }

    /// Opens what an interrupted rekey left, if it is that.
    fn begun(
        &self,
        making: &Path,
        shown: &str,
        old: &Vault<Unlocked>,
        credential: &Credential,
    ) -> Option<Vault<Unlocked>> {
        let image = Image::open(making, shown, Access::ReadWrite).ok()?;
        let vault = image.unlock(credential, &self.args.credential).ok()?;
        (vault.id() != old.id() && vault.header().block_shift == old.header().block_shift)
            .then_some(vault)
    }

    fn begin(
        &self,
        making: &Path,
        shown: &str,
        old: &Vault<Unlocked>,
        credential: &Credential,
        source: &Source,
    ) -> Result<Vault<Unlocked>> {
        // What cannot be continued: its name has our suffix.
        let _ = fs::remove_file(making);
        let opened: Option<&Keyslot> = old.header().slot(old.opened_by());
        let label = opened.map(|slot| slot.label.as_str().to_owned()).unwrap_or_default();
        let mut slot = new_slot(credential, &self.args.kdf, &label);
        if let Some(cost) = opened.and_then(|slot| slot.cost)
            && self.args.kdf.kdf_memory.is_none()
            && self.args.kdf.kdf_time.is_none()
        {
            slot.cost = cost;
        }
        let mut ports = SlotPorts {
            entropy: &SystemEntropy,
            clock: &SystemClock,
            memory: &mut LockedKdfMemory,
        };
        let explain = |error| vault_error(error, shown);
        let shift = old.header().block_shift;
        let mut new = Vault::create_header(device(making, shown)?, shift, &slot, &mut ports)
            .map_err(explain)?;
        let capacity = source.capacity().saturating_add(SLACK);
        Volume::format(&setup(&new), capacity, (0, 0))
            .map_err(|error| mount_error(error, shown))?;
        // Early, unlike in a new vault: what is interrupted from here on can be opened and continued.
        new.mend_copies().map_err(explain)?;
        Ok(new)
    }

    /// Copies, and reads everything back beside the original.
    fn fill(&self, source: &Source, new: &Vault<Unlocked>, shown: &str) -> Result<Witness> {
        let explain = |error| mount_error(error, shown);
        let (volume, _) = Volume::open(&setup(new), &OpenOptions::default()).map_err(explain)?;
        let mut progress = self.app.ui.progress("re-encrypting");
        copy(source, &volume, Care::Strict, &mut |at| {
            progress.show(at.done, at.total);
            Ok(())
        })
        .map_err(|error| copy_error(error, self.shown, shown))?;
        drop(progress);
        // The room for copying is not needed any more; a vault that is full to the brim keeps it.
        let _ = volume.resize(source.capacity(), &mut |_, _| Ok(()));
        volume.close().map_err(|error| vault_error(error.into(), shown))?;
        let newest = volume.anchor();
        drop(volume);
        require_clean(&self.app.ui, new, shown)?;
        let copied = Source::open(&setup(new), &OpenOptions::default()).map_err(explain)?;
        let mut progress = self.app.ui.progress("comparing");
        compare(source, &copied, &mut |at| {
            progress.show(at.done, at.total);
            Ok(())
        })
        .map_err(|error| match error {
            CompareError::Source(cause) => vault_error(cause.into(), self.shown),
            CompareError::Copy(cause) => vault_error(cause.into(), shown),
            differs => Error::internal(format!("'{shown}' is not a faithful copy"))
                .caused_by(differs)
                .hint(format!("the vault is as it was; remove '{shown}' and start again")),
        })?;
        Ok(newest)
    }
}

/// Remembers that the old vault id is history here, whatever this machine knew of it.
fn retire_vault(app: &App, old: &Vault<Unlocked>) {
    let known = remembered(&app.ui, old).ok().flatten();
    let newest = || {
        let options = OpenOptions { read_only: true, ..OpenOptions::default() };
        let (volume, _) = Volume::open(&setup(old), &options).ok()?;
        Some(volume.anchor())
    };
    if let Some(last) = known.or_else(newest) {
        retire(old, &last);
    }
}

fn remove(path: &Path, shown: &str) -> Result<()> {
    fs::remove_file(path).map_err(|cause| {
        Error::environment(format!("cannot remove the old image of '{shown}'"))
            .caused_by(cause)
            .hint(format!("it is '{}' and opens with the old volume key", path.display()))
    })
}
