//! `tazpod vault create`: a new, empty vault in an image of our own.

use crate::app::App;
use crate::args::ghost::BackendKind;
use crate::args::vault::CreateArgs;
use crate::caller::Caller;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::image::create::{DEFAULT_SIZE, NewVault, create};
use crate::image::credential::{first_credential, new_slot};
use crate::units::ByteSize;
use vault_core::device::OpenError;

/// Makes the vault.
pub(crate) fn run(app: &App, args: &CreateArgs) -> Result<u8> {
    let caller = Caller::detect()?;
    let _as_caller = caller.act()?;
    let (path, shown) = Image::place(app, &args.image)?;
    let block_shift = block_shift(args.block_size)?;
    if path.symlink_metadata().is_ok() {
        return Err(crate::image::explain::open_error(OpenError::Exists, &shown));
    }
    let project = match &args.image.image {
        None => Some(app.project()?),
        Some(_) => None,
    };
    let size = match &project {
        Some(project) => {
            let config = app.config(project)?;
            if config.backend() == Some(BackendKind::Luks) {
                return Err(asked_for_luks());
            }
            args.size.or(config.vault_size())
        }
        None => args.size,
    };
    let credential = first_credential(&app.ui, args, &shown)?;
    let new = NewVault {
        path: &path,
        shown: &shown,
        size: size.unwrap_or(DEFAULT_SIZE),
        block_shift,
        slot: new_slot(&credential, &args.kdf, ""),
    };
    let vault = create(&app.ui, project.as_ref(), &new)?;
    app.ui.print(&format!("made {shown}, vault {}, at most {}", vault.id(), new.size))?;
    app.ui
        .notice("'tazpod vault slot add recovery' makes a key for the day the passphrase is lost");
    Ok(0)
}

fn asked_for_luks() -> Error {
    Error::user("the project's configuration asks for a luks vault, and this makes fuse ones").hint(
        "'tazpod pull' makes a luks vault; for a fuse one say 'backend: fuse' in .tazpod/config.yaml",
    )
}

fn block_shift(size: ByteSize) -> Result<u8> {
    let shift = size.0.checked_ilog2().and_then(|shift| u8::try_from(shift).ok());
    shift.filter(|shift| size.0.is_power_of_two() && (12..=17).contains(shift)).ok_or_else(|| {
        Error::user(format!("a block of file data cannot have {size}"))
            .hint("--block-size takes 4K, 8K, 16K, 32K, 64K or 128K")
    })
}
