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
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::Permissions;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
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
        clear(&stage).map_err(failed)?;
        Ok(Self { _lock: lock, stage })
    }

    /// Writes everything, or leaves everything as it was and says why. `record` is what the vault had before.
    pub(crate) fn apply(
        &self,
        vault: &OpenVault,
        plan: &Plan,
        record: Record,
        from: &str,
    ) -> Result<()> {
        let outcome = self.write(vault, plan, record, from);
        if outcome.is_err() {
            // What nobody will place must not fill the vault until the next pull.
            let _ = clear(&self.stage);
        }
        outcome
    }

    fn write(&self, vault: &OpenVault, plan: &Plan, mut record: Record, from: &str) -> Result<()> {
        let failed = |what: &'static str| move |cause| cannot(what, cause);
        let mut staged = Vec::new();
        // Every file of ours is named by the record at every moment, so that none is ever forgotten.
        if record.add(&plan.kept) {
            let name = self.stage_record("0", &record).map_err(failed("write the record"))?;
            staged.push((name, Path::new(FILE)));
        }
        for write in &plan.writes {
            let content = write.value.expose().as_bytes();
            let name = self
                .stage(staged.len(), content, write.permissions)
                .map_err(failed("write the secrets into the vault"))?;
            staged.push((name, write.target.as_path()));
        }
        let removals: Vec<&Path> = plan.removals.iter().map(PathBuf::as_path).collect();
        let now = Record::new(from, plan.kept.clone());
        let now = self.stage_record("record", &now).map_err(failed("write the record"))?;
        let places = staged.iter().map(|(_, target)| *target).chain(removals.iter().copied());
        prepare(vault, places).map_err(|(target, cause)| {
            cannot(&format!("write to the folder of '{}'", target.display()), cause)
                .hint("the secrets are as they were")
        })?;
        // Twice: one reaches the disk of a file system of the kernel's, the other our own server.
        folder::sync_all(&self.stage)
            .and_then(|()| folder::sync(&self.stage))
            .map_err(failed("make the secrets durable"))?;
        self.place(vault, &staged).map_err(|(target, cause)| {
            Error::environment(format!("cannot put '{target}' in its place"))
                .caused_by(cause)
                .hint("what was placed before it is new, everything else as it was")
        })?;
        for target in removals {
            remove(vault, target)
                .map_err(|cause| cannot(&format!("remove '{}'", target.display()), cause))?;
        }
        self.place(vault, &[(now, Path::new(FILE))])
            .map_err(|(_, cause)| cannot("write the record", cause))?;
        folder::sync(&self.stage).map_err(failed("make the secrets durable"))
    }

    fn stage_record(&self, name: &str, record: &Record) -> io::Result<OsString> {
        self.stage_as(OsString::from(name), &record.encode()?, 0o600)
    }

    /// Writes one content beside all places; closing hands it to the file system.
    fn stage(&self, number: usize, content: &[u8], permissions: u32) -> io::Result<OsString> {
        self.stage_as(OsString::from(number.to_string()), content, permissions)
    }

    fn stage_as(&self, name: OsString, content: &[u8], permissions: u32) -> io::Result<OsString> {
        let mut file = folder::create_file(&self.stage, &name, 0o600)?;
        file.write_all(content)?;
        if file.metadata()?.permissions().mode() & 0o7777 != permissions {
            file.set_permissions(Permissions::from_mode(permissions))?;
        }
        Ok(name)
    }

    /// Puts staged contents in their places, in this order.
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

/// Removes what is staged.
fn clear(stage: &OwnedFd) -> io::Result<()> {
    for left in folder::names(stage, MOST_STAGED)? {
        folder::remove_file(stage, &left)?;
    }
    Ok(())
}

/// Makes the folders that are missing, and finds that something may be put into every one: what stands in the way of the
/// last file must be known before the first is placed.
fn prepare<'p>(
    vault: &OpenVault,
    places: impl Iterator<Item = &'p Path>,
) -> std::result::Result<(), (&'p Path, io::Error)> {
    let mut seen = BTreeSet::new();
    for target in places.filter(|target| seen.insert(target.parent())) {
        vault
            .parent_of(target)
            .and_then(|(parent, _)| folder::may_change(parent))
            .map_err(|cause| (target, cause))?;
    }
    Ok(())
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

#[cfg(test)]
mod tests;
