//! A folder on its way into a vault. Symbolic links are taken as links, never followed.

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use std::collections::HashMap;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Seek};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use vault_core::archive::{ArchiveError, Entry, EntryKind, EntryPath, Importer};
use vault_core::ports::Timestamp;

/// Attributes that mean the same in a vault; others belong to the machine they come from.
const KEPT: [&[u8]; 3] = [b"user.", b"system.posix_acl_", b"security.capability"];
/// Bytes of a list of names, or of a value: the kernel's own bound.
const MOST: usize = 1 << 16;

/// A folder whose entries are taken one by one.
pub(crate) struct Folder {
    top: PathBuf,
    /// The first path of each file with several names, by device and inode.
    linked: HashMap<(u64, u64), EntryPath>,
    sockets: Vec<Vec<u8>>,
}

impl Folder {
    pub(crate) fn new(top: &Path) -> Self {
        Self { top: top.to_owned(), linked: HashMap::new(), sockets: Vec::new() }
    }

    /// Paths of sockets, which were left out.
    pub(crate) fn sockets(&self) -> &[Vec<u8>] {
        &self.sockets
    }

    /// Hands every entry to the importer, folders before what is in them.
    pub(crate) fn feed(
        &mut self,
        importer: &mut Importer<'_>,
        show: &mut dyn FnMut(u64),
    ) -> Result<(), ArchiveError> {
        let mut pending = vec![PathBuf::new()];
        self.one(importer, Path::new(""), show)?;
        while let Some(folder) = pending.pop() {
            let failed = |cause| failed(&folder, cause);
            for entry in fs::read_dir(self.top.join(&folder)).map_err(failed)? {
                let path = folder.join(entry.map_err(failed)?.file_name());
                if self.one(importer, &path, show)? {
                    pending.push(path);
                }
            }
        }
        Ok(())
    }

    /// Hands one entry over; returns whether it is a folder.
    fn one(
        &mut self,
        importer: &mut Importer<'_>,
        path: &Path,
        show: &mut dyn FnMut(u64),
    ) -> Result<bool, ArchiveError> {
        let full = self.top.join(path);
        let failed = |cause| failed(path, cause);
        // The folder itself may be named by a link; nothing below it is followed.
        let about =
            if path.as_os_str().is_empty() { full.metadata() } else { full.symlink_metadata() };
        let about = about.map_err(failed)?;
        let kind = about.file_type();
        let name = EntryPath::parse(path.as_os_str().as_bytes())?;
        let first = (!kind.is_dir() && about.nlink() > 1)
            .then(|| self.linked.get(&(about.dev(), about.ino())).cloned())
            .flatten();
        let mut file = None;
        let kind = if let Some(first) = first {
            EntryKind::HardLink(first)
        } else if kind.is_dir() {
            EntryKind::Folder
        } else if kind.is_symlink() {
            EntryKind::Symlink(
                fs::read_link(&full).map_err(failed)?.as_os_str().as_bytes().to_vec(),
            )
        } else if kind.is_file() {
            let opened = open(&full).map_err(failed)?;
            let size = opened.metadata().map_err(failed)?.len();
            let data = data_ranges(&opened, size).map_err(failed)?;
            file = Some(opened);
            EntryKind::File { size, data }
        } else if kind.is_fifo() {
            EntryKind::Fifo
        } else if kind.is_socket() {
            self.sockets.push(path.as_os_str().as_bytes().to_vec());
            return Ok(false);
        } else {
            EntryKind::Device
        };
        if about.nlink() > 1 && kind != EntryKind::Folder {
            self.linked.entry((about.dev(), about.ino())).or_insert_with(|| name.clone());
        }
        let is_folder = kind == EntryKind::Folder;
        let xattrs = if matches!(kind, EntryKind::HardLink(_)) {
            Vec::new()
        } else {
            attributes(&full).map_err(failed)?
        };
        let ranges = match &kind {
            EntryKind::File { data, .. } => data.clone(),
            _ => Vec::new(),
        };
        let entry = entry(name, kind, &about, xattrs);
        match file {
            Some(file) => importer.add(&entry, &mut Data::new(file, ranges), show)?,
            None => importer.add(&entry, &mut io::empty(), show)?,
        }
        Ok(is_folder)
    }
}

fn failed(path: &Path, source: io::Error) -> ArchiveError {
    ArchiveError::Source { path: path.as_os_str().as_bytes().to_vec(), source }
}

fn entry(
    path: EntryPath,
    kind: EntryKind,
    about: &Metadata,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
) -> Entry {
    let time = |seconds, nanos| Timestamp { seconds, nanos: u32::try_from(nanos).unwrap_or(0) };
    Entry {
        path,
        kind,
        permissions: u16::try_from(about.mode() & 0o7777).unwrap_or(0),
        uid: about.uid(),
        gid: about.gid(),
        modified: time(about.mtime(), about.mtime_nsec()),
        accessed: Some(time(about.atime(), about.atime_nsec())),
        xattrs,
    }
}

/// Opens a file that was a regular one a moment ago, without waiting if it is a pipe by now.
fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("it changed while it was read"))
    }
}

/// Asks where a file has data; where the file system cannot tell, everywhere.
pub(super) fn data_ranges(file: &File, size: u64) -> io::Result<Vec<Range<u64>>> {
    let mut data = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match seek(file, SeekFrom::Data(at)) {
            Ok(start) => start.min(size),
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL) => at,
            Err(cause) => return Err(cause.into()),
        };
        let end = match seek(file, SeekFrom::Hole(start)) {
            Ok(end) => end.min(size),
            Err(Errno::INVAL) => size,
            Err(Errno::NXIO) => break,
            Err(cause) => return Err(cause.into()),
        };
        if end > start {
            data.push(start..end);
        }
        at = end.max(start + 1);
    }
    Ok(data)
}

fn attributes(path: &Path) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut buffer = vec![0; MOST];
    let len = match rustix::fs::llistxattr(path, &mut buffer) {
        Ok(len) => len,
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Err(cause) => return Err(cause.into()),
    };
    let names: Vec<Vec<u8>> = buffer
        .get(..len)
        .unwrap_or_default()
        .split(|byte| *byte == 0)
        .filter(|name| KEPT.iter().any(|kept| name.starts_with(kept)))
        .map(<[u8]>::to_vec)
        .collect();
    let mut found = Vec::new();
    for name in names {
        match rustix::fs::lgetxattr(path, name.as_slice(), &mut buffer) {
            Ok(len) => found.push((name, buffer.get(..len).unwrap_or_default().to_vec())),
            // Gone meanwhile, or not for us to read.
            Err(Errno::NODATA | Errno::PERM | Errno::ACCESS) => {}
            Err(cause) => return Err(cause.into()),
        }
    }
    Ok(found)
}

/// The bytes of a file that lie in its ranges, one after the other.
struct Data {
    file: File,
    ranges: std::vec::IntoIter<Range<u64>>,
    rest: u64,
}

impl Data {
    fn new(file: File, ranges: Vec<Range<u64>>) -> Self {
        Self { file, ranges: ranges.into_iter(), rest: 0 }
    }
}

impl Read for Data {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest == 0 {
            let Some(range) = self.ranges.next() else { return Ok(0) };
            self.file.seek(io::SeekFrom::Start(range.start))?;
            self.rest = range.end - range.start;
        }
        let want = usize::try_from(self.rest).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read(buffer.get_mut(..want).unwrap_or_default())?;
        self.rest -= read as u64;
        Ok(read)
    }
}
