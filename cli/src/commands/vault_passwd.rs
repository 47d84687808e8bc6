//! `tazpod vault passwd`: another passphrase opens a keyslot, and the one before does not.

use crate::app::App;
use crate::args::vault::PasswdArgs;
use crate::caller::Caller;
use crate::error::{Error, Result};
use crate::image::credential::{new_slot, next_credential};
use crate::image::{self, Image};
use crate::sys::memory::LockedKdfMemory;
use vault_core::device::Access;
use vault_core::ids::SlotIndex;
use vault_core::keyslot::{SlotKind, SlotPorts};
use vault_core::ports::{SystemClock, SystemEntropy};
use vault_core::vault::{Unlocked, Vault};

/// Changes the passphrase.
pub(crate) fn run(app: &App, args: &PasswdArgs) -> Result<u8> {
    let caller = Caller::detect()?;
    let _as_caller = caller.act()?;
    let (path, shown) = Image::place(app, &args.image)?;
    let image = Image::open(&path, &shown, Access::ReadWrite)?;
    let credential = image::credential(&app.ui, &args.credential, &shown)?;
    let mut vault = image.unlock(&credential, &args.credential)?;
    let place = args.change.map_or_else(|| slot_to_change(&vault), |slot| Ok(SlotIndex(slot)))?;
    let label = vault.header().slot(place).map(|slot| slot.label.clone()).unwrap_or_default();
    let next = next_credential(&app.ui, &args.new, &shown)?;
    let new = new_slot(&next, &args.kdf, label.as_str());
    image.change(&app.ui, &mut vault, |vault, volume| {
        let mut ports = SlotPorts {
            entropy: &SystemEntropy,
            clock: &SystemClock,
            memory: &mut LockedKdfMemory,
        };
        vault.replace_slot(place, &new, &mut ports, volume)
    })?;
    app.ui.print(&format!("changed keyslot {place} of {shown}"))?;
    app.ui.notice("Copies of the image made before still open with what opened them then.");
    Ok(0)
}

/// The slot that opened; but who comes with the recovery key has forgotten the passphrase and wants
/// to keep the recovery key.
fn slot_to_change(vault: &Vault<Unlocked>) -> Result<SlotIndex> {
    let opened = vault.opened_by();
    if vault.header().slot(opened).is_none_or(|slot| slot.kind != SlotKind::RecoveryKey) {
        return Ok(opened);
    }
    let passphrases: Vec<_> =
        vault.slots().filter(|(_, slot)| slot.kind == SlotKind::Passphrase).collect();
    match passphrases.as_slice() {
        [(only, _)] => Ok(*only),
        _ => Err(Error::user("which passphrase shall be changed cannot be told")
            .hint("--change N names its keyslot; 'tazpod vault slot list' shows them")),
    }
}
