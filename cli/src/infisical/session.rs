//! Who we are logged in as, kept in the vault: one entry per server, and one for the way to it.
//!
//! `secrets.yml` lies outside the vault, where a neighbour may change it: by naming certificates to trust, or a proxy, it
//! could put somebody between us and the server that a kept token is for. So the way of each login is kept beside it, and
//! what is kept goes no other.
//!
//! The file lies in the bridge's folder, below the vault's mount point, and nowhere else. It is
//! written beside and renamed, so that a kill leaves the old or the new one.

use super::secret::SecretValue;
use super::source::{Cause, SourceError};
use super::wire::Grant;
use crate::sys::folder;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

const FILE: &str = "tazpod-sessions.json";
const NEW_FILE: &str = "tazpod-sessions.json.new";
const VERSION: u32 = 1;

/// Longer than any file of ours.
const LONGEST: u64 = 1 << 20;

/// How long another writer is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// One login.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Session {
    /// The server.
    pub(crate) at: String,
    /// How a new token can be had.
    pub(crate) login: Login,
    /// The token.
    #[serde(serialize_with = "SecretValue::expose_to")]
    pub(crate) token: SecretValue,
    /// When it was given, in seconds since 1970.
    pub(crate) issued: u64,
    /// When it ends, where that is known.
    pub(crate) expires: Option<u64>,
    /// When renewing it helps no more; `None` for never.
    pub(crate) ends: Option<u64>,
}

/// How a session began, and so how it begins again.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) enum Login {
    /// A machine identity.
    UniversalAuth {
        /// The client id.
        client_id: String,
        /// The client secret.
        #[serde(serialize_with = "SecretValue::expose_to")]
        client_secret: SecretValue,
        /// Whether the server refused it: it is not offered again, since that could lock it.
        refused: bool,
    },
    /// A token that was pasted; when it ends, a person must bring another.
    Token {},
}

impl Session {
    /// Takes the token that a login or renewal at `now` gave.
    pub(crate) fn take(&mut self, grant: Grant, now: u64) {
        let after = |seconds: u64| (seconds > 0).then(|| now.saturating_add(seconds));
        self.expires = after(grant.expires_in);
        self.ends = after(grant.max_ttl);
        self.token = grant.access_token;
        self.issued = now;
    }
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Content<S> {
    version: u32,
    sessions: Vec<S>,
    /// By server: the digest of what a login's settings trusted.
    #[serde(default)]
    ways: BTreeMap<String, String>,
}

/// The sessions in a vault's folder.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    folder: PathBuf,
}

impl Store {
    /// Names the folder; it need not exist yet.
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Returns the session with a server.
    pub(crate) fn load(&self, at: &str) -> Result<Option<Session>, SourceError> {
        Ok(self.all()?.into_iter().find(|session| session.at == at))
    }

    /// Returns every session.
    pub(crate) fn all(&self) -> Result<Vec<Session>, SourceError> {
        Ok(self.content()?.sessions)
    }

    /// Whether a login went this way to a server. The plain one, which no settings changed, needs none.
    pub(crate) fn knows_way(&self, at: &str, way: Option<&str>) -> Result<bool, SourceError> {
        let Some(way) = way else { return Ok(true) };
        Ok(self.content()?.ways.get(at).is_some_and(|known| known == way))
    }

    fn content(&self) -> Result<Content<Session>, SourceError> {
        let content = match self.read() {
            Ok(content) => content,
            Err(cause) if cause.kind() == ErrorKind::NotFound => {
                return Ok(Content {
                    version: VERSION,
                    sessions: Vec::new(),
                    ways: BTreeMap::new(),
                });
            }
            Err(cause) => return Err(self.unusable(cause)),
        };
        // The parser's message could quote a token.
        let content: Content<Session> = serde_json::from_slice(&content)
            .map_err(|cause| self.unusable(format!("line {} is damaged", cause.line())))?;
        if content.version != VERSION {
            return Err(self.unusable("a newer tazpod wrote it"));
        }
        Ok(content)
    }

    /// Keeps a session in place of the one with the same server.
    pub(crate) fn save(&self, session: &Session) -> Result<(), SourceError> {
        self.replace(&session.at, Some(session))
    }

    /// Forgets the session with a server.
    pub(crate) fn remove(&self, at: &str) -> Result<(), SourceError> {
        self.replace(at, None)
    }

    /// Notes the way of a login: what is kept for the server goes this one from now on.
    pub(crate) fn keep_way(&self, at: &str, way: Option<&str>) -> Result<(), SourceError> {
        let folder = self.lock()?;
        let Content { sessions, mut ways, .. } = self.content()?;
        ways.remove(at);
        ways.extend(way.map(|way| (at.to_owned(), way.to_owned())));
        self.write(sessions.iter().collect(), ways, &folder)
    }

    fn replace(&self, at: &str, session: Option<&Session>) -> Result<(), SourceError> {
        let folder = self.lock()?;
        let Content { sessions: known, ways, .. } = self.content()?;
        let sessions = known.iter().filter(|known| known.at != at).chain(session).collect();
        self.write(sessions, ways, &folder)
    }

