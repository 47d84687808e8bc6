//! `tazpod vault kdf`: the same passphrase, another cost.

use crate::app::App;
use crate::args::vault::VaultKdfArgs;
use crate::caller::Caller;
use crate::error::{Error, Result};
use crate::image::credential::{new_slot, new_slot_cost};
use crate::image::{self, Image};
use crate::sys::memory::LockedKdfMemory;
use crate::units::ByteSize;
use vault_core::device::Access;
use vault_core::keyslot::SlotPorts;
use vault_core::ports::{SystemClock, SystemEntropy};

/// Gives the keyslot that opens another cost.
pub(crate) fn run(app: &App, args: &VaultKdfArgs) -> Result<u8> {
    let caller = Caller::detect()?;
    let _as_caller = caller.act()?;
    if args.credential.recovery {
        return Err(Error::user("a recovery key has no KDF cost")
            .hint("its 256 random bits need no key derivation that takes long"));
    }
    let (path, shown) = Image::place(app, &args.image)?;
    let image = Image::open(&path, &shown, Access::ReadWrite)?;
    let credential = image::credential(&app.ui, &args.credential, &shown)?;
    let mut vault = image.unlock(&credential, &args.credential)?;
    let place = vault.opened_by();
    let label = vault.header().slot(place).map(|slot| slot.label.clone()).unwrap_or_default();
    let new = new_slot(&credential, &args.kdf, label.as_str());
    image.change(&app.ui, &mut vault, |vault, volume| {
        let mut ports = SlotPorts {
            entropy: &SystemEntropy,
            clock: &SystemClock,
            memory: &mut LockedKdfMemory,
        };
        vault.replace_slot(place, &new, &mut ports, volume)
    })?;
    let cost = new_slot_cost(&args.kdf);
    let memory = ByteSize(u64::from(cost.memory_kib) << 10);
    app.ui.print(&format!(
        "keyslot {place} of {shown} now costs {memory} of memory and {} passes",
        cost.passes
    ))?;
    app.ui.notice("Copies of the image made before still open at the old cost.");
    Ok(0)
}
