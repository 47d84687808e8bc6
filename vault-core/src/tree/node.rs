//! A node in memory: items of a leaf, or children of a branch, each on disk or changed in memory.

use crate::codec::Writer;
use crate::format::key::Key;
use crate::format::node::{self, CHILD_LEN, HEAD_LEN, ITEM_OVERHEAD, TreeId};
use crate::format::pointer::Pointer;

pub(crate) use crate::format::node::LeafItem as Item;

/// Where a child is.
#[derive(Clone, Debug)]
pub(crate) enum Link {
    /// In the image.
    Clean(Pointer),
    /// In memory, changed since the last commit.
    Dirty(Box<Node>),
}

/// A child of a branch with the lower bound of its keys.
#[derive(Clone, Debug)]
pub(crate) struct Child {
    pub(crate) key: Key,
    pub(crate) link: Link,
}

/// A node.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    /// Items in key order.
    Leaf(Vec<Item>),
    /// Children in key order.
    Branch(Branch),
}

/// An internal node.
#[derive(Clone, Debug)]
pub(crate) struct Branch {
    pub(crate) level: u8,
    pub(crate) children: Vec<Child>,
}

impl Node {
    pub(crate) fn from_leaf(items: Vec<Item>) -> Self {
        Self::Leaf(items)
    }

    pub(crate) fn from_branch(level: u8, children: Vec<(Key, Pointer)>) -> Self {
        let children = children
            .into_iter()
            .map(|(key, pointer)| Child { key, link: Link::Clean(pointer) })
            .collect();
        Self::Branch(Branch { level, children })
    }

    pub(crate) fn level(&self) -> u8 {
        match self {
            Self::Leaf(_) => 0,
            Self::Branch(branch) => branch.level,
        }
    }

    /// Encoded length in bytes, without padding.
    pub(crate) fn encoded_len(&self) -> usize {
        HEAD_LEN
            + match self {
                Self::Leaf(items) => items.iter().map(item_len).sum(),
                Self::Branch(branch) => branch.children.len() * CHILD_LEN,
            }
    }

    /// Whether nothing is in it.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Leaf(items) => items.is_empty(),
            Self::Branch(branch) => branch.children.is_empty(),
        }
    }

    /// Encodes a node whose children are all in the image.
    pub(crate) fn encode(&self, tree: TreeId) -> Vec<u8> {
        let mut out = node::start(tree.max_node());
        let count = match self {
            Self::Leaf(items) => encode_leaf(&mut out, items),
            Self::Branch(branch) => encode_branch(&mut out, &branch.children),
        };
        node::finish(out, tree, self.level(), count)
    }
}

/// Encoded length of a leaf item.
pub(crate) fn item_len(item: &Item) -> usize {
    ITEM_OVERHEAD + item.1.len()
}

fn encode_leaf(out: &mut Writer, items: &[Item]) -> usize {
    for (key, value) in items {
        key.encode(out);
        out.u16(u16::try_from(value.len()).expect("values have at most 4200 bytes")).bytes(value);
    }
    items.len()
}

fn encode_branch(out: &mut Writer, children: &[Child]) -> usize {
    for child in children {
        child.key.encode(out);
        match &child.link {
            Link::Clean(pointer) => pointer.encode(out),
            Link::Dirty(_) => unreachable!("children are written before their parent"),
        }
    }
    children.len()
}
