//! Writing what a pull decided.
//!
//! Every new content is staged in a folder of ours and made durable first; then each file is put in
//! its place by a rename. A kill or a full disk before the first rename leaves all secrets as they
//! were, one after it leaves each either old or new, and always whole.

use super::change::Plan;
use super::record::{FILE, Record};
use super::vault::OpenVault;
use crate::error::{Error, Kind, Result};
use crate::sys::folder;
use std::ffi::{OsStr, OsString};
use std::fs::Permissions;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Our folder in the vault, and where contents are staged in it.
const OURS: &str = ".tazpod";
const STAGE: &str = "new";
const LOCK: &str = "lock";

/// More was never staged.
const MOST_STAGED: usize = 100_000;

/// How long another pull is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Exclusive use of the vault's secrets, until dropped.
pub(crate) struct Turn {
    _lock: OwnedFd,
    stage: OwnedFd,
}

impl Turn {
    /// Waits for other pulls, and clears what a killed one left.
    pub(crate) fn take(vault: &OpenVault) -> Result<Self> {
        let failed = |cause| cannot("prepare the vault for secrets", cause);
        let root = vault.root();
        folder::make(root, OURS, 0o700).map_err(failed)?;
        let ours = folder::open_folder_within(root, Path::new(OURS)).map_err(failed)?;
        let lock = folder::open_file(&ours, LOCK, 0o600).map_err(failed)?;
        let deadline = Instant::now() + PATIENCE;
        while !folder::try_lock(&lock).map_err(failed)? {
            if Instant::now() >= deadline {
                return Err(Error::new(Kind::InUse, "another pull is at work in this vault")
                    .hint("try again when it is done"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        folder::make(&ours, STAGE, 0o700).map_err(failed)?;
        let stage = folder::open_folder_within(&ours, Path::new(STAGE)).map_err(failed)?;
        for left in folder::names(&stage, MOST_STAGED).map_err(failed)? {
            folder::remove_file(&stage, &left).map_err(failed)?;
        }
        Ok(Self { _lock: lock, stage })
    }

    /// Writes everything, or leaves everything as it was and says why.
    pub(crate) fn apply(&self, vault: &OpenVault, plan: &Plan, from: &str) -> Result<()> {
        let record = Record::new(from, plan.kept.clone());
        let record = record.encode().map_err(|cause| cannot("write the record", cause))?;
        let mut staged = Vec::new();
        for write in &plan.writes {
            let content = write.value.expose().as_bytes();
            let name = self
                .stage(staged.len(), content, write.permissions)
                .map_err(|cause| cannot("write the secrets into the vault", cause))?;
            staged.push((name, write.target.as_path()));
        }
        let name = self
            .stage(staged.len(), &record, 0o600)
            .map_err(|cause| cannot("write the record", cause))?;
        staged.push((name, Path::new(FILE)));
        // Twice: one reaches the disk of a file system of the kernel's, the other our own server.
        folder::sync_all(&self.stage)
            .and_then(|()| folder::sync(&self.stage))
            .map_err(|cause| cannot("make the secrets durable", cause))?;
        self.place(vault, &staged).map_err(|(target, cause)| {
            cannot(&format!("put '{target}' in its place"), cause)
                .hint("what was placed before it is new, everything else as it was")
        })?;
        for target in &plan.removals {
            remove(vault, target)
                .map_err(|cause| cannot(&format!("remove '{}'", target.display()), cause))?;
        }
        folder::sync(&self.stage).map_err(|cause| cannot("make the secrets durable", cause))
    }

    /// Writes one content beside all places; closing hands it to the file system.
    fn stage(&self, number: usize, content: &[u8], permissions: u32) -> io::Result<OsString> {
        let name = OsString::from(number.to_string());
        let mut file = folder::create_file(&self.stage, &name, 0o600)?;
        file.write_all(content)?;
        if file.metadata()?.permissions().mode() & 0o7777 != permissions {
            file.set_permissions(Permissions::from_mode(permissions))?;
        }
        Ok(name)
    }

    /// Puts staged contents in their places, the record last.
    fn place(
        &self,
        vault: &OpenVault,
        staged: &[(OsString, &Path)],
    ) -> std::result::Result<(), (String, io::Error)> {
        // Most secrets lie where the one before them does.
        let mut last: Option<(&Path, OwnedFd)> = None;
        for (name, target) in staged {
            let failed = |cause| (target.display().to_string(), cause);
            let folder = target.parent().unwrap_or(Path::new(""));
            let parent = match last.take() {
                Some((path, opened)) if path == folder => opened,
                _ => vault.parent_of(target).map_err(failed)?.0,
            };
            let file = target.file_name().unwrap_or_default();
            // A link was refused when the pull was planned; one made since is replaced, not followed.
            folder::rename_over(&self.stage, name, &parent, file).map_err(failed)?;
            last = Some((folder, parent));
        }
        Ok(())
    }
}

fn remove(vault: &OpenVault, target: &Path) -> io::Result<()> {
    let parent = target.parent().unwrap_or(Path::new(""));
    let parent = folder::open_folder_within(vault.root(), parent)?;
    folder::remove_file(&parent, target.file_name().unwrap_or(OsStr::new("")))
}

fn cannot(what: &str, cause: io::Error) -> Error {
    let error = Error::environment(format!("cannot {what}"));
    let full = matches!(cause.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let error = error.caused_by(cause);
    if full { error.hint("the vault is full; what it had is unchanged") } else { error }
}
