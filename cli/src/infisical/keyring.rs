//! The session that the `infisical` program left in the bridge: its configuration and its file
//! keyring.
//!
//! A keyring file is a JWE in compact form: PBES2-HS256+A128KW for the key, A256GCM for the content
//! (RFC 7516, RFC 7518). The key to it lies beside it; only our vault protects both.

use super::address::Address;
use super::jwt::Claims;
use super::secret::SecretValue;
use super::source::{Cause, SourceError};
use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};
use aes_kw::KwAes128;
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde::Deserialize;
use sha2::Sha256;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use thiserror::Error;
use zeroize::Zeroizing;

const CONFIG: &str = "infisical-config.json";

/// Longer than any file of the program's.
const LONGEST: u64 = 1 << 20;

/// Rounds of the key derivation that are run for a file: more than anybody writes, and a second at
/// most.
const ROUNDS: std::ops::RangeInclusive<u32> = 1..=2_000_000;

/// A session ends this many seconds early for us, so that no request of the program finds it over.
const MARGIN: u64 = 30;

/// The session of a user.
#[derive(Debug)]
pub(crate) struct UserSession {
    /// The user's e-mail address.
    pub(crate) email: String,
    /// The server.
    pub(crate) address: Address,
    /// The token.
    pub(crate) token: SecretValue,
    /// When it ends, in seconds since 1970.
    pub(crate) expires: Option<u64>,
}

impl UserSession {
    /// Whether a request that begins now finds the session alive.
    pub(crate) fn is_alive(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.expires.is_some_and(|end| end > now.saturating_add(MARGIN))
    }
}

/// What the program keeps where.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    /// `.infisical` in the vault.
    pub(crate) infisical: PathBuf,
    /// `infisical-keyring` in the vault.
    pub(crate) keyring: PathBuf,
}

#[derive(Default, Deserialize)]
struct Config {
    #[serde(default, rename = "loggedInUserEmail")]
    email: String,
    #[serde(default, rename = "LoggedInUserDomain")]
    domain: String,
    #[serde(default, rename = "vaultBackendPassphrase")]
    passphrase: Option<SecretValue>,
    #[serde(default, rename = "activeProfile")]
    active: String,
    #[serde(default)]
    profiles: Option<Vec<Profile>>,
}

#[derive(Deserialize)]
struct Profile {
    #[serde(default)]
    name: String,
    #[serde(default)]
    email: String,
    #[serde(default)]
    domain: String,
}

#[derive(Deserialize)]
struct Credentials {
    #[serde(default)]
    email: String,
    #[serde(rename = "JTWToken")]
    token: SecretValue,
}

/// An entry as the keyring library of older versions wraps it.
#[derive(Deserialize)]
struct Wrapped {
    #[serde(rename = "Data")]
    data: SecretValue,
}

/// Why a keyring file does not open. A wrong passphrase and a changed file cannot be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum Sealed {
    #[error("it is not in JWE compact form")]
    Form,
    #[error("it is encrypted in a way that the infisical program does not use")]
    Algorithm,
    #[error("its key derivation would take too long")]
    Rounds,
    #[error("its passphrase is wrong, or it was damaged")]
    Refused,
}

impl Kept {
    /// Returns the session that the program would use; `None` if nobody is logged in with it.
    pub(crate) fn session(&self, allow_http: bool) -> Result<Option<UserSession>, SourceError> {
        let path = self.infisical.join(CONFIG);
        let unusable = |what: &Path, cause: Cause| SourceError::Unusable {
            what: format!("'{}'", what.display()),
            cause,
        };
        let Some(text) = read(&path).map_err(|cause| unusable(&path, cause.into()))? else {
            return Ok(None);
        };
        let config: Config = serde_json::from_slice(&text)
            .map_err(|cause| unusable(&path, format!("line {}", cause.line()).into()))?;
        let Some((name, email, domain)) = config.user() else { return Ok(None) };
        let domain = if domain.is_empty() { super::address::CLOUD } else { domain };
        let address =
            Address::parse(domain, allow_http).map_err(|cause| unusable(&path, cause.into()))?;
        let entry = self.keyring.join(file_name(name));
        let Some(sealed) = read(&entry).map_err(|cause| unusable(&entry, cause.into()))? else {
            return Ok(None);
        };
        let Some(passphrase) = config.passphrase().map_err(|cause| unusable(&path, cause))? else {
            return Ok(None);
        };
        let content = open(&sealed, passphrase.expose().as_bytes())
            .map_err(|cause| unusable(&entry, cause.into()))?;
        let credentials = unwrap(&content)
            .ok_or_else(|| unusable(&entry, "it holds no session of a user".into()))?;
        let expires = Claims::of(credentials.token.expose()).exp;
        let email = if email.is_empty() { credentials.email } else { email.to_owned() };
        Ok(Some(UserSession { email, address, token: credentials.token, expires }))
    }

    /// Forgets the session of a user; a keyring entry that is not there is no error.
    pub(crate) fn forget(&self) -> io::Result<()> {
        let Some(text) = read(&self.infisical.join(CONFIG))? else { return Ok(()) };
        let config: Config = serde_json::from_slice(&text).unwrap_or_default();
        let Some((name, ..)) = config.user() else { return Ok(()) };
        match std::fs::remove_file(self.keyring.join(file_name(name))) {
            Err(cause) if cause.kind() != ErrorKind::NotFound => Err(cause),
            _ => Ok(()),
        }
    }
}

