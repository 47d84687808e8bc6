//! Scanning what is left of a tree: a node that fails is reported with its bounds, and the scan goes on
//! behind it.

use crate::error::{Damage, FsError, FsResult};
use crate::format::key::Key;
use crate::format::node::Place;
use crate::store::blocks::Blocks;
use crate::tree::Tree;
use crate::tree::node::{Link, Node};
use crate::tree::read::{Visit, child_index, child_place};
use std::ops::ControlFlow;

/// What is told of a node that cannot be read: the lowest key in it, the first one behind it.
pub(crate) type Lost<'v> = dyn FnMut(Key, Option<Key>, Damage) -> FsResult<()> + 'v;

impl Tree {
    /// Shows all items from `from` on that can still be read, in key order, until `visit` breaks. Only
    /// for a tree without changes; nodes from `until` on are not touched.
    pub(crate) fn scan_left(
        &self,
        blocks: &Blocks,
        (from, until): (&Key, &Key),
        visit: &mut Visit<'_>,
        lost: &mut Lost<'_>,
    ) -> FsResult<()> {
        let Link::Clean(_) = &self.root else { return Err(FsError::InvalidArgument) };
        scan(blocks, (&self.root, &self.root_place()), (from, until), visit, lost).map(drop)
    }
}

fn scan(
    blocks: &Blocks,
    (link, place): (&Link, &Place),
    (from, until): (&Key, &Key),
    visit: &mut Visit<'_>,
    lost: &mut Lost<'_>,
) -> FsResult<ControlFlow<()>> {
    let Link::Clean(pointer) = link else { return Err(FsError::InvalidArgument) };
    let place = Place { level: pointer.level, birth: pointer.birth, ..*place };
    let node = match blocks.node(pointer, &place) {
        Ok(node) => node,
        Err(FsError::Damaged(damage)) => {
            lost(place.lower, place.upper, damage)?;
            return Ok(ControlFlow::Continue(()));
        }
        Err(error) => return Err(error),
    };
    match &*node {
        Node::Leaf(items) => {
            let start = items.partition_point(|(key, _)| key < from);
            for (key, value) in items.iter().skip(start) {
                if key >= until || visit(*key, value)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Node::Branch(branch) => {
            let start = child_index(branch, from);
            for (index, child) in branch.children.iter().enumerate().skip(start) {
                if child.key >= *until {
                    return Ok(ControlFlow::Break(()));
                }
                let place = child_place(&place, branch, index);
                if scan(blocks, (&child.link, &place), (from, until), visit, lost)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
    }
    Ok(ControlFlow::Continue(()))
}
