//! A link between two processes of a ghost: a Unix stream socket with bounded frames.
//!
//! A frame is 8 bytes (kind, number of descriptors, two zeros, payload length as a little-endian
//! `u32`) and the payload. The peer may be hostile: lengths are bounded before memory is taken, a
//! frame that does not decode ends the link, and reading never waits for the rest of a frame unless
//! asked to. Secrets are frames of their own kind, read into memory that is wiped.

use crate::sys::socket::{self, MAX_DESCRIPTORS};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;
use zeroize::Zeroizing;

/// The longest message: an environment and its paths.
const LONGEST_MESSAGE: usize = 1 << 20;

/// The longest secret: a key file of 1 MiB.
const LONGEST_SECRET: usize = (1 << 20) + 16;

const HEADER: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Message = 1,
    Secret = 2,
}

impl Kind {
    fn longest(self) -> usize {
        match self {
            Kind::Message => LONGEST_MESSAGE,
            Kind::Secret => LONGEST_SECRET,
        }
    }
}

/// What came over a link.
#[derive(Debug)]
pub(crate) enum Received<T> {
    /// A message and the descriptors that came with it.
    Message(T, Vec<OwnedFd>),
    /// A secret.
    Secret(Zeroizing<Vec<u8>>),
    /// The peer closed the link.
    End,
}

/// One end of a link.
#[derive(Debug)]
pub(crate) struct Link {
    socket: OwnedFd,
    header: [u8; HEADER],
    header_len: usize,
    frame: Option<Frame>,
    descriptors: Vec<OwnedFd>,
}

#[derive(Debug)]
struct Frame {
    kind: Kind,
    descriptors: usize,
    payload: Zeroizing<Vec<u8>>,
    filled: usize,
}

