//! `tazpod internal-ghost`: the helper that sudo starts. Not for people.

use crate::app::App;
use crate::error::Result;
use crate::ghost::open;

/// Takes a caller's request and makes the ghost.
pub(crate) fn run(app: &App) -> Result<u8> {
    open::helper(&app.ui)
}
