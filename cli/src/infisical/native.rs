//! The source that needs no other program: our own client, with a session kept in the vault.
//!
//! A token is renewed before it ends and replaced by a new login of the same machine identity when
//! renewing helps no more. A refusal is never repeated: what the server refused once is marked so,
//! and only a person's login brings it back.

use super::client::Client;
use super::jwt::Claims;
use super::secret::SecretValue;
use super::session::{Login, Session, Store};
use super::source::{Identity, Query, Secret, Source, SourceError};
use super::wire::Grant;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A token is renewed when less than this, or less than a fifth of its life, is left.
const MARGIN: u64 = 60;

/// Our own client with its session.
pub(crate) struct Native {
    client: Client,
    origin: Origin,
    session: Option<Session>,
}

/// Where the session comes from.
pub(crate) enum Origin {
    /// The vault; renewed ones go back there.
    Store(Store),
    /// The `infisical` program, which renews nothing either.
    User {
        /// The user's e-mail address.
        email: String,
    },
}

/// What a token needs before it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Nothing,
    Renewal,
    Login,
}

impl Native {
    /// Speaks through `client` with what the store has for its server.
    pub(crate) fn stored(client: Client, store: Store) -> Result<Self, SourceError> {
        let session = store.load(&client.at())?;
        Ok(Self { client, origin: Origin::Store(store), session })
    }

    /// Speaks through `client` with the token that the `infisical` program left.
    pub(crate) fn user(client: Client, email: String, token: SecretValue) -> Self {
        let expires = Claims::of(token.expose()).exp;
        let at = client.at();
        let session =
            Session { at, login: Login::Token {}, token, issued: 0, expires, ends: expires };
        Self { client, origin: Origin::User { email }, session: Some(session) }
    }

    /// Returns the server.
    pub(crate) fn at(&self) -> String {
        self.client.at()
    }

    /// Whether nobody has logged in the way that the settings describe now, which is then to be told: they may be another's.
    pub(crate) fn is_new_way(&self) -> Result<bool, SourceError> {
        match &self.origin {
            Origin::Store(store) => Ok(!store.knows_way(&self.client.at(), self.client.way())?),
            Origin::User { .. } => Ok(false),
        }
    }

    /// Logs a machine identity in and keeps it.
    pub(crate) fn log_in(&mut self, id: String, secret: SecretValue) -> Result<(), SourceError> {
        let grant = self.client.log_in(&id, &secret)?;
        let login = Login::UniversalAuth { client_id: id, client_secret: secret, refused: false };
        let token = SecretValue::from(String::new());
        let at = self.client.at();
        let mut session = Session { at, login, token, issued: 0, expires: None, ends: None };
        session.take(grant, now());
        self.session = Some(session);
        self.begun()
    }

    /// Takes a token that somebody pasted and keeps it.
    pub(crate) fn take_token(&mut self, token: SecretValue) -> Result<(), SourceError> {
        let expires = Claims::of(token.expose()).exp;
        let login = Login::Token {};
        let at = self.client.at();
        // How long it can be renewed is not written in it: the server says so when it is tried.
        self.session = Some(Session { at, login, token, issued: now(), expires, ends: None });
        self.usable()?;
        self.begun()
    }

    /// Ends the session on the server and forgets it; true if there was one. It is forgotten also
    /// when the server cannot be told.
    pub(crate) fn log_out(&mut self) -> Result<bool, SourceError> {
        let Some(session) = self.session.take() else { return Ok(false) };
        let other_way = self.is_new_way()?;
        if let Origin::Store(store) = &self.origin {
            store.remove(&session.at)?;
        }
        if other_way {
            return Err(SourceError::OtherWay { at: session.at });
        }
        match self.client.revoke(&session.token) {
            // What the server does not know any more is ended.
            Err(error) if !error.asks_for_login() => Err(error),
            _ => Ok(true),
        }
    }

    /// Makes sure that there is a token with some life left; true if a new login gave it.
    fn usable(&mut self) -> Result<bool, SourceError> {
        let Some(session) = &self.session else { return Err(self.logged_out(None)) };
        let now = now();
        let alive = session.expires.is_none_or(|end| end > now);
        match due(session, now) {
            Due::Nothing => return Ok(false),
            Due::Login => {}
            Due::Renewal => match self.client.renew(&session.token) {
                Ok(grant) => return self.renewed(grant).map(|()| false),
                Err(error) if error.asks_for_login() && self.can_begin_again() => {}
                // The token still works; another run may find the server better disposed.
                Err(_) if alive => return Ok(false),
                Err(error) => return Err(error),
            },
        }
        self.begin_again().map(|()| true)
    }

    /// Logs in with what the vault has, if that was not refused yet.
    fn begin_again(&mut self) -> Result<(), SourceError> {
        let Some(session) = &mut self.session else { return Err(self.logged_out(None)) };
        let Login::UniversalAuth { client_id, client_secret, refused } = &mut session.login else {
            return Err(self.logged_out(Some("the session has ended")));
        };
        if *refused {
            return Err(self.logged_out(Some("the client secret was refused before")));
        }
        match self.client.log_in(client_id, client_secret) {
            Ok(grant) => {
                session.take(grant, now());
                self.keep()
            }
            Err(error) => {
                if error.asks_for_login() {
                    *refused = true;
                    self.keep()?;
                }
                Err(error)
            }
        }
    }

    /// Takes a renewed token. Renewing does not move the end that the login set.
    fn renewed(&mut self, grant: Grant) -> Result<(), SourceError> {
        let Some(session) = &mut self.session else { return Ok(()) };
        let ends = session.ends;
        session.take(grant, now());
        session.ends = ends.or(session.ends);
        self.keep()
    }

