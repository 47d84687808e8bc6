//! `tazpod vault check --repair`: what can be mended is, in a fresh image that takes the old one's place.

use crate::app::App;
use crate::error::{Error, Result};
use crate::image::{Image, fresh};
use crate::ui::interrupt::{NoReturn, OnInterrupt};
use std::fs;
use std::path::Path;
use vault_core::vault::{CopyState, Unlocked, Vault};

/// Rewrites header copies that are older or damaged; nothing else is wrong.
pub(crate) fn header(app: &App, image: &Image, mut vault: Vault<Unlocked>) -> Result<()> {
    let stale = vault.copy_states().iter().any(|state| *state != CopyState::Current);
    image.change(&app.ui, &mut vault, |_, _| Ok(()))?;
    if stale {
        app.ui.print(&format!("mended: the header of {}", image.shown))?;
    }
    Ok(())
}

/// Rebuilds the image from what is left of it. The damaged one stays as FILE.damaged, unless the person
/// said that it need not.
pub(crate) fn rebuild(
    app: &App,
    image: &Image,
    vault: Vault<Unlocked>,
    path: &Path,
    forget_old: bool,
) -> Result<()> {
    let shown = &image.shown;
    let making = fresh::beside(path, ".repair");
    let kept = fresh::beside(path, ".damaged");
    let kept_shown = format!("{shown}.damaged");
    if fresh::is_same_file(path, &kept) {
        // An interruption came just before the mended image took the place.
        let _ = fs::remove_file(&kept);
    }
    if !forget_old && kept.symlink_metadata().is_ok() {
        return Err(Error::user(format!("'{kept_shown}' exists already")).hint(
            "an earlier repair kept it: move it away, or use --yes to keep nothing this time",
        ));
    }
    // What an interrupted repair left: its name has our suffix.
    let _ = fs::remove_file(&making);
    let hint = "the damaged image is as it was";
    let on_interrupt = OnInterrupt { hint, remove: Some(making.clone()) };
    let mended = NoReturn::default();
    let rescued = app.ui.interruptible_until(&mended, &on_interrupt, || {
        let making_shown = format!("{shown}.repair");
        let outcome = fresh::rescue(&app.ui, image, vault, (&making, &making_shown)).and_then(
            |(vault, rescued)| {
                mended.pass();
                if !forget_old {
                    fresh::keep(path, &kept, &kept_shown)?;
                }
                fresh::replace(&making, path, shown, &vault, &rescued.newest)?;
                Ok(rescued)
            },
        );
        if outcome.is_err() {
            let _ = fs::remove_file(&making);
        }
        outcome
    })??;
    let mut lines = rescued.lines();
    lines.push(format!("mended: {shown} holds {} inodes", rescued.copied.files));
    if !forget_old {
        lines.push(format!("the damaged image is {kept_shown}; remove it when you miss nothing"));
    }
    app.ui.print(&lines.join("\n"))
}
