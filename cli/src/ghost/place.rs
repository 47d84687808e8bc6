//! Where a ghost keeps what is outside of it: a folder per project, a lock, a socket.
//!
//! For ghosts that root makes this is `/run/tazpod/<uid>/<project>`, whose every part is root's and
//! can be written by root alone: the caller can pass through, and move or replace nothing. Rootless
//! ghosts use the caller's state folder, which protects from other users only.

use crate::error::{Error, Result};
use crate::sys::folder;
use nix::unistd::Uid;
use sha2::{Digest, Sha256};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

const ROOT: &str = "/run";
const OURS: &str = "tazpod";

/// Permissions of our folders: anybody passes through, only the owner changes them.
const PASS: u32 = 0o711;

/// The names in a ghost's folder; sweeping removes these and nothing else.
pub(crate) const VAULT: &str = "vault";
pub(crate) const SOCKET: &str = "socket";
pub(crate) const PLACEHOLDER: &str = "placeholder";
pub(crate) const SHELL: &str = "shell";

/// The place of one ghost; what stands there may not exist yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    parent: PathBuf,
    name: String,
    owner: Uid,
}

impl Place {
    /// Returns the place of the ghost that root makes for `caller` and `project`.
    pub(crate) fn of_root(caller: Uid, project: &Path) -> Self {
        let parent = Path::new(ROOT).join(OURS).join(caller.to_string());
        Self { parent, name: name_of(project), owner: Uid::from_raw(0) }
    }

    /// Returns the place of the rootless ghost of a caller and a project.
    pub(crate) fn rootless(caller: Uid, state_folder: &Path, project: &Path) -> Self {
        Self { parent: state_folder.join("run"), name: name_of(project), owner: caller }
    }

    /// Returns the ghost's folder.
    pub(crate) fn folder(&self) -> PathBuf {
        self.parent.join(&self.name)
    }

    /// Returns the folder on which the vault is mounted.
    pub(crate) fn vault(&self) -> PathBuf {
        self.folder().join(VAULT)
    }

    /// Returns the supervisor's socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder().join(SOCKET)
    }

    /// Returns the folder of the shells' rc files.
    pub(crate) fn shell(&self) -> PathBuf {
        self.folder().join(SHELL)
    }

    /// Returns whose the folder and the supervisor are.
    pub(crate) fn owner(&self) -> Uid {
        self.owner
    }

    /// Whether a supervisor listens here.
    pub(crate) fn has_door(&self) -> bool {
        std::os::unix::net::UnixStream::connect(self.socket()).is_ok()
    }

    /// Makes the folders and takes the lock; `None` when a living ghost holds it.
    pub(crate) fn take(&self) -> Result<Option<Taken>> {
        let parent = self.open_parent().map_err(|cause| self.unusable(&self.parent, cause))?;
        let failed = |cause| self.unusable(&self.folder(), cause);
        loop {
            let lock = folder::open_file(&parent, &self.lock_name(), 0o600).map_err(failed)?;
            if !folder::try_lock(&lock).map_err(failed)? {
                return Ok(None);
            }
            // Its last holder may have removed it between the two steps: then it locks nothing.
            if is_named(&lock).map_err(failed)? {
                return self.fill(parent, lock).map(Some);
            }
        }
    }

    /// Takes the place over with a lock that this process has kept; `None` if the ghost that had it
    /// was taken away in order, and the place may be another's by now.
    pub(crate) fn adopt(&self, lock: OwnedFd) -> Result<Option<Taken>> {
        let failed = |cause| self.unusable(&self.parent, cause);
        if !is_named(&lock).map_err(failed)? {
            return Ok(None);
        }
        let parent = self.open_parent().map_err(failed)?;
        self.fill(parent, lock).map(Some)
    }

    fn lock_name(&self) -> String {
        format!("{}.lock", self.name)
    }

    fn fill(&self, parent: OwnedFd, lock: OwnedFd) -> Result<Taken> {
        let failed = |cause| self.unusable(&self.folder(), cause);
        folder::make(&parent, &self.name, PASS).map_err(failed)?;
        let folder = self.checked(&parent, Path::new(&self.name)).map_err(failed)?;
        Ok(Taken { place: self.clone(), parent, folder, lock })
    }

    fn open_parent(&self) -> io::Result<OwnedFd> {
        if self.owner.is_root() && self.parent.starts_with(ROOT) {
            let mut at = folder::open_without_links(Path::new(ROOT))?;
            let below = self.parent.strip_prefix(ROOT).map_err(io::Error::other)?;
            for part in below.components() {
                folder::make(&at, part, PASS)?;
                at = self.checked(&at, part.as_ref())?;
            }
            return Ok(at);
        }
        std::fs::create_dir_all(&self.parent)?;
        let opened = folder::open(&self.parent)?;
        judge(&opened, self.owner)?;
        Ok(opened)
    }

    fn checked(&self, parent: &OwnedFd, name: &Path) -> io::Result<OwnedFd> {
        let opened = folder::open_below(parent, name)?;
        judge(&opened, self.owner)?;
        Ok(opened)
    }

    fn unusable(&self, path: &Path, cause: io::Error) -> Error {
        let error = Error::environment(format!("cannot use the folder '{}'", path.display()));
        let hint = if self.owner.is_root() {
            "a ghost needs a /run that root can write; '--rootless' goes without"
        } else {
            "the state folder must be yours and writable"
        };
        error.caused_by(cause).hint(hint)
    }
}

