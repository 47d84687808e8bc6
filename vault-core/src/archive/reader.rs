//! Reading a tar archive entry by entry: `ustar`, `pax` and GNU's own format.
//!
//! Only the framing is done here; fields of the old header are read by the crate `tar`. Its own reader
//! is not used, because it takes extended headers of any size into memory.

use super::entry::{Entry, EntryKind, EntryPath, NO_OWNER};
use super::error::ArchiveError;
use super::sparse::{MapReader, RangeList, data_len};
use super::{ACL_ACCESS, ACL_DEFAULT, XATTR, acl, padding, pax};
use crate::ports::Timestamp;
use std::io::{self, Read};
use std::ops::Range;
use tar::{EntryType, GnuExtSparseHeader, Header};

/// Bytes that the extended headers of one entry may have: some hundred attributes of full size.
const MAX_EXTENDED: u64 = 32 << 20;
/// Bytes of an extended header for all entries that follow, since each of them copies it.
const MAX_GLOBAL: u64 = 1 << 16;
/// Extended attributes of one entry.
const MAX_ATTRIBUTES: usize = 4096;
/// Bytes that a long name in GNU's format may have.
const MAX_LONG_NAME: u64 = 1 << 16;
/// Largest file of a vault.
const MAX_SIZE: u64 = i64::MAX.unsigned_abs();
/// Where a header says that it is one.
const MAGIC: Range<usize> = 257..262;
/// How compressed streams begin, and who unpacks them.
const COMPRESSED: [(&[u8], &str); 5] = [
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\0", "xz"),
    (b"BZh", "bzip2"),
    (b"\x04\x22\x4d\x18", "lz4"),
];

/// A tar archive that is read from its beginning to its end.
pub struct Reader<R> {
    source: Counted<R>,
    /// Content of the last entry that was not read, and the padding after it.
    rest: u64,
    padding: u64,
    globals: Extended,
}

impl<R: Read> Reader<R> {
    /// Begins to read.
    pub fn new(source: R) -> Self {
        let source = Counted { source, at: 0 };
        Self { source, rest: 0, padding: 0, globals: Extended::default() }
    }

