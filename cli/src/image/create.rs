//! Making a new image.

use super::explain::{cannot_make, mount_error, open_error, vault_error};
use super::volume::{remember, setup};
use crate::error::Result;
use crate::project::{Project, scaffold};
use crate::sys::memory::LockedKdfMemory;
use crate::ui::Ui;
use crate::ui::interrupt::{NoReturn, OnInterrupt};
use crate::units::ByteSize;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::unistd::{Gid, Uid};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};
use vault_core::device::{FileDevice, OpenError};
use vault_core::fs::{OpenOptions, Volume};
use vault_core::ids::UNIT_U64;
use vault_core::keyslot::{NewSlot, SlotPorts};
use vault_core::ports::{SystemClock, SystemEntropy};
use vault_core::vault::{Unlocked, Vault};

/// What a new vault may grow to, unless somebody decides.
pub(crate) const DEFAULT_SIZE: ByteSize = ByteSize(512 << 20);

/// A vault to be made.
pub(crate) struct NewVault<'a> {
    /// Where.
    pub(crate) path: &'a Path,
    /// The path as the person would write it.
    pub(crate) shown: &'a str,
    /// What it may grow to.
    pub(crate) size: ByteSize,
    /// Binary logarithm of the size of a block of file data.
    pub(crate) block_shift: u8,
    /// What shall open it.
    pub(crate) slot: NewSlot<'a>,
}

/// Makes the image under another name and puts it in its place when it is whole, so that there is
/// never half a vault. Nothing that exists is replaced.
pub(crate) fn create(
    ui: &Ui,
    project: Option<&Project>,
    new: &NewVault<'_>,
) -> Result<Vault<Unlocked>> {
    let shown = new.shown;
    if new.path.symlink_metadata().is_ok() {
        return Err(open_error(OpenError::Exists, shown));
    }
    if let Some(project) = project {
        scaffold::vault_folder(project, new.path)?;
    }
    let fresh = beside(new.path);
    // What an interrupted attempt left. Its name has our prefix, and a vault never has this name.
    let _ = fs::remove_file(&fresh);
    let on_interrupt = OnInterrupt { hint: "no vault was made", remove: Some(fresh.clone()) };
    let whole = NoReturn::default();
    ui.interruptible_until(&whole, &on_interrupt, || {
        let made = make(&fresh, new).and_then(|vault| {
            whole.pass();
            put_in_place(&fresh, new.path).map_err(|cause| cannot_make(cause, shown))?;
            Ok(vault)
        });
        if made.is_err() {
            let _ = fs::remove_file(&fresh);
        }
        made
    })?
}

fn make(fresh: &Path, new: &NewVault<'_>) -> Result<Vault<Unlocked>> {
    let explain = |error| vault_error(error, new.shown);
    let device = FileDevice::create_new(fresh).map_err(|error| match error {
        OpenError::NotFound => cannot_make(io::ErrorKind::NotFound.into(), new.shown),
        error => open_error(error, new.shown),
    })?;
    let mut ports =
        SlotPorts { entropy: &SystemEntropy, clock: &SystemClock, memory: &mut LockedKdfMemory };
    let mut vault = Vault::create_header(Arc::new(device), new.block_shift, &new.slot, &mut ports)
        .map_err(explain)?;
    let setup = setup(&vault);
    let owner = (Uid::effective().as_raw(), Gid::effective().as_raw());
    Volume::format(&setup, new.size.0 / UNIT_U64, owner)
        .map_err(|error| mount_error(error, new.shown))?;
    vault.mend_copies().map_err(explain)?;
    // Read back what was written before anybody trusts it.
    let read_only = OpenOptions { read_only: true, ..OpenOptions::default() };
    let (volume, _) =
        Volume::open(&setup, &read_only).map_err(|error| mount_error(error, new.shown))?;
    remember(&vault, &volume.anchor());
    Ok(vault)
}

/// Returns the name under which an image is made.
pub(crate) fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// Gives a finished image its name, for good; nothing that exists is replaced.
pub(crate) fn put_in_place(fresh: &Path, path: &Path) -> io::Result<()> {
    renameat2(AT_FDCWD, fresh, AT_FDCWD, path, RenameFlags::RENAME_NOREPLACE)?;
    sync_folder(path)
}

/// Makes a name in a folder durable.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    fs::File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}
