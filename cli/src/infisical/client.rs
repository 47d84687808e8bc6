//! Infisical's interface: log in, renew, revoke, list.
//!
//! The current version of the list is v4; a server that does not know it says so in a way that can
//! be told from a missing folder, and is asked by v3 from then on.

use super::secret::SecretValue;
use super::source::{ProjectRef, Query, Secret, SourceError};
use super::transport::{Answer, Repeat, Transport, encode};
use super::wire::{self, AccessToken, Complaint, Grant, HIDDEN, Item, Listing, UniversalAuth};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use thiserror::Error;
use zeroize::Zeroizing;

/// One server's interface.
pub(crate) struct Client {
    transport: Transport,
    version: Version,
    ids: BTreeMap<String, String>,
}

/// The version of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V3,
    V4,
}

/// A status that no request of ours should meet.
#[derive(Debug, Error)]
#[error("status {status}{}", words.as_ref().map(|words| format!(": {words}")).unwrap_or_default())]
struct Status {
    status: u16,
    words: Option<String>,
}

impl Client {
    /// Speaks over a way to a server.
    pub(crate) fn new(transport: Transport) -> Self {
        Self { transport, version: Version::V4, ids: BTreeMap::new() }
    }

    /// Returns the server's address.
    pub(crate) fn at(&self) -> String {
        self.transport.address().to_string()
    }

    /// Returns what [`Transport::way`] tells.
    pub(crate) fn way(&self) -> Option<&str> {
        self.transport.way()
    }

    /// Logs a machine identity in. Sent once: a client secret may be good for a few logins only, and
    /// wrong ones lock it.
    pub(crate) fn log_in(&self, id: &str, secret: &SecretValue) -> Result<Grant, SourceError> {
        let body = UniversalAuth { client_id: id, client_secret: secret };
        let path = "/api/v1/auth/universal-auth/login";
        let answer = self.post(path, &body, None, Repeat::IfUndone)?;
        self.decode(&answer, &format!("client id {id}"))
    }

    /// Prolongs a token.
    pub(crate) fn renew(&self, token: &SecretValue) -> Result<Grant, SourceError> {
        let body = AccessToken { access_token: token };
        let answer = self.post("/api/v1/auth/token/renew", &body, None, Repeat::Freely)?;
        self.decode(&answer, "a longer session")
    }

    /// Ends a token for good.
    pub(crate) fn revoke(&self, token: &SecretValue) -> Result<(), SourceError> {
        let body = AccessToken { access_token: token };
        let answer = self.post("/api/v1/auth/token/revoke", &body, None, Repeat::Freely)?;
        self.judge(&answer, "the end of the session")
    }

    /// Lists what a query finds, imports resolved.
    pub(crate) fn list(
        &mut self,
        query: &Query,
        token: &SecretValue,
    ) -> Result<Vec<Secret>, SourceError> {
        let what = described(query);
        if self.version == Version::V4 {
            if let Some(id) = self.project_id(&query.project, token)? {
                let answer = self.ask(query, Version::V4, ("projectId", &id), token)?;
                if !is_unknown_route(&answer) {
                    return Ok(merge(self.decode(&answer, &what)?, query));
                }
            }
            self.version = Version::V3;
        }
        let project = match &query.project {
            ProjectRef::Id(id) => ("workspaceId", id.as_str()),
            ProjectRef::Slug(slug) => ("workspaceSlug", slug.as_str()),
        };
        let answer = self.ask(query, Version::V3, project, token)?;
        Ok(merge(self.decode(&answer, &what)?, query))
    }

    fn ask(
        &self,
        query: &Query,
        version: Version,
        project: (&str, &str),
        token: &SecretValue,
    ) -> Result<Answer, SourceError> {
        let word = |yes: bool| if yes { "true" } else { "false" };
        let tags = query.tags.join(",");
        let (path, imports) = match version {
            Version::V3 => ("/api/v3/secrets/raw", "include_imports"),
            Version::V4 => ("/api/v4/secrets", "includeImports"),
        };
        // Booleans are always sent: their defaults differ between versions.
        let mut parameters = vec![
            project,
            ("environment", query.environment.as_str()),
            ("secretPath", query.path.as_str()),
            ("recursive", word(query.recursive)),
            (imports, word(query.imports)),
            ("expandSecretReferences", word(query.expand)),
            ("viewSecretValue", "true"),
        ];
        if version == Version::V4 {
            parameters.push(("includePersonalOverrides", "true"));
        }
        if !query.tags.is_empty() {
            parameters.push(("tagSlugs", &tags));
        }
        self.transport.get(path, &parameters, token)
    }