    fn read(&self) -> io::Result<Zeroizing<Vec<u8>>> {
        let path = self.folder.join(FILE);
        let mut options = OpenOptions::new();
        let file =
            options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
        let about = file.metadata()?;
        if !about.is_file() || about.len() > LONGEST {
            return Err(io::Error::other("it is no file of sessions"));
        }
        let len = usize::try_from(about.len()).unwrap_or_default();
        let mut content = Zeroizing::new(Vec::with_capacity(len + 1));
        file.take(LONGEST).read_to_end(&mut content)?;
        Ok(content)
    }

    fn write(
        &self,
        sessions: Vec<&Session>,
        ways: BTreeMap<String, String>,
        folder: &File,
    ) -> Result<(), SourceError> {
        let mut text = Zeroizing::new(Vec::with_capacity(64 << 10));
        let content = Content { version: VERSION, sessions, ways };
        serde_json::to_writer_pretty(&mut *text, &content).map_err(|cause| self.unusable(cause))?;
        self.put(&text, folder).map_err(|cause| self.unusable(cause))
    }

    fn put(&self, text: &[u8], folder: &File) -> io::Result<()> {
        let new = self.folder.join(NEW_FILE);
        match fs::remove_file(&new) {
            Err(cause) if cause.kind() != ErrorKind::NotFound => return Err(cause),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&new, self.folder.join(FILE))?;
        folder.sync_all()
    }

    /// Waits until no other process changes the file; the lock on its folder ends with what is returned.
    fn lock(&self) -> Result<File, SourceError> {
        let folder = File::open(&self.folder).map_err(|cause| self.unusable(cause))?;
        let deadline = Instant::now() + PATIENCE;
        while !folder::try_lock(&folder).map_err(|cause| self.unusable(cause))? {
            if Instant::now() > deadline {
                return Err(self.unusable("another process does not let go of it"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(folder)
    }

    fn unusable(&self, cause: impl Into<Cause>) -> SourceError {
        let path = self.folder.join(FILE);
        SourceError::Unusable {
            what: format!("the sessions in '{}'", path.display()),
            cause: cause.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn session(at: &str, token: &str) -> Session {
        Session {
            at: at.into(),
            login: Login::UniversalAuth {
                client_id: "id".into(),
                client_secret: "canary".to_owned().into(),
                refused: false,
            },
            token: token.to_owned().into(),
            issued: 1,
            expires: Some(2),
            ends: None,
        }
    }

    #[test]
    fn sessions_are_kept_per_server_for_the_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        assert!(store.load("https://a").unwrap().is_none());
        store.save(&session("https://a", "one")).unwrap();
        store.save(&session("https://b", "two")).unwrap();
        store.save(&session("https://a", "three")).unwrap();
        assert_eq!(store.load("https://a").unwrap().unwrap().token.expose(), "three");
        assert_eq!(store.all().unwrap().len(), 2);
        let about = fs::metadata(dir.path().join(FILE)).unwrap();
        assert_eq!(about.permissions().mode() & 0o777, 0o600);
        store.remove("https://a").unwrap();
        assert!(store.load("https://a").unwrap().is_none());
        assert!(!dir.path().join(NEW_FILE).exists());
    }

    #[test]
    fn a_way_is_known_once_a_login_went_it_and_outlives_the_session() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        assert!(store.knows_way("https://a", None).unwrap());
        assert!(!store.knows_way("https://a", Some("x")).unwrap());
        store.save(&session("https://a", "one")).unwrap();
        store.keep_way("https://a", Some("x")).unwrap();
        store.save(&session("https://a", "two")).unwrap();
        store.remove("https://a").unwrap();
        let known = |at, way| store.knows_way(at, way).unwrap();
        assert!(known("https://a", Some("x")) && known("https://a", None));
        assert!(!known("https://a", Some("y")) && !known("https://b", Some("x")));
        store.keep_way("https://a", None).unwrap();
        assert!(!known("https://a", Some("x")));
    }

    #[test]
    fn damaged_and_foreign_files_are_errors_that_quote_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        fs::write(dir.path().join(FILE), r#"{"version":1,"sessions":"canary"}"#).unwrap();
        let error = crate::error::Error::from(store.all().unwrap_err());
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(!cause.contains("canary") && !error.to_string().contains("canary"), "{cause}");
        fs::write(dir.path().join(FILE), r#"{"version":2,"sessions":[]}"#).unwrap();
        assert!(store.all().is_err());
        fs::remove_file(dir.path().join(FILE)).unwrap();
        symlink("/etc/passwd", dir.path().join(FILE)).unwrap();
        assert!(store.all().is_err(), "a link is not followed");
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?}", session("https://a", "canary"));
        assert!(shown.contains("https://a") && !shown.contains("canary"), "{shown}");
    }

    #[test]
    fn what_a_killed_writer_left_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(NEW_FILE), "half").unwrap();
        let store = Store::new(dir.path());
        store.save(&session("https://a", "one")).unwrap();
        assert_eq!(store.all().unwrap().len(), 1);
    }
}
