//! The source that asks the `infisical` program, as it is in our images.
//!
//! The program starts a login by itself when it finds its session over, so it is only ever called
//! with a session that was looked at, without a terminal, in an environment that holds no token.
//! Its standard error is kept apart: warnings are no values.

use super::address::Address;
use super::client::described;
use super::keyring::{Kept, UserSession};
use super::secret::SecretValue;
use super::settings::{Folders, NO_PROXY, Settings};
use super::source::{Cause, Identity, ProjectRef, Query, Secret, Source, SourceError};
use super::wire::{self, HIDDEN};
use crate::sys::process;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant, UNIX_EPOCH};
use zeroize::Zeroizing;

/// Variables that the program needs or that a person sets for it; none holds a token.
pub(super) const KEPT: [&str; 10] = [
    "PATH",
    "TERM",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "INFISICAL_CUSTOM_HEADERS",
    "INFISICAL_VAULT_FILE_PASSPHRASE",
];

/// Those that name a proxy, or what needs none; kept unless the configuration decides.
pub(super) const PROXIES: [&str; 8] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
];

/// Bytes of standard error that are looked at.
const LONGEST_COMPLAINT: usize = 64 << 10;

/// The `infisical` program.
pub(crate) struct Program {
    path: PathBuf,
    address: Address,
    home: PathBuf,
    kept: Kept,
    settings: Settings,
}

/// One secret as the program prints it.
#[derive(Deserialize)]
struct Printed {
    key: String,
    value: SecretValue,
}

impl Program {
    /// Finds the program.
    pub(crate) fn new(
        address: Address,
        settings: &Settings,
        folders: &Folders,
    ) -> Result<Self, SourceError> {
        let path = find().ok_or_else(|| SourceError::Unusable {
            what: "the infisical program".into(),
            cause: "it is not in PATH".into(),
        })?;
        let home = folders.home.clone();
        Ok(Self { path, address, home, kept: folders.kept(), settings: settings.clone() })
    }

    /// Takes the program at a path, wherever it is.
    #[cfg(test)]
    pub(crate) fn at(
        path: PathBuf,
        address: Address,
        settings: &Settings,
        folders: &Folders,
    ) -> Self {
        let home = folders.home.clone();
        Self { path, address, home, kept: folders.kept(), settings: settings.clone() }
    }

    /// Whether this machine has the program.
    pub(crate) fn is_installed() -> bool {
        find().is_some()
    }

    /// Returns the session that the program would use, if it is alive and for this server.
    fn session(&self) -> Result<UserSession, SourceError> {
        let logged_out = |said: &str| SourceError::Authentication {
            at: self.address.to_string(),
            said: Some(said.into()),
        };
        let session = self.kept.session(self.settings.allow_http)?.ok_or_else(|| {
            logged_out("the infisical program has no session in its file keyring")
        })?;
        if session.address != self.address {
            return Err(logged_out(&format!("the infisical program's is at {}", session.address)));
        }
        if !session.is_alive() {
            return Err(logged_out("the infisical program's session has ended"));
        }
        Ok(session)
    }

    /// Has the program log a user in on the terminal, into its file keyring.
    pub(crate) fn log_in(&self) -> Result<(), SourceError> {
        // In a container no other keyring survives, and the file lies in the vault.
        for words in [&["vault", "set", "file"][..], &["login"]] {
            let mut command = self.bare();
            command.args(words);
            if words == ["login"] {
                command.arg(format!("--domain={}/api", self.address));
            }
            let status = command.status().map_err(|cause| self.unusable(cause.into()))?;
            if !status.success() {
                let words = words.join(" ");
                return Err(self.unusable(format!("'infisical {words}' failed: {status}").into()));
            }
        }
        Ok(())
    }

    fn unusable(&self, cause: Cause) -> SourceError {
        SourceError::Unusable { what: format!("'{}'", self.path.display()), cause }
    }

    /// Prepares the program in an environment that holds no token. A working folder of the
    /// project's could name another project or server.
    fn bare(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.current_dir("/").env_clear().env("HOME", &self.home);
        let mut keep = |names: &[&str]| {
            for name in names {
                if let Some(value) = std::env::var_os(name) {
                    command.env(name, value);
                }
            }
        };
        keep(&KEPT);
        match self.settings.proxy.as_deref() {
            None => keep(&PROXIES),
            Some(NO_PROXY) => {}
            Some(proxy) => {
                command.env("HTTPS_PROXY", proxy).env("HTTP_PROXY", proxy);
            }
        }
        command.env("INFISICAL_DISABLE_UPDATE_CHECK", "true");
        command
    }

