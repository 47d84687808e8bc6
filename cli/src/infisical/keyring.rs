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
use std::os::unix::ffi::OsStringExt;
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
        let content = open(&sealed, &passphrase).map_err(|cause| unusable(&entry, cause.into()))?;
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

    /// Returns the keyring's passphrase, any bytes: the configuration's, else the environment's.
    fn passphrase(&self) -> Result<Option<Zeroizing<Vec<u8>>>, Cause> {
        if let Some(text) = self.passphrase.as_ref().filter(|text| !text.expose().is_empty()) {
            return Ok(Some(Zeroizing::new(BASE64_STANDARD.decode(text.expose().trim())?)));
        }
        let variable = std::env::var_os("INFISICAL_VAULT_FILE_PASSPHRASE");
        Ok(variable.map(|text| Zeroizing::new(text.into_vec())))
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;

    /// Sealed by another implementation, as the program does it; the token's end is in 2100.
    const SEALED: &str = concat!(
        "eyJhbGciOiAiUEJFUzItSFMyNTYrQTEyOEtXIiwgImVuYyI6ICJBMjU2R0NNIiwgImNyZWF0ZWQiOiAibm93Iiwg",
        "InAyYyI6IDgxOTIsICJwMnMiOiAiQUFFQ0F3UUZCZ2NJQ1FvTCJ9.",
        "rj_Tf4YTEFLW4xdjxWZ9lO-n08_Jw0jtseAATvpaVF2ONkty_XXzAw.AAECAwQFBgcICQoL.",
        "ZXmKOaCIo3LhHbWxkbVaCeagx1GIGjIMVALL5nIEXJAtMPLe37N77hXQGqbt_nQa1Hk8rwb0j_pjtWBNT7eahZVS",
        "mljp8XpDeS3gBo3IbYF344MrIxkaWbOU1PVWlcDHp50Rp80OokvmUXr7eDtlLo4qJuqQjEvMN6UPh8i8LUeNG26T",
        "wJqYGTHPO8hahm7uFqjBZ1B34S__N7wYkbeHsrGtvknLo-4DhQ.qH4F8G_Eh81oxIZ4Wko3kw",
    );
    const PASSPHRASE: &[u8] = b"keyring passphrase";

    #[test]
    fn entry_that_another_implementation_sealed_opens() {
        let content = open(SEALED.as_bytes(), PASSPHRASE).unwrap();
        let credentials = unwrap(&content).unwrap();
        assert_eq!(credentials.email, "dev@example.com");
        assert_eq!(Claims::of(credentials.token.expose()).exp, Some(4_102_444_800));
    }

    #[test]
    fn any_change_is_refused() {
        assert_eq!(open(SEALED.as_bytes(), b"another").unwrap_err(), Sealed::Refused);
        let parts: Vec<&str> = SEALED.split('.').collect();
        for changed in 0..parts.len() {
            let mut parts: Vec<String> = parts.iter().map(ToString::to_string).collect();
            // Whatever the first character was, it becomes another of the alphabet.
            let first = if parts[changed].starts_with('A') { "B" } else { "A" };
            parts[changed].replace_range(0..1, first);
            assert!(open(parts.join(".").as_bytes(), PASSPHRASE).is_err(), "part {changed}");
        }
        for cut in [0, 1, 100, SEALED.len() - 1] {
            assert!(open(&SEALED.as_bytes()[..cut], PASSPHRASE).is_err(), "{cut}");
        }
    }

    #[test]
    fn hostile_headers_are_refused_before_anything_is_derived() {
        let rest = SEALED.split_once('.').unwrap().1;
        let with = |header: &str| {
            let header = BASE64_URL_SAFE_NO_PAD.encode(header);
            open(format!("{header}.{rest}").as_bytes(), PASSPHRASE).unwrap_err()
        };
        let header = |alg: &str, enc: &str, rounds: u64| {
            format!(r#"{{"alg":"{alg}","enc":"{enc}","p2c":{rounds},"p2s":"AAEC"}}"#)
        };
        let (alg, enc) = ("PBES2-HS256+A128KW", "A256GCM");
        assert_eq!(with(&header(alg, enc, 4_000_000_000)), Sealed::Rounds);
        assert_eq!(with(&header(alg, enc, 0)), Sealed::Rounds);
        assert_eq!(with(&header(alg, enc, 1 << 40)), Sealed::Form);
        assert_eq!(with(&header("none", enc, 1)), Sealed::Algorithm);
        assert_eq!(with(&header(alg, "A128CBC-HS256", 1)), Sealed::Algorithm);
        assert_eq!(with("{"), Sealed::Form);
    }

    #[test]
    fn entries_of_every_version_are_understood() {
        let plain = r#"{"email":"a@b","privateKey":"","JTWToken":"t","RefreshToken":""}"#;
        let text = serde_json::to_string(plain).unwrap();
        let wrapped = format!(r#"{{"Key":"a@b","Data":"{}"}}"#, BASE64_STANDARD.encode(plain));
        for entry in [plain, &text, &wrapped] {
            assert_eq!(unwrap(entry.as_bytes()).unwrap().token.expose(), "t", "{entry}");
        }
        for entry in ["", "{}", "[]", "\"x\"", r#"{"Data":"%"}"#, r#"{"JTWToken":7}"#] {
            assert!(unwrap(entry.as_bytes()).is_none(), "{entry}");
        }
    }

    fn kept(config: &str) -> (tempfile::TempDir, Kept) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(CONFIG), config).unwrap();
        fs::write(dir.path().join("dev@example.com"), SEALED).unwrap();
        let kept = Kept { infisical: dir.path().into(), keyring: dir.path().into() };
        (dir, kept)
    }

    #[test]
    fn session_is_found_as_old_and_new_versions_name_it() {
        let passphrase = BASE64_STANDARD.encode(PASSPHRASE);
        let old = format!(
            r#"{{"loggedInUserEmail":"dev@example.com","LoggedInUserDomain":"https://host/api",
                "vaultBackendPassphrase":"{passphrase}"}}"#
        );
        let new = format!(
            r#"{{"activeProfile":"dev@example.com","vaultBackendPassphrase":"{passphrase}",
                "profiles":[{{"name":"x"}},{{"name":"dev@example.com","email":"dev@example.com",
                "domain":"https://host/api"}}]}}"#
        );
        for config in [old, new] {
            let (_dir, kept) = kept(&config);
            let session = kept.session(false).unwrap().unwrap();
            assert_eq!(session.email, "dev@example.com");
            assert_eq!(session.address.as_str(), "https://host");
            assert!(session.is_alive());
            assert!(!format!("{session:?}").contains("eyJ"));
            kept.forget().unwrap();
            assert!(kept.session(false).unwrap().is_none());
        }
    }

    #[test]
    fn config_that_names_no_session_is_no_error_and_a_broken_one_is() {
        for config in ["{}", r#"{"loggedInUserEmail":""}"#, r#"{"loggedInUserEmail":"nobody"}"#] {
            assert!(kept(config).1.session(false).unwrap().is_none(), "{config}");
        }
        let wrong = r#"{"loggedInUserEmail":"dev@example.com","vaultBackendPassphrase":"eA=="}"#;
        for config in ["{", "", wrong] {
            assert!(kept(config).1.session(false).is_err(), "{config}");
        }
    }

    #[test]
    fn names_lead_nowhere_but_into_the_keyring() {
        for name in ["..", ".", "../x", "/etc/passwd", "a/b", "a\0b"] {
            let file = file_name(name);
            assert!(!file.contains(['/', '\0']) && file != ".." && file != ".", "{file}");
        }
    }
}
