//! `tazpod env`: exports for the shell, so that programs find the secrets of an open ghost.

use crate::app::App;
use crate::args::project::{EnvArgs, Shell};
use crate::caller::Caller;
use crate::config::secrets::Secrets;
use crate::error::{Error, Result};
use std::env;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Prints the exports.
pub(crate) fn run(app: &App, args: &EnvArgs) -> Result<u8> {
    let shell = args.shell.unwrap_or_else(own_shell);
    if app.ui.shows_results() {
        return Err(
            Error::user("exports are for a shell to read, not for the screen").hint(usage(shell))
        );
    }
    let project = app.project()?;
    let path = project.secrets_file();
    let secrets = Secrets::load(&path, &project.shown(&path).to_string())?;
    let folder = Caller::detect()?.home.join("secrets");
    let mut script = Vec::new();
    for secret in secrets.all() {
        let (Some(name), Some(file)) = (&secret.env, &secret.file) else { continue };
        let file = folder.join(file);
        if file.is_file() {
            script.extend(export(shell, name, &file));
        } else {
            app.ui.notice(&format!("{name} is left out: {} is not there", file.display()));
        }
    }
    app.ui.print_exactly(&script)?;
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

/// Writes one export. The value stands in single quotes, in which a shell expands nothing.
fn export(shell: Shell, name: &str, value: &Path) -> Vec<u8> {
    let value = value.as_os_str().as_bytes();
    let mut line = match shell {
        Shell::Bash | Shell::Zsh => format!("export {name}="),
        Shell::Fish => format!("set -gx {name} "),
    }
    .into_bytes();
    line.push(b'\'');
    for &byte in value {
        match (shell, byte) {
            (Shell::Bash | Shell::Zsh, b'\'') => line.extend(br"'\''"),
            (Shell::Fish, b'\'' | b'\\') => line.extend([b'\\', byte]),
            _ => line.push(byte),
        }
    }
    line.extend(b"'\n");
    line
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::process::Command;

    const HOSTILE: [&str; 6] =
        ["plain", "a b", "it's", r"back\slash\", "$(touch x)`id`;&|", "line\nbreak\"!"];

    #[test]
    fn no_value_can_execute_in_a_shell() {
        for value in HOSTILE {
            let mut script = export(Shell::Bash, "VALUE", Path::new(value));
            script.extend(b"printf %s \"$VALUE\"");
            for shell in ["sh", "bash"] {
                let script = String::from_utf8(script.clone()).unwrap();
                let output = Command::new(shell).arg("-c").arg(script).output().unwrap();
                assert_eq!(String::from_utf8(output.stdout).unwrap(), value, "{shell}");
            }
        }
    }

    #[test]
    fn fish_quotes_escape_only_quote_and_backslash() {
        let line = export(Shell::Fish, "V", Path::new(r"a'b\c$d"));
        assert_eq!(String::from_utf8(line).unwrap(), "set -gx V 'a\\'b\\\\c$d'\n");
    }
}
