//! `tazpod vault import`: a tar archive or a folder into the vault, whole or not at all.

use crate::app::App;
use crate::args::archive::ImportArgs;
use crate::caller::Caller;
use crate::encryption::Identities;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::image::archive::{archive_error, entries, paths};
use crate::image::credential::credential_beside_input;
use crate::image::source::Source;
use crate::quoting::word;
use crate::ui::interrupt::{NoReturn, OnInterrupt};
use crate::units::ByteSize;
use nix::unistd::{Gid, Uid};
use vault_core::archive::{self, ArchiveError, ImportOptions, Imported};
use vault_core::device::Access;

/// Imports into the vault.
pub(crate) fn run(app: &App, args: &ImportArgs) -> Result<u8> {
    let caller = Caller::detect()?;
    let _as_caller = caller.act()?;
    let name = args.source.display().to_string();
    // Before a passphrase is asked for.
    let identities = Identities::gather(&app.ui, &args.identity)?;
    let mut source = Source::open(&args.source, identities.as_ref())?;
    // What decrypts has done so: the rest needs the stream's key alone.
    drop(identities);
    let (path, shown) = Image::place(app, &args.image)?;
    let image = Image::open(&path, &shown, Access::ReadWrite)?;
    let credential = credential_beside_input(&app.ui, &args.credential, &shown, source.is_input())?;
    let mut vault = image.unlock(&credential, &args.credential)?;
    let options = ImportOptions {
        overwrite: args.overwrite,
        keep_owners: args.keep_owners,
        owner: (Uid::effective().as_raw(), Gid::effective().as_raw()),
    };
    let on_interrupt = OnInterrupt {
        hint: "nothing was imported: the vault holds what it held before",
        remove: None,
    };
    let total = source.len();
    let mut progress = app.ui.progress("importing");
    let mut show = |done| match total {
        Some(total) => progress.show(done, total),
        None => progress.show_bytes(done),
    };
    let all_taken = NoReturn::default();
    let imported = app.ui.interruptible_until(&all_taken, &on_interrupt, || {
        image.change(&app.ui, &mut vault, |_, volume| {
            Ok(archive::import(volume, options, |importer| {
                source.feed(importer, &mut show)?;
                all_taken.pass();
                Ok(())
            }))
        })
    })??;
    drop(progress);
    let done = imported.map_err(|error| {
        explain(error, source.is_encrypted(), &shown, &name)
            .hint("nothing was imported: the vault holds what it held before")
    })?;
    report(app, &done, source.sockets(), &shown)
}

fn explain(error: ArchiveError, encrypted: bool, shown: &str, name: &str) -> Error {
    match error {
        ArchiveError::Compressed { by } if encrypted => Error::user(format!(
            "what is encrypted in '{name}' is compressed"
        ))
        .hint(format!("age -d -i IDENTITY {} | {by} -dc | tazpod vault import -", word(name))),
        ArchiveError::NoArchive if encrypted => {
            Error::user(format!("what is encrypted in '{name}' is no tar archive"))
        }
        error => archive_error(error, shown, name),
    }
}

fn report(app: &App, done: &Imported, sockets: &[Vec<u8>], shown: &str) -> Result<u8> {
    if !done.devices.is_empty() || !sockets.is_empty() {
        let left = [done.devices.as_slice(), sockets].concat();
        app.ui.warn(
            &format!("left out: {}", paths(&left)),
            "device nodes cannot be used in a vault, and sockets are made by programs",
        );
    }
    if !done.attributes.is_empty() {
        let names: Vec<_> = done
            .attributes
            .iter()
            .map(|(path, name)| [path, name.as_slice()].join(&b' '))
            .collect();
        app.ui.warn(
            &format!("attributes were not kept: {}", paths(&names)),
            "a vault keeps user, trusted and security attributes, and access control lists",
        );
    }
    let (entries, bytes) = (entries(done.entries), ByteSize(done.bytes));
    app.ui.print(&format!("imported {entries} into {shown}, {bytes} of content"))?;
    Ok(0)
}
