//! What the server has: a project with environments, folders, secrets and imports; identities and their tokens.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The project.
pub const PROJECT_ID: &str = "7f0c6f2e-6d0f-4c1b-9a55-0d0f6a2b1c3d";
/// Its name in addresses.
pub const PROJECT_SLUG: &str = "web-k2xy";
/// The machine identity.
pub const IDENTITY: &str = "c0ffee00-0000-4000-8000-000000000001";
/// How it logs in.
pub const CLIENT_ID: &str = "1d0c5c9a-2222-4000-8000-000000000002";
/// What it logs in with.
pub const CLIENT_SECRET: &str = "client-secret-canary-5b1f";

/// Wrong client secrets in a row that lock the client.
const LOCKOUT: u32 = 3;

/// One secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Item {
    /// Its value, before references are replaced.
    pub value: String,
    /// Whether the identity may know of it but not read it.
    pub hidden: bool,
    /// What a user put over it.
    pub personal: Option<String>,
    /// Slugs of its tags.
    pub tags: Vec<String>,
}

/// A folder of an environment.
#[derive(Clone, Debug, Default)]
pub(super) struct Folder {
    pub(super) items: BTreeMap<String, Item>,
    pub(super) imports: Vec<(String, String)>,
}

struct Token {
    born: SystemTime,
    ends: SystemTime,
    revoked: bool,
}

/// Everything.
pub struct World {
    /// Whether only v3 is known, as on servers of 2025 and before.
    pub v3_only: bool,
    /// Seconds that a token lasts, and seconds from the login until renewing helps no more (0: for ever).
    pub token_life: (u64, u64),
    /// Logins that the client secret is still good for.
    pub logins_left: Option<u32>,
    /// What the client logs in with: [`CLIENT_SECRET`], unless a test wants another.
    pub client_secret: String,
    /// Whether the identity is no member of the project.
    pub outsider: bool,
    pub(super) folders: BTreeMap<(String, String), Folder>,
    tokens: BTreeMap<String, Token>,
    failures: u32,
    serial: u64,
}

/// Why a token or login is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Unknown,
    Expired,
    Malformed,
}

impl World {
    pub(super) fn new() -> Self {
        let mut world = Self {
            v3_only: false,
            token_life: (7200, 0),
            logins_left: None,
            client_secret: CLIENT_SECRET.into(),
            outsider: false,
            folders: BTreeMap::new(),
            tokens: BTreeMap::new(),
            failures: 0,
            serial: 0,
        };
        world.folders.insert(("dev".into(), "/".into()), Folder::default());
        world
    }

    /// Puts a secret into a folder, which is made where it is missing.
    pub fn put(&mut self, environment: &str, path: &str, name: &str, item: Item) {
        self.folder(environment, path).items.insert(name.into(), item);
    }

    /// Puts a plain secret into a folder.
    pub fn set(&mut self, environment: &str, path: &str, name: &str, value: &str) {
        self.put(environment, path, name, Item { value: value.into(), ..Item::default() });
    }

    /// Takes a secret away.
    pub fn remove(&mut self, environment: &str, path: &str, name: &str) {
        self.folder(environment, path).items.remove(name);
    }

    /// Imports a folder into another, after what is imported there already.
    pub fn import(&mut self, into: (&str, &str), from: (&str, &str)) {
        self.folder(into.0, into.1).imports.push((from.0.into(), from.1.into()));
    }

    /// Gives a token without a login, as a person would paste it.
    pub fn issue(&mut self) -> String {
        let now = SystemTime::now();
        self.token(now, now)
    }

    /// Ends every token at once, without telling anybody.
    pub fn revoke_all(&mut self) {
        self.tokens.values_mut().for_each(|token| token.revoked = true);
    }

    /// How many tokens work now.
    pub fn live_tokens(&self) -> usize {
        let now = SystemTime::now();
        self.tokens.values().filter(|token| !token.revoked && token.ends > now).count()
    }

    fn folder(&mut self, environment: &str, path: &str) -> &mut Folder {
        self.folders.entry((environment.into(), path.into())).or_default()
    }

    /// Logs the client in.
    pub(super) fn log_in(&mut self, id: &str, secret: &str) -> Result<String, Refusal> {
        if id != CLIENT_ID || self.failures >= LOCKOUT || self.logins_left == Some(0) {
            return Err(Refusal::Unknown);
        }
        if secret != self.client_secret {
            self.failures += 1;
            return Err(Refusal::Unknown);
        }
        self.failures = 0;
        self.logins_left = self.logins_left.map(|left| left - 1);
        Ok(self.issue())
    }

    /// Whether too many wrong client secrets locked the client.
    pub fn is_locked(&self) -> bool {
        self.failures >= LOCKOUT
    }

    /// Judges a token.
    pub(super) fn judge(&self, token: &str) -> Result<(), Refusal> {
        if token.split('.').count() != 3 {
            return Err(Refusal::Malformed);
        }
        match self.tokens.get(token) {
            None => Err(Refusal::Unknown),
            Some(known) if known.revoked || known.ends <= SystemTime::now() => {
                Err(Refusal::Expired)
            }
            Some(_) => Ok(()),
        }
    }

    /// Prolongs a token, no further than its login allows.
    pub(super) fn renew(&mut self, token: &str) -> Result<String, Refusal> {
        self.judge(token)?;
        let born = self.tokens.get(token).map_or_else(SystemTime::now, |token| token.born);
        let max = Duration::from_secs(self.token_life.1);
        let now = SystemTime::now();
        if !max.is_zero() && born + max <= now {
            return Err(Refusal::Unknown);
        }
        Ok(self.token(born, now))
    }

    /// Ends a token.
    pub(super) fn revoke(&mut self, token: &str) -> Result<(), Refusal> {
        self.judge(token)?;
        if let Some(token) = self.tokens.get_mut(token) {
            token.revoked = true;
        }
        Ok(())
    }

    fn token(&mut self, born: SystemTime, now: SystemTime) -> String {
        self.serial += 1;
        let ends = now + Duration::from_secs(self.token_life.0);
        let exp = ends.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let claims = format!(
            r#"{{"identityId":"{IDENTITY}","identityName":"deployer","exp":{exp},"n":{}}}"#,
            self.serial
        );
        let head = BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
        let body = BASE64_URL_SAFE_NO_PAD.encode(claims);
        let text = format!("{head}.{body}.token-canary-{}", self.serial);
        self.tokens.insert(text.clone(), Token { born, ends, revoked: false });
        text
    }
}
