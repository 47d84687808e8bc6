//! `tazpod unlock`: the vault open in a ghost, without pulling secrets.

use super::pull::{self, What};
use crate::app::App;
use crate::args::ghost::UnlockArgs;
use crate::error::Result;

/// Opens the vault in a ghost, or joins the one that is open.
pub(crate) fn run(app: &App, args: &UnlockArgs) -> Result<u8> {
    let what = What { keep: true, ..What::of(&args.command) };
    pull::open(app, &args.open, &what)
}
