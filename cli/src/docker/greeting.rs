//! What an engine says of itself when it is greeted: which one it is, and which API it speaks.
//!
//! The ping is the one question that costs an engine nothing. To ask for its version makes Docker run
//! several programs for theirs.

use super::endpoint::Endpoint;
use super::engine::{Answer, EngineError};
use super::head::Head;
use std::io::{self, Write};
use std::time::Duration;

/// How long the engine may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// An engine's answer to a ping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Greeting {
    /// The newest API that it speaks.
    pub(super) api: (usize, usize),
    /// Whether it is Podman.
    pub(super) is_podman: bool,
}

/// Greets the engine.
pub(super) fn greet(endpoint: &Endpoint) -> Answer<Greeting> {
    let failed = |cause: io::Error| EngineError::Connection(cause.to_string());
    let mut socket = endpoint.dial().map_err(failed)?;
    socket.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    socket
        .write_all(b"GET /_ping HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .map_err(failed)?;
    let head = Head::read(&mut socket).map_err(|cause| match cause.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => EngineError::Silent,
        _ => failed(cause),
    })?;
    understood(&head)
}

fn understood(head: &Head) -> Answer<Greeting> {
    if head.status != 200 {
        let message = format!("it answers a greeting with status {}", head.status);
        return Err(EngineError::Refused { status: head.status, message });
    }
    let version = head.field("Api-Version").and_then(|text| text.split_once('.'));
    let api = version.and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    let api =
        api.ok_or_else(|| EngineError::Failed("it does not say which API it speaks".into()))?;
    Ok(Greeting { api, is_podman: head.field("Libpod-Api-Version").is_some() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn greeted(head: &str) -> Answer<Greeting> {
        understood(&Head::read(&mut head.as_bytes()).unwrap())
    }

    #[test]
    fn engines_are_told_apart_by_their_greeting() {
        let docker = greeted("HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\n\r\n").unwrap();
        assert_eq!(docker, Greeting { api: (1, 41), is_podman: false });
        let podman = "HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nLibpod-Api-Version: 4.3.1\r\n\r\n";
        assert!(greeted(podman).unwrap().is_podman);
    }

    #[test]
    fn what_greets_strangely_is_no_engine() {
        for head in [
            "HTTP/1.1 404 Not Found\r\nApi-Version: 1.41\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nApi-Version: new\r\n\r\n",
            "HTTP/1.1 200 OK\r\nApi-Version: 1.99999999999999999999999\r\n\r\n",
        ] {
            assert!(greeted(head).is_err(), "{head}");
        }
    }
}
