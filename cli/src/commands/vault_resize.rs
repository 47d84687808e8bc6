//! `tazpod vault resize` and `compact`: what the vault may grow to, and what it takes on the disk.

use crate::app::App;
use crate::args::access::CredentialArgs;
use crate::args::vault::{CompactArgs, ImageArgs, ResizeArgs};
use crate::caller::Caller;
use crate::error::{Error, Result};
use crate::image::explain::vault_error;
use crate::image::{self, Image};
use crate::ui::interrupt::OnInterrupt;
use crate::units::ByteSize;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use vault_core::device::Access;
use vault_core::error::FsError;
use vault_core::fs::{ResizeError, Volume};
use vault_core::ids::UNIT_U64;

/// Sets what the vault may grow to.
pub(crate) fn resize(app: &App, args: &ResizeArgs) -> Result<u8> {
    let units = args.size.0 / UNIT_U64;
    let (shown, path) = work(app, (&args.image, &args.credential), "resizing", |volume, show| {
        volume.resize(units, show)
    })?;
    let (size, taken) = (ByteSize(units.saturating_mul(UNIT_U64)), taken(&path));
    app.ui.print(&format!("{shown} may grow to {size}, and takes {taken} now"))?;
    Ok(0)
}

/// Gives free space back.
pub(crate) fn compact(app: &App, args: &CompactArgs) -> Result<u8> {
    let (shown, path) =
        work(app, (&args.image, &args.credential), "compacting", |volume, show| {
            volume.compact(show)
        })?;
    app.ui.print(&format!("{shown} takes {} now", taken(&path)))?;
    Ok(0)
}

type Show<'s> = dyn FnMut(u64, u64) -> std::result::Result<(), FsError> + 's;

fn work(
    app: &App,
    (place, credential): (&ImageArgs, &CredentialArgs),
    label: &'static str,
    act: impl FnOnce(&Volume, &mut Show<'_>) -> std::result::Result<(), ResizeError>,
) -> Result<(String, std::path::PathBuf)> {
    let caller = Caller::detect()?;
    let _as_caller = caller.act()?;
    let (path, shown) = Image::place(app, place)?;
    let image = Image::open(&path, &shown, Access::ReadWrite)?;
    let presented = image::credential(&app.ui, credential, &shown)?;
    let mut vault = image.unlock(&presented, credential)?;
    let hint = "the vault holds what it held; the same command goes on where this one ended";
    let mut outcome = Ok(());
    app.ui.interruptible(&OnInterrupt { hint, remove: None }, || {
        let mut progress = app.ui.progress(label);
        image.change(&app.ui, &mut vault, |_, volume| {
            outcome = act(volume, &mut |done, total| {
                progress.show(done, total);
                Ok(())
            });
            Ok(())
        })
    })??;
    outcome.map_err(|error| resize_error(error, &shown))?;
    Ok((shown, path))
}

fn taken(path: &Path) -> ByteSize {
    ByteSize(path.metadata().map_or(0, |about| about.blocks().saturating_mul(512)))
}

fn resize_error(error: ResizeError, shown: &str) -> Error {
    match error {
        ResizeError::Geometry => {
            Error::user(format!("'{shown}' cannot have this size")).hint("a vault has 4M to 4096T")
        }
        ResizeError::TooSmall { needed } => {
            let needed = ByteSize(needed.saturating_mul(UNIT_U64));
            Error::user(format!("'{shown}' holds too much for this size"))
                .hint(format!("it needs {needed} now; remove files, or choose a larger size"))
        }
        ResizeError::Fs(FsError::NoSpace) => {
            Error::environment(format!("no room to move what lies at the end of '{shown}'"))
                .hint("the vault holds what it held; make room in it or on the disk")
        }
        ResizeError::Fs(cause) => vault_error(cause.into(), shown),
        other => Error::environment(format!("cannot resize '{shown}'")).caused_by(other),
    }
}
