//! Turning changed nodes into sealed blocks, children before parents.

use crate::error::FsResult;
use crate::format::node::TreeId;
use crate::format::pointer::{BlockKind, Pointer};
use crate::ids::{BlockNo, Generation, UNIT};
use crate::store::sealed::{Identity, Owner, Sealer};
use crate::tree::Tree;
use crate::tree::node::{Link, Node};
use std::sync::Arc;

/// Returns where a node of so many units goes.
pub(crate) type PlaceNode<'a> = dyn FnMut(u16) -> FsResult<BlockNo> + 'a;
/// Takes a sealed node, and the plain one for the cache.
pub(crate) type EmitNode<'a> = dyn FnMut(&Pointer, Vec<u8>, Arc<Node>) -> FsResult<()> + 'a;

/// What a commit gives to the nodes it writes.
pub(crate) struct Sink<'a> {
    pub(crate) sealer: &'a Sealer,
    pub(crate) birth: Generation,
    pub(crate) place: &'a mut PlaceNode<'a>,
    pub(crate) emit: &'a mut EmitNode<'a>,
}

impl Tree {
    /// Returns how many units the changed nodes will take.
    pub(crate) fn dirty_units(&self) -> u64 {
        fn units(link: &Link) -> u64 {
            let Link::Dirty(node) = link else { return 0 };
            let below = match &**node {
                Node::Leaf(_) => 0,
                Node::Branch(branch) => {
                    branch.children.iter().map(|child| units(&child.link)).sum()
                }
            };
            below + node.encoded_len().div_ceil(UNIT) as u64
        }
        units(&self.root)
    }

    /// Writes all changed nodes and returns the root's pointer.
    pub(crate) fn write(&mut self, sink: &mut Sink<'_>) -> FsResult<Pointer> {
        let root = write_link(self.id, &mut self.root, sink)?;
        self.dirty = 0;
        Ok(root)
    }
}

fn write_link(tree: TreeId, link: &mut Link, sink: &mut Sink<'_>) -> FsResult<Pointer> {
    let node = match link {
        Link::Clean(pointer) => return Ok(*pointer),
        Link::Dirty(node) => node,
    };
    if let Node::Branch(branch) = &mut **node {
        for child in &mut branch.children {
            write_link(tree, &mut child.link, sink)?;
        }
    }
    let mut bytes = node.encode(tree);
    let units = u16::try_from(bytes.len() / UNIT).expect("a node has at most four units");
    let identity = Identity {
        kind: BlockKind::Node,
        level: node.level(),
        address: (sink.place)(units)?,
        birth: sink.birth,
        owner: Owner::tree(tree),
    };
    let pointer = sink.sealer.seal(&identity, &mut bytes)?;
    let written = std::mem::replace(link, Link::Clean(pointer));
    if let Link::Dirty(node) = written {
        (sink.emit)(&pointer, bytes, Arc::from(node))?;
    }
    Ok(pointer)
}