    /// Returns the next entry, or `None` at the archive's end. Its content follows from
    /// [`Reader::content`]; what of it is not read is passed over.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, ArchiveError> {
        self.pass_over()?;
        let mut extended = self.globals.clone();
        let mut long = Extended::default();
        loop {
            let Some(header) = self.header()? else {
                return self.drain().map(|()| None);
            };
            let size = header.entry_size().map_err(|_| self.malformed("a size is no number"))?;
            match header.entry_type() {
                EntryType::XHeader => {
                    let bytes = self.whole(size, MAX_EXTENDED)?;
                    extended.take(&bytes).map_err(|what| self.malformed(what))?;
                }
                EntryType::XGlobalHeader => {
                    let bytes = self.whole(size, MAX_GLOBAL)?;
                    self.globals.take(&bytes).map_err(|what| self.malformed(what))?;
                    extended = self.globals.clone();
                }
                EntryType::GNULongName => long.path = Some(self.long_name(size)?),
                EntryType::GNULongLink => long.link = Some(self.long_name(size)?),
                // The label of an archive.
                kind if kind.as_byte() == b'V' => {
                    self.rest = size;
                    self.padding = padding(size);
                    self.pass_over()?;
                }
                _ => {
                    extended.path = extended.path.or(long.path);
                    extended.link = extended.link.or(long.link);
                    return self.entry(&header, size, extended).map(Some);
                }
            }
        }
    }

    /// Returns the data of the entry that was returned last; of a sparse file, what lies in its ranges.
    pub fn content(&mut self) -> impl Read + '_ {
        Content { source: &mut self.source, rest: &mut self.rest }
    }

    fn entry(
        &mut self,
        header: &Header,
        size: u64,
        extended: Extended,
    ) -> Result<Entry, ArchiveError> {
        let size = extended.size.unwrap_or(size);
        let raw = extended.sparse_name.clone().or_else(|| extended.path.clone());
        let raw = raw.unwrap_or_else(|| header.path_bytes().into_owned());
        let link = extended.link.clone().or_else(|| header.link_name_bytes().map(Into::into));
        let number = |value: io::Result<u64>| value.map_err(|_| self.malformed("no number"));
        let owner = |value: u64| u32::try_from(value).unwrap_or(NO_OWNER);
        let mode = number(header.mode().map(u64::from))?;
        let uid = extended.uid.map_or_else(|| number(header.uid()), Ok)?;
        let gid = extended.gid.map_or_else(|| number(header.gid()), Ok)?;
        let modified = match extended.modified {
            Some(time) => time,
            None => seconds(number(header.mtime())?),
        };
        let path = EntryPath::parse(&raw)?;
        // Only files have content, whatever size others claim.
        let kind = match header.entry_type() {
            // Before 1988 a folder was a file whose name ends so.
            EntryType::Regular if raw.ends_with(b"/") && size == 0 => EntryKind::Folder,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.file(header, &raw, size, &extended)?
            }
            EntryType::Directory => EntryKind::Folder,
            EntryType::Symlink => {
                let target = link.unwrap_or_default();
                if target.is_empty() || target.contains(&0) {
                    return Err(ArchiveError::path(&raw, "is a symbolic link to nowhere"));
                }
                EntryKind::Symlink(target)
            }
            EntryType::Link => {
                let target = link.unwrap_or_default();
                EntryKind::HardLink(EntryPath::parse(&target)?)
            }
            EntryType::Fifo => EntryKind::Fifo,
            EntryType::Char | EntryType::Block => EntryKind::Device,
            _ => {
                let what = "an entry of a type that is not read";
                return Err(ArchiveError::Unsupported { path: raw, what });
            }
        };
        Ok(Entry {
            path,
            kind,
            permissions: u16::try_from(mode & 0o7777).unwrap_or(0),
            uid: owner(uid),
            gid: owner(gid),
            modified,
            accessed: extended.accessed,
            xattrs: extended.xattrs,
        })
    }

    /// Finds out the ranges of a file, which for sparse ones stand before the data.
    fn file(
        &mut self,
        header: &Header,
        path: &[u8],
        stored: u64,
        extended: &Extended,
    ) -> Result<EntryKind, ArchiveError> {
        let at = self.source.at;
        let malformed = |what| ArchiveError::Malformed { at, what };
        let (size, data, map) = match (header.as_gnu(), extended.sparse) {
            (_, Some((1, 0))) => {
                let size =
                    extended.real_size.ok_or_else(|| malformed("no size of a sparse file"))?;
                let mut source = (&mut self.source).take(stored);
                let read = MapReader::new(&mut source).ranges(size.min(MAX_SIZE));
                let (data, map) = read.map_err(|fault| fault.at(at))?;
                (size, data, map)
            }
            (_, Some(_)) => {
                let what = "sparse in a format that is not read; GNU tar writes 1.0";
                return Err(ArchiveError::Unsupported { path: path.to_vec(), what });
            }
            (Some(gnu), None) if header.entry_type() == EntryType::GNUSparse => {
                let size = gnu.real_size().map_err(|_| malformed("no size of a sparse file"))?;
                let mut list = RangeList::new(size.min(MAX_SIZE));
                let mut more = gnu.is_extended();
                take_ranges(&mut list, &gnu.sparse).map_err(malformed)?;
                while more {
                    let mut next = GnuExtSparseHeader::new();
                    self.source.exact(next.as_mut_bytes())?;
                    take_ranges(&mut list, next.sparse()).map_err(malformed)?;
                    more = next.is_extended();
                }
                (size, list.finish(), 0)
            }
            (None, None) if header.entry_type() == EntryType::GNUSparse => {
                return Err(malformed("a sparse file in a foreign header"));
            }
            _ => (stored, if stored == 0 { Vec::new() } else { whole(stored) }, 0),
        };
        let content =
            stored.checked_sub(map).ok_or_else(|| malformed("a sparse file too short"))?;
        if size > MAX_SIZE {
            return Err(ArchiveError::path(path, "is too large for any file system"));
        }
        if data_len(&data) != content {
            return Err(malformed("the ranges of a sparse file do not match its data"));
        }
        self.rest = content;
        self.padding = padding(stored);
        Ok(EntryKind::File { size, data })
    }

    /// Returns the next header; `None` at a record of zeros.
    fn header(&mut self) -> Result<Option<Header>, ArchiveError> {
        let first = self.source.at == 0;
        let mut header = Header::new_old();
        let bytes = header.as_mut_bytes();
        let whole = self.source.exact(bytes);
        // Little that is compressed takes less than a record.
        if first
            && let Some((_, by)) = COMPRESSED.iter().find(|(magic, _)| bytes.starts_with(magic))
        {
            return Err(ArchiveError::Compressed { by });
        }
        if first && matches!(whole, Err(ArchiveError::CutShort)) {
            let read = usize::try_from(self.source.at).unwrap_or(usize::MAX);
            return Err(cut_short(bytes.get(..read).unwrap_or_default()));
        }
        whole?;
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let sum = bytes.iter().enumerate().fold(0_u32, |sum, (at, byte)| {
            // The field of the sum itself counts as blanks.
            sum + u32::from(if (148..156).contains(&at) { b' ' } else { *byte })
        });
        match header.cksum() {
            Ok(stored) if stored == sum => Ok(Some(header)),
            _ if first => Err(ArchiveError::NoArchive),
            _ => Err(self.malformed("a header's sum is wrong")),
        }
    }

    /// Reads content whole, if it is not longer than `most`.
    fn whole(&mut self, size: u64, most: u64) -> Result<Vec<u8>, ArchiveError> {
        if size > most {
            return Err(self.malformed("an extended header is too large"));
        }
        // Memory is taken as bytes arrive, not as they are announced.
        let mut bytes = Vec::new();
        let mut part = (&mut self.source).take(size);
        part.read_to_end(&mut bytes).map_err(ArchiveError::Read)?;
        if bytes.len() as u64 != size {
            return Err(ArchiveError::CutShort);
        }
        self.padding = padding(size);
        self.pass_over()?;
        Ok(bytes)
    }

    fn long_name(&mut self, size: u64) -> Result<Vec<u8>, ArchiveError> {
        let mut name = self.whole(size, MAX_LONG_NAME)?;
        if name.last() == Some(&0) {
            name.pop();
        }
        Ok(name)
    }

    fn pass_over(&mut self) -> Result<(), ArchiveError> {
        let len = self.rest.checked_add(self.padding).ok_or(ArchiveError::CutShort)?;
        (self.rest, self.padding) = (0, 0);
        let mut part = (&mut self.source).take(len);
        let passed = io::copy(&mut part, &mut io::sink()).map_err(ArchiveError::Read)?;
        if passed == len { Ok(()) } else { Err(ArchiveError::CutShort) }
    }

    /// Reads what follows the archive: an encrypted stream is proven only by its end, and a program
    /// that writes into a pipe is not to be cut off.
    fn drain(&mut self) -> Result<(), ArchiveError> {
        io::copy(&mut self.source, &mut io::sink()).map(|_| ()).map_err(ArchiveError::Read)
    }

    fn malformed(&self, what: &'static str) -> ArchiveError {
        ArchiveError::Malformed { at: self.source.at, what }
    }
}

