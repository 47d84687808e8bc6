//! Tree nodes (FORMAT.md section 7).

use crate::codec::{CodecError, Reader, Writer};
use crate::format::key::Key;
use crate::format::pointer::{BlockKind, Pointer};
use crate::ids::{Generation, UNIT};

/// Bytes of a node's head.
pub const HEAD_LEN: usize = 8;
/// Bytes of a leaf item without its value.
pub const ITEM_OVERHEAD: usize = Key::LEN + 2;
/// Bytes of an internal item.
pub const CHILD_LEN: usize = Key::LEN + Pointer::LEN;
/// Most bytes of a leaf item's value.
pub const MAX_VALUE: usize = 4200;

/// The two trees of a vault; part of every node's AAD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TreeId {
    /// Inodes, names and content.
    FileSystem,
    /// The allocation map.
    Allocation,
}

impl TreeId {
    /// Returns the byte that stands for the tree.
    pub fn byte(self) -> u8 {
        match self {
            Self::FileSystem => 1,
            Self::Allocation => 2,
        }
    }

    /// Returns the largest node in bytes.
    pub fn max_node(self) -> usize {
        match self {
            Self::FileSystem => 4 * UNIT,
            Self::Allocation => UNIT,
        }
    }
}

/// Where a node stands, which it must agree with.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Its tree.
    pub tree: TreeId,
    /// Its level, from the pointer.
    pub level: u8,
    /// Its birth, from the pointer.
    pub birth: Generation,
    /// No key is below this.
    pub lower: Key,
    /// Every key is below this, if there is a next sibling.
    pub upper: Option<Key>,
    /// Whether it is the root, which alone may be an empty leaf.
    pub root: bool,
}

/// A key with its value.
pub type LeafItem = (Key, Box<[u8]>);

/// The items of a decoded node.
#[derive(Debug, PartialEq, Eq)]
pub enum Items {
    /// Keys and values.
    Leaf(Vec<LeafItem>),
    /// Lower bounds and pointers.
    Branch(Vec<(Key, Pointer)>),
}

/// Decodes an opened node and checks it against its place.
pub fn decode(bytes: &[u8], place: &Place) -> Result<Items, CodecError> {
    let mut head = Reader::new(bytes);
    let level = head.u8()?;
    let tree = head.u8()?;
    let count = usize::from(head.u16()?);
    let used = usize::try_from(head.u32()?).map_err(|_| CodecError::Field("bytes used"))?;
    if level != place.level || tree != place.tree.byte() {
        return Err(CodecError::Field("node place"));
    }
    if bytes.len() > place.tree.max_node() {
        return Err(CodecError::Field("node length"));
    }
    let body = used.checked_sub(HEAD_LEN).ok_or(CodecError::Field("bytes used"))?;
    let mut reader = Reader::new(head.bytes(body)?);
    head.finish_zeros()?;
    // Each item takes at least its key, so a count beyond that bound cannot be honest; checked
    // before memory is reserved for it.
    if count > body / ITEM_OVERHEAD || (count == 0 && !(place.root && level == 0)) {
        return Err(CodecError::Field("item count"));
    }
    let items = if level == 0 {
        Items::Leaf(decode_leaf(&mut reader, count, place)?)
    } else {
        Items::Branch(decode_branch(&mut reader, count, place)?)
    };
    reader.finish()?;
    Ok(items)
}

fn decode_leaf(
    reader: &mut Reader<'_>,
    count: usize,
    place: &Place,
) -> Result<Vec<LeafItem>, CodecError> {
    let mut items = Vec::with_capacity(count);
    let mut order = Order::new(place);
    for _ in 0..count {
        let key = Key::decode(reader)?;
        order.next(key)?;
        let len = usize::from(reader.u16()?);
        if len > MAX_VALUE {
            return Err(CodecError::Field("value length"));
        }
        items.push((key, reader.bytes(len)?.into()));
    }
    Ok(items)
}

fn decode_branch(
    reader: &mut Reader<'_>,
    count: usize,
    place: &Place,
) -> Result<Vec<(Key, Pointer)>, CodecError> {
    let mut items = Vec::with_capacity(count);
    let mut order = Order::new(place);
    for _ in 0..count {
        let key = Key::decode(reader)?;
        order.next(key)?;
        let pointer = Pointer::decode(reader)?;
        let child_level = place.level.checked_sub(1);
        if pointer.kind != BlockKind::Node || Some(pointer.level) != child_level {
            return Err(CodecError::Field("child level"));
        }
        if pointer.birth > place.birth {
            return Err(CodecError::Field("child birth"));
        }
        items.push((key, pointer));
    }
    Ok(items)
}

/// Checks that keys ascend strictly within a place's bounds.
struct Order<'a> {
    place: &'a Place,
    last: Option<Key>,
}

impl<'a> Order<'a> {
    fn new(place: &'a Place) -> Self {
        Self { place, last: None }
    }

    fn next(&mut self, key: Key) -> Result<(), CodecError> {
        let above = match self.last {
            None => key >= self.place.lower,
            Some(last) => key > last,
        };
        let below = self.place.upper.is_none_or(|upper| key < upper);
        if !(above && below) {
            return Err(CodecError::Field("key order"));
        }
        self.last = Some(key);
        Ok(())
    }
}

/// Counts the packed items of a leaf; `None` if they do not end where the bytes do.
#[cfg(feature = "testing")]
pub(crate) fn count_items(items: &[u8]) -> Option<usize> {
    let mut reader = Reader::new(items);
    let mut count = 0;
    while reader.remaining() > 0 {
        reader.bytes(Key::LEN).ok()?;
        let len = reader.u16().ok()?;
        reader.bytes(usize::from(len)).ok()?;
        count += 1;
    }
    Some(count)
}

/// Starts a node: reserves the head, which [`finish`] fills in.
pub fn start(capacity: usize) -> Writer {
    let mut out = Writer::with_capacity(capacity);
    out.zeros(HEAD_LEN);
    out
}

/// Ends a node: fills in the head and pads to whole units.
pub fn finish(out: Writer, tree: TreeId, level: u8, count: usize) -> Vec<u8> {
    let mut bytes = out.finish();
    let used = u32::try_from(bytes.len()).expect("a node has at most four units");
    let count = u16::try_from(count).expect("a node's items take at least 19 bytes each");
    let mut head = Writer::with_capacity(HEAD_LEN);
    head.u8(level).u8(tree.byte()).u16(count).u32(used);
    for (target, byte) in bytes.iter_mut().zip(head.finish()) {
        *target = byte;
    }
    bytes.resize(bytes.len().next_multiple_of(UNIT), 0);
    bytes
}
