//! `tazpod vault diff`: what became of the files between two images.

use crate::app::App;
use crate::args::access::{CredentialArgs, PassphraseArgs};
use crate::args::compare::DiffArgs;
use crate::caller::Caller;
use crate::error::Result;
use crate::image::explain::vault_error;
use crate::image::{self, Image};
use crate::quoting::{JsonName, on_one_line};
use crate::ui::interrupt::OnInterrupt;
use serde::Serialize;
use std::path::Path;
use vault_core::device::Access;
use vault_core::diff::{Change, Difference, diff};
use vault_core::fs::Volume;
use vault_core::keyslot::Credential;

/// The exit status when something differs, as diff has it.
const DIFFERENT: u8 = 1;

/// Compares the images.
pub(crate) fn run(app: &App, args: &DiffArgs) -> Result<u8> {
    let caller = Caller::detect()?;
    let _as_caller = caller.act()?;
    let shown = args.before.display().to_string();
    let first = image::credential(&app.ui, &args.credential, &shown)?;
    let (other, second) = match &args.second_passphrase_file {
        None => (args.credential.clone(), None),
        Some(path) => {
            let file = Some(path.clone());
            let passphrase = PassphraseArgs { passphrase_file: file, ..PassphraseArgs::default() };
            let other = CredentialArgs {
                passphrase,
                allow_kdf_cost: args.credential.allow_kdf_cost,
                ..CredentialArgs::default()
            };
            let name = args.after.display().to_string();
            let credential = image::credential(&app.ui, &other, &name)?;
            (other, Some(credential))
        }
    };
    let before = open(app, &args.before, &first, &args.credential)?;
    let after = open(app, &args.after, second.as_ref().unwrap_or(&first), &other)?;
    let mut found = Vec::new();
    let on_interrupt = OnInterrupt { hint: "nothing was changed", remove: None };
    app.ui
        .interruptible(&on_interrupt, || diff(&before, &after, &mut |one| found.push(one)))?
        .map_err(|error| {
            vault_error(error.into(), &format!("{shown} or {}", args.after.display()))
        })?;
    found.sort_by(|one, other| one.path.cmp(&other.path));
    report(app, args, &found)
}

/// Opens an image as it is: that a backup is older than what this machine has seen is what it is for.
fn open(app: &App, path: &Path, credential: &Credential, args: &CredentialArgs) -> Result<Volume> {
    let shown = path.display().to_string();
    let image = Image::open(path, &shown, Access::ReadOnly)?;
    let vault = image.unlock(credential, args)?;
    image.any_state(&app.ui, &vault)
}

#[derive(Debug, Serialize)]
struct Answer {
    same: bool,
    added: Vec<JsonName>,
    removed: Vec<JsonName>,
    changed: Vec<JsonName>,
    attributes: Vec<JsonName>,
}

fn report(app: &App, args: &DiffArgs, found: &[Difference]) -> Result<u8> {
    if args.json {
        let paths = |change| {
            let those = found.iter().filter(|one| one.change == change);
            those.map(|one| JsonName::of(&one.path)).collect()
        };
        app.ui.json(&Answer {
            same: found.is_empty(),
            added: paths(Change::Added),
            removed: paths(Change::Removed),
            changed: paths(Change::Content),
            attributes: paths(Change::Attributes),
        })?;
    } else if found.is_empty() {
        app.ui.notice("no difference");
    } else {
        let lines: Vec<_> = found.iter().map(line).collect();
        app.ui.print(&lines.join("\n"))?;
    }
    Ok(if found.is_empty() { 0 } else { DIFFERENT })
}

fn line(one: &Difference) -> String {
    let mark = match one.change {
        Change::Added => '+',
        Change::Removed => '-',
        Change::Content => 'M',
        Change::Attributes => 'a',
    };
    format!("{mark} {}", on_one_line(&one.path))
}
