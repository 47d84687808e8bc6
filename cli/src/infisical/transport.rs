//! HTTP as we use it: one server, bounded answers, time limits, and patience that ends.
//!
//! The only importer of the HTTP library. Redirects are not followed: a token goes to the server
//! that it was given for, and nowhere else.

use super::address::Address;
use super::secret::SecretValue;
use super::settings::{NO_PROXY, Settings};
use super::source::{Cause, SourceError};
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use thiserror::Error;
use ureq::http::{HeaderMap, HeaderValue, Method, Request, header};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, Proxy};
use zeroize::Zeroizing;

/// How long and how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Until a connection stands.
    pub(crate) connect: Duration,
    /// For one request with its whole answer.
    pub(crate) request: Duration,
    /// For a request with everything that is tried again, pauses included.
    pub(crate) patience: Duration,
    /// The first pause before something is tried again; each is twice the one before.
    pub(crate) pause: Duration,
    /// Bytes of an answer.
    pub(crate) answer: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            request: Duration::from_secs(30),
            patience: Duration::from_secs(60),
            pause: Duration::from_millis(500),
            answer: 64 << 20,
        }
    }
}

/// The longest CA file; more is a sign of the wrong file.
const LONGEST_CA_FILE: u64 = 4 << 20;

/// The longest pause of our choice; a server may ask for more.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// What a server answered, whatever it means.
pub(crate) struct Answer {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The content.
    pub(crate) body: Zeroizing<Vec<u8>>,
    /// How long the server wants us to wait.
    pub(crate) wait: Option<Duration>,
}

/// Whether a request may be sent twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It changes nothing: also after an error of the server or on the way.
    Freely,
    /// It may count, as a login does: only when the server said that it did nothing.
    IfUndone,
}

/// The way to one server.
pub(crate) struct Transport {
    agent: Agent,
    address: Address,
    limits: Limits,
    way: Option<String>,
}

#[derive(Debug, Error)]
#[error("its certificate is not trusted: name the file of its CA with ca_file")]
struct Untrusted(#[source] Cause);

#[derive(Debug, Error)]
#[error(
    "this machine has no CA certificates: install ca-certificates, or name a file with ca_file"
)]
struct NoRoots;

