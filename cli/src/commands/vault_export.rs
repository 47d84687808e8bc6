//! `tazpod vault export`: the vault's files as a tar archive.

use crate::app::App;
use crate::args::archive::ExportArgs;
use crate::caller::Caller;
use crate::encryption::Recipients;
use crate::error::{Error, Result};
use crate::image::archive::{archive_error, entries, paths};
use crate::image::output::FreshFile;
use crate::image::{self, Image};
use crate::ui::interrupt::{NoReturn, OnInterrupt};
use crate::units::ByteSize;
use std::io::{BufWriter, Write};
use std::path::Path;
use vault_core::archive::{Exported, export};
use vault_core::device::Access;
use vault_core::fs::Volume;
use vault_core::ids::UNIT_U64;

/// Bytes that are gathered before they go out.
const BUFFER: usize = 1 << 18;

/// Exports the vault.
pub(crate) fn run(app: &App, args: &ExportArgs) -> Result<u8> {
    let caller = Caller::detect()?;
    let _as_caller = caller.act()?;
    let to_output = args.target == Path::new("-");
    if to_output && app.ui.shows_results() {
        return Err(Error::user("the archive would go to the terminal")
            .hint("name a file, or pipe it; --recipient encrypts it"));
    }
    if to_output {
        // Before a passphrase is asked for.
        drop(app.ui.output()?);
    }
    let recipients = Recipients::gather(&args.recipients)?;
    let (path, shown) = Image::place(app, &args.image)?;
    let on_interrupt = OnInterrupt {
        hint: if to_output {
            "what was written is no whole archive; the vault is as it was"
        } else {
            "no archive was written; the vault is as it was"
        },
        remove: (!to_output).then(|| FreshFile::name(&args.target)),
    };
    if !to_output {
        // Before a passphrase is asked for; what is begun stays nowhere while it is.
        let begun = || FreshFile::begin(&args.target).map(drop);
        app.ui.interruptible(&on_interrupt, begun)??;
    }
    let image = Image::open(&path, &shown, Access::ReadOnly)?;
    let credential = image::credential(&app.ui, &args.credential, &shown)?;
    let vault = image.unlock(&credential, &args.credential)?;
    let volume = image.volume(&app.ui, &vault, true, args.accept_generation)?;
    let target = args.target.display().to_string();
    let write = |out: &mut dyn Write| {
        let total = used_bytes(&volume);
        let mut progress = app.ui.progress("exporting");
        let mut fill = |out: &mut dyn Write| {
            let mut out = BufWriter::with_capacity(BUFFER, out);
            export(&volume, &mut out, &mut |done| progress.show(done, total))
        };
        let done = match &recipients {
            None => fill(out),
            Some(recipients) => recipients.encrypt(out, fill),
        };
        done.map_err(|error| archive_error(error, &shown, &target))
    };
    let whole = NoReturn::default();
    let done = app.ui.interruptible_until(&whole, &on_interrupt, || {
        if to_output {
            return write(&mut app.ui.output()?);
        }
        let mut fresh = FreshFile::begin(&args.target)?;
        let done = write(fresh.file())?;
        fresh.finish(&whole)?;
        Ok(done)
    })??;
    report(app, &done, (!to_output).then_some(&target), recipients.as_ref())
}

fn report(
    app: &App,
    done: &Exported,
    target: Option<&String>,
    recipients: Option<&Recipients>,
) -> Result<u8> {
    if !done.sockets.is_empty() {
        app.ui.warn(
            &format!("sockets were left out: {}", paths(&done.sockets)),
            "an archive cannot hold them; programs make them again",
        );
    }
    if let Some(target) = target {
        let (entries, bytes) = (entries(done.entries), ByteSize(done.bytes));
        let wrote = format!("wrote {target}: {entries}, {bytes} of content");
        let Some(recipients) = recipients else {
            app.ui.print(&wrote)?;
            app.ui.notice("the archive is not encrypted: whoever reads it reads your secrets; --recipient encrypts it");
            return Ok(0);
        };
        app.ui.print(&format!("{wrote}, {}", recipients.describe()))?;
    }
    Ok(0)
}

fn used_bytes(volume: &Volume) -> u64 {
    let space = volume.stat_fs();
    space.total.saturating_sub(space.free).saturating_mul(UNIT_U64)
}