    /// Returns the project's id, which v4 wants; `None` if the server is too old to look one up.
    fn project_id(
        &mut self,
        project: &ProjectRef,
        token: &SecretValue,
    ) -> Result<Option<String>, SourceError> {
        let slug = match project {
            ProjectRef::Id(id) => return Ok(Some(id.clone())),
            ProjectRef::Slug(slug) => slug,
        };
        if let Some(id) = self.ids.get(slug) {
            return Ok(Some(id.clone()));
        }
        let path = format!("/api/v1/projects/slug/{}", encode(slug));
        let answer = self.transport.get(&path, &[], token)?;
        if is_unknown_route(&answer) {
            return Ok(None);
        }
        let found: wire::Project = self.decode(&answer, &format!("project '{slug}'"))?;
        self.ids.insert(slug.clone(), found.id.clone());
        Ok(Some(found.id))
    }

    fn post(
        &self,
        path: &str,
        body: &impl Serialize,
        token: Option<&SecretValue>,
        repeat: Repeat,
    ) -> Result<Answer, SourceError> {
        let mut text = Zeroizing::new(Vec::with_capacity(8192));
        serde_json::to_writer(&mut *text, body).map_err(|cause| self.malformed(cause))?;
        self.transport.post(path, &text, token, repeat)
    }

    fn decode<T: DeserializeOwned>(&self, answer: &Answer, what: &str) -> Result<T, SourceError> {
        self.judge(answer, what)?;
        // The parser's own words name no value, only what was expected and where.
        serde_json::from_slice(&answer.body).map_err(|cause| self.malformed(place(&cause)))
    }

    /// Turns an answer that is none into the error that it means.
    fn judge(&self, answer: &Answer, what: &str) -> Result<(), SourceError> {
        if (200..300).contains(&answer.status) {
            return Ok(());
        }
        let complaint = Complaint::read(&answer.body);
        let (at, what, said) = (self.at(), what.to_owned(), complaint.words());
        let status = answer.status;
        Err(match status {
            401 => SourceError::Authentication { at, said },
            403 if complaint.error.as_deref() == Some("TokenError") => {
                SourceError::Authentication { at, said }
            }
            403 => SourceError::Permission { what, said },
            404 => SourceError::NotFound { what, said },
            400 | 422 => SourceError::Invalid { what, said },
            429 => SourceError::RateLimited { at, wait: answer.asked_wait() },
            500.. => SourceError::Unreachable { at, cause: Status { status, words: said }.into() },
            _ => self.malformed(Status { status, words: said }),
        })
    }

    fn malformed(&self, cause: impl Into<super::source::Cause>) -> SourceError {
        SourceError::Malformed { at: self.at(), cause: cause.into() }
    }
}

/// Says where JSON is not as expected. The parser's whole message may quote what it found, which
/// may be a value.
fn place(cause: &serde_json::Error) -> String {
    let what = match cause.classify() {
        serde_json::error::Category::Eof => "it ends too early",
        serde_json::error::Category::Syntax => "it is no JSON",
        serde_json::error::Category::Data | serde_json::error::Category::Io => {
            "it lacks what it must have"
        }
    };
    format!("{what} (line {}, column {})", cause.line(), cause.column())
}

/// Whether a server does not know what it was asked for at all, other than a missing folder.
fn is_unknown_route(answer: &Answer) -> bool {
    answer.status == 404
        && Complaint::read(&answer.body)
            .words()
            .is_some_and(|words| words.starts_with("Route GET:"))
}

/// Says what a query is about.
pub(crate) fn described(query: &Query) -> String {
    let project = match &query.project {
        ProjectRef::Id(name) | ProjectRef::Slug(name) => name,
    };
    format!("folder '{}' of environment '{}' of project '{project}'", query.path, query.environment)
}

/// How much a secret counts against others of the same name in the same folder.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Imported,
    Shared,
    Personal,
}

