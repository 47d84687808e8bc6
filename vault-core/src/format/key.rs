//! Item keys (FORMAT.md section 7): what orders everything in a tree.

use crate::codec::{CodecError, Reader, Writer};
use crate::ids::InodeNo;

/// Kinds of items, the middle part of a key (FORMAT.md section 8).
pub mod kind {
    /// An inode's attributes.
    pub const INODE: u8 = 1;
    /// A chunk of an extended attribute.
    pub const XATTR: u8 = 2;
    /// A folder entry.
    pub const DIRENT: u8 = 3;
    /// The whole content of a small file.
    pub const INLINE: u8 = 4;
    /// A symbolic link's target.
    pub const SYMLINK: u8 = 5;
    /// A range of file content.
    pub const EXTENT: u8 = 6;
    /// An inode that was unlinked while in use.
    pub const ORPHAN: u8 = 7;
    /// A page of the allocation map.
    pub const BITMAP: u8 = 8;
}

/// Inline content has the keys from this object on to itself; inode numbers are below it.
pub const CONTENT_RANGE: u64 = 1 << 63;

/// The key of an item; orders by object, then kind, then offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The inode concerned; 0 for items of the whole vault; [`CONTENT_RANGE`] more for content.
    pub object: u64,
    /// The kind of item, one of [`kind`].
    pub kind: u8,
    /// Position within the object: block, cookie, page.
    pub offset: u64,
}

impl Key {
    /// Encoded length in bytes.
    pub const LEN: usize = 17;

    /// The lowest key of all.
    pub const MIN: Key = Key { object: 0, kind: 0, offset: 0 };

    /// The key of an inode's item of this kind and offset.
    pub fn of(inode: InodeNo, kind: u8, offset: u64) -> Self {
        Self { object: inode.0, kind, offset }
    }

    /// The key of an inode's attributes.
    pub fn inode(inode: InodeNo) -> Self {
        Self::of(inode, kind::INODE, 0)
    }

    /// The key of a small file's whole content.
    pub fn content(inode: InodeNo) -> Self {
        Self { object: inode.0 | CONTENT_RANGE, kind: kind::INLINE, offset: 0 }
    }

    /// The key of an orphan record.
    pub fn orphan(inode: InodeNo) -> Self {
        Self { object: 0, kind: kind::ORPHAN, offset: inode.0 }
    }

    /// The key of a page of the allocation map.
    pub fn bitmap(page: u64) -> Self {
        Self { object: 0, kind: kind::BITMAP, offset: page }
    }

    /// Whether this is the key of content, rather than of what describes files.
    pub fn is_content(&self) -> bool {
        self.object >= CONTENT_RANGE
    }

    /// Whether both keys belong to the same list of items.
    pub fn same_list(&self, other: &Key) -> bool {
        self.object == other.object && self.kind == other.kind
    }

    /// Appends the 17 bytes.
    pub fn encode(&self, out: &mut Writer) {
        out.u64(self.object).u8(self.kind).u64(self.offset);
    }

    /// Reads 17 bytes.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self { object: reader.u64()?, kind: reader.u8()?, offset: reader.u64()? })
    }
}
