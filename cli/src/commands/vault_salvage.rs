//! `tazpod vault salvage`: what is left of a damaged vault, in a new one.

use crate::app::App;
use crate::args::vault::SalvageArgs;
use crate::caller::Caller;
use crate::error::{Error, Result};
use crate::image::create::put_in_place;
use crate::image::explain::cannot_make;
use crate::image::{self, Image, fresh};
use crate::ui::interrupt::{NoReturn, OnInterrupt};
use std::fs;
use vault_core::device::Access;

/// The exit status when something could not be taken out.
const SOMETHING_LOST: u8 = 2;

/// Takes out what is left.
pub(crate) fn run(app: &App, args: &SalvageArgs) -> Result<u8> {
    let caller = Caller::detect()?;
    let _as_caller = caller.act()?;
    let (path, shown) = Image::place(app, &args.image)?;
    let image = Image::open(&path, &shown, Access::ReadOnly)?;
    let credential = image::credential(&app.ui, &args.credential, &shown)?;
    let vault = image.unlock(&credential, &args.credential)?;
    let to = args.to.display().to_string();
    if args.to.symlink_metadata().is_ok() {
        return Err(Error::user(format!("'{to}' exists already"))
            .hint("a new image is made there; nothing that exists is replaced"));
    }
    // Half an image would open as well, and look like all that was left: it has the name at its end.
    let making = fresh::beside(&args.to, ".salvage");
    let _ = fs::remove_file(&making);
    let half = Some(making.clone());
    let on_interrupt = OnInterrupt { hint: "the damaged image was not touched", remove: half };
    let whole = NoReturn::default();
    let rescued = app.ui.interruptible_until(&whole, &on_interrupt, || {
        let outcome =
            fresh::rescue(&app.ui, &image, vault, (&making, &to)).and_then(|(_, rescued)| {
                whole.pass();
                put_in_place(&making, &args.to).map_err(|cause| cannot_make(cause, &to))?;
                Ok(rescued)
            });
        if outcome.is_err() {
            let _ = fs::remove_file(&making);
        }
        outcome
    })??;
    let mut lines = rescued.lines();
    lines.push(format!("copied {} inodes of {shown} to {to}", rescued.copied.files));
    app.ui.print(&lines.join("\n"))?;
    Ok(if rescued.is_whole() { 0 } else { SOMETHING_LOST })
}
