//! `tazpod login`: what is known of the login is gathered here, the rest happens in the ghost.
//!
//! Secrets that come by file or descriptor are read by the caller's own process, which is not
//! dumpable, and handed into the ghost through a pipe: never in words of a command line, never in
//! an environment.

use super::login_inside;
use super::pull::{self, What};
use crate::app::App;
use crate::args::ghost::OpenArgs;
use crate::args::login::{LoginArgs, Method, ServerArgs};
use crate::docker::route;
use crate::error::{Error, Result};
use crate::infisical::secret::SecretValue;
use crate::project::legacy;
use crate::sys::{allocation, descriptor, process};
use crate::ui::secret::{self, CredentialSource, PassphraseSource};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use zeroize::Zeroizing;

/// What was given for a login.
#[derive(Default, Deserialize, Serialize)]
pub(crate) struct Handed {
    /// A machine identity's client id.
    pub(crate) client_id: Option<String>,
    /// Its client secret.
    #[serde(serialize_with = "SecretValue::expose_some_to")]
    pub(crate) client_secret: Option<SecretValue>,
    /// A token.
    #[serde(serialize_with = "SecretValue::expose_some_to")]
    pub(crate) token: Option<SecretValue>,
}

/// Logs in.
pub(crate) fn run(app: &App, args: &LoginArgs) -> Result<u8> {
    guard()?;
    let inside = app.open_vault()?;
    if inside.is_none()
        && let Some(status) = route::to_container(app, args.open.place.here)?
    {
        return Ok(status);
    }
    let handed = if args.handed { Handed::receive()? } else { Handed::gather(app, args)? };
    if let Some(ghost) = inside {
        return login_inside::run(app, args, handed, &ghost);
    }
    // Asked in the ghost, where nobody listens; without a terminal nothing needs to be opened.
    if handed.is_empty() || args.method == Some(Method::User) {
        login_inside::terminal()?;
    }
    let mut words: Vec<OsString> = vec!["login".into()];
    if let Some(method) = args.method.and_then(|method| clap::ValueEnum::to_possible_value(&method))
    {
        words.extend(["--method".into(), method.get_name().into()]);
    }
    words.extend(server_words(&args.server)?);
    if handed.is_empty() {
        in_ghost(app, words, &args.open, pull::Given::default())
    } else {
        words.push("--handed".into());
        let given = credential(app, &args.open)?;
        handed.send()?;
        in_ghost(app, words, &args.open, given)
    }
}

/// Keeps what passes through this process to itself.
pub(super) fn guard() -> Result<()> {
    allocation::wipe_what_is_freed();
    process::set_not_dumpable()
        .map_err(|cause| Error::environment("cannot protect this process").caused_by(cause))
}

/// Runs this program again in the ghost, with `words`.
pub(super) fn in_ghost(
    app: &App,
    words: Vec<OsString>,
    open: &OpenArgs,
    given: pull::Given,
) -> Result<u8> {
    let own = std::env::current_exe()
        .map_err(|cause| Error::environment("cannot find this program").caused_by(cause))?;
    let project = app.project()?;
    let mut command = vec![own.into_os_string(), "-C".into(), project.root().into()];
    command.extend(app.ui.is_quiet().then(|| "--quiet".into()));
    command.extend(words);
    let what = What { keep: true, ..What::of(&command) };
    pull::open_with(app, open, &what, given)
}

/// Writes down which server, for this program in the ghost.
pub(super) fn server_words(server: &ServerArgs) -> Result<Vec<OsString>> {
    let mut words = Vec::new();
    if let Some(url) = &server.url {
        words.push(format!("--url={url}").into());
    }
    if let Some(path) = &server.ca_file {
        let path = std::path::absolute(path).map_err(|cause| {
            Error::user(format!("cannot find '{}'", path.display())).caused_by(cause)
        })?;
        words.extend(["--ca-file".into(), path.into_os_string()]);
    }
    words.extend(server.allow_http.then(|| "--allow-http".into()));
    Ok(words)
}

