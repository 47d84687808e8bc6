//! An image made beside another one, to take its place once it has been verified.
//!
//! The old image is only read until then. It is replaced by a rename, so that the vault's name leads
//! at each instant to one of the two, whole and durable.

use super::explain::{cannot_make, mount_error, open_error, vault_error};
use super::volume::{remember, remembered, setup};
use super::{Image, explain};
use crate::error::{Error, Result};
use crate::quoting::on_one_line;
use crate::ui::Ui;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vault_core::check::{Depth, check};
use vault_core::device::{BlockDevice, FileDevice, OpenError};
use vault_core::error::FsError;
use vault_core::fs::transfer::{Care, Copied, CopyError, Loss, Lost, Source, copy};
use vault_core::fs::{OpenOptions, Volume};
use vault_core::ids::Generation;
use vault_core::vault::{Unlocked, Vault};
use vault_core::witness::Witness;

/// Room that a copy has beyond what the vault may grow to, in units: freshly packed nodes fall out
/// otherwise, and a full vault must be copied too.
const SLACK: u64 = 4096;

/// Returns the name of a file beside an image.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Makes an empty file for an image, locked. Nothing that exists is replaced.
pub(crate) fn device(path: &Path, shown: &str) -> Result<Arc<dyn BlockDevice>> {
    match FileDevice::create_new(path) {
        Ok(device) => Ok(Arc::new(device)),
        Err(OpenError::NotFound) => Err(cannot_make(io::ErrorKind::NotFound.into(), shown)),
        Err(error) => Err(open_error(error, shown)),
    }
}

/// Copies what is left of the unlocked vault into a new image at `to` that the same keyslots open.
pub(crate) fn rescue(
    ui: &Ui,
    image: &Image,
    vault: Vault<Unlocked>,
    (to, shown): (&Path, &str),
) -> Result<(Vault<Unlocked>, Rescued)> {
    let options = OpenOptions { witness: remembered(ui, &vault)?, ..OpenOptions::default() };
    let source = Source::rescue(&setup(&vault), &options)
        .map_err(|error| mount_error(error, &image.shown))?;
    let opened = source.opened();
    let mut fresh = vault.onto(device(to, shown)?);
    let explain_fresh = |error| mount_error(error, shown);
    // Above every generation of the damaged image, which is the older one from now on.
    let above = Generation(source.highest_generation().0.saturating_add(1));
    let capacity = source.capacity().saturating_add(SLACK);
    Volume::format_above(&setup(&fresh), capacity, (0, 0), above).map_err(explain_fresh)?;
    let (volume, _) =
        Volume::open(&setup(&fresh), &OpenOptions::default()).map_err(explain_fresh)?;
    let mut progress = ui.progress("copying");
    let copied = copy(&source, &volume, Care::Rescue, &mut |at| {
        progress.show(at.done, at.total);
        Ok(())
    })
    .map_err(|error| copy_error(error, &image.shown, shown))?;
    drop(progress);
    // The room for copying is not needed any more; a vault that is full to the brim keeps it.
    let _ = volume.resize(source.capacity(), &mut |_, _| Ok(()));
    volume.close().map_err(|error| vault_error(error.into(), shown))?;
    let newest = volume.anchor();
    drop(volume);
    fresh.mend_copies().map_err(|error| vault_error(error, shown))?;
    require_clean(ui, &fresh, shown)?;
    let older = opened.stepped_back.map(|newest| (opened.generation.0, newest.0));
    Ok((fresh, Rescued { copied, older, newest }))
}

/// What a rescue brought over.
pub(crate) struct Rescued {
    /// What was copied and what was lost.
    pub(crate) copied: Copied,
    /// The generation that was taken in place of the newest, and that one.
    pub(crate) older: Option<(u64, u64)>,
    /// The new image's state.
    pub(crate) newest: Witness,
}

