//! The part of `tazpod login` that happens in the ghost: the login itself.

use super::internal_session;
use super::login::Handed;
use crate::app::{App, GhostVault};
use crate::args::login::{LoginArgs, Method, ServerArgs};
use crate::dates;
use crate::error::{Error, Kind, Result};
use crate::infisical::choose;
use crate::infisical::native::Native;
use crate::infisical::secret::SecretValue;
use crate::infisical::settings::{Folders, Settings};
use crate::infisical::source::{Identity, Source};
use crate::ui::secret::{self, CredentialSource};
use std::io::{self, IsTerminal};
use std::time::UNIX_EPOCH;

/// Logs in and says who is logged in where until when.
pub(crate) fn run(app: &App, args: &LoginArgs, handed: Handed, ghost: &GhostVault) -> Result<u8> {
    let settings = settings(app, &args.server, ghost)?;
    let folders = internal_session::folders(&ghost.vault);
    let method = match args.method {
        Some(method) => method,
        None => chosen(app, &handed)?,
    };
    let identity = log_in(app, method, handed, &settings, &folders)?;
    app.ui.print(&described(&identity))?;
    Ok(0)
}

/// Offers a login after an error that one can mend, where a person can answer; true once somebody
/// is logged in. No other error ever leads to a login, and without a terminal none does.
pub(super) fn offer(
    app: &App,
    error: &Error,
    settings: &Settings,
    folders: &Folders,
) -> Result<bool> {
    let can_answer = io::stdin().is_terminal() && io::stderr().is_terminal();
    if error.kind() != Kind::LoggedOut || !can_answer {
        return Ok(false);
    }
    app.ui.say_failure(&error.to_string());
    let answer = app.ui.ask("Log in now? [y/N] ")?;
    if !matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
        return Ok(false);
    }
    let nothing = Handed::default();
    let identity = log_in(app, chosen(app, &nothing)?, nothing, settings, folders)?;
    app.ui.notice(&described(&identity));
    Ok(true)
}

fn log_in(
    app: &App,
    method: Method,
    handed: Handed,
    settings: &Settings,
    folders: &Folders,
) -> Result<Identity> {
    match method {
        Method::UniversalAuth => {
            let mut native = choose::native(settings, folders)?;
            announce(app, &native, settings)?;
            let id = match handed.client_id {
                Some(id) => id,
                None => typed(app, "client id", "Client id: ")?.expose().to_owned(),
            };
            let secret = match handed.client_secret {
                Some(secret) => secret,
                None => typed(app, "client secret", "Client secret: ")?,
            };
            native.log_in(id, secret)?;
            Ok(native.identity()?)
        }
        Method::Token => {
            let mut native = choose::native(settings, folders)?;
            announce(app, &native, settings)?;
            let token = match handed.token {
                Some(token) => token,
                None => typed(app, "token", "Token: ")?,
            };
            native.take_token(token)?;
            Ok(native.identity()?)
        }
        Method::User => {
            terminal()?;
            announce(app, &choose::native(settings, folders)?, settings)?;
            by_program(settings, folders)
        }
    }
}

/// Tells, before anything is typed, whom the settings have us trust: they may be another's, since `secrets.yml` lies outside
/// the vault.
fn announce(app: &App, native: &Native, settings: &Settings) -> Result<()> {
    if native.is_new_way()? {
        let at = native.at();
        let trusted = match &settings.ca_file {
            Some(file) if at.starts_with("https:") => {
                format!(
                    "the CA certificates in '{}' are trusted on the way to {at}",
                    file.display()
                )
            }
            _ => format!("what goes to {at}, unencrypted, goes through the proxy of secrets.yml"),
        };
        app.ui.warn(&trusted, "go on only if that is how it should be");
    }
    Ok(())
}

/// Decides from what was given; else the person does.
fn chosen(app: &App, handed: &Handed) -> Result<Method> {
    if handed.client_secret.is_some() || handed.client_id.is_some() {
        return Ok(Method::UniversalAuth);
    }
    if handed.token.is_some() {
        return Ok(Method::Token);
    }
    terminal()?;
    let question = "Log in as\n  1  a machine identity, with client id and client secret\n  2  \
                    whoever has a token that you paste\n  3  yourself, by the infisical program\n\
                    [1] ";
    match app.ui.ask(question)?.trim() {
        "" | "1" => Ok(Method::UniversalAuth),
        "2" => Ok(Method::Token),
        "3" => Ok(Method::User),
        _ => Err(Error::user("the answer is 1, 2 or 3").hint("nothing was changed")),
    }
}

fn typed(app: &App, what: &str, question: &'static str) -> Result<SecretValue> {
    terminal()?;
    let text = secret::credential(&app.ui, what, &CredentialSource::Typed(question))?;
    Ok(SecretValue::new(text))
}

/// Finds that there is a terminal to ask on.
pub(super) fn terminal() -> Result<()> {
    if io::stdin().is_terminal() {
        return Ok(());
    }
    Err(Error::user("no terminal to ask for the login on")
        .hint("give it with --client-id and --client-secret-file, or with --token-file"))
}

/// Has the `infisical` program log the user in, and looks at the session that it left.
fn by_program(settings: &Settings, folders: &Folders) -> Result<Identity> {
    let mut program = choose::program(settings, folders)?;
    program.log_in()?;
    let identity = program.identity().map_err(|error| {
        Error::from(error)
            .hint("'infisical vault set file' selects the keyring that the vault keeps")
    })?;
    choose::keep_way(settings, folders, &identity.at)?;
    Ok(identity)
}

/// Says who is logged in where, until when.
pub(super) fn described(identity: &Identity) -> String {
    let Identity { who, how, at, until } = identity;
    let seconds = until.and_then(|until| until.duration_since(UNIX_EPOCH).ok());
    let until = seconds.and_then(|until| i64::try_from(until.as_secs()).ok()).map(dates::utc);
    let lasting = match (until, *how) {
        (_, "universal auth") => ", renewed as needed".to_owned(),
        (Some(until), _) => format!(", until {until}"),
        (None, _) => String::new(),
    };
    format!("Logged in to {at} as {who} ({how}){lasting}.")
}

/// Returns what the command line says about the server, and secrets.yml where it says nothing.
pub(super) fn settings(app: &App, server: &ServerArgs, ghost: &GhostVault) -> Result<Settings> {
    let written = internal_session::settings(&app.secrets(&ghost.project)?, ghost);
    Ok(Settings {
        url: server.url.clone().or(written.url),
        ca_file: server.ca_file.clone().or(written.ca_file),
        allow_http: server.allow_http || written.allow_http,
        ..written
    })
}
