//! What a source of secrets can do, in words that fit every source.

use super::secret::SecretValue;
use crate::error::{Error, Kind};
use std::error::Error as StdError;
use std::time::{Duration, SystemTime};
use thiserror::Error as ThisError;

/// Something that hands out secrets.
pub(crate) trait Source {
    /// Returns the source's name as a person would write it in a configuration file.
    fn name(&self) -> &'static str;

    /// Lists the secrets that a query finds with a single request where the server allows it.
    /// Imports are resolved: each (path, name) appears once, in the order of path and name.
    fn list(&mut self, query: &Query) -> Result<Vec<Secret>, SourceError>;

    /// Says who is logged in; never logs anybody in.
    fn identity(&mut self) -> Result<Identity, SourceError>;
}

/// How a project is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ProjectRef {
    /// By its id.
    Id(String),
    /// By the short name in its address.
    Slug(String),
}

/// What is asked for: one folder of one environment, or everything below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    /// The project.
    pub(crate) project: ProjectRef,
    /// The environment's slug, such as `dev`.
    pub(crate) environment: String,
    /// The folder, absolute: `/` or `/folder/inner`.
    pub(crate) path: String,
    /// Whether folders below count too.
    pub(crate) recursive: bool,
    /// Whether references (`${NAME}`) are replaced by what they refer to.
    pub(crate) expand: bool,
    /// Whether the folder's imports count too; its own secrets win, then later imports.
    pub(crate) imports: bool,
    /// Only secrets with one of these tags; empty for all.
    pub(crate) tags: Vec<String>,
}

/// One secret.
#[derive(Debug)]
pub(crate) struct Secret {
    /// Its name.
    pub(crate) name: String,
    /// Its value; empty if it is hidden.
    pub(crate) value: SecretValue,
    /// The folder in which it is seen: the queried one for what was imported into it.
    pub(crate) path: String,
    /// Whether whoever is logged in may know of it but not read it.
    pub(crate) hidden: bool,
}

/// Who is logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The user's e-mail address or the machine identity's id.
    pub(crate) who: String,
    /// How: `universal auth`, `token`, `user`.
    pub(crate) how: &'static str,
    /// The server.
    pub(crate) at: String,
    /// Until when the session lasts, where that is known.
    pub(crate) until: Option<SystemTime>,
}

/// Whatever lies beneath an error.
pub(crate) type Cause = Box<dyn StdError + Send + Sync>;

/// Why a source gave no answer. `said` is the server's own word, bounded and without control
/// characters; it names no value.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub(crate) enum SourceError {
    /// Nobody is logged in, or the session ended. The only error that a login can mend.
    #[error("{}", with("not logged in to Infisical", at, said.as_deref()))]
    Authentication {
        /// The server.
        at: String,
        /// Its word.
        said: Option<String>,
    },
    /// Whoever is logged in may not read this.
    #[error("{}", with("Infisical does not allow to read", what, said.as_deref()))]
    Permission {
        /// The project, environment and folder.
        what: String,
        /// The server's word.
        said: Option<String>,
    },
    /// There is no such project, environment or folder.
    #[error("{}", with("Infisical does not have", what, said.as_deref()))]
    NotFound {
        /// The project, environment and folder.
        what: String,
        /// The server's word.
        said: Option<String>,
    },
    /// The server cannot make sense of what was asked.
    #[error("{}", with("Infisical does not accept the request for", what, said.as_deref()))]
    Invalid {
        /// The project, environment and folder.
        what: String,
        /// The server's word.
        said: Option<String>,
    },
    /// Too many requests, also after waiting.
    #[error("Infisical at {at} asks for fewer requests")]
    RateLimited {
        /// The server.
        at: String,
        /// How long it wants us to wait.
        wait: Option<Duration>,
    },
    /// The server cannot be reached, or fails.
    #[error("cannot reach Infisical at {at}")]
    Unreachable {
        /// The server.
        at: String,
        /// Why.
        #[source]
        cause: Cause,
    },
    /// No whole answer in time.
    #[error("Infisical at {at} did not answer within {} seconds", limit.as_secs())]
    TimedOut {
        /// The server or program.
        at: String,
        /// The time limit.
        limit: Duration,
    },
    /// The answer is not what Infisical answers.
    #[error("the answer from {at} is not one of Infisical's")]
    Malformed {
        /// The server or program.
        at: String,
        /// What is wrong with it.
        #[source]
        cause: Cause,
    },
    /// The answer is larger than any sane one.
    #[error("the answer from {at} is larger than {limit} bytes")]
    TooLarge {
        /// The server or program.
        at: String,
        /// The bound.
        limit: usize,
    },
    /// The configuration has us trust somebody on the way to the server whom no login trusted.
    #[error(
        "the way to Infisical at {at} is not that of the login: other CA certificates, or another proxy"
    )]
    OtherWay {
        /// The server.
        at: String,
    },
    /// The source itself cannot be used: its program or its files are not as they must be.
    #[error("cannot use {what}")]
    Unusable {
        /// The program or file.
        what: String,
        /// Why.
        #[source]
        cause: Cause,
    },
}