impl Transport {
    /// Prepares the way that the settings describe; nothing is sent yet.
    pub(crate) fn new(address: Address, settings: &Settings) -> Result<Self, SourceError> {
        let limits = settings.limits;
        let proxy = proxy(&address, settings.proxy.as_deref())?;
        let named = settings.ca_file.as_deref().filter(|_| address.is_https());
        let own = named.map(certificates).transpose()?.unwrap_or_default();
        let way = match settings.proxy.as_deref().filter(|_| proxy.is_some()) {
            Some(proxy) if !address.is_https() => digest([proxy.as_bytes()].into_iter()),
            _ => digest(own.iter().map(Certificate::der)),
        };
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(proxy)
            .user_agent(concat!("tazpod/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(limits.connect))
            .timeout_global(Some(limits.request));
        if address.is_https() {
            config = config.tls_config(tls(&address, own)?);
        }
        Ok(Self { agent: config.build().new_agent(), address, limits, way })
    }

    /// Returns the server's address.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Tells who may listen because the settings say so: a digest of the certificates that they have us trust or, where
    /// nothing is encrypted, of their proxy. `None` if there is nobody.
    pub(crate) fn way(&self) -> Option<&str> {
        self.way.as_deref()
    }

    /// Asks for something; `query` is encoded here.
    pub(crate) fn get(
        &self,
        path: &str,
        query: &[(&str, &str)],
        token: &SecretValue,
    ) -> Result<Answer, SourceError> {
        let url = format!("{}{path}{}", self.address, encode_query(query));
        self.patiently(Repeat::Freely, || self.send(&Method::GET, &url, &[], Some(token)))
    }

    /// Sends a JSON body.
    pub(crate) fn post(
        &self,
        path: &str,
        body: &[u8],
        token: Option<&SecretValue>,
        repeat: Repeat,
    ) -> Result<Answer, SourceError> {
        let url = format!("{}{path}", self.address);
        self.patiently(repeat, || self.send(&Method::POST, &url, body, token))
    }

    /// Tries again where that makes sense, with growing pauses and an end.
    fn patiently(
        &self,
        repeat: Repeat,
        send: impl Fn() -> Result<Answer, Failed>,
    ) -> Result<Answer, SourceError> {
        let start = Instant::now();
        let mut pause = self.limits.pause;
        loop {
            let outcome = send();
            let wish = match &outcome {
                Ok(answer) => answer.wish(repeat),
                Err(failed) if failed.passing && repeat == Repeat::Freely => Some(Duration::ZERO),
                Err(_) => None,
            };
            let wait = wish.map(|wish| wish.max(pause));
            match wait.filter(|wait| start.elapsed().saturating_add(*wait) <= self.limits.patience)
            {
                Some(wait) => std::thread::sleep(wait),
                None => return outcome.map_err(|failed| failed.error),
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn send(
        &self,
        method: &Method,
        url: &str,
        body: &[u8],
        token: Option<&SecretValue>,
    ) -> Result<Answer, Failed> {
        let mut request =
            Request::builder().method(method).uri(url).header(header::ACCEPT, "application/json");
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, self.bearer(token)?);
        }
        let outcome = if *method == Method::POST {
            request = request.header(header::CONTENT_TYPE, "application/json");
            request.body(body).map(|request| self.agent.run(request))
        } else {
            request.body(()).map(|request| self.agent.run(request))
        };
        let response = outcome
            .map_err(|cause| self.failed(ureq::Error::Http(cause)))?
            .map_err(|cause| self.failed(cause))?;
        let status = response.status().as_u16();
        let wait = retry_after(response.headers());
        let body = self.read(response.into_body())?;
        Ok(Answer { status, body, wait })
    }

    fn bearer(&self, token: &SecretValue) -> Result<HeaderValue, Failed> {
        let text = Zeroizing::new(format!("Bearer {}", token.expose()));
        let mut value = HeaderValue::from_str(&text).map_err(|_| Failed {
            // What the text is wrong about would show a part of it.
            error: SourceError::Authentication {
                at: self.address.to_string(),
                said: Some("the token has characters that no token has".into()),
            },
            passing: false,
        })?;
        value.set_sensitive(true);
        Ok(value)
    }

    fn read(&self, body: Body) -> Result<Zeroizing<Vec<u8>>, Failed> {
        let limit = self.limits.answer;
        let announced = body.content_length().and_then(|len| usize::try_from(len).ok());
        let mut content = Zeroizing::new(Vec::new());
        if announced.is_some_and(|len| len <= limit) {
            content.reserve_exact(announced.unwrap_or_default());
        }
        // One byte more proves that there is too much; the library's own limit stays above that.
        let bound = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
        let reader = body.into_with_config().limit(bound.saturating_add(1)).reader();
        let outcome = reader.take(bound).read_to_end(&mut content);
        outcome.map_err(|cause| self.failed(ureq::Error::from(cause)))?;
        if content.len() > limit {
            let error = SourceError::TooLarge { at: self.address.to_string(), limit };
            return Err(Failed { error, passing: false });
        }
        Ok(content)
    }

    fn failed(&self, cause: ureq::Error) -> Failed {
        let at = self.address.to_string();
        match cause {
            ureq::Error::Timeout(_) => {
                let limit = self.limits.request;
                Failed { error: SourceError::TimedOut { at, limit }, passing: false }
            }
            ureq::Error::BodyExceedsLimit(_) => Failed {
                error: SourceError::TooLarge { at, limit: self.limits.answer },
                passing: false,
            },
            ureq::Error::Protocol(_)
            | ureq::Error::Http(_)
            | ureq::Error::LargeResponseHeader(..) => {
                Failed { error: SourceError::Malformed { at, cause: cause.into() }, passing: false }
            }
            cause if is_certificate(&cause) => {
                let cause = Untrusted(cause.into()).into();
                Failed { error: SourceError::Unreachable { at, cause }, passing: false }
            }
            cause => {
                let passing = matches!(cause, ureq::Error::Io(_) | ureq::Error::ConnectionFailed);
                Failed { error: SourceError::Unreachable { at, cause: cause.into() }, passing }
            }
        }
    }
}

impl Answer {
    /// Returns how long to wait at least before the same request is sent again; `None` if that
    /// would change nothing or too much.
    fn wish(&self, repeat: Repeat) -> Option<Duration> {
        match (self.status, repeat) {
            (429, _) => Some(self.asked_wait().unwrap_or(Duration::ZERO)),
            (500 | 502..=504, Repeat::Freely) => Some(self.wait.unwrap_or(Duration::ZERO)),
            _ => None,
        }
    }

    /// Returns the wait that the server asks for, in the header or in its words.
    pub(crate) fn asked_wait(&self) -> Option<Duration> {
        self.wait.or_else(|| {
            let text = String::from_utf8_lossy(self.body.get(..4096).unwrap_or(&self.body));
            let (_, rest) = text.split_once("try again in ")?;
            let digits: String = rest.chars().take_while(char::is_ascii_digit).take(6).collect();
            digits.parse().ok().map(Duration::from_secs)
        })
    }
}

/// An attempt without an answer.
struct Failed {
    error: SourceError,
    /// Whether it may pass by itself, as a lost connection does.
    passing: bool,
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

fn is_certificate(error: &ureq::Error) -> bool {
    let untrusted = |error: &rustls::Error| matches!(error, rustls::Error::InvalidCertificate(_));
    match error {
        ureq::Error::Rustls(error) => untrusted(error),
        ureq::Error::Io(error) => error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>())
            .is_some_and(untrusted),
        _ => false,
    }
}

/// Returns the proxy that the configuration names, else the environment's; the way to this machine
/// needs none.
fn proxy(address: &Address, configured: Option<&str>) -> Result<Option<Proxy>, SourceError> {
    let local = Address::parse(address.as_str().replacen("https:", "http:", 1).as_str(), false);
    match configured {
        _ if local.is_ok() => Ok(None),
        Some(NO_PROXY) => Ok(None),
        // Its own words may repeat the address, and that a password.
        Some(text) => Proxy::new(text).map(Some).map_err(|_| SourceError::Unusable {
            what: "the proxy of the configuration".into(),
            cause: "it is no address such as http://proxy.example:3128".into(),
        }),
        None => Ok(Proxy::try_from_env()),
    }
}

/// Returns the SHA-256 of all parts with their lengths, in hexadecimal; `None` of no part.
fn digest<'a>(parts: impl ExactSizeIterator<Item = &'a [u8]>) -> Option<String> {
    if parts.len() == 0 {
        return None;
    }
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    Some(hash.finalize().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}")))
}

fn tls(address: &Address, own: Vec<Certificate<'static>>) -> Result<TlsConfig, SourceError> {
    let mut roots: Vec<Certificate<'static>> = rustls_native_certs::load_native_certs()
        .certs
        .iter()
        .map(|certificate| Certificate::from_der(certificate).to_owned())
        .collect();
    roots.extend(own);
    if roots.is_empty() {
        let at = address.to_string();
        return Err(SourceError::Unreachable { at, cause: NoRoots.into() });
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .unversioned_rustls_crypto_provider(provider)
        .build())
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, SourceError> {
    let unusable = |cause: Cause| SourceError::Unusable {
        what: format!("the CA file '{}'", path.display()),
        cause,
    };
    let file = std::fs::File::open(path).map_err(|cause| unusable(cause.into()))?;
    let mut content = Vec::new();
    file.take(LONGEST_CA_FILE).read_to_end(&mut content).map_err(|cause| unusable(cause.into()))?;
    let mut found = Vec::new();
    for item in parse_pem(&content) {
        if let PemItem::Certificate(certificate) = item.map_err(|cause| unusable(cause.into()))? {
            found.push(certificate);
        }
    }
    if found.is_empty() {
        return Err(unusable("it has no certificate in PEM form".into()));
    }
    Ok(found)
}

/// Writes a query string. Everything but letters, digits and `-._~` is encoded.
fn encode_query(query: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in query {
        text.push(if text.is_empty() { '?' } else { '&' });
        text.push_str(&encode(name));
        text.push('=');
        text.push_str(&encode(value));
    }
    text
}

/// Writes one part of a URL with everything encoded but letters, digits and `-._~`.
pub(crate) fn encode(text: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn queries_are_encoded_whole() {
        let query = [("path", "/a b&c=d"), ("tags", "é+,")];
        assert_eq!(encode_query(&query), "?path=%2Fa%20b%26c%3Dd&tags=%C3%A9%2B%2C");
        assert_eq!(encode_query(&[]), "");
    }

    #[test]
    fn a_server_that_wants_us_to_wait_for_ever_is_not_waited_for() {
        let settings = Settings::default();
        let address = Address::parse("http://localhost:1", false).unwrap();
        let transport = Transport::new(address, &settings).unwrap();
        let answer = transport.patiently(Repeat::Freely, || {
            // Time must have passed for the sum to be too large.
            std::thread::sleep(Duration::from_millis(1100));
            let wait = Some(Duration::MAX);
            Ok(Answer { status: 429, body: Zeroizing::new(Vec::new()), wait })
        });
        assert_eq!(answer.map(|answer| answer.status).ok(), Some(429));
    }

    #[test]
    fn waits_are_read_from_the_header_or_the_words() {
        let answer = |wait, body: &str| Answer {
            status: 429,
            body: Zeroizing::new(body.as_bytes().to_vec()),
            wait,
        };
        let words = r#"{"message":"Rate limit exceeded. Please try again in 17 seconds"}"#;
        assert_eq!(answer(None, words).asked_wait(), Some(Duration::from_secs(17)));
        let header = Some(Duration::from_secs(3));
        assert_eq!(answer(header, words).asked_wait(), header);
        assert_eq!(answer(None, "try again in a while").asked_wait(), None);
        assert_eq!(answer(None, "").wish(Repeat::IfUndone), Some(Duration::ZERO));
    }

    #[test]
    fn login_is_not_repeated_when_it_may_have_counted() {
        let answer = |status| Answer { status, body: Zeroizing::default(), wait: None };
        for status in [200, 400, 401, 403, 404, 422, 500, 503] {
            assert_eq!(answer(status).wish(Repeat::IfUndone), None, "{status}");
        }
        assert_eq!(answer(503).wish(Repeat::Freely), Some(Duration::ZERO));
        assert_eq!(answer(401).wish(Repeat::Freely), None);
    }
}
