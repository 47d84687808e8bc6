//! `tazpod vault slot`: keyslots are added and removed, data is not re-encrypted.

use super::vault_info;
use crate::app::App;
use crate::args::vault::{SlotAddArgs, SlotCommand, SlotKind, SlotRemoveArgs, SlotTestArgs};
use crate::caller::Caller;
use crate::error::{Error, Result};
use crate::image::credential::{generated_recovery_key, new_slot, next_credential};
use crate::image::{self, Image};
use crate::sys::memory::LockedKdfMemory;
use vault_core::device::Access;
use vault_core::ids::SlotIndex;
use vault_core::keyslot::{Credential, SlotLabel, SlotPorts};
use vault_core::ports::{SystemClock, SystemEntropy};

/// Runs the verb below `slot`.
pub(crate) fn run(app: &App, command: &SlotCommand) -> Result<u8> {
    match command {
        SlotCommand::Add(args) => add(app, args),
        SlotCommand::Remove(args) => remove(app, args),
        SlotCommand::List(args) => vault_info::list_slots(app, &args.info),
        SlotCommand::Test(args) => test(app, args),
    }
}

fn add(app: &App, args: &SlotAddArgs) -> Result<u8> {
    let caller = Caller::detect()?;
    let _as_caller = caller.act()?;
    if SlotLabel::new(&args.label).is_none() {
        return Err(Error::user("this label cannot be stored")
            .hint("a label has at most 63 bytes and no control characters"));
    }
    let (path, shown) = Image::place(app, &args.image)?;
    let image = Image::open(&path, &shown, Access::ReadWrite)?;
    let credential = image::credential(&app.ui, &args.credential, &shown)?;
    let mut vault = image.unlock(&credential, &args.credential)?;
    let next = match args.kind {
        SlotKind::Passphrase => next_credential(&app.ui, &args.new, &shown)?,
        SlotKind::Recovery => {
            Credential::RecoveryKey(generated_recovery_key(&app.ui, args.unchecked)?)
        }
    };
    let new = new_slot(&next, &args.kdf, &args.label);
    let place = image.change(&app.ui, &mut vault, |vault, volume| {
        let mut ports = SlotPorts {
            entropy: &SystemEntropy,
            clock: &SystemClock,
            memory: &mut LockedKdfMemory,
        };
        vault.add_slot(None, &new, &mut ports, volume)
    })?;
    app.ui.notice(&format!("added keyslot {place} to {shown}"));
    Ok(0)
}

fn remove(app: &App, args: &SlotRemoveArgs) -> Result<u8> {
    let caller = Caller::detect()?;
    let _as_caller = caller.act()?;
    let (path, shown) = Image::place(app, &args.image)?;
    let image = Image::open(&path, &shown, Access::ReadWrite)?;
    let credential = image::credential(&app.ui, &args.credential, &shown)?;
    let mut vault = image.unlock(&credential, &args.credential)?;
    let place = SlotIndex(args.remove);
    if vault.opened_by() == place && !args.yes {
        let question = format!("Keyslot {place} is the one that you just opened. Remove it?");
        if !app.ui.confirm(&question)? {
            return Err(Error::user("nothing was removed"));
        }
    }
    image.change(&app.ui, &mut vault, |vault, volume| vault.remove_slot(place, volume))?;
    app.ui.print(&format!("removed keyslot {place} of {shown}"))?;
    app.ui.notice("Copies of the image made before still open with it.");
    Ok(0)
}

fn test(app: &App, args: &SlotTestArgs) -> Result<u8> {
    let caller = Caller::detect()?;
    let _as_caller = caller.act()?;
    let (path, shown) = Image::place(app, &args.image)?;
    let image = Image::peek(&path, &shown)?;
    let credential = image::credential(&app.ui, &args.credential, &shown)?;
    let vault = image.unlock(&credential, &args.credential)?;
    app.ui.print(&format!("keyslot {} of {shown} opens", vault.opened_by()))?;
    Ok(0)
}
