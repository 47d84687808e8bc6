//! The copy-on-write B+ tree: `node` is a node in memory, `read` looks up and scans, `edit` inserts
//! and removes, `write` turns changed nodes into sealed blocks.
//!
//! Clean nodes are reached by pointer and shared through the cache; changed nodes hang in memory
//! from their (changed) parents until the next commit writes them. Old blocks are never touched:
//! an edit only notes that they will be free.

pub(crate) mod edit;
pub(crate) mod left;
pub(crate) mod node;
pub(crate) mod read;
pub(crate) mod relocate;
pub(crate) mod write;

use crate::format::node::TreeId;
use crate::format::pointer::Pointer;
use node::{Link, Node};

/// One tree of a vault, with its uncommitted changes.
pub(crate) struct Tree {
    id: TreeId,
    root: Link,
    /// Blocks that the changed nodes replace.
    freed: Vec<Pointer>,
    /// Number of changed nodes in memory.
    dirty: usize,
}

impl Tree {
    /// A committed tree.
    pub(crate) fn committed(id: TreeId, root: Pointer) -> Self {
        Self { id, root: Link::Clean(root), freed: Vec::new(), dirty: 0 }
    }

    /// An empty tree that was never committed.
    pub(crate) fn empty(id: TreeId) -> Self {
        let root = Link::Dirty(Box::new(Node::Leaf(Vec::new())));
        Self { id, root, freed: Vec::new(), dirty: 1 }
    }

    /// Takes the pointers of blocks that were replaced since the last call.
    pub(crate) fn take_freed(&mut self) -> Vec<Pointer> {
        std::mem::take(&mut self.freed)
    }

    /// The root's pointer, unless there are changes.
    pub(crate) fn committed_root(&self) -> Option<Pointer> {
        match &self.root {
            Link::Clean(pointer) => Some(*pointer),
            Link::Dirty(_) => None,
        }
    }

    /// How many nodes the next commit writes.
    pub(crate) fn dirty_nodes(&self) -> usize {
        self.dirty
    }
}
