//! Logins for image registries, as the docker client keeps them: in its `config.json`, or behind a
//! helper program that asks a keychain.

use super::endpoint;
use crate::error::{Error, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use zeroize::Zeroizing;

/// The name under which the docker client keeps the login for Docker Hub.
const HUB: &str = "https://index.docker.io/v1/";

/// The most bytes that a helper may answer.
const LARGEST_ANSWER: u64 = 64 << 10;

/// What a registry is shown. Has no `Debug` that tells anything.
pub(crate) struct Login {
    /// The registry.
    pub(super) registry: String,
    /// What proves who asks.
    pub(super) proof: Proof,
}

/// What proves who asks.
pub(super) enum Proof {
    /// A name and a password.
    Password { user: String, password: Zeroizing<String> },
    /// A token that stands for a login.
    Token(Zeroizing<String>),
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login({})", self.registry)
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Client {
    auths: HashMap<String, Entry>,
    #[serde(rename = "credsStore")]
    store: Option<String>,
    #[serde(rename = "credHelpers")]
    helpers: HashMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<Zeroizing<String>>,
    #[serde(rename = "identitytoken")]
    token: Option<Zeroizing<String>>,
}

/// Returns the login for the registry that an image comes from, if there is one.
pub(crate) fn for_image(reference: &str) -> Result<Option<Login>> {
    in_folder(&endpoint::configuration(), registry(reference))
}

/// Returns the registry that an image comes from as `docker login` takes it: no word for Docker Hub.
pub(crate) fn place(reference: &str) -> &str {
    Some(registry(reference)).filter(|name| *name != HUB).unwrap_or_default()
}

fn in_folder(configuration: &Path, registry: &str) -> Result<Option<Login>> {
    let Some(client) = endpoint::read_json::<Client>(&configuration.join("config.json"))? else {
        return Ok(None);
    };
    let helper = client.helpers.get(registry).or(client.store.as_ref());
    if let Some(helper) = helper
        && let Some(proof) = ask(helper, registry)?
    {
        return Ok(Some(Login { registry: registry.to_owned(), proof }));
    }
    let spellings =
        [registry.to_owned(), format!("https://{registry}"), format!("http://{registry}")];
    let entry = spellings.iter().find_map(|name| client.auths.get(name));
    let proof = entry.map(|entry| kept(entry, registry)).transpose()?.flatten();
    Ok(proof.map(|proof| Login { registry: registry.to_owned(), proof }))
}

/// Returns the registry in an image's name: what stands before the first slash, if it looks like a
/// host.
fn registry(reference: &str) -> &str {
    match reference.split_once('/') {
        Some((host, _)) if host == "localhost" || host.contains(['.', ':']) => match host {
            "docker.io" | "index.docker.io" => HUB,
            _ => host,
        },
        _ => HUB,
    }
}

fn kept(entry: &Entry, registry: &str) -> Result<Option<Proof>> {
    if let Some(token) = entry.token.as_ref().filter(|token| !token.is_empty()) {
        return Ok(Some(Proof::Token(token.clone())));
    }
    let Some(auth) = entry.auth.as_ref().filter(|auth| !auth.is_empty()) else { return Ok(None) };
    let plain = STANDARD.decode(auth.as_bytes()).ok().map(Zeroizing::new);
    let text = plain.as_ref().and_then(|bytes| std::str::from_utf8(bytes).ok());
    match text.and_then(|text| text.split_once(':')) {
        Some((user, password)) => Ok(Some(Proof::Password {
            user: user.to_owned(),
            password: Zeroizing::new(password.trim_end_matches('\0').to_owned()),
        })),
        None => Err(Error::config(format!("docker's login for '{registry}' cannot be read"))
            .hint(format!("make it anew: docker login {registry}"))),
    }
}

/// Asks a helper; `None` when it knows no login.
fn ask(helper: &str, registry: &str) -> Result<Option<Proof>> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(rename = "Username")]
        user: String,
        #[serde(rename = "Secret")]
        secret: Zeroizing<String>,
    }
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if helper.is_empty() || !helper.bytes().all(legal) {
        return Err(Error::config(format!("'{helper}' is no credential helper's name")));
    }
    let program = format!("docker-credential-{helper}");
    let failed = |cause: io::Error| {
        Error::environment(format!("the credential helper '{program}' does not work"))
            .caused_by(cause)
            .hint("docker's config.json names it in credsStore or credHelpers")
    };
    let (answer, worked) = talk(&program, registry).map_err(failed)?;
    if !worked {
        // The protocol has words on standard output for it, and no other sign.
        let text = String::from_utf8_lossy(&answer);
        return if text.contains("credentials not found") {
            Ok(None)
        } else {
            Err(failed(io::Error::other("it failed")))
        };
    }
    let answer: Answer = serde_json::from_slice(&answer)
        .map_err(|_| failed(io::Error::other("its answer is not the JSON of a login")))?;
    Ok(Some(match answer.user.as_str() {
        "<token>" => Proof::Token(answer.secret),
        _ => Proof::Password { user: answer.user, password: answer.secret },
    }))
}

