//! What Infisical's interface says and hears, as types. Liberal in what is read: fields that a
//! version lacks or adds do not matter, as long as names and values are there.

use super::secret::SecretValue;
use serde::{Deserialize, Serialize};

/// What stands in place of a value that may not be read.
pub(crate) const HIDDEN: &str = "<hidden-by-infisical>";

/// A list of secrets.
#[derive(Debug, Deserialize)]
pub(crate) struct Listing {
    /// The folder's own.
    pub(crate) secrets: Vec<Item>,
    /// What is imported; later ones win over earlier ones.
    #[serde(default)]
    pub(crate) imports: Option<Vec<Import>>,
}

/// One import.
#[derive(Debug, Deserialize)]
pub(crate) struct Import {
    /// What it brings.
    #[serde(default)]
    pub(crate) secrets: Vec<Item>,
}

/// One secret.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Item {
    /// Its name.
    pub(crate) secret_key: String,
    /// Its value.
    #[serde(default)]
    pub(crate) secret_value: Option<SecretValue>,
    /// Its folder.
    #[serde(default)]
    pub(crate) secret_path: Option<String>,
    /// Whether the value is withheld.
    #[serde(default)]
    pub(crate) secret_value_hidden: Option<bool>,
    /// `shared`, or `personal` for one that a user put over it.
    #[serde(default, rename = "type")]
    pub(crate) kind: Option<String>,
}

/// The answer to a lookup of a project.
#[derive(Debug, Deserialize)]
pub(crate) struct Project {
    /// Its id.
    pub(crate) id: String,
}

/// An error.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Complaint {
    /// Words, or a list of what is wrong with the request.
    #[serde(default)]
    message: Option<serde_json::Value>,
    /// The error's name.
    #[serde(default)]
    pub(crate) error: Option<String>,
}

/// The longest part of a server's words that is shown.
const LONGEST_WORDS: usize = 240;

impl Complaint {
    /// Reads an answer that is an error; one that is no JSON says nothing.
    pub(crate) fn read(body: &[u8]) -> Self {
        serde_json::from_slice(body).unwrap_or_default()
    }

    /// Returns the server's words, bounded and on one line.
    pub(crate) fn words(&self) -> Option<String> {
        use serde_json::Value;
        let of = |value: &Value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Object(object) => object.get("message")?.as_str().map(str::to_owned),
            _ => None,
        };
        let text = match self.message.as_ref()? {
            Value::Array(list) => list.iter().take(4).filter_map(of).collect::<Vec<_>>().join("; "),
            other => of(other)?,
        };
        harmless(&text)
    }
}

/// Cuts what a server or program said to one bounded line; `None` if it says nothing, or may
/// repeat a token.
pub(crate) fn harmless(text: &str) -> Option<String> {
    let line: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_WORDS).collect();
    let line = line.trim();
    // Every JSON web token begins like this.
    (!line.is_empty() && !line.contains("eyJ")).then(|| line.to_owned())
}

/// A login with universal auth.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UniversalAuth<'a> {
    /// The client id.
    pub(crate) client_id: &'a str,
    /// The client secret.
    #[serde(serialize_with = "SecretValue::expose_to")]
    pub(crate) client_secret: &'a SecretValue,
}

/// A token to be renewed or revoked.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AccessToken<'a> {
    /// The token.
    #[serde(serialize_with = "SecretValue::expose_to")]
    pub(crate) access_token: &'a SecretValue,
}

/// A token that was given or renewed.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Grant {
    /// The token.
    pub(crate) access_token: SecretValue,
    /// Seconds from now until it ends.
    pub(crate) expires_in: u64,
    /// Seconds from the login until no renewal helps; 0 for no end.
    #[serde(default, rename = "accessTokenMaxTTL")]
    pub(crate) max_ttl: u64,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn words(body: &str) -> Option<String> {
        Complaint::read(body.as_bytes()).words()
    }

    #[test]
    fn complaints_are_words_or_lists_of_words_on_one_bounded_line() {
        assert_eq!(words(r#"{"message":"no\u001b[2J\nway"}"#).unwrap(), "no [2J way");
        assert_eq!(words(r#"{"message":[{"message":"a"},{"message":"b"}]}"#).unwrap(), "a; b");
        assert_eq!(words(r#"{"message":{"x":1}}"#), None);
        assert_eq!(words("<html>"), None);
        let long = format!(r#"{{"message":"{}"}}"#, "é".repeat(9999));
        assert_eq!(words(&long).unwrap().chars().count(), LONGEST_WORDS);
    }

    #[test]
    fn words_that_may_repeat_a_token_are_not_shown() {
        assert_eq!(words(r#"{"message":"bad token eyJhbGciOi.x.y"}"#), None);
    }

    #[test]
    fn versions_that_lack_or_add_fields_are_read() {
        let old = r#"{"secrets":[{"secretKey":"A","secretValue":"x"}],"imports":null}"#;
        let listing: Listing = serde_json::from_str(old).unwrap();
        assert_eq!(listing.secrets[0].secret_value.as_ref().unwrap().expose(), "x");
        let new = r#"{"secrets":[{"secretKey":"A","secretValue":"","type":"shared","later":{}}],
            "imports":[{"secretPath":"/x","environment":"dev","secrets":[]}]}"#;
        assert_eq!(serde_json::from_str::<Listing>(new).unwrap().imports.unwrap().len(), 1);
        assert!(serde_json::from_str::<Listing>(r#"{"secrets":[{"secretValue":"x"}]}"#).is_err());
    }
}
