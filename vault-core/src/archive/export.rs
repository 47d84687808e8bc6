//! Writing the tree as a tar archive, in one pass.

use super::error::ArchiveError;
use super::pax::{Records, encode_name};
use super::{ACL_ACCESS, ACL_DEFAULT, CHUNK, MAX_PATH, RECORD, XATTR, acl, padding, sparse};
use crate::error::{Damage, FsError, FsResult};
use crate::fs::{Attr, FileKind, Volume};
use crate::ids::InodeNo;
use std::collections::{HashMap, HashSet};
use std::io::{self, Write};
use std::ops::Range;
use tar::{EntryType, Header};

/// Largest number in a field of 8 octal digits, and of 12.
const OCTAL_8: u64 = 0o777_7777;
const OCTAL_12: u64 = 0o777_7777_7777;
/// Bytes of a name in the old header.
const SHORT_NAME: usize = 100;

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Entries in the archive.
    pub entries: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// Paths of Unix sockets, which no archive can hold.
    pub sockets: Vec<Vec<u8>>,
}

/// Writes the whole tree below the root. `show` is told how many bytes of content have gone out.
///
/// The volume must not change meanwhile: open it for reading only.
pub fn export(
    volume: &Volume,
    out: &mut dyn Write,
    show: &mut dyn FnMut(u64),
) -> Result<Exported, ArchiveError> {
    let mut exporter =
        Exporter { volume, out, show, done: Exported::default(), linked: HashMap::new() };
    exporter.tree(volume.gathering()?)?;
    // Two records of zeros end the archive.
    exporter.write(&[0; 2 * RECORD])?;
    exporter.out.flush().map_err(ArchiveError::Write)?;
    Ok(exporter.done)
}

struct Exporter<'a> {
    volume: &'a Volume,
    out: &'a mut dyn Write,
    show: &'a mut dyn FnMut(u64),
    done: Exported,
    /// The first path of each file that has several names.
    linked: HashMap<InodeNo, Vec<u8>>,
}

/// A folder whose entries are being written.
struct Open {
    path: Vec<u8>,
    entries: std::vec::IntoIter<(Vec<u8>, Attr)>,
}