fn talk(program: &str, registry: &str) -> io::Result<(Zeroizing<Vec<u8>>, bool)> {
    let mut command = Command::new(program);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = command.spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // One that knows its answer need not read the question.
        let _ = input.write_all(registry.as_bytes());
    }
    let mut answer = Zeroizing::new(Vec::with_capacity(4096));
    if let Some(output) = child.stdout.take() {
        output.take(LARGEST_ANSWER).read_to_end(&mut answer)?;
    }
    Ok((answer, child.wait()?.success()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;

    fn login(config: &str, registry: &str) -> Result<Option<Login>> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("config.json"), config).unwrap();
        in_folder(dir.path(), registry)
    }

    #[test]
    fn registries_are_told_from_folders() {
        for (reference, expected) in [
            ("debian", HUB),
            ("team/app:1", HUB),
            ("docker.io/team/app", HUB),
            ("ghcr.io/team/app", "ghcr.io"),
            ("localhost/app", "localhost"),
            ("localhost:5000/app", "localhost:5000"),
            ("r:5000/a/b@sha256:00", "r:5000"),
        ] {
            assert_eq!(registry(reference), expected, "{reference}");
        }
    }

    #[test]
    fn logins_kept_in_the_file_are_found_under_any_spelling() {
        let auth = STANDARD.encode("me:pass:word");
        for name in ["r.example", "https://r.example"] {
            let config = format!(r#"{{"auths":{{"{name}":{{"auth":"{auth}"}}}}}}"#);
            let Some(Login { proof: Proof::Password { user, password }, .. }) =
                login(&config, "r.example").unwrap()
            else {
                panic!("no password")
            };
            assert_eq!((user.as_str(), password.as_str()), ("me", "pass:word"));
            assert!(login(&config, "other.example").unwrap().is_none());
        }
        let token = r#"{"auths":{"r":{"auth":"","identitytoken":"secret-token"}}}"#;
        let found = login(token, "r").unwrap().unwrap();
        assert!(matches!(&found.proof, Proof::Token(token) if **token == "secret-token"));
        assert!(!format!("{found:?}").contains("secret-token"));
        assert!(login("{}", "r").unwrap().is_none());
    }

    #[test]
    fn a_spoilt_login_is_told_without_what_it_holds() {
        let error = login(r#"{"auths":{"r":{"auth":"c2VjcmV0"}}}"#, "r").unwrap_err();
        assert!(error.to_string().contains("login for 'r'"), "{error}");
        assert!(!format!("{error:?}").contains("c2VjcmV0"));
    }

    #[test]
    fn a_helper_must_be_a_name_and_one_that_is_missing_is_told() {
        let error = login(r#"{"credsStore":"../../bin/sh"}"#, "r").unwrap_err();
        assert!(error.to_string().contains("no credential helper's name"), "{error}");
        let error = login(r#"{"credHelpers":{"r":"no-such-helper-here"}}"#, "r").unwrap_err();
        assert!(error.to_string().contains("docker-credential-no-such-helper-here"), "{error}");
        assert!(
            login(r#"{"credHelpers":{"other":"no-such-helper-here"}}"#, "r").unwrap().is_none()
        );
    }
}
