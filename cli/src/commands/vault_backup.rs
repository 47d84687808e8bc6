//! `tazpod vault backup`: the image as it is, in another file; also while a ghost has it open.

use crate::app::App;
use crate::args::backup::BackupArgs;
use crate::caller::Caller;
use crate::error::{Error, Kind, Result};
use crate::image::Image;
use crate::image::copy::{Copied, copy};
use crate::image::output::{FreshFile, must_be_file};
use crate::ui::interrupt::{NoReturn, OnInterrupt};
use crate::units::ByteSize;

/// Copies the vault.
pub(crate) fn run(app: &App, args: &BackupArgs) -> Result<u8> {
    let caller = Caller::detect()?;
    let _as_caller = caller.act()?;
    let (path, shown) = Image::place(app, &args.image)?;
    // For the exact reason if it is no vault.
    Image::peek(&path, &shown)?;
    must_be_file(&args.target)?;
    let on_interrupt = OnInterrupt {
        hint: "no backup was written; the vault is as it was",
        remove: Some(FreshFile::name(&args.target)),
    };
    let target = args.target.display().to_string();
    let mut progress = app.ui.progress("copying");
    let whole = NoReturn::default();
    let done = app.ui.interruptible_until(&whole, &on_interrupt, || {
        let mut fresh = FreshFile::begin(&args.target)?;
        let copied = copy(&path, &shown, &target, fresh.file(), &mut |done, total| {
            progress.show(done, total);
        })?;
        let Some(copied) = copied else {
            return Err(Error::new(
                Kind::InUse,
                format!("'{shown}' changes faster than it can be copied"),
            )
            .hint("wait until what writes to it is done, or end the ghost: 'tazpod lock'"));
        };
        fresh.finish(&whole)?;
        Ok(copied)
    })??;
    drop(progress);
    let Copied { generation, bytes, open } = done;
    let state = if open { "the open vault's" } else { "the vault's" };
    app.ui
        .print(&format!("wrote {target}: {state} generation {generation}, {}", ByteSize(bytes)))?;
    app.ui.notice(&format!(
        "to restore it, put it in the vault's place: tazpod pull --accept-generation {generation}"
    ));
    Ok(0)
}