    pub(super) fn command(&self, query: &Query, project: &str) -> Command {
        let mut command = self.bare();
        command
            .args(["export", "--format=json", "--silent"])
            .arg(format!("--projectId={project}"))
            .arg(format!("--env={}", query.environment))
            .arg(format!("--path={}", query.path))
            .arg(format!("--expand={}", query.expand))
            .arg(format!("--include-imports={}", query.imports))
            .arg(format!("--domain={}/api", self.address));
        if !query.tags.is_empty() {
            command.arg(format!("--tags={}", query.tags.join(",")));
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        process::without_terminal(&mut command);
        command
    }

    /// Runs the program to its end or the time limit.
    fn run(&self, command: &mut Command) -> Result<Printout, SourceError> {
        let failed = |cause: std::io::Error| self.unusable(cause.into());
        let deadline = Instant::now() + self.settings.limits.patience;
        let mut child = command.spawn().map_err(failed)?;
        let limit = self.settings.limits.answer;
        let out = gather(child.stdout.take(), limit);
        let complaint = gather(child.stderr.take(), LONGEST_COMPLAINT);
        let outcome =
            read_by(&out, deadline).and_then(|out| Some((out, read_by(&complaint, deadline)?)));
        let in_time = outcome.is_some() && process::ends_by(&child, deadline);
        // What it started may hold the streams open and wait for somebody to log in.
        process::end_group(&child);
        let status = child.wait().map_err(failed)?;
        let at = "the infisical program".to_owned();
        let Some((out, complaint)) = outcome.filter(|_| in_time) else {
            return Err(SourceError::TimedOut { at, limit: self.settings.limits.patience });
        };
        if out.len() > limit {
            return Err(SourceError::TooLarge { at, limit });
        }
        Ok(Printout { out, complaint, success: status.success() })
    }

    /// Turns what the program says about its failure into the error that it means.
    fn complaint(&self, complaint: &[u8], what: String) -> SourceError {
        let text = String::from_utf8_lossy(complaint);
        let status = text.split_once("status-code=").map(|(_, rest)| {
            rest.chars().take_while(char::is_ascii_digit).take(3).collect::<String>()
        });
        let line = text.lines().find(|line| line.to_ascii_lowercase().contains("error"));
        let said = line.or(text.lines().last()).and_then(wire::harmless);
        let at = self.address.to_string();
        match status.as_deref() {
            Some("401") => SourceError::Authentication { at, said },
            Some("403") if text.contains("TokenError") => SourceError::Authentication { at, said },
            Some("403") => SourceError::Permission { what, said },
            Some("404") => SourceError::NotFound { what, said },
            Some("400" | "422") => SourceError::Invalid { what, said },
            Some("429") => SourceError::RateLimited { at, wait: None },
            _ => {
                let cause: Cause = said.unwrap_or_else(|| "it says nothing".into()).into();
                SourceError::Unusable { what: "the infisical program: it failed".into(), cause }
            }
        }
    }
}

struct Printout {
    out: Zeroizing<Vec<u8>>,
    complaint: Zeroizing<Vec<u8>>,
    success: bool,
}

impl Source for Program {
    fn name(&self) -> &'static str {
        "cli"
    }

    fn list(&mut self, query: &Query) -> Result<Vec<Secret>, SourceError> {
        let what = described(query);
        let unable =
            |said: &str| SourceError::Invalid { what: what.clone(), said: Some(said.into()) };
        let ProjectRef::Id(project) = &query.project else {
            return Err(unable("the infisical program knows projects by id only"));
        };
        if query.recursive {
            return Err(unable("the infisical program lists one folder at a time"));
        }
        self.session()?;
        let printout = self.run(&mut self.command(query, project))?;
        if !printout.success {
            return Err(self.complaint(&printout.complaint, what));
        }
        let printed: Option<Vec<Printed>> =
            serde_json::from_slice(&printout.out).map_err(|cause| SourceError::Malformed {
                at: "the infisical program".into(),
                // The parser's words could quote a value.
                cause: format!("line {}, column {}", cause.line(), cause.column()).into(),
            })?;
        Ok(secrets(printed.unwrap_or_default(), &query.path))
    }

    fn identity(&mut self) -> Result<Identity, SourceError> {
        let session = self.session()?;
        let until =
            session.expires.and_then(|end| UNIX_EPOCH.checked_add(Duration::from_secs(end)));
        Ok(Identity { who: session.email, how: "user", at: session.address.to_string(), until })
    }
}

/// The last of a name counts: the program resolves overrides and imports itself.
fn secrets(printed: Vec<Printed>, path: &str) -> Vec<Secret> {
    let mut found = BTreeMap::new();
    for Printed { key, value } in printed {
        let hidden = value.expose() == HIDDEN;
        let value = if hidden { String::new().into() } else { value };
        let secret = Secret { name: key.clone(), value, path: path.to_owned(), hidden };
        found.insert(key, secret);
    }
    found.into_values().collect()
}

fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join("infisical"))
        .find(|program| nix::unistd::access(program, nix::unistd::AccessFlags::X_OK).is_ok())
}

/// Reads a stream in a thread of its own, up to one byte more than `limit`, and drops the rest, so
/// that the program does not wait for us.
fn gather(
    stream: Option<impl Read + Send + 'static>,
    limit: usize,
) -> mpsc::Receiver<Zeroizing<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut content = Zeroizing::new(Vec::new());
        let bound = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
        if let Some(stream) = stream {
            let mut stream = stream.take(bound);
            let _ = stream.read_to_end(&mut content);
            let _ = std::io::copy(&mut stream.into_inner(), &mut std::io::sink());
        }
        let _ = sender.send(content);
    });
    receiver
}

fn read_by(
    stream: &mpsc::Receiver<Zeroizing<Vec<u8>>>,
    deadline: Instant,
) -> Option<Zeroizing<Vec<u8>>> {
    stream.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()
}
