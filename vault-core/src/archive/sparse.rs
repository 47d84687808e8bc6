//! Holes: GNU's sparse format 1.0, a list of data ranges in text before the data.

use super::RECORD;
use super::error::ArchiveError;
use std::fmt::Write as _;
use std::io::{self, Read};
use std::ops::Range;

/// Ranges that one file may have: 64 MiB of memory.
const MAX_RANGES: u64 = 1 << 22;
/// Digits of a number.
const MAX_DIGITS: usize = 20;

/// Returns how many bytes the ranges hold.
pub(super) fn data_len(data: &[Range<u64>]) -> u64 {
    data.iter().fold(0, |sum, range| sum.saturating_add(range.end.saturating_sub(range.start)))
}

/// Whether the ranges cover a file of this size without a hole.
pub(super) fn is_dense(data: &[Range<u64>], size: u64) -> bool {
    match data {
        [] => size == 0,
        [all] => *all == (0..size),
        _ => false,
    }
}

/// Writes the list, padded. A hole at the end is closed by an empty range, as GNU tar has it.
pub(super) fn encode(data: &[Range<u64>], size: u64) -> Vec<u8> {
    let closing = data.last().is_none_or(|last| last.end < size);
    let mut text = format!("{}\n", data.len() + usize::from(closing));
    for range in data {
        let _ = write!(text, "{}\n{}\n", range.start, range.end - range.start);
    }
    if closing {
        let _ = write!(text, "{size}\n0\n");
    }
    let mut bytes = text.into_bytes();
    bytes.resize(bytes.len().next_multiple_of(RECORD), 0);
    bytes
}

/// A list on its way in: digits and line ends, in whole records.
pub(super) struct MapReader<'r> {
    source: &'r mut dyn Read,
    record: [u8; RECORD],
    at: usize,
    read: u64,
}

impl<'r> MapReader<'r> {
    pub(super) fn new(source: &'r mut dyn Read) -> Self {
        Self { source, record: [0; RECORD], at: RECORD, read: 0 }
    }

    /// Reads the list for a file of `size`; returns it, and the bytes that it took.
    pub(super) fn ranges(mut self, size: u64) -> Result<(Vec<Range<u64>>, u64), MapFault> {
        let count = self.number()?;
        if count > MAX_RANGES {
            return Err(MapFault::Malformed("too many sparse ranges"));
        }
        let mut data = RangeList::new(size);
        for _ in 0..count {
            let (start, len) = (self.number()?, self.number()?);
            data.push(start, len).map_err(MapFault::Malformed)?;
        }
        Ok((data.finish(), self.read))
    }

    fn number(&mut self) -> Result<u64, MapFault> {
        let mut value: Option<u64> = None;
        for _ in 0..=MAX_DIGITS {
            match (self.byte()?, value) {
                (b'\n', Some(value)) => return Ok(value),
                (digit @ b'0'..=b'9', _) => {
                    let next = value.unwrap_or(0).checked_mul(10);
                    let next = next.and_then(|value| value.checked_add(u64::from(digit - b'0')));
                    value = Some(next.ok_or(MapFault::Malformed("a sparse range is too large"))?);
                }
                _ => break,
            }
        }
        Err(MapFault::Malformed("a sparse range is no number"))
    }

    fn byte(&mut self) -> Result<u8, MapFault> {
        if self.at == RECORD {
            self.source.read_exact(&mut self.record).map_err(MapFault::Read)?;
            self.at = 0;
            self.read += RECORD as u64;
        }
        let byte = self.record.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        Ok(byte)
    }
}

/// Why a list cannot be read.
pub(super) enum MapFault {
    Read(io::Error),
    Malformed(&'static str),
}

/// Collects ranges that ascend and stay inside a file.
pub(super) struct RangeList {
    size: u64,
    end: u64,
    data: Vec<Range<u64>>,
}

impl RangeList {
    pub(super) fn new(size: u64) -> Self {
        Self { size, end: 0, data: Vec::new() }
    }

    /// Adds a range; an empty one only closes a hole.
    pub(super) fn push(&mut self, start: u64, len: u64) -> Result<(), &'static str> {
        let end = start.checked_add(len).filter(|end| *end <= self.size);
        let end = end.ok_or("a sparse range lies outside its file")?;
        if start < self.end {
            return Err("sparse ranges overlap");
        }
        if self.data.len() as u64 >= MAX_RANGES {
            return Err("too many sparse ranges");
        }
        self.end = end;
        if len > 0 {
            self.data.push(start..end);
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Vec<Range<u64>> {
        self.data
    }
}

impl MapFault {
    pub(super) fn at(self, at: u64) -> ArchiveError {
        match self {
            Self::Read(cause) if cause.kind() == io::ErrorKind::UnexpectedEof => {
                ArchiveError::CutShort
            }
            Self::Read(cause) => ArchiveError::Read(cause),
            Self::Malformed(what) => ArchiveError::Malformed { at, what },
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::single_range_in_vec_init)]
    use super::*;

    fn decode(bytes: &[u8], size: u64) -> Option<(Vec<Range<u64>>, u64)> {
        MapReader::new(&mut &*bytes).ranges(size).ok()
    }

    #[test]
    fn list_comes_back_as_it_was_written() {
        for data in [vec![], vec![0..10], vec![5..7, 100..200], vec![0..1, 2..3, 999..1000]] {
            let bytes = encode(&data, 1000);
            assert_eq!(decode(&bytes, 1000), Some((data, bytes.len() as u64)));
        }
        let many: Vec<_> = (0..1000).map(|n| n * 10..n * 10 + 5).collect();
        let bytes = encode(&many, 10_000);
        assert!(bytes.len() > 4096);
        assert_eq!(decode(&bytes, 10_000).unwrap().0, many);
    }

    #[test]
    fn list_that_overlaps_or_leaves_the_file_is_refused() {
        let list = |text: &str| decode(&encode_text(text), 100);
        assert!(list("2\n0\n10\n10\n10\n").is_some());
        for bad in [
            "2\n0\n10\n9\n1\n",
            "1\n0\n101\n",
            "1\n18446744073709551615\n2\n",
            "1\n99999999999999999999999\n2\n",
            "1\nx\n2\n",
            "1\n\n2\n",
            "-1\n",
            "4194305\n",
            "1\n0\n",
        ] {
            assert_eq!(list(bad), None, "{bad:?}");
        }
    }

    fn encode_text(text: &str) -> Vec<u8> {
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(bytes.len().next_multiple_of(RECORD), 0);
        bytes
    }
}