/// Says what a source is that ends within its first record: an archive's own beginning, or something else. A name is
/// filled up with zeros there, as everything in an archive without entries is, and the magic follows it.
fn cut_short(read: &[u8]) -> ArchiveError {
    let begins = match read.get(MAGIC) {
        Some(magic) => magic == b"ustar" || read.iter().all(|byte| *byte == 0),
        None => read.contains(&0),
    };
    match read {
        [] => ArchiveError::Nothing,
        _ if begins => ArchiveError::CutShort,
        _ => ArchiveError::NoArchive,
    }
}

fn whole(size: u64) -> Vec<Range<u64>> {
    vec![Range { start: 0, end: size }]
}

fn seconds(value: u64) -> Timestamp {
    Timestamp { seconds: i64::try_from(value).unwrap_or(i64::MAX), nanos: 0 }
}

fn take_ranges(list: &mut RangeList, ranges: &[tar::GnuSparseHeader]) -> Result<(), &'static str> {
    for range in ranges.iter().take_while(|range| !range.is_empty()) {
        let no_number = |_| "a sparse range is no number";
        let start = range.offset().map_err(no_number)?;
        list.push(start, range.length().map_err(no_number)?)?;
    }
    Ok(())
}

/// What extended headers say about the next entry.
#[derive(Clone, Debug, Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    modified: Option<Timestamp>,
    accessed: Option<Timestamp>,
    sparse: Option<(u64, u64)>,
    sparse_name: Option<Vec<u8>>,
    real_size: Option<u64>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Extended {
    fn take(&mut self, mut bytes: &[u8]) -> Result<(), &'static str> {
        while !bytes.is_empty() {
            let (key, value, rest) =
                pax::split_record(bytes).ok_or("an extended header is malformed")?;
            self.record(key, value)?;
            bytes = rest;
        }
        Ok(())
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let number = || pax::number(value).ok_or("an extended header has no number");
        let time = || pax::time(value).ok_or("an extended header has no time");
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(number()?),
            b"uid" => self.uid = Some(number()?),
            b"gid" => self.gid = Some(number()?),
            b"mtime" => self.modified = Some(time()?),
            b"atime" => self.accessed = Some(time()?),
            b"GNU.sparse.major" => self.sparse = Some((number()?, self.sparse.map_or(0, |v| v.1))),
            b"GNU.sparse.minor" => self.sparse = Some((self.sparse.map_or(0, |v| v.0), number()?)),
            b"GNU.sparse.name" => self.sparse_name = Some(value.to_vec()),
            b"GNU.sparse.realsize" => self.real_size = Some(number()?),
            // The formats 0.0 and 0.1.
            b"GNU.sparse.map" | b"GNU.sparse.numblocks" => self.sparse = Some((0, 1)),
            ACL_ACCESS => self.list(acl::ACCESS, value),
            ACL_DEFAULT => self.list(acl::DEFAULT, value),
            _ => {
                if let Some(name) = key.strip_prefix(XATTR) {
                    self.attribute(pax::decode_name(name), value.to_vec());
                    if self.xattrs.len() > MAX_ATTRIBUTES {
                        return Err("an entry has too many extended attributes");
                    }
                }
            }
        }
        Ok(())
    }

    /// A list as text counts only where the attribute itself is not there too.
    fn list(&mut self, name: &[u8], text: &[u8]) {
        if let Some(value) = acl::from_text(text)
            && !self.xattrs.iter().any(|(known, _)| known == name)
        {
            self.xattrs.push((name.to_vec(), value));
        }
    }

    fn attribute(&mut self, name: Vec<u8>, value: Vec<u8>) {
        self.xattrs.retain(|(known, _)| *known != name);
        self.xattrs.push((name, value));
    }
}

/// A stream that knows how far it was read.
struct Counted<R> {
    source: R,
    at: u64,
}

impl<R: Read> Counted<R> {
    fn exact(&mut self, buffer: &mut [u8]) -> Result<(), ArchiveError> {
        self.read_exact(buffer).map_err(|cause| match cause.kind() {
            io::ErrorKind::UnexpectedEof => ArchiveError::CutShort,
            _ => ArchiveError::Read(cause),
        })
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.at = self.at.saturating_add(read as u64);
        Ok(read)
    }
}

struct Content<'r, R> {
    source: &'r mut Counted<R>,
    rest: &'r mut u64,
}

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(*self.rest).unwrap_or(usize::MAX).min(buffer.len());
        let buffer = buffer.get_mut(..want).unwrap_or_default();
        let read = self.source.read(buffer)?;
        *self.rest = self.rest.saturating_sub(read as u64);
        Ok(read)
    }
}