/// Reads the vault's credential now: standard input is about to carry the login's.
fn credential(app: &App, open: &OpenArgs) -> Result<pull::Given> {
    let passphrase = PassphraseSource::from_args(&open.credential.passphrase);
    if open.credential.key_file.is_some() || passphrase != PassphraseSource::Terminal {
        let mut given = pull::Given::default();
        given.read(app, open)?;
        return Ok(given);
    }
    let project = app.project()?;
    let image = app.config(&project)?.vault_file(&project);
    legacy::refuse_two(&project, &image)?;
    let shown = project.shown(&image).to_string();
    let typed = if image.exists() {
        passphrase.read(&app.ui, &format!("Passphrase for '{shown}': "))?
    } else {
        passphrase.read_new(&app.ui, &format!("New passphrase for '{shown}': "))?
    };
    Ok(pull::Given::of(&typed))
}

impl Handed {
    /// Reads what the command line and the environment name.
    fn gather(app: &App, args: &LoginArgs) -> Result<Self> {
        let file = |path: &Path| CredentialSource::File(path.to_owned());
        let read = |what: &str, path: Option<&Path>, fd: Option<i32>, variables: &[&str]| {
            let from = path.map(file).or(fd.map(CredentialSource::Descriptor));
            match from {
                Some(from) => secret::credential(&app.ui, what, &from).map(Some),
                None => Ok(variables.iter().find_map(|name| variable(name))),
            }
        };
        let id = read(
            "client id",
            args.client_id_file.as_deref(),
            None,
            &["INFISICAL_UNIVERSAL_AUTH_CLIENT_ID"],
        )?;
        let client_secret = read(
            "client secret",
            args.client_secret_file.as_deref(),
            args.client_secret_fd,
            &["INFISICAL_UNIVERSAL_AUTH_CLIENT_SECRET"],
        )?;
        let token = read(
            "token",
            args.token_file.as_deref(),
            args.token_fd,
            &["INFISICAL_UNIVERSAL_AUTH_ACCESS_TOKEN", "INFISICAL_TOKEN"],
        )?;
        Ok(Self {
            client_id: args.client_id.clone().or(id.map(|id| id.to_string())),
            client_secret: client_secret.map(SecretValue::new),
            token: token.map(SecretValue::new),
        })
    }

    fn is_empty(&self) -> bool {
        self.client_id.is_none() && self.client_secret.is_none() && self.token.is_none()
    }

    /// Puts it into a pipe that becomes the standard input of what is started from now on.
    fn send(&self) -> Result<()> {
        let failed = |cause: io::Error| {
            Error::environment("cannot hand the login into the ghost").caused_by(cause)
        };
        let mut text = Zeroizing::new(Vec::with_capacity(32 << 10));
        serde_json::to_writer(&mut *text, self).map_err(|cause| failed(cause.into()))?;
        let (reading, mut writing) = io::pipe().map_err(failed)?;
        // It fits into the pipe as a whole: three credentials of 4 KiB at most.
        writing.write_all(&text).map_err(failed)?;
        descriptor::replace_standard_input(reading).map_err(failed)
    }

    /// Takes it from there.
    fn receive() -> Result<Self> {
        let unusable = || Error::user("'--handed' is for tazpod itself: use --client-secret-file");
        if io::stdin().is_terminal() {
            return Err(unusable());
        }
        let mut text = Zeroizing::new(Vec::with_capacity(64 << 10));
        io::Read::read_to_end(&mut io::Read::take(io::stdin().lock(), 64 << 10), &mut text)
            .map_err(|_| unusable())?;
        serde_json::from_slice(&text).map_err(|_| unusable())
    }
}

fn variable(name: &str) -> Option<Zeroizing<String>> {
    let text = std::env::var(name).ok().map(Zeroizing::new)?;
    let text = text.trim();
    (!text.is_empty()).then(|| Zeroizing::new(text.to_owned()))
}
