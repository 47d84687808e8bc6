//! HTTP/1.1 as the server speaks it: one request after the other on a connection, and every way to fail.

use super::answers::{self, Answer};
use super::{Shared, lock};
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

/// A request that the server had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// `GET` or `POST`.
    pub method: String,
    /// The path, as it was written.
    pub path: String,
    /// The query, decoded.
    pub query: BTreeMap<String, String>,
    /// Headers, their names in small letters.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: String,
}

/// What a request meets instead of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// This status with this body.
    Status(u16, String),
    /// Status 429, with the seconds to wait in the header or in words alone.
    Busy {
        /// Seconds.
        seconds: u64,
        /// Whether a header says so too.
        header: bool,
    },
    /// The answer, after a while.
    Slow(Duration),
    /// The first half of the answer, then the end of the connection.
    CutOff,
    /// The end of the connection at once.
    Closed,
    /// Bytes that are no HTTP.
    Garbage,
    /// An answer that says it is fine and is no JSON.
    Html,
    /// So many bytes, announced.
    Huge(usize),
    /// Bytes without end, not announced.
    Endless,
    /// A pointer to another address.
    Redirect(String),
}

/// Bounds of what is read, so that a broken client cannot fill the machine that runs the tests.
const LONGEST_LINE: u64 = 64 << 10;
const LONGEST_BODY: usize = 8 << 20;

/// Serves one connection until either side ends it.
pub(super) fn serve(stream: impl Read + Write, shared: &Shared) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    while !shared.stopped.load(Ordering::SeqCst) {
        let Some(seen) = read(&mut stream)? else { return Ok(()) };
        lock(&shared.seen).push(seen.clone());
        let trouble = take_trouble(shared);
        let out = stream.get_mut();
        match trouble {
            None => write(out, &answers::answer(&mut lock(&shared.world), &seen))?,
            Some(Trouble::Slow(wait)) => {
                std::thread::sleep(wait);
                write(out, &answers::answer(&mut lock(&shared.world), &seen))?;
            }
            Some(trouble) => {
                let answer = answers::answer(&mut lock(&shared.world), &seen);
                return meet(out, trouble, &answer);
            }
        }
        *lock(&shared.answered) = Some(SystemTime::now());
    }
    Ok(())
}

fn take_trouble(shared: &Shared) -> Option<Trouble> {
    let mut troubles = lock(&shared.troubles);
    let (trouble, times) = troubles.first_mut()?;
    let trouble = trouble.clone();
    *times = times.saturating_sub(1);
    if *times == 0 {
        troubles.remove(0);
    }
    Some(trouble)
}

fn read(stream: &mut impl BufRead) -> io::Result<Option<Seen>> {
    let Some(first) = line(stream)? else { return Ok(None) };
    let mut words = first.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut seen = Seen { method: method.into(), path: path.into(), ..Seen::default() };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        seen.query.insert(decode(name, true)?, decode(value, true)?);
    }
    while let Some(header) = line(stream)?.filter(|header| !header.is_empty()) {
        let (name, value) = header.split_once(':').unwrap_or((&header, ""));
        seen.headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = seen.headers.get("content-length").map_or("0", String::as_str);
    let length: usize = length.parse().map_err(io::Error::other)?;
    if length > LONGEST_BODY || seen.headers.contains_key("transfer-encoding") {
        return Err(io::Error::other("a body that no client of ours sends"));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    seen.body = String::from_utf8(body).map_err(io::Error::other)?;
    Ok(Some(seen))
}

fn line(stream: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut text = String::new();
    stream.take(LONGEST_LINE).read_line(&mut text)?;
    Ok((!text.is_empty()).then(|| text.trim_end_matches(['\r', '\n']).to_owned()))
}

/// Decodes `%XX`, and `+` where it means a space.
pub(super) fn decode(text: &str, plus: bool) -> io::Result<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next().unwrap_or(0), rest.next().unwrap_or(0)];
                let digits = std::str::from_utf8(&digits).map_err(io::Error::other)?;
                u8::from_str_radix(digits, 16).map_err(io::Error::other)?
            }
            b'+' if plus => b' ',
            other => other,
        });
    }
    String::from_utf8(bytes).map_err(io::Error::other)
}

fn write(out: &mut impl Write, answer: &Answer) -> io::Result<()> {
    head(out, answer.status, answer.body.len(), "application/json; charset=utf-8", "")?;
    out.write_all(answer.body.as_bytes())?;
    out.flush()
}

fn head(
    out: &mut impl Write,
    status: u16,
    length: usize,
    kind: &str,
    more: &str,
) -> io::Result<()> {
    write!(
        out,
        "HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{more}\r\n"
    )
}

/// Ends the connection in the way that was asked for.
fn meet(out: &mut impl Write, trouble: Trouble, answer: &Answer) -> io::Result<()> {
    const JSON: &str = "application/json";
    match trouble {
        Trouble::Slow(_) | Trouble::Closed => {}
        Trouble::Status(status, body) => {
            head(out, status, body.len(), JSON, "Connection: close\r\n")?;
            out.write_all(body.as_bytes())?;
        }
        Trouble::Busy { seconds, header } => {
            let body = answers::complaint(
                429,
                "RateLimitExceeded",
                &format!("Rate limit exceeded. Please try again in {seconds} seconds"),
            );
            let more = if header { format!("Retry-After: {seconds}\r\n") } else { String::new() };
            head(out, 429, body.body.len(), JSON, &more)?;
            out.write_all(body.body.as_bytes())?;
        }
        Trouble::CutOff => {
            head(out, 200, answer.body.len(), JSON, "")?;
            let half = answer.body.len() / 2;
            out.write_all(answer.body.as_bytes().get(..half).unwrap_or_default())?;
        }
        Trouble::Garbage => out.write_all(b"\x16\x03\x01\x02\x00 not a protocol\r\n\r\n\0\xff")?,
        Trouble::Html => {
            let body = "<!doctype html><title>Sign in</title>";
            head(out, 200, body.len(), "text/html", "")?;
            out.write_all(body.as_bytes())?;
        }
        Trouble::Huge(length) => {
            head(out, 200, length, JSON, "")?;
            let piece = vec![b' '; 64 << 10];
            for _ in 0..length.div_ceil(piece.len()) {
                out.write_all(&piece)?;
            }
        }
        Trouble::Endless => {
            write!(out, "HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            // The client ends it.
            loop {
                write!(out, "4000\r\n{}\r\n", " ".repeat(0x4000))?;
            }
        }
        Trouble::Redirect(address) => head(out, 302, 0, JSON, &format!("Location: {address}\r\n"))?,
    }
    out.flush()
}
