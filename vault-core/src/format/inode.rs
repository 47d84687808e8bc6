//! Inodes (FORMAT.md section 8.1).

use crate::codec::{CodecError, Reader, Writer};
use crate::fs::FileKind;
use crate::ports::Timestamp;

const FLAG_INLINE: u32 = 1;
/// Encoded length in bytes.
pub const INODE_LEN: usize = 112;

/// An inode as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inode {
    /// What it is.
    pub kind: FileKind,
    /// Permission bits, 0o7777 at most.
    pub permissions: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Link count.
    pub links: u32,
    /// Bytes of a regular file or of a link's target, else 0.
    pub size: u64,
    /// Units held by data blocks and unwritten extents.
    pub units: u64,
    /// Device number of a device node.
    pub device: u32,
    /// Whether the content lies in an inline item.
    pub inline: bool,
    /// Last access.
    pub accessed: Timestamp,
    /// Last change of content.
    pub modified: Timestamp,
    /// Last change of the inode.
    pub changed: Timestamp,
    /// Creation.
    pub born: Timestamp,
    /// The folder that holds this folder; 0 for other kinds.
    pub parent: u64,
    /// Number of entries of a folder.
    pub entries: u64,
    /// Number of extended attributes.
    pub xattrs: u32,
}

impl Inode {
    /// Encodes the 112 bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(INODE_LEN);
        out.u32(self.mode())
            .u32(self.uid)
            .u32(self.gid)
            .u32(self.links)
            .u64(self.size)
            .u64(self.units)
            .u32(self.device)
            .u32(if self.inline { FLAG_INLINE } else { 0 });
        let times = [self.accessed, self.modified, self.changed, self.born];
        for time in times {
            out.i64(time.seconds);
        }
        for time in times {
            out.u32(time.nanos);
        }
        out.u64(self.parent).u64(self.entries).u32(self.xattrs).zeros(4);
        out.finish()
    }

    /// Decodes 112 bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::new(bytes);
        let (kind, permissions) = split_mode(reader.u32()?)?;
        let uid = reader.u32()?;
        let gid = reader.u32()?;
        let links = reader.u32()?;
        let size = reader.u64()?;
        let units = reader.u64()?;
        let device = reader.u32()?;
        let flags = reader.u32()?;
        let mut times = [Timestamp::default(); 4];
        for time in &mut times {
            time.seconds = reader.i64()?;
        }
        for time in &mut times {
            time.nanos = reader.u32()?;
        }
        let [accessed, modified, changed, born] = times;
        let inode = Self {
            kind,
            permissions,
            uid,
            gid,
            links,
            size,
            units,
            device,
            inline: flags == FLAG_INLINE,
            accessed,
            modified,
            changed,
            born,
            parent: reader.u64()?,
            entries: reader.u64()?,
            xattrs: reader.u32()?,
        };
        reader.zeros(4)?;
        reader.finish()?;
        inode.judge(flags, &times)?;
        Ok(inode)
    }

    /// Returns `st_mode`.
    pub fn mode(&self) -> u32 {
        u32::from(self.kind.type_bits()) << 12 | u32::from(self.permissions)
    }

    fn judge(&self, flags: u32, times: &[Timestamp; 4]) -> Result<(), CodecError> {
        let check = |ok: bool, field| if ok { Ok(()) } else { Err(CodecError::Field(field)) };
        let directory = self.kind == FileKind::Directory;
        let sized = matches!(self.kind, FileKind::Regular | FileKind::Symlink);
        check(flags & !FLAG_INLINE == 0, "inode flags")?;
        check(!self.inline || self.kind == FileKind::Regular, "inline flag")?;
        check(times.iter().all(|time| time.nanos < 1_000_000_000), "nanoseconds")?;
        check(sized || self.size == 0, "size")?;
        check(i64::try_from(self.size).is_ok(), "size")?;
        check(directory == (self.parent != 0), "parent")?;
        check(directory || self.entries == 0, "entries")
    }
}

fn split_mode(mode: u32) -> Result<(FileKind, u16), CodecError> {
    let bad = CodecError::Field("mode");
    let mode = u16::try_from(mode).map_err(|_| bad)?;
    let bits = u8::try_from(mode >> 12).map_err(|_| bad)?;
    Ok((FileKind::from_type_bits(bits).ok_or(bad)?, mode & 0o7777))
}
