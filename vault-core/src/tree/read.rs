//! Looking up and scanning.

use crate::error::FsResult;
use crate::format::key::Key;
use crate::format::node::Place;
use crate::store::blocks::Blocks;
use crate::tree::Tree;
use crate::tree::node::{Branch, Link, Node};
use std::ops::ControlFlow;

/// What a scan shows each item to.
pub(crate) type Visit<'v> = dyn FnMut(Key, &[u8]) -> FsResult<ControlFlow<()>> + 'v;

impl Tree {
    /// Shows the value of `key` to `read`, if there is one.
    pub(crate) fn get<R>(
        &self,
        blocks: &Blocks,
        key: &Key,
        read: impl FnOnce(&[u8]) -> R,
    ) -> FsResult<Option<R>> {
        let mut place = self.root_place();
        let mut link = &self.root;
        // Changed nodes are reached by reference, from the root down.
        let pointer = loop {
            match link {
                Link::Clean(pointer) => break *pointer,
                Link::Dirty(node) => match &**node {
                    Node::Leaf(items) => return Ok(find(items, key).map(read)),
                    Node::Branch(branch) => {
                        let index = child_index(branch, key);
                        place = child_place(&place, branch, index);
                        let Some(child) = branch.children.get(index) else { return Ok(None) };
                        link = &child.link;
                    }
                },
            }
        };
        // Below a clean node everything is clean.
        place.level = pointer.level;
        place.birth = pointer.birth;
        let mut node = blocks.node(&pointer, &place)?;
        loop {
            let next = match &*node {
                Node::Leaf(items) => return Ok(find(items, key).map(read)),
                Node::Branch(branch) => {
                    let index = child_index(branch, key);
                    place = child_place(&place, branch, index);
                    match branch.children.get(index).map(|child| &child.link) {
                        Some(Link::Clean(pointer)) => blocks.node(pointer, &place)?,
                        Some(Link::Dirty(_)) | None => return Ok(None),
                    }
                }
            };
            node = next;
        }
    }

    /// Shows the last item at or before `key` to `read`, if there is one.
    pub(crate) fn floor<R>(
        &self,
        blocks: &Blocks,
        key: &Key,
        read: impl FnOnce(Key, &[u8]) -> R,
    ) -> FsResult<Option<R>> {
        let mut found = None;
        let mut read = Some(read);
        floor_link(blocks, &self.root, &self.root_place(), key, &mut |key, value| {
            found = read.take().map(|read| read(key, value));
        })?;
        Ok(found)
    }

    /// Shows all items from `from` on, in key order, until `visit` breaks.
    pub(crate) fn scan(&self, blocks: &Blocks, from: &Key, visit: &mut Visit<'_>) -> FsResult<()> {
        scan_link(blocks, &self.root, &self.root_place(), from, visit).map(|_| ())
    }

    /// Shows the items of one list (same object and kind) from `from` on.
    pub(crate) fn scan_list(
        &self,
        blocks: &Blocks,
        from: &Key,
        visit: &mut Visit<'_>,
    ) -> FsResult<()> {
        self.scan(blocks, from, &mut |key, value| {
            if key.same_list(from) { visit(key, value) } else { Ok(ControlFlow::Break(())) }
        })
    }

    pub(crate) fn root_place(&self) -> Place {
        let (level, birth) = match &self.root {
            Link::Clean(pointer) => (pointer.level, pointer.birth),
            Link::Dirty(node) => (node.level(), crate::ids::Generation(u64::MAX)),
        };
        Place { tree: self.id, level, birth, lower: Key::MIN, upper: None, root: true }
    }
}

fn scan_link(
    blocks: &Blocks,
    link: &Link,
    place: &Place,
    from: &Key,
    visit: &mut Visit<'_>,
) -> FsResult<ControlFlow<()>> {
    match link {
        Link::Dirty(node) => scan_node(blocks, node, place, from, visit),
        Link::Clean(pointer) => {
            let place = Place { level: pointer.level, birth: pointer.birth, ..*place };
            let node = blocks.node(pointer, &place)?;
            scan_node(blocks, &node, &place, from, visit)
        }
    }
}

fn scan_node(
    blocks: &Blocks,
    node: &Node,
    place: &Place,
    from: &Key,
    visit: &mut Visit<'_>,
) -> FsResult<ControlFlow<()>> {
    match node {
        Node::Leaf(items) => {
            let start = items.partition_point(|(key, _)| key < from);
            for (key, value) in items.iter().skip(start) {
                if visit(*key, value)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Node::Branch(branch) => {
            let start = child_index(branch, from);
            for (index, child) in branch.children.iter().enumerate().skip(start) {
                let place = child_place(place, branch, index);
                if scan_link(blocks, &child.link, &place, from, visit)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
    }
    Ok(ControlFlow::Continue(()))
}

fn floor_link(
    blocks: &Blocks,
    link: &Link,
    place: &Place,
    key: &Key,
    show: &mut dyn FnMut(Key, &[u8]),
) -> FsResult<bool> {
    match link {
        Link::Dirty(node) => floor_node(blocks, node, place, key, show),
        Link::Clean(pointer) => {
            let place = Place { level: pointer.level, birth: pointer.birth, ..*place };
            let node = blocks.node(pointer, &place)?;
            floor_node(blocks, &node, &place, key, show)
        }
    }
}

fn floor_node(
    blocks: &Blocks,
    node: &Node,
    place: &Place,
    key: &Key,
    show: &mut dyn FnMut(Key, &[u8]),
) -> FsResult<bool> {
    match node {
        Node::Leaf(items) => {
            let end = items.partition_point(|(candidate, _)| candidate <= key);
            let Some((found, value)) = end.checked_sub(1).and_then(|last| items.get(last)) else {
                return Ok(false);
            };
            show(*found, value);
            Ok(true)
        }
        Node::Branch(branch) => {
            for index in (0..=child_index(branch, key)).rev() {
                let Some(child) = branch.children.get(index) else { continue };
                let place = child_place(place, branch, index);
                if floor_link(blocks, &child.link, &place, key, show)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
    }
}

/// Returns the child whose range holds `key`.
pub(crate) fn child_index(branch: &Branch, key: &Key) -> usize {
    branch.children.partition_point(|child| child.key <= *key).saturating_sub(1)
}

/// Returns the place of a branch's child; level and birth of a clean child.
pub(crate) fn child_place(place: &Place, branch: &Branch, index: usize) -> Place {
    let child = branch.children.get(index);
    let birth = match child.map(|child| &child.link) {
        Some(Link::Clean(pointer)) => pointer.birth,
        _ => place.birth,
    };
    Place {
        tree: place.tree,
        level: branch.level.saturating_sub(1),
        birth,
        lower: child.map_or(place.lower, |child| child.key),
        upper: branch.children.get(index.saturating_add(1)).map(|next| next.key).or(place.upper),
        root: false,
    }
}

fn find<'a>(items: &'a [(Key, Box<[u8]>)], key: &Key) -> Option<&'a [u8]> {
    let index = items.binary_search_by(|(candidate, _)| candidate.cmp(key)).ok()?;
    items.get(index).map(|(_, value)| &**value)
}
