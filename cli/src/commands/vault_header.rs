//! `tazpod vault header`: the 4096 bytes without which nothing opens, kept elsewhere and put back.

use crate::app::App;
use crate::args::vault::{HeaderBackupArgs, HeaderCommand, HeaderRestoreArgs};
use crate::caller::Caller;
use crate::error::{Error, Kind, Result};
use crate::image::explain::{mount_error, open_error, storage, vault_error};
use crate::image::output::{FreshFile, must_be_file};
use crate::image::volume::{remember, remembered, setup};
use crate::image::{self, Image};
use crate::sys::memory::LockedKdfMemory;
use crate::ui::interrupt::{NoReturn, OnInterrupt};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;
use vault_core::device::{Access, FileDevice};
use vault_core::error::{Damage, FsError};
use vault_core::fs::Volume;
use vault_core::ids::{SlotIndex, UNIT_U64};
use vault_core::vault::{UnlockOptions, Unlocked, Vault};

/// Runs the verb below `header`.
pub(crate) fn run(app: &App, command: &HeaderCommand) -> Result<u8> {
    match command {
        HeaderCommand::Backup(args) => backup(app, args),
        HeaderCommand::Restore(args) => restore(app, args),
    }
}

fn backup(app: &App, args: &HeaderBackupArgs) -> Result<u8> {
    let caller = Caller::detect()?;
    let _as_caller = caller.act()?;
    let (path, shown) = Image::place(app, &args.image)?;
    let image = Image::open(&path, &shown, Access::ReadOnly)?;
    let credential = image::credential(&app.ui, &args.credential, &shown)?;
    let vault = image.unlock(&credential, &args.credential)?;
    let file = args.file.display().to_string();
    must_be_file(&args.file)?;
    let on_interrupt =
        OnInterrupt { hint: "no backup was written", remove: Some(FreshFile::name(&args.file)) };
    let whole = NoReturn::default();
    app.ui.interruptible_until(&whole, &on_interrupt, || {
        let mut fresh = FreshFile::begin(&args.file)?;
        fresh
            .file()
            .write_all(&vault.backup())
            .map_err(|cause| storage(cause, &format!("cannot write '{file}'")))?;
        fresh.finish(&whole)
    })??;
    app.ui.print(&format!("the header of {shown}, vault {}, is in {file}", vault.id()))?;
    app.ui.notice(
        "It opens every copy of this vault with what opens it today, also after a passphrase was changed.",
    );
    Ok(0)
}

fn restore(app: &App, args: &HeaderRestoreArgs) -> Result<u8> {
    let caller = Caller::detect()?;
    let _as_caller = caller.act()?;
    let (path, shown) = Image::place(app, &args.image)?;
    let file = args.file.display().to_string();
    let bytes = read(&args.file)
        .map_err(|cause| Error::user(format!("cannot read '{file}'")).caused_by(cause))?;
    let device =
        FileDevice::open(&path, Access::ReadWrite).map_err(|error| open_error(error, &shown))?;
    let locked = Vault::from_backup(&bytes, Arc::new(device)).map_err(|cause| {
        Error::new(Kind::Format, format!("'{file}' is no header of a vault")).caused_by(cause)
    })?;
    let credential = image::credential(&app.ui, &args.credential, &file)?;
    let options = UnlockOptions {
        slot: args.credential.slot.map(SlotIndex),
        limits: image::open::kdf_limits(&args.credential),
    };
    let mut vault = locked
        .unlock(&credential, &options, &mut LockedKdfMemory)
        .map_err(|error| vault_error(error, &file))?;
    let volume = volume_of(app, &vault, &file, &shown)?;
    confirm(app, args, &vault, &shown)?;
    vault.restore(&volume).map_err(|error| vault_error(error, &shown))?;
    volume.close().map_err(|error| vault_error(error.into(), &shown))?;
    remember(&vault, &volume.anchor());
    app.ui.print(&format!("{shown} has the header of {file} again"))?;
    app.ui.notice("'tazpod vault slot list' shows what opens it now.");
    Ok(0)
}

/// Opens the image under the backup's keys: only its own vault opens.
fn volume_of(app: &App, vault: &Vault<Unlocked>, file: &str, shown: &str) -> Result<Volume> {
    let mut setup = setup(vault);
    setup.header_sequence = Volume::committed_header(&setup).map_err(|error| match error {
        FsError::Damaged(Damage::NoSuperblock) => {
            Error::user(format!("'{file}' is not a header of '{shown}'"))
                .hint(format!("it belongs to vault {}; nothing was changed", vault.id()))
        }
        error => vault_error(error.into(), shown),
    })?;
    let options = vault_core::fs::OpenOptions {
        witness: remembered(&app.ui, vault)?,
        ..vault_core::fs::OpenOptions::default()
    };
    let (volume, _) = Volume::open(&setup, &options).map_err(|error| mount_error(error, shown))?;
    Ok(volume)
}

/// A header that came back brings its keyslots with it.
fn confirm(
    app: &App,
    args: &HeaderRestoreArgs,
    vault: &Vault<Unlocked>,
    shown: &str,
) -> Result<()> {
    if args.yes {
        return Ok(());
    }
    let slots: Vec<String> =
        vault.slots().map(|(index, slot)| format!("{index} ({})", slot.kind)).collect();
    let question = format!(
        "The keyslots of the backup, {}, will open {shown} again, and no others. Restore it?",
        slots.join(", ")
    );
    if app.ui.confirm(&question)? { Ok(()) } else { Err(Error::user("nothing was changed")) }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more than a header has tells that it is none.
    File::open(path)?.take(UNIT_U64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
