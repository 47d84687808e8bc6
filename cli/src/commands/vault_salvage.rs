//! `tazpod vault salvage`: what is left of a damaged vault, in a new one.

use crate::app::App;
use crate::args::vault::SalvageArgs;
use crate::caller::Caller;
use crate::error::{Error, Result};
use crate::image::{self, Image, fresh};
use crate::ui::interrupt::OnInterrupt;
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
    let half = Some(args.to.clone());
    let on_interrupt = OnInterrupt { hint: "the damaged image was not touched", remove: half };
    let (_, rescued) = app.ui.interruptible(&on_interrupt, || {
        let outcome = fresh::rescue(&app.ui, &image, vault, (&args.to, &to));
        if outcome.is_err() {
            let _ = std::fs::remove_file(&args.to);
        }
        outcome
    })??;
    let mut lines = rescued.lines();
    lines.push(format!("copied {} inodes of {shown} to {to}", rescued.copied.files));
    app.ui.print(&lines.join("\n"))?;
    Ok(if rescued.is_whole() { 0 } else { SOMETHING_LOST })
}