impl Exporter<'_> {
    /// A folder and all that is in it, then the next: who unpacks gives a folder its times on leaving it.
    /// Each has one parent and is met once, since a hostile author can make cycles. `unfinished` is passed over.
    fn tree(&mut self, unfinished: Option<InodeNo>) -> Result<(), ArchiveError> {
        let top = b"./".to_vec();
        let root = self.volume.attr(InodeNo::ROOT).map_err(|e| ArchiveError::vault(&top, e))?;
        self.entry(&top, &root)?;
        let mut seen = HashSet::from([InodeNo::ROOT]);
        let mut open = vec![self.list(top, InodeNo::ROOT)?];
        while let Some(folder) = open.last_mut() {
            let Some((name, attr)) = folder.entries.next() else {
                open.pop();
                continue;
            };
            if Some(attr.inode) == unfinished {
                continue;
            }
            let mut path = folder.path.clone();
            path.extend_from_slice(&name);
            if path.len() > MAX_PATH {
                return Err(ArchiveError::path(&path, "is too long"));
            }
            if attr.kind != FileKind::Directory {
                self.entry(&path, &attr)?;
                continue;
            }
            path.push(b'/');
            if !seen.insert(attr.inode) {
                let damage = Damage::Item { inode: attr.inode, what: "folder with two names" };
                return Err(ArchiveError::vault(&path, damage));
            }
            self.entry(&path, &attr)?;
            open.push(self.list(path, attr.inode)?);
        }
        Ok(())
    }

    fn list(&self, path: Vec<u8>, folder: InodeNo) -> Result<Open, ArchiveError> {
        let mut entries = Vec::new();
        self.volume
            .read_dir_plus(folder, 0, &mut |entry, attr| {
                if entry.name != b"." && entry.name != b".." {
                    entries.push((entry.name, attr));
                }
                true
            })
            .map_err(|error| ArchiveError::vault(&path, error))?;
        Ok(Open { path, entries: entries.into_iter() })
    }

    fn entry(&mut self, path: &[u8], attr: &Attr) -> Result<(), ArchiveError> {
        let vault = |error: FsError| ArchiveError::vault(path, error);
        if attr.kind == FileKind::Socket {
            self.done.sockets.push(path.to_vec());
            return Ok(());
        }
        self.done.entries += 1;
        if attr.links > 1 && attr.kind != FileKind::Directory {
            if let Some(first) = self.linked.get(&attr.inode) {
                let mut head = Head::new(path, attr, EntryType::Link);
                head.target(first);
                return self.head(head);
            }
            self.linked.insert(attr.inode, path.to_vec());
        }
        let mut head = Head::new(path, attr, entry_type(attr.kind));
        self.attributes(&mut head, attr.inode).map_err(vault)?;
        match attr.kind {
            FileKind::Regular => self.file(head, path, attr),
            FileKind::Symlink => {
                head.target(&self.volume.read_link(attr.inode).map_err(vault)?);
                self.head(head)
            }
            FileKind::CharDevice | FileKind::BlockDevice => {
                head.device(attr.device).map_err(ArchiveError::Write)?;
                self.head(head)
            }
            _ => self.head(head),
        }
    }

    fn attributes(&self, head: &mut Head, inode: InodeNo) -> FsResult<()> {
        for name in self.volume.list_xattrs(inode)? {
            let value = self.volume.xattr(inode, &name)?;
            // As text too: libarchive takes access control lists from nothing else.
            let list = match name.as_slice() {
                acl::ACCESS => Some(ACL_ACCESS),
                acl::DEFAULT => Some(ACL_DEFAULT),
                _ => None,
            };
            if let Some((key, text)) = list.zip(acl::to_text(&value)) {
                head.records.push(key, text.as_bytes());
            }
            head.records.push(&[XATTR, &encode_name(&name)].concat(), &value);
        }
        Ok(())
    }

    fn file(&mut self, mut head: Head, path: &[u8], attr: &Attr) -> Result<(), ArchiveError> {
        let data = data_ranges(self.volume, attr).map_err(|e| ArchiveError::vault(path, e))?;
        let content = sparse::data_len(&data);
        if sparse::is_dense(&data, attr.size) {
            head.size(content);
            self.head(head)?;
        } else {
            let map = sparse::encode(&data, attr.size);
            head.records.push(b"GNU.sparse.major", b"1");
            head.records.push(b"GNU.sparse.minor", b"0");
            head.records.push(b"GNU.sparse.name", path);
            head.records.number(b"GNU.sparse.realsize", attr.size);
            head.size(content.saturating_add(map.len() as u64));
            self.head(head)?;
            self.write(&map)?;
        }
        for range in data {
            self.content(path, attr.inode, range)?;
        }
        self.pad(content)
    }

    fn content(
        &mut self,
        path: &[u8],
        inode: InodeNo,
        range: Range<u64>,
    ) -> Result<(), ArchiveError> {
        let mut at = range.start;
        while at < range.end {
            let want = usize::try_from(range.end - at).unwrap_or(CHUNK).min(CHUNK);
            let bytes =
                self.volume.read(inode, at, want).map_err(|e| ArchiveError::vault(path, e))?;
            if bytes.len() != want {
                let damage = Damage::Item { inode, what: "content" };
                return Err(ArchiveError::vault(path, damage));
            }
            self.write(&bytes)?;
            at += want as u64;
            self.done.bytes += want as u64;
            (self.show)(self.done.bytes);
        }
        Ok(())
    }

    /// Writes the extended header and the old one.
    fn head(&mut self, mut head: Head) -> Result<(), ArchiveError> {
        let records = head.records.bytes();
        let mut extended = Header::new_ustar();
        extended.set_entry_type(EntryType::XHeader);
        let _ = extended.set_path("./PaxHeaders/entry");
        extended.set_mode(0o600);
        extended.set_size(records.len() as u64);
        extended.set_cksum();
        head.header.set_cksum();
        let mut bytes = extended.as_bytes().to_vec();
        bytes.extend_from_slice(records);
        bytes.resize(bytes.len().next_multiple_of(RECORD), 0);
        bytes.extend_from_slice(head.header.as_bytes());
        self.write(&bytes)
    }

    fn pad(&mut self, len: u64) -> Result<(), ArchiveError> {
        let zeros = usize::try_from(padding(len)).unwrap_or(0);
        self.write([0; RECORD].get(..zeros).unwrap_or_default())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.out.write_all(bytes).map_err(ArchiveError::Write)
    }
}

