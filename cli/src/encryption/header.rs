//! The beginning of an encrypted archive: what it is recognised by, and how much of it is parsed at most.
//!
//! The crate's parser takes a header of any size, and begins again with every line. So the header is cut out first.

use super::Fault;
use std::io::{self, BufRead, Read};

/// How an encrypted archive begins.
pub(super) const MAGIC: &[u8] = b"age-encryption.org/v";
/// How one begins that is written down as text.
pub(super) const ARMOUR: &[u8] = b"-----BEGIN AGE ENCRYPTED FILE-----";

const FIRST_LINE: &[u8] = b"age-encryption.org/v1\n";
const STANZA: &[u8] = b"-> ";
const LAST_LINE: &[u8] = b"--- ";
/// Bytes of the last line: its start, a tag of 32 bytes in base64, and the newline.
const LAST_LINE_LEN: usize = LAST_LINE.len() + 43 + 1;
/// Bytes of a header.
const MOST_BYTES: usize = 1 << 17;
/// Recipients of a header, each of which an identity is tried on.
const MOST_STANZAS: usize = 1024;

/// Takes the header out of `input`, without a look at what it says.
pub(super) fn take(input: &mut dyn BufRead) -> io::Result<Result<Vec<u8>, Fault>> {
    let mut header = Vec::new();
    let mut stanzas = 0;
    loop {
        let start = header.len();
        let room = MOST_BYTES.saturating_sub(start) as u64;
        Read::take(&mut *input, room).read_until(b'\n', &mut header)?;
        let line = header.get(start..).unwrap_or_default();
        if line.last() != Some(&b'\n') {
            let full = header.len() >= MOST_BYTES;
            return Ok(Err(if full { Fault::LargeHeader } else { Fault::CutShort }));
        }
        if start == 0 && line != FIRST_LINE {
            return Ok(Err(Fault::Version));
        }
        if line.starts_with(b"---") {
            // Nothing that follows can be taken for more of it.
            let whole = line.starts_with(LAST_LINE) && line.len() == LAST_LINE_LEN;
            return Ok(if whole { Ok(header) } else { Err(Fault::Header) });
        }
        stanzas += usize::from(line.starts_with(STANZA));
        if stanzas > MOST_STANZAS {
            return Ok(Err(Fault::LargeHeader));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::BufReader;

    fn fault(bytes: impl Read) -> Fault {
        take(&mut BufReader::new(bytes)).unwrap().unwrap_err()
    }

    #[test]
    fn header_ends_where_the_content_begins() {
        let last = format!("--- {}\n", "A".repeat(43));
        let header = format!("age-encryption.org/v1\n-> X25519 a\nAAAA\n{last}");
        let mut input = format!("{header}content\n");
        assert_eq!(take(&mut input.as_bytes()).unwrap().unwrap(), header.as_bytes());
        for at in 1..header.len() {
            assert_eq!(fault(&header.as_bytes()[..at]), Fault::CutShort, "{at}");
        }
        input.insert(header.len() - 1, 'A');
        assert_eq!(fault(input.as_bytes()), Fault::Header);
    }

    #[test]
    fn header_without_end_is_refused_and_bounded() {
        let lines = |line: &str| FIRST_LINE.chain(io::Cursor::new(line.repeat(1 << 18)));
        assert_eq!(fault(lines("-> a\n\n")), Fault::LargeHeader);
        assert_eq!(fault(lines(&format!("{}\n", "A".repeat(64)))), Fault::LargeHeader);
        assert_eq!(fault(FIRST_LINE.chain(io::repeat(b'A'))), Fault::LargeHeader);
        assert_eq!(fault(io::repeat(b'\n')), Fault::Version);
    }
}
