//! The vault image where the older Go program kept it.
//!
//! It is used where it lies until the first `pull`, which moves it to the place of today by a rename:
//! at every moment it is in one of the two places, whole. With an image in both nobody but the
//! person can tell which one counts, so nothing is opened until they do.

use super::{Project, scaffold};
use crate::caller::Caller;
use crate::error::{Error, Result};
use crate::image;
use crate::sys::folder::{self, EntryKind};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use vault_core::format::magic::ImageFormat;

/// Where an image lies unless the configuration says otherwise, and where it lay; both in the project.
const TODAY: (&str, &str) = (".tazpod/vault", NAME);
const BEFORE: (&str, &str) = (FOLDER, NAME);
const NAME: &str = "vault.img";

/// The older program's folder.
pub(crate) const FOLDER: &str = ".tazpod-vault";

/// Returns the place of an image that the configuration does not name.
pub(crate) fn place(project: &Project) -> PathBuf {
    let (today, before) = places(project);
    if !exists(&today) && before.is_file() { before } else { today }
}

/// Refuses a project that has an image in both places.
pub(crate) fn refuse_two(project: &Project, image: &Path) -> Result<()> {
    let (today, before) = places(project);
    if image != today || !exists(&today) || !exists(&before) {
        return Ok(());
    }
    let (today, before) = (project.shown(&today), project.shown(&before));
    Err(Error::user(format!("there are two vaults: '{today}', and the older program's '{before}'"))
        .hint("move the one that is not needed out of the project; 'vault info --image FILE' shows what each is")
        .hint("or name the one that counts with 'vault.path' in .tazpod/config.yaml"))
}

/// Moves an image that the configuration does not name to the place of today if it still lies in the
/// other; returns where it is then, with what a person should know about it.
pub(crate) fn take_over(project: &Project, caller: &Caller, image: PathBuf) -> Result<Taken> {
    let (today, before) = places(project);
    let known = matches!(
        image::recognise(&before),
        Some(ImageFormat::Luks { .. } | ImageFormat::Vault | ImageFormat::OtherVault { .. })
    );
    if image != before || !known {
        return Ok(Taken { image, notice: None, warning: None });
    }
    let shown = (project.shown(&before).to_string(), project.shown(&today).to_string());
    let moved = {
        let _as_caller = caller.act()?;
        scaffold::vault_folder(project, &today)?;
        rename(project.root())
    };
    let moved = moved.and_then(|()| give(project.root(), caller));
    match moved {
        Ok(()) => {
            let notice =
                format!("Moved the older program's vault from {} to {}.", shown.0, shown.1);
            Ok(Taken { image: today, notice: Some(notice), warning: None })
        }
        // Another pull was quicker.
        Err(_) if !exists(&before) => Ok(Taken { image: today, notice: None, warning: None }),
        Err(cause) => {
            let warning = format!("the older program's vault stays at '{}': {cause}", shown.0);
            Ok(Taken { image: before, notice: None, warning: Some(warning) })
        }
    }
}

/// Where the image is, and what happened.
pub(crate) struct Taken {
    pub(crate) image: PathBuf,
    pub(crate) notice: Option<String>,
    pub(crate) warning: Option<String>,
}

/// Renames it, following no link and replacing nothing.
fn rename(root: &Path) -> io::Result<()> {
    let root = folder::open(root)?;
    let from = folder::open_folder_within(&root, Path::new(BEFORE.0))?;
    let to = folder::open_folder_within(&root, Path::new(TODAY.0))?;
    if folder::kind_of(&from, OsStr::new(NAME))? != Some(EntryKind::File) {
        return Err(io::Error::other("it is not a regular file"));
    }
    folder::rename_new(&from, OsStr::new(NAME), &to, OsStr::new(NAME))?;
    folder::sync(&to)?;
    folder::sync(&from)?;
    // Whatever else lies there stays there.
    let _ = folder::remove_folder(&root, BEFORE.0);
    Ok(())
}

/// Gives the caller the image that the older program made as root, where we have the right to. A
/// file with a second name is left alone: the caller could have made the other file look like this.
fn give(root: &Path, caller: &Caller) -> io::Result<()> {
    if !nix::unistd::Uid::effective().is_root() {
        return Ok(());
    }
    let to = folder::open_below(folder::open(root)?, Path::new(TODAY.0))?;
    let image = folder::open_entry(&to, OsStr::new(NAME))?;
    let facts = folder::facts(&image)?;
    if facts.uid != caller.uid.as_raw() && facts.links == 1 && !facts.is_folder {
        folder::give(&image, caller.uid.as_raw(), caller.gid.as_raw())?;
    }
    Ok(())
}

fn places(project: &Project) -> (PathBuf, PathBuf) {
    let at = |(folder, name): (&str, &str)| project.root().join(folder).join(name);
    (at(TODAY), at(BEFORE))
}

fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}
