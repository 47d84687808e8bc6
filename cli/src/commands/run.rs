//! `tazpod run`: one command with the secrets in its environment.

use super::pull::{self, What};
use crate::app::App;
use crate::args::ghost::{RunArgs, SecretsArgs, SessionArgs};
use crate::error::Result;

/// Runs the command in this ghost, or in one that is opened for it.
pub(crate) fn run(app: &App, args: RunArgs) -> Result<u8> {
    if app.open_vault()?.is_none() {
        let what = What { keep: true, whole: true, redact: args.redact, ..What::of(&args.command) };
        return pull::open(app, &args.open, &what);
    }
    let session = SessionArgs {
        secrets: SecretsArgs::default(),
        keep: true,
        whole: true,
        shell: false,
        redact: args.redact,
        command: args.command,
    };
    super::internal_session::run(app, &session)
}
