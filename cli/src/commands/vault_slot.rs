//! `tazpod vault slot`: keyslots are added and removed, data is not re-encrypted.

use super::vault_info;
use crate::app::App;
use crate::args::vault::{SlotCommand, SlotTestArgs};
use crate::caller::Caller;
use crate::error::Result;
use crate::image::{self, Image};

/// Runs the verb below `slot`.
pub(crate) fn run(app: &App, command: &SlotCommand) -> Result<u8> {
    match command {
        SlotCommand::List(args) => vault_info::list_slots(app, &args.info),
        SlotCommand::Test(args) => test(app, args),
    }
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
