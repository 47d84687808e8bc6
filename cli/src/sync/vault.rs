//! The open vault, from inside its ghost.

use crate::caller::Caller;
use crate::ghost::place::Place;
use crate::sys::{folder, mount};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Where a ghost says its mount points are; believed only when the kernel says the same.
pub(crate) const MOUNT_POINT: &str = "TAZPOD_SECRETS";
pub(crate) const VAULT: &str = "TAZPOD_VAULT";

/// A vault that is open in the ghost in which this process runs.
#[derive(Debug)]
pub(crate) struct OpenVault {
    root: OwnedFd,
    shown: PathBuf,
}

/// A file as it is in the vault.
pub(crate) struct Found {
    /// Its bytes.
    pub(crate) content: Zeroizing<Vec<u8>>,
    /// Its permissions.
    pub(crate) permissions: u32,
}

impl OpenVault {
    /// Finds the vault of a project; `None` outside of its ghost.
    ///
    /// The ghost mounts it below a folder that only the ghost's maker can write, where the mount is
    /// seen in the ghost alone; `~/secrets` must show the same file system. So a folder that merely
    /// has the name is never taken for the vault, and no secret is written beside it.
    pub(crate) fn find(caller: &Caller, project: &Path) -> Option<Self> {
        let shown = std::env::var_os(MOUNT_POINT).map(PathBuf::from);
        let shown = shown.unwrap_or_else(|| caller.home.join("secrets"));
        let places = [
            Place::of_root(caller.uid, project).vault(),
            Place::rootless(caller.uid, &caller.state_folder(), project).vault(),
        ];
        // In a private home the rootless place is not found from the home folder.
        let named = std::env::var_os(VAULT)
            .map(PathBuf::from)
            .filter(|named| places.iter().any(|place| same_ghost(place, named)));
        places.into_iter().chain(named).find_map(|place| Self::at(&place, &shown))
    }

    fn at(place: &Path, shown: &Path) -> Option<Self> {
        let root = mount::open_mounted(place).ok()?;
        let seen = mount::open_mounted(shown).ok()?;
        let is_mount = mount::is_mount_root(&root).ok()? && mount::is_mount_root(&seen).ok()?;
        let (root_facts, seen_facts) = (folder::facts(&root).ok()?, folder::facts(&seen).ok()?);
        let same = (root_facts.device, root_facts.inode) == (seen_facts.device, seen_facts.inode);
        (is_mount && same).then(|| Self { root, shown: shown.to_owned() })
    }

    /// Takes a folder for a vault.
    #[cfg(test)]
    pub(super) fn of_folder(path: &Path) -> Self {
        Self { root: folder::open(path).expect("a folder"), shown: path.to_owned() }
    }

    /// Returns the vault's root.
    pub(super) fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// Returns the path by which programs in the ghost reach a file.
    pub(crate) fn path(&self, file: &Path) -> PathBuf {
        self.shown.join(file)
    }

    /// Reads a regular file of at most `most` bytes; `None` if there is none. A link on the way or
    /// in its place is an error.
    pub(crate) fn read(&self, file: &Path, most: usize) -> io::Result<Option<Found>> {
        let opened = match folder::open_file_within(&self.root, file) {
            Ok(opened) => opened,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(cause),
        };
        read(opened, most).map(Some)
    }

    /// Whether there is a regular file.
    pub(crate) fn has(&self, file: &Path) -> bool {
        folder::open_file_within(&self.root, file).is_ok()
    }

    /// Opens the folder that holds `file`, and makes those that are missing.
    pub(super) fn parent_of<'p>(&self, file: &'p Path) -> io::Result<(OwnedFd, &'p OsStr)> {
        let name = file.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let mut at = folder::open_folder_within(&self.root, Path::new(""))?;
        for part in file.parent().into_iter().flat_map(Path::components) {
            folder::make(&at, part, 0o700)?;
            at = folder::open_folder_within(&at, part.as_ref())?;
        }
        Ok((at, name))
    }
}

/// Whether two paths are the mount of the same project's ghost: the project decides the name.
fn same_ghost(place: &Path, named: &Path) -> bool {
    let name = |path: &Path| path.parent().and_then(Path::file_name).map(ToOwned::to_owned);
    name(place).is_some() && name(place) == name(named)
}

fn read(file: File, most: usize) -> io::Result<Found> {
    let about = file.metadata()?;
    let size = usize::try_from(about.len()).unwrap_or(usize::MAX);
    if size > most {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the file is too large"));
    }
    // Room for one byte more, so that reading to the end moves nothing.
    let mut content = Zeroizing::new(Vec::with_capacity(size.saturating_add(1)));
    file.take(most as u64 + 1).read_to_end(&mut content)?;
    Ok(Found { content, permissions: about.permissions().mode() & 0o7777 })
}