    /// Keeps what a person began, and the way that it went.
    fn begun(&self) -> Result<(), SourceError> {
        self.keep_way()?;
        self.keep()
    }

    /// Notes the way that the settings describe as one that a login went.
    pub(crate) fn keep_way(&self) -> Result<(), SourceError> {
        match &self.origin {
            Origin::Store(store) => store.keep_way(&self.client.at(), self.client.way()),
            Origin::User { .. } => Ok(()),
        }
    }

    /// Writes the session down where it is kept.
    fn keep(&self) -> Result<(), SourceError> {
        match (&self.origin, &self.session) {
            (Origin::Store(store), Some(session)) => store.save(session),
            _ => Ok(()),
        }
    }

    fn logged_out(&self, why: Option<&str>) -> SourceError {
        SourceError::Authentication { at: self.client.at(), said: why.map(str::to_owned) }
    }

    fn list_once(&mut self, query: &Query) -> Result<Vec<Secret>, SourceError> {
        match &self.session {
            Some(session) => self.client.list(query, &session.token),
            None => Err(self.logged_out(None)),
        }
    }
}

impl Source for Native {
    fn name(&self) -> &'static str {
        "native"
    }

    fn list(&mut self, query: &Query) -> Result<Vec<Secret>, SourceError> {
        let fresh = self.usable()?;
        match self.list_once(query) {
            // The server ended the token before its time. What is sent now is another token, once.
            Err(error) if error.asks_for_login() && !fresh && self.can_begin_again() => {
                self.begin_again()?;
                self.list_once(query)
            }
            outcome => outcome,
        }
    }

    fn identity(&mut self) -> Result<Identity, SourceError> {
        let Some(session) = &self.session else { return Err(self.logged_out(None)) };
        let claims = Claims::of(session.token.expose());
        let (who, how) = match (&self.origin, &session.login) {
            (Origin::User { email }, _) => (email.clone(), "user"),
            (_, Login::UniversalAuth { client_id, refused: false, .. }) => {
                (claims.who().unwrap_or_else(|| client_id.clone()), "universal auth")
            }
            (_, Login::UniversalAuth { .. }) => {
                return Err(self.logged_out(Some("the client secret was refused")));
            }
            (_, Login::Token {}) => (claims.who().unwrap_or_else(|| "a token".into()), "token"),
        };
        if matches!(session.login, Login::Token {}) && session.expires.is_some_and(|e| e <= now()) {
            return Err(self.logged_out(Some("the session has ended")));
        }
        let until =
            session.expires.and_then(|end| UNIX_EPOCH.checked_add(Duration::from_secs(end)));
        Ok(Identity { who, how, at: session.at.clone(), until })
    }
}

impl Native {
    fn can_begin_again(&self) -> bool {
        let login = self.session.as_ref().map(|session| &session.login);
        matches!(login, Some(Login::UniversalAuth { .. }))
    }
}

/// Decides what a token needs at a time.
fn due(session: &Session, now: u64) -> Due {
    let Some(expires) = session.expires else { return Due::Nothing };
    let life = expires.saturating_sub(session.issued);
    let left = expires.saturating_sub(now);
    let comfortable = left > MARGIN.max(life / 5).min(life / 2);
    let renewable = session.ends.is_none_or(|end| end > expires);
    match (comfortable, left > 0, renewable) {
        (true, ..) => Due::Nothing,
        (false, true, true) => Due::Renewal,
        // As long as it lives it serves, when nothing better can be had without a login.
        (false, true, false) if matches!(session.login, Login::Token {}) => Due::Nothing,
        (false, _, _) => Due::Login,
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
impl Native {
    /// Lets time pass for the session.
    pub(crate) fn age(&mut self, seconds: u64) {
        if let Some(session) = &mut self.session {
            session.issued -= seconds;
            session.expires = session.expires.map(|end| end - seconds);
            session.ends = session.ends.map(|end| end - seconds);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(issued: u64, expires: Option<u64>, ends: Option<u64>, login: Login) -> Session {
        Session {
            at: "https://a".into(),
            login,
            token: String::new().into(),
            issued,
            expires,
            ends,
        }
    }

    fn machine() -> Login {
        Login::UniversalAuth {
            client_id: "i".into(),
            client_secret: String::new().into(),
            refused: false,
        }
    }

    #[test]
    fn tokens_are_renewed_before_they_end_and_replaced_when_that_helps_no_more() {
        for (now, expires, ends, expected) in [
            (0, 7200, None, Due::Nothing),
            (5000, 7200, None, Due::Nothing),
            (6000, 7200, None, Due::Renewal),
            (6000, 7200, Some(9000), Due::Renewal),
            (6000, 7200, Some(7200), Due::Login),
            (7200, 7200, None, Due::Login),
            (9000, 7200, None, Due::Login),
            // A life shorter than the margin is not renewed with every use.
            (10, 60, None, Due::Nothing),
            (31, 60, None, Due::Renewal),
        ] {
            assert_eq!(due(&token(0, Some(expires), ends, machine()), now), expected, "{now}");
        }
        assert_eq!(due(&token(0, None, None, machine()), 1 << 40), Due::Nothing);
    }

    #[test]
    fn pasted_token_serves_until_its_end() {
        let of = |now| due(&token(0, Some(7200), Some(7200), Login::Token {}), now);
        assert_eq!((of(7199), of(7200)), (Due::Nothing, Due::Login));
    }
}
