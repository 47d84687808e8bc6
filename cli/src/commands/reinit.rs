//! `tazpod reinit`: deletes the project's vault, after naming what is lost.

use crate::app::App;
use crate::args::project::ReinitArgs;
use crate::caller::Caller;
use crate::dates;
use crate::error::{Error, Kind, Result};
use crate::image::{self, Image};
use crate::project::legacy;
use crate::units::ByteSize;
use std::fs;
use std::path::Path;
use vault_core::device::Access;
use vault_core::format::magic::ImageFormat;

/// Deletes the vault.
pub(crate) fn run(app: &App, args: &ReinitArgs) -> Result<u8> {
    let caller = Caller::detect()?;
    let _as_caller = caller.act()?;
    let project = app.project()?;
    let path = app.config(&project)?.vault_file(&project);
    legacy::refuse_two(&project, &path)?;
    let shown = project.shown(&path).to_string();
    // Where this is a vault of ours it stays locked until it is gone, so that no ghost has it open.
    let (_held, lost) = what_is_lost(&path, &shown)?;
    app.ui.warn(
        &format!("this deletes {lost}"),
        "nothing can bring it back but a backup of that file",
    );
    if !args.yes && !app.ui.confirm(&format!("Delete '{shown}'?"))? {
        return Err(Error::user("nothing was deleted"));
    }
    delete(&path, &shown)?;
    app.ui.print(&format!("deleted {shown}"))?;
    app.ui.notice("Next: 'tazpod pull' makes a new vault");
    Ok(0)
}

fn what_is_lost(path: &Path, shown: &str) -> Result<(Option<Image>, String)> {
    match Image::open(path, shown, Access::ReadWrite) {
        Ok(image) => {
            let text = description(&image);
            Ok((Some(image), text))
        }
        Err(error) => match image::recognise(path) {
            // Also a vault whose header is damaged beyond reading may have to make room.
            Some(format) if matches!(error.kind(), Kind::Format | Kind::Damage) => {
                Ok((None, format!("'{shown}', {}", strange(format))))
            }
            _ => Err(error),
        },
    }
}

fn description(image: &Image) -> String {
    let slots: Vec<_> = image.vault().slots().collect();
    let since = slots.iter().map(|(_, slot)| slot.created).min().unwrap_or_default();
    let slots = match slots.len() {
        1 => "1 keyslot".to_owned(),
        count => format!("{count} keyslots"),
    };
    format!(
        "'{}' and everything in it: vault {} with {slots}, {} on disk, oldest keyslot made {}",
        image.shown,
        image.vault().id(),
        ByteSize(image.len),
        dates::utc(since),
    )
}

fn strange(format: ImageFormat) -> String {
    match format {
        ImageFormat::Vault => "a vault image whose header cannot be read".to_owned(),
        other => other.to_string(),
    }
}

fn delete(path: &Path, shown: &str) -> Result<()> {
    fs::remove_file(path).map_err(|cause| {
        Error::environment(format!("cannot delete '{shown}'"))
            .caused_by(cause)
            .hint("it is still there")
    })
}