impl Link {
    /// Makes a link of a connected socket.
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket, header: [0; HEADER], header_len: 0, frame: None, descriptors: Vec::new() }
    }

    /// Makes both ends of a link.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = socket::pair()?;
        Ok((Self::new(one), Self::new(other)))
    }

    /// Makes a second handle on this end, for sending from another thread.
    pub(crate) fn second(&self) -> io::Result<Self> {
        Ok(Self::new(self.socket.try_clone()?))
    }

    /// Never waits longer than `limit` for a peer that does not read.
    pub(crate) fn limit_sending(&self, limit: Duration) -> io::Result<()> {
        socket::set_send_timeout(&self.socket, Some(limit))
    }

    /// Sends a message with descriptors.
    pub(crate) fn send<T: Serialize>(
        &self,
        message: &T,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        self.send_frame(Kind::Message, &serde_json::to_vec(message)?, descriptors)
    }

    /// Sends a secret.
    pub(crate) fn send_secret(&self, secret: &[u8]) -> io::Result<()> {
        self.send_frame(Kind::Secret, secret, &[])
    }

    fn send_frame(
        &self,
        kind: Kind,
        payload: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let fits = payload.len() <= kind.longest() && descriptors.len() <= MAX_DESCRIPTORS;
        let len = u32::try_from(payload.len()).ok().filter(|_| fits);
        let len = len.ok_or_else(|| io::Error::other("the message is too long"))?;
        let mut header = [0; HEADER];
        header[0] = kind as u8;
        header[1] = u8::try_from(descriptors.len()).unwrap_or(u8::MAX);
        header[4..].copy_from_slice(&len.to_le_bytes());
        self.send_all(&header, descriptors)?;
        self.send_all(payload, &[])
    }

    fn send_all(&self, mut bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut descriptors = descriptors;
        while !bytes.is_empty() {
            match socket::send(&self.socket, bytes, descriptors) {
                Ok(sent) => {
                    bytes = bytes.get(sent..).unwrap_or_default();
                    descriptors = &[];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits for the next frame.
    pub(crate) fn receive<T: DeserializeOwned>(&mut self) -> io::Result<Received<T>> {
        loop {
            if let Some(received) = self.step(true)? {
                return Ok(received);
            }
        }
    }

    /// Returns the next frame if all of it is there.
    pub(crate) fn try_receive<T: DeserializeOwned>(&mut self) -> io::Result<Option<Received<T>>> {
        loop {
            match self.step(false) {
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                other => return other,
            }
        }
    }

    /// Makes progress by one read; `None` when the frame is not complete yet.
    fn step<T: DeserializeOwned>(&mut self, wait: bool) -> io::Result<Option<Received<T>>> {
        let read = match &mut self.frame {
            None => {
                let room = self.header.get_mut(self.header_len..).unwrap_or_default();
                socket::receive(&self.socket, room, &mut self.descriptors, wait)
            }
            Some(frame) => {
                let room = frame.payload.get_mut(frame.filled..).unwrap_or_default();
                socket::receive(&self.socket, room, &mut self.descriptors, wait)
            }
        };
        let count = match read {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
            Err(error) => return Err(error),
        };
        if count == 0 {
            if self.frame.is_none() && self.header_len == 0 {
                return Ok(Some(Received::End));
            }
            return Err(bad("the link ended within a message"));
        }
        if self.descriptors.len() > MAX_DESCRIPTORS {
            return Err(bad("too many descriptors"));
        }
        if let Some(frame) = &mut self.frame {
            frame.filled += count;
        } else {
            self.header_len += count;
            if self.header_len == HEADER {
                self.frame = Some(Frame::announced(self.header)?);
                self.header_len = 0;
            }
        }
        match self.frame.take_if(|frame| frame.filled == frame.payload.len()) {
            None => Ok(None),
            Some(frame) => self.complete(frame).map(Some),
        }
    }

    fn complete<T: DeserializeOwned>(&mut self, frame: Frame) -> io::Result<Received<T>> {
        let descriptors = std::mem::take(&mut self.descriptors);
        if descriptors.len() != frame.descriptors {
            return Err(bad("descriptors are missing"));
        }
        match frame.kind {
            Kind::Secret => Ok(Received::Secret(frame.payload)),
            Kind::Message => {
                Ok(Received::Message(serde_json::from_slice(&frame.payload)?, descriptors))
            }
        }
    }
}

impl Frame {
    /// Judges a header and takes memory for what it announces.
    fn announced(header: [u8; HEADER]) -> io::Result<Self> {
        let [kind, descriptors, 0, 0, a, b, c, d] = header else {
            return Err(bad("unknown kind of message"));
        };
        let kind = match kind {
            1 => Kind::Message,
            2 => Kind::Secret,
            _ => return Err(bad("unknown kind of message")),
        };
        let len = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        // An empty payload could not be told from the end of the link.
        if len == 0 || len > kind.longest() {
            return Err(bad("the message has an impossible length"));
        }
        let payload = Zeroizing::new(vec![0; len]);
        Ok(Self { kind, descriptors: usize::from(descriptors), payload, filled: 0 })
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs::File;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    fn hostile(bytes: &[u8]) -> Link {
        let (one, other) = socket::pair().unwrap();
        UnixStream::from(one).write_all(bytes).unwrap();
        Link::new(other)
    }

    #[test]
    fn messages_secrets_and_descriptors_arrive_in_order() {
        let (one, mut other) = Link::pair().unwrap();
        let file = File::open("/dev/null").unwrap();
        one.send(&vec!["a", "b"], &[file.as_fd(), file.as_fd()]).unwrap();
        one.send_secret(b"open sesame").unwrap();
        drop(one);
        let Received::Message(words, fds) = other.receive::<Vec<String>>().unwrap() else {
            panic!("a message was sent")
        };
        assert_eq!((words, fds.len()), (vec!["a".to_owned(), "b".to_owned()], 2));
        let Received::Secret(secret) = other.receive::<String>().unwrap() else {
            panic!("a secret was sent")
        };
        assert_eq!(secret.as_slice(), b"open sesame");
        assert!(matches!(other.receive::<String>().unwrap(), Received::End));
    }

    #[test]
    fn unfinished_frame_does_not_block_the_reader_that_may_not_wait() {
        let (one, other) = socket::pair().unwrap();
        let mut writer = UnixStream::from(one);
        let mut link = Link::new(other);
        for part in [&[1, 0, 0][..], &[0, 3, 0, 0, 0][..], b"\"a"] {
            writer.write_all(part).unwrap();
            assert!(link.try_receive::<String>().unwrap().is_none());
        }
        writer.write_all(b"\"").unwrap();
        let Some(Received::Message(text, _)) = link.try_receive::<String>().unwrap() else {
            panic!("the frame is complete")
        };
        assert_eq!(text, "a");
    }

    #[test]
    fn impossible_lengths_kinds_and_payloads_end_the_link() {
        let frames: [&[u8]; 6] = [
            &[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
            &[2, 0, 0, 0, 0, 0, 0xff, 0],
            &[3, 0, 0, 0, 1, 0, 0, 0, b'1'],
            &[1, 0, 0, 0, 0, 0, 0, 0],
            &[1, 0, 0, 0, 1, 0, 0, 0, b'{'],
            &[1, 1, 0, 0, 1, 0, 0, 0, b'1'],
        ];
        for frame in frames {
            assert!(hostile(frame).receive::<u8>().is_err(), "{frame:?}");
        }
    }
}