impl Rescued {
    /// Says what is lost and what was moved, a line each.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.copied.lost.iter().map(line).collect();
        if self.copied.unlisted > 0 {
            lines.push(format!("and {} more", self.copied.unlisted));
        }
        if let Some((taken, newest)) = self.older {
            lines.push(format!(
                "lost: everything since generation {taken}; nothing is left of generation {newest}"
            ));
        }
        lines
    }

    /// Whether everything came over.
    pub(crate) fn is_whole(&self) -> bool {
        let found = |lost: &Lost| lost.loss == Loss::Nameless;
        self.older.is_none() && self.copied.unlisted == 0 && self.copied.lost.iter().all(found)
    }
}

fn line(lost: &Lost) -> String {
    let path = match lost.path.as_slice() {
        [] => "/".to_owned(),
        path => on_one_line(path),
    };
    match lost.loss {
        Loss::Gone => format!("lost: {path}: nothing of it is left"),
        Loss::Content { offset, len } => {
            let last = offset.saturating_add(len).saturating_sub(1);
            format!("lost: {path}: bytes {offset} to {last}; the rest is in lost+found")
        }
        Loss::Attributes => format!("lost: {path}: extended attributes"),
        Loss::Entries => format!("lost: {path}: names of files in it"),
        Loss::Nameless => format!("found: {path}: no name led to it any more"),
        other => format!("lost: {path}: {other:?}"),
    }
}

/// Reads a new image whole before anybody trusts it.
pub(crate) fn require_clean(ui: &Ui, vault: &Vault<Unlocked>, shown: &str) -> Result<()> {
    let mut progress = ui.progress("verifying");
    let report = check(&setup(vault), &OpenOptions::default(), Depth::Everything, &mut |at| {
        progress.show(at.done, at.total);
        Ok(())
    })
    .map_err(|error| mount_error(error, shown))?;
    if report.is_clean() {
        return Ok(());
    }
    Err(Error::internal(format!("the new image '{shown}' is not sound"))
        .hint("the vault is as it was; the disk may be failing"))
}

/// Puts the new image in the place of the old one, for good, and remembers its state.
pub(crate) fn replace(
    fresh: &Path,
    path: &Path,
    shown: &str,
    vault: &Vault<Unlocked>,
    newest: &Witness,
) -> Result<()> {
    put_over(fresh, path, shown)?;
    remember(vault, newest);
    Ok(())
}

/// Puts the new image in the place of the old one, for good.
pub(crate) fn put_over(fresh: &Path, path: &Path, shown: &str) -> Result<()> {
    imitate_file(path, fresh)
        .and_then(|()| fs::File::open(fresh)?.sync_all())
        .and_then(|()| fs::rename(fresh, path))
        .and_then(|()| super::create::sync_folder(path))
        .map_err(|cause| cannot_make(cause, shown))
}

/// Gives the old image a second name, which is its only one after the new one has been put in place.
pub(crate) fn keep(path: &Path, kept: &Path, shown: &str) -> Result<()> {
    fs::hard_link(path, kept).and_then(|()| super::create::sync_folder(path)).map_err(|cause| {
        match cause.kind() {
            io::ErrorKind::AlreadyExists => Error::user(format!("'{shown}' exists already"))
                .hint("it holds an image that was kept earlier; move it away first"),
            _ => cannot_make(cause, shown),
        }
    })
}

/// Whether two names lead to one file.
pub(crate) fn is_same_file(path: &Path, other: &Path) -> bool {
    match (path.symlink_metadata(), other.symlink_metadata()) {
        (Ok(one), Ok(two)) => (one.dev(), one.ino()) == (two.dev(), two.ino()),
        _ => false,
    }
}

/// The new image is as accessible as the old one was.
fn imitate_file(from: &Path, to: &Path) -> io::Result<()> {
    fs::set_permissions(to, from.metadata()?.permissions())
}

/// Explains why a copy ended.
pub(crate) fn copy_error(error: CopyError, from: &str, to: &str) -> Error {
    match error {
        CopyError::Source(cause) => vault_error(cause.into(), from),
        CopyError::Target(FsError::NoSpace) => {
            explain::cannot_make(io::ErrorKind::StorageFull.into(), to)
                .hint("the vault is as it was; make room for a second image and try again")
        }
        CopyError::Target(cause) => vault_error(cause.into(), to),
        other => Error::environment(format!("cannot copy '{from}'")).caused_by(other),
    }
}
