//! The streams of a program in a container, spoken raw over the engine's socket.
//!
//! The client crate guesses how a stream is framed and takes the first byte of a terminal's output for
//! a frame's header when it is small. Here it is known: a terminal's bytes come as they are, those of
//! a program without one in frames of 8 bytes of header and their content.

use super::endpoint::Endpoint;
use super::engine::{Answer, EngineError, Stream};
use super::head::Head;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// The most bytes that the words of a refusal may have.
const LONGEST_REFUSAL: u64 = 16 << 10;

/// How long the engine may take to start a program.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts an execution and returns its streams.
pub(super) fn start(
    endpoint: &Endpoint,
    version: &str,
    execution: &str,
    tty: bool,
) -> Answer<UnixStream> {
    let failed = |cause: io::Error| EngineError::Connection(cause.to_string());
    if !execution.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(EngineError::Failed("the engine named an execution strangely".to_owned()));
    }
    let mut socket = endpoint.dial().map_err(failed)?;
    socket.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    let body = format!("{{\"Detach\":false,\"Tty\":{tty}}}");
    let request = format!(
        "POST /v{version}/exec/{execution}/start HTTP/1.1\r\nHost: localhost\r\n\
         Content-Type: application/json\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(request.as_bytes()).map_err(failed)?;
    let status = Head::read(&mut socket).map_err(failed)?.status;
    match status {
        101 | 200 => {
            socket.set_read_timeout(None).map_err(failed)?;
            Ok(socket)
        }
        404 => Err(EngineError::NotFound(refusal(socket))),
        409 => Err(EngineError::Conflict(refusal(socket))),
        status => Err(EngineError::Refused { status, message: refusal(socket) }),
    }
}

/// Reads the engine's words about why not.
fn refusal(socket: UnixStream) -> String {
    let mut bytes = Vec::new();
    // The connection may stay open for another request; its sense came with the first packet.
    let _ = socket.set_read_timeout(Some(Duration::from_millis(500)));
    let _ = socket.take(LONGEST_REFUSAL).read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    let json = text.find('{').and_then(|start| text.get(start..));
    let message = json.and_then(|json| {
        let mut values = serde_json::Deserializer::from_str(json).into_iter();
        let value: serde_json::Value = values.next()?.ok()?;
        Some(value.get("message")?.as_str()?.to_owned())
    });
    message.unwrap_or_else(|| text.trim().to_owned())
}

/// Takes the frames of a program without a terminal apart, as bytes come in.
#[derive(Debug, Default)]
pub(super) struct Frames {
    header: Vec<u8>,
    stream: Option<Stream>,
    left: u32,
}

impl Frames {
    /// Passes the content of what came in on to `take`, which may refuse more by an error.
    pub(super) fn feed(
        &mut self,
        mut bytes: &[u8],
        mut take: impl FnMut(Stream, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.left == 0 {
                bytes = self.read_header(bytes)?;
                continue;
            }
            let count = bytes.len().min(self.left as usize);
            let (content, rest) = bytes.split_at(count);
            if let Some(stream) = self.stream {
                take(stream, content)?;
            }
            self.left -= u32::try_from(count).unwrap_or(self.left);
            bytes = rest;
        }
        Ok(())
    }

    fn read_header<'a>(&mut self, bytes: &'a [u8]) -> io::Result<&'a [u8]> {
        let (begun, rest) = bytes.split_at(bytes.len().min(8 - self.header.len()));
        self.header.extend_from_slice(begun);
        if let [kind, 0, 0, 0, a, b, c, d] = *self.header {
            self.stream = match kind {
                0 | 1 => Some(Stream::Output),
                // 3 is the engine's own complaint.
                2 | 3 => Some(Stream::Error),
                _ => return Err(strange_frame()),
            };
            self.left = [a, b, c, d].iter().fold(0, |left, byte| (left << 8) | u32::from(*byte));
            self.header.clear();
        } else if self.header.len() == 8 {
            return Err(strange_frame());
        }
        Ok(rest)
    }
}

fn strange_frame() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the engine's stream makes no sense")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::net::UnixListener;

    fn frame(kind: u8, content: &[u8]) -> Vec<u8> {
        let length = u8::try_from(content.len()).unwrap();
        [&[kind, 0, 0, 0, 0, 0, 0, length], content].concat()
    }

    #[test]
    fn frames_are_taken_apart_wherever_they_are_cut() {
        let all =
            [frame(1, b"out\x01\x02"), frame(2, b""), frame(2, b"err"), frame(1, b"!")].concat();
        for cut in 1..all.len() {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let mut frames = Frames::default();
            for piece in all.chunks(cut) {
                frames
                    .feed(piece, |stream, bytes| {
                        let to = if stream == Stream::Output { &mut out } else { &mut err };
                        to.extend_from_slice(bytes);
                        Ok(())
                    })
                    .unwrap();
            }
            assert_eq!((out.as_slice(), err.as_slice()), (&b"out\x01\x02!"[..], &b"err"[..]));
        }
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        for bytes in [&b"hello world"[..], &[9, 0, 0, 0, 0, 0, 0, 1, 7], &[1, 0, 1, 0, 0, 0, 0, 1]]
        {
            assert!(Frames::default().feed(bytes, |_, _| Ok(())).is_err(), "{bytes:?}");
        }
    }

    fn answered(answer: &'static [u8]) -> Answer<UnixStream> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let engine = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let count = socket.read(&mut request).unwrap();
            socket.write_all(answer).unwrap();
            String::from_utf8_lossy(&request[..count]).into_owned()
        });
        let outcome = start(&Endpoint::at(path), "1.41", "abc", true);
        assert!(engine.join().unwrap().starts_with("POST /v1.41/exec/abc/start HTTP/1.1\r\n"));
        outcome
    }

    #[test]
    fn bytes_after_the_head_are_the_programs_own() {
        let answer = b"HTTP/1.1 101 UPGRADED\r\nUpgrade: tcp\r\n\r\n\x01\x00rest";
        let mut rest = Vec::new();
        answered(answer).unwrap().read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"\x01\x00rest");
    }

    #[test]
    fn a_refusal_is_told_in_the_engines_words() {
        let answer =
            b"HTTP/1.1 409 Conflict\r\nContent-Length: 27\r\n\r\n{\"message\":\"is not running\"}";
        let error = answered(answer).unwrap_err();
        assert!(matches!(error, EngineError::Conflict(text) if text == "is not running"));
        assert!(
            matches!(answered(b"HTTP/1.1 500 x\r\n\r\nhm").unwrap_err(), EngineError::Refused { status: 500, message } if message == "hm")
        );
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        assert!(answered(b"").is_err());
        assert!(answered(b"SSH-2.0-x\r\n\r\n").is_err());
        assert!(answered(b"HTTP/1.1 abc\r\n\r\n").is_err());
    }
}