fn with(start: &str, what: &str, said: Option<&str>) -> String {
    match said {
        Some(said) => format!("{start} {what}: {said}"),
        None => format!("{start} {what}"),
    }
}

impl SourceError {
    /// Whether logging in again can help; nothing else ever leads to a login.
    pub(crate) fn asks_for_login(&self) -> bool {
        matches!(self, Self::Authentication { .. })
    }
}

impl From<SourceError> for Error {
    fn from(error: SourceError) -> Self {
        let (kind, hint) = match &error {
            SourceError::Authentication { .. } => {
                (Kind::LoggedOut, Some("log in with 'tazpod login'"))
            }
            SourceError::Permission { .. } => {
                (Kind::Refused, Some("'tazpod login' says who is logged in; ask for access"))
            }
            SourceError::NotFound { .. } | SourceError::Invalid { .. } => {
                (Kind::Refused, Some("check project, environment and path in secrets.yml"))
            }
            SourceError::RateLimited { .. } => (Kind::Environment, Some("try again in a minute")),
            SourceError::Unreachable { .. } | SourceError::TimedOut { .. } => {
                (Kind::Environment, Some("check the address, the network and the proxy settings"))
            }
            SourceError::Malformed { .. } | SourceError::TooLarge { .. } => {
                (Kind::Environment, Some("check that the address is Infisical's"))
            }
            SourceError::OtherWay { .. } => (
                Kind::Refused,
                Some(
                    "nothing was sent; if it was you who changed secrets.yml, 'tazpod login' goes the new way",
                ),
            ),
            SourceError::Unusable { .. } => (Kind::Environment, None),
        };
        let message = error.to_string();
        let new = Error::new(kind, message);
        let new = match error {
            SourceError::Unreachable { cause, .. }
            | SourceError::Malformed { cause, .. }
            | SourceError::Unusable { cause, .. } => new.caused_by(cause),
            _ => new,
        };
        hint.into_iter().fold(new, Error::hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_authentication_asks_for_a_login() {
        let at = "https://app.infisical.com".to_owned();
        let error = SourceError::Authentication { at: at.clone(), said: Some("expired".into()) };
        assert!(error.asks_for_login());
        let error = Error::from(error);
        assert_eq!(error.kind(), Kind::LoggedOut);
        assert_eq!(
            error.to_string(),
            "not logged in to Infisical https://app.infisical.com: expired"
        );
        let error = SourceError::Permission { what: "project x".into(), said: None };
        assert!(!error.asks_for_login());
        assert_eq!(Error::from(error).kind(), Kind::Refused);
        let cause = std::io::Error::other("refused").into();
        let error = Error::from(SourceError::Unreachable { at, cause });
        assert_eq!(
            std::error::Error::source(&error).map(ToString::to_string),
            Some("refused".into())
        );
    }
}