/// Resolves imports and overrides: the folder's own secrets win, then later imports; what a user
/// put over a shared secret wins over it.
fn merge(listing: Listing, query: &Query) -> Vec<Secret> {
    let mut found: BTreeMap<(String, String), (Rank, Secret)> = BTreeMap::new();
    let mut add = |item: Item, imported: bool| {
        let personal = item.kind.as_deref() == Some("personal");
        let rank = match (imported, personal) {
            (true, _) => Rank::Imported,
            (false, false) => Rank::Shared,
            (false, true) => Rank::Personal,
        };
        let path = item.secret_path.clone().filter(|_| query.recursive && !imported);
        let path = path.unwrap_or_else(|| query.path.clone());
        let secret = secret_of(item, path);
        match found.entry((secret.path.clone(), secret.name.clone())) {
            Entry::Vacant(free) => {
                free.insert((rank, secret));
            }
            Entry::Occupied(mut taken) if rank >= taken.get().0 => {
                taken.insert((rank, secret));
            }
            Entry::Occupied(_) => {}
        }
    };
    if query.imports {
        let imports = listing.imports.unwrap_or_default();
        imports.into_iter().flat_map(|import| import.secrets).for_each(|item| add(item, true));
    }
    listing.secrets.into_iter().for_each(|item| add(item, false));
    found.into_values().map(|(_, secret)| secret).collect()
}

fn secret_of(item: Item, path: String) -> Secret {
    let value = item.secret_value.unwrap_or_else(|| String::new().into());
    let hidden = item.secret_value_hidden == Some(true) || value.expose() == HIDDEN;
    let value = if hidden { String::new().into() } else { value };
    Secret { name: item.secret_key, value, path, hidden }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn merged(listing: &str, recursive: bool, imports: bool) -> Vec<(String, String, String)> {
        let query = Query {
            project: ProjectRef::Id("p".into()),
            environment: "dev".into(),
            path: "/".into(),
            recursive,
            expand: true,
            imports,
            tags: Vec::new(),
        };
        let secrets = merge(serde_json::from_str(listing).unwrap(), &query).into_iter();
        secrets.map(|s| (s.path, s.name, s.value.expose().to_owned())).collect()
    }

    fn row(path: &str, name: &str, value: &str) -> (String, String, String) {
        (path.into(), name.into(), value.into())
    }

    const IMPORTS: &str = r#"{"secrets":[{"secretKey":"A","secretValue":"own","secretPath":"/"}],
        "imports":[
          {"secretPath":"/x","secrets":[
            {"secretKey":"A","secretValue":"first","secretPath":"/x"},
            {"secretKey":"B","secretValue":"first"}]},
          {"secretPath":"/y","secrets":[{"secretKey":"B","secretValue":"later"}]}]}"#;

    #[test]
    fn own_secrets_win_over_imports_and_later_imports_over_earlier_ones() {
        assert_eq!(merged(IMPORTS, false, true), [row("/", "A", "own"), row("/", "B", "later")]);
        assert_eq!(merged(IMPORTS, false, false), [row("/", "A", "own")]);
    }

    #[test]
    fn personal_value_wins_wherever_it_stands() {
        let [shared, personal] = ["shared", "personal"]
            .map(|kind| format!(r#"{{"secretKey":"A","secretValue":"{kind}","type":"{kind}"}}"#));
        for (one, two) in [(&shared, &personal), (&personal, &shared)] {
            let listing = format!(r#"{{"secrets":[{one},{two}]}}"#);
            assert_eq!(merged(&listing, false, true), [row("/", "A", "personal")]);
        }
    }

    #[test]
    fn folders_below_keep_their_paths() {
        let listing = r#"{"secrets":[{"secretKey":"A","secretValue":"1","secretPath":"/in"},
            {"secretKey":"A","secretValue":"2","secretPath":"/"}]}"#;
        assert_eq!(merged(listing, true, true), [row("/", "A", "2"), row("/in", "A", "1")]);
    }

    #[test]
    fn hidden_values_are_told_and_never_handed_out() {
        for item in [
            r#"{"secretKey":"A","secretValue":"<hidden-by-infisical>"}"#,
            r#"{"secretKey":"A","secretValue":"x","secretValueHidden":true}"#,
        ] {
            let secret = secret_of(serde_json::from_str(item).unwrap(), "/".into());
            assert!(secret.hidden);
            assert_eq!(secret.value.expose(), "");
        }
    }

    #[test]
    fn errors_of_the_parser_never_quote_what_was_found() {
        let body = r#"{"secrets":"canary-value"}"#;
        let cause = serde_json::from_str::<Listing>(body).unwrap_err();
        assert!(cause.to_string().contains("canary-value"), "the parser quotes");
        assert!(!place(&cause).contains("canary-value"));
    }
}
