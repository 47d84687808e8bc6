//! Numbers at fixed places of a structure; a place outside of it is damage.

use super::{ForeignError, ForeignResult};

/// A structure's bytes.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    bytes: &'a [u8],
    what: &'static str,
}

impl<'a> Fields<'a> {
    /// Names the structure for errors.
    pub(super) fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { bytes, what }
    }

    /// Returns how many bytes there are.
    pub(super) fn len(self) -> usize {
        self.bytes.len()
    }

    /// Returns `len` bytes from `at`.
    pub(super) fn slice(self, at: usize, len: usize) -> ForeignResult<&'a [u8]> {
        at.checked_add(len)
            .and_then(|end| self.bytes.get(at..end))
            .ok_or(ForeignError::damaged(self.what))
    }

    fn array<const N: usize>(self, at: usize) -> ForeignResult<[u8; N]> {
        self.slice(at, N)?.try_into().map_err(|_| ForeignError::damaged(self.what))
    }

    /// Returns a byte.
    pub(super) fn u8(self, at: usize) -> ForeignResult<u8> {
        self.array::<1>(at).map(|[byte]| byte)
    }

    /// Returns a little-endian number.
    pub(super) fn u16(self, at: usize) -> ForeignResult<u16> {
        self.array(at).map(u16::from_le_bytes)
    }

    /// Returns a little-endian number.
    pub(super) fn u32(self, at: usize) -> ForeignResult<u32> {
        self.array(at).map(u32::from_le_bytes)
    }

    /// Returns a big-endian number.
    #[allow(clippy::big_endian_bytes, reason = "LUKS is big-endian")]
    pub(super) fn be16(self, at: usize) -> ForeignResult<u16> {
        self.array(at).map(u16::from_be_bytes)
    }

    /// Returns a big-endian number.
    #[allow(clippy::big_endian_bytes, reason = "LUKS and ext4's journal are big-endian")]
    pub(super) fn be32(self, at: usize) -> ForeignResult<u32> {
        self.array(at).map(u32::from_be_bytes)
    }

    /// Returns a big-endian number.
    #[allow(clippy::big_endian_bytes, reason = "LUKS is big-endian")]
    pub(super) fn be64(self, at: usize) -> ForeignResult<u64> {
        self.array(at).map(u64::from_be_bytes)
    }

    /// Returns text that ends with a zero, or fills its `len` bytes.
    pub(super) fn text(self, at: usize, len: usize) -> ForeignResult<&'a str> {
        let field = self.slice(at, len)?;
        let text = field.split(|byte| *byte == 0).next().unwrap_or_default();
        std::str::from_utf8(text).map_err(|_| ForeignError::damaged(self.what))
    }
}
