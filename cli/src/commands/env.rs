//! `tazpod env`: what brings a shell's environment up to date with the secrets of an open ghost.

use crate::app::App;
use crate::args::project::{EnvArgs, Shell};
use crate::caller::Caller;
use crate::error::{Error, Result};
use crate::sync::variables::{Difference, OURS, Variables, hook};
use std::env;
use std::ffi::OsStr;
use std::path::PathBuf;

/// Prints the commands, or the hook.
pub(crate) fn run(app: &App, args: &EnvArgs) -> Result<u8> {
    let shell = args.shell.unwrap_or_else(own_shell);
    if args.hook {
        let own = env::current_exe().map_err(|cause| {
            Error::environment("cannot tell where this program is").caused_by(cause)
        })?;
        app.ui.print_exactly(&hook(shell, &own))?;
        return Ok(0);
    }
    if app.ui.shows_results() {
        return Err(
            Error::user("exports are for a shell to read, not for the screen").hint(usage(shell))
        );
    }
    super::internal_session::protect()?;
    let variables = if let Some(ghost) = app.open_vault()? {
        Variables::of(&app.secrets(&ghost.project)?, &ghost.vault)
    } else {
        let folder = Caller::detect()?.home.join("secrets");
        Variables::outside(&app.secrets(&app.project()?)?, &folder)
    };
    let difference = Difference::from(&variables, |name| env::var_os(name));
    // A hook says what is left out once, not before each prompt.
    let hooked = env::var_os(OURS).is_some() && difference.is_empty();
    for (name, why) in variables.left_out.iter().filter(|_| !hooked) {
        app.ui.notice(&format!("{name} is left out: {why}"));
    }
    if env::var_os(OURS).is_some() && !difference.is_empty() {
        app.ui.notice(&format!("tazpod: {}", difference.names()));
    }
    app.ui.print_exactly(&difference.script(shell))?;
    Ok(0)
}

fn own_shell() -> Shell {
    let path = env::var_os("SHELL").map(PathBuf::from).unwrap_or_default();
    match path.file_name().and_then(OsStr::to_str) {
        Some("fish") => Shell::Fish,
        Some("zsh") => Shell::Zsh,
        _ => Shell::Bash,
    }
}

fn usage(shell: Shell) -> &'static str {
    match shell {
        Shell::Bash | Shell::Zsh => "eval \"$(tazpod env)\"",
        Shell::Fish => "tazpod env | source",
    }
}