/// Returns where a file has data.
fn data_ranges(volume: &Volume, attr: &Attr) -> FsResult<Vec<Range<u64>>> {
    let mut data = Vec::new();
    let mut at = 0;
    while let Some(range) = volume.next_data(attr.inode, at)? {
        at = range.end;
        data.push(range);
    }
    Ok(data)
}

fn entry_type(kind: FileKind) -> EntryType {
    match kind {
        FileKind::Regular | FileKind::Socket => EntryType::Regular,
        FileKind::Directory => EntryType::Directory,
        FileKind::Symlink => EntryType::Symlink,
        FileKind::Fifo => EntryType::Fifo,
        FileKind::CharDevice => EntryType::Char,
        FileKind::BlockDevice => EntryType::Block,
    }
}

/// The two headers of an entry in the making: what does not fit into the old one is a record.
struct Head {
    header: Header,
    records: Records,
}

impl Head {
    fn new(path: &[u8], attr: &Attr, kind: EntryType) -> Self {
        let mut records = Records::default();
        records.time(b"mtime", attr.modified);
        records.time(b"atime", attr.accessed);
        records.time(b"ctime", attr.changed);
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(u32::from(attr.permissions));
        header.set_size(0);
        header.set_mtime(u64::try_from(attr.modified.seconds).unwrap_or(0).min(OCTAL_12));
        for (key, id, set) in [
            (b"uid", attr.uid, Header::set_uid as fn(&mut Header, u64)),
            (b"gid", attr.gid, Header::set_gid),
        ] {
            let fits = u64::from(id) <= OCTAL_8;
            set(&mut header, if fits { u64::from(id) } else { 0 });
            if !fits {
                records.number(key, u64::from(id));
            }
        }
        let mut head = Self { header, records };
        head.name(b"path", path, |header| &mut header.as_old_mut().name);
        head
    }

    fn target(&mut self, target: &[u8]) {
        self.name(b"linkpath", target, |header| &mut header.as_old_mut().linkname);
    }

    /// Puts a name into its field as far as it fits, and whole into a record if it does not.
    fn name(
        &mut self,
        key: &[u8],
        name: &[u8],
        field: impl Fn(&mut Header) -> &mut [u8; SHORT_NAME],
    ) {
        for (place, byte) in field(&mut self.header).iter_mut().zip(name) {
            *place = *byte;
        }
        if name.len() > SHORT_NAME || !name.is_ascii() {
            if std::str::from_utf8(name).is_err() {
                self.records.push(b"hdrcharset", b"BINARY");
            }
            self.records.push(key, name);
        }
    }

    fn size(&mut self, size: u64) {
        if size <= OCTAL_12 {
            self.header.set_size(size);
        } else {
            self.records.number(b"size", size);
        }
    }

    /// Splits Linux's 32-bit encoding.
    fn device(&mut self, device: u32) -> io::Result<()> {
        self.header.set_device_major(device >> 8 & 0xfff)?;
        self.header.set_device_minor(device & 0xff | device >> 12 & 0xf_ff00)
    }
}