/// Refuses a folder that somebody else could change.
fn judge(opened: &OwnedFd, owner: Uid) -> io::Result<()> {
    let facts = folder::facts(opened)?;
    if facts.uid == owner.as_raw() && facts.permissions & 0o022 == 0 {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::PermissionDenied, "another user could change it"))
}

/// Whether an open file still has a name.
fn is_named(file: &OwnedFd) -> io::Result<bool> {
    Ok(folder::facts(file)?.links > 0)
}

fn name_of(project: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let digest = Sha256::digest(project.as_os_str().as_bytes());
    digest.iter().take(8).fold(String::new(), |name, byte| format!("{name}{byte:02x}"))
}

/// A place that is ours while this lives: no other ghost of the project can be made.
#[derive(Debug)]
pub(crate) struct Taken {
    place: Place,
    parent: OwnedFd,
    folder: OwnedFd,
    lock: OwnedFd,
}

impl Taken {
    /// Returns the place.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// Returns the ghost's folder, open.
    pub(crate) fn folder(&self) -> &OwnedFd {
        &self.folder
    }

    /// Returns the folder of the caller's ghosts, open.
    pub(crate) fn parent(&self) -> &OwnedFd {
        &self.parent
    }

    /// Returns the lock; a child that keeps it open holds the place too.
    pub(crate) fn lock(&self) -> &OwnedFd {
        &self.lock
    }

    /// Removes what a ghost puts into its folder, and nothing else.
    pub(crate) fn clear(&self) -> io::Result<()> {
        for name in [SOCKET, PLACEHOLDER] {
            folder::remove_file(&self.folder, name)?;
        }
        if let Ok(shell) = folder::open_below(&self.folder, Path::new(SHELL)) {
            for name in super::shell::FILES {
                folder::remove_file(&shell, name)?;
            }
        }
        folder::remove_folder(&self.folder, SHELL)?;
        folder::remove_folder(&self.folder, VAULT)
    }

    /// Removes the ghost's folder itself, and then the lock file: from there on the place is free,
    /// and whoever locks the file that is gone looks again.
    pub(crate) fn remove(&self) -> io::Result<()> {
        if !is_named(&self.lock)? {
            return Ok(());
        }
        folder::remove_folder(&self.parent, &self.place.name)?;
        folder::remove_file(&self.parent, self.place.lock_name())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn place(parent: &Path) -> Place {
        let project = Path::new("/some/project");
        Place { parent: parent.join("run"), name: name_of(project), owner: Uid::effective() }
    }

    #[test]
    fn place_is_taken_by_one_ghost_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path());
        let first = place.take().unwrap().expect("nobody holds it");
        assert!(place.take().unwrap().is_none());
        first.clear().unwrap();
        first.remove().unwrap();
        assert_eq!(std::fs::read_dir(&place.parent).unwrap().count(), 0, "nothing is left");
        drop(first);
        assert!(place.take().unwrap().is_some());
    }

    /// The lock's file is removed by whoever holds it, while others are about to lock it.
    #[test]
    fn place_has_one_owner_however_quickly_they_follow_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path());
        let owners = AtomicUsize::new(0);
        let taken = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while taken.load(Ordering::Relaxed) < 2000 {
                        let Some(mine) = place.take().unwrap() else { continue };
                        assert_eq!(owners.fetch_add(1, Ordering::SeqCst), 0, "two owners");
                        taken.fetch_add(1, Ordering::Relaxed);
                        owners.fetch_sub(1, Ordering::SeqCst);
                        mine.remove().unwrap();
                    }
                });
            }
        });
    }

    #[test]
    fn place_that_was_left_in_order_is_not_adopted() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path());
        let first = place.take().unwrap().expect("nobody holds it");
        let kept = first.lock().try_clone().unwrap();
        drop(first);
        let again = place.adopt(kept.try_clone().unwrap()).unwrap().expect("it was not left");
        again.remove().unwrap();
        assert!(place.adopt(kept).unwrap().is_none());
    }

    #[test]
    fn folder_that_others_can_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path());
        std::fs::create_dir(&place.parent).unwrap();
        std::fs::set_permissions(&place.parent, PermissionsExt::from_mode(0o777)).unwrap();
        assert!(place.take().is_err());
    }

    #[test]
    fn projects_have_places_of_their_own() {
        let uid = Uid::from_raw(1000);
        let [one, other] = ["/a", "/b"].map(|path| Place::of_root(uid, Path::new(path)).folder());
        assert!(one.starts_with("/run/tazpod/1000"));
        assert_ne!(one, other);
    }
}