impl Config {
    /// Returns the keyring's entry, the e-mail address and the server of whoever is logged in.
    fn user(&self) -> Option<(&str, &str, &str)> {
        let profiles = self.profiles.as_deref().unwrap_or_default();
        let active = profiles.iter().find(|profile| profile.name == self.active);
        match active.filter(|profile| !profile.name.is_empty()) {
            Some(profile) => Some((&profile.name, &profile.email, &profile.domain)),
            None if self.email.is_empty() => None,
            None => Some((&self.email, &self.email, &self.domain)),
        }
    }

    /// Returns the keyring's passphrase: the configuration's, else the environment's.
    fn passphrase(&self) -> Result<Option<SecretValue>, Cause> {
        if let Some(text) = self.passphrase.as_ref().filter(|text| !text.expose().is_empty()) {
            let bytes = Zeroizing::new(BASE64_STANDARD.decode(text.expose().trim())?);
            let text = std::str::from_utf8(&bytes)?;
            return Ok(Some(text.to_owned().into()));
        }
        Ok(std::env::var("INFISICAL_VAULT_FILE_PASSPHRASE").ok().map(SecretValue::from))
    }
}

/// Returns the file of a keyring's entry: its name, with what a path would stumble over encoded.
fn file_name(name: &str) -> String {
    match name {
        "." | ".." => name.replace('.', "%2E"),
        _ => name.replace('%', "%25").replace('/', "%2F").replace('\0', "%00"),
    }
}

fn read(path: &Path) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let file = match File::open(path) {
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(None),
        outcome => outcome?,
    };
    let about = file.metadata()?;
    if !about.is_file() || about.len() > LONGEST {
        return Err(io::Error::other("it is not one of the infisical program's files"));
    }
    let mut content = Zeroizing::new(Vec::with_capacity(usize::try_from(about.len()).unwrap_or(0)));
    file.take(LONGEST).read_to_end(&mut content)?;
    Ok(Some(content))
}

/// Finds the credentials in an entry: plain, as a string, or as the older library wraps them.
fn unwrap(content: &[u8]) -> Option<Credentials> {
    if let Ok(credentials) = serde_json::from_slice(content) {
        return Some(credentials);
    }
    if let Ok(text) = serde_json::from_slice::<SecretValue>(content) {
        return serde_json::from_str(text.expose()).ok();
    }
    let wrapped: Wrapped = serde_json::from_slice(content).ok()?;
    let bytes = Zeroizing::new(BASE64_STANDARD.decode(wrapped.data.expose()).ok()?);
    serde_json::from_slice(&bytes).ok()
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    enc: String,
    p2c: u32,
    p2s: String,
}

/// Opens a JWE.
fn open(sealed: &[u8], passphrase: &[u8]) -> Result<Zeroizing<Vec<u8>>, Sealed> {
    let text = std::str::from_utf8(sealed).map_err(|_| Sealed::Form)?;
    let parts: Vec<&str> = text.trim().split('.').collect();
    let [protected, wrapped, nonce, content, tag] = parts[..] else { return Err(Sealed::Form) };
    let decode = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| Sealed::Form);
    let header: Header = serde_json::from_slice(&decode(protected)?).map_err(|_| Sealed::Form)?;
    if header.alg != "PBES2-HS256+A128KW" || header.enc != "A256GCM" {
        return Err(Sealed::Algorithm);
    }
    if !ROUNDS.contains(&header.p2c) {
        return Err(Sealed::Rounds);
    }
    let nonce: [u8; 12] = decode(nonce)?.try_into().map_err(|_| Sealed::Form)?;
    let tag: [u8; 16] = decode(tag)?.try_into().map_err(|_| Sealed::Form)?;
    let wrapped: [u8; 40] = decode(wrapped)?.try_into().map_err(|_| Sealed::Form)?;
    let key = unwrap_key(&header, &wrapped, passphrase)?;
    let mut content = Zeroizing::new(decode(content)?);
    let cipher = Aes256Gcm::new((&*key).into());
    cipher
        .decrypt_inout_detached(
            &Nonce::from(nonce),
            protected.as_bytes(),
            content.as_mut_slice().into(),
            &Tag::from(tag),
        )
        .map_err(|_| Sealed::Refused)?;
    Ok(content)
}

/// Derives the key that wraps the content's key (RFC 7518, 4.8.1) and unwraps it (RFC 3394).
fn unwrap_key(
    header: &Header,
    wrapped: &[u8; 40],
    passphrase: &[u8],
) -> Result<Zeroizing<[u8; 32]>, Sealed> {
    let mut salt = header.alg.as_bytes().to_vec();
    salt.push(0);
    salt.extend(BASE64_URL_SAFE_NO_PAD.decode(&header.p2s).map_err(|_| Sealed::Form)?);
    let mut wrapping = Zeroizing::new([0; 16]);
    pbkdf2::pbkdf2_hmac::<Sha256>(passphrase, &salt, header.p2c, &mut *wrapping);
    let mut key = Zeroizing::new([0; 32]);
    KwAes128::new((&*wrapping).into())
        .unwrap_key(wrapped, &mut *key)
        .map_err(|_| Sealed::Refused)?;
    Ok(key)
}
