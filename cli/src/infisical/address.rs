//! Where a server is: `https://app.infisical.com`, or a self-hosted one.

use std::fmt;
use thiserror::Error;
use ureq::http::Uri;
use ureq::http::uri::{Authority, Scheme};

/// The cloud's address in the United States, which the `infisical` program takes by default too.
pub(crate) const CLOUD: &str = "https://app.infisical.com";

/// A server's address without a slash at its end and without the `/api` that some people add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address(String);

/// Why a text is no address of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum NoAddress {
    #[error("it must begin with https:// or http://")]
    Scheme,
    #[error("it names no host")]
    Host,
    #[error("it must not contain a user name or password")]
    Credentials,
    #[error("it must end after the path")]
    Query,
    #[error("it is not a URL")]
    Malformed,
    #[error("over plain http everybody on the way reads the secrets: use https, or allow_http")]
    Plain,
}

impl Address {
    /// Judges an address. Plain HTTP is for this machine alone, unless `allow_http`.
    pub(crate) fn parse(text: &str, allow_http: bool) -> Result<Self, NoAddress> {
        let uri: Uri = text.trim().parse().map_err(|_| NoAddress::Malformed)?;
        let authority = uri.authority().ok_or(NoAddress::Scheme)?;
        let scheme = uri.scheme().ok_or(NoAddress::Scheme)?;
        if *scheme != Scheme::HTTPS && *scheme != Scheme::HTTP {
            return Err(NoAddress::Scheme);
        }
        if authority.as_str().contains('@') {
            return Err(NoAddress::Credentials);
        }
        if authority.host().is_empty() {
            return Err(NoAddress::Host);
        }
        if uri.query().is_some() || text.contains('#') {
            return Err(NoAddress::Query);
        }
        if *scheme == Scheme::HTTP && !allow_http && !is_this_machine(authority) {
            return Err(NoAddress::Plain);
        }
        let path = uri.path().trim_end_matches('/');
        let path = path.strip_suffix("/api").unwrap_or(path).trim_end_matches('/');
        Ok(Self(format!("{scheme}://{}{path}", authority.as_str().to_ascii_lowercase())))
    }

    /// Returns the address as it is written.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the way to the server is encrypted.
    pub(crate) fn is_https(&self) -> bool {
        self.0.starts_with("https:")
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_this_machine(authority: &Authority) -> bool {
    let host = authority.host();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_people_add_at_the_end_does_not_count() {
        for text in ["https://Host.example", "https://host.example/", "https://host.example/api/"] {
            assert_eq!(Address::parse(text, false).unwrap().as_str(), "https://host.example");
        }
        let below = Address::parse("https://host:8443/secrets/api", false).unwrap();
        assert_eq!(below.as_str(), "https://host:8443/secrets");
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_reason() {
        for (text, why) in [
            ("app.infisical.com", NoAddress::Scheme),
            ("ftp://host", NoAddress::Scheme),
            ("https://user:word@host", NoAddress::Credentials),
            ("https://host/?a=b", NoAddress::Query),
            ("https://host/#x", NoAddress::Query),
            ("https://ho st", NoAddress::Malformed),
            ("http://host", NoAddress::Plain),
            ("http://127.0.0.1.example", NoAddress::Plain),
        ] {
            assert_eq!(Address::parse(text, false), Err(why), "{text}");
        }
    }

    #[test]
    fn plain_http_is_for_this_machine_or_on_purpose() {
        for text in ["http://localhost:8080", "http://127.0.0.1:80", "http://[::1]:80"] {
            assert!(Address::parse(text, false).is_ok(), "{text}");
        }
        assert!(Address::parse("http://infisical:8080", true).is_ok());
    }
}
