//! Inserting and removing: every node on the way becomes a changed copy in memory.

use crate::error::FsResult;
use crate::format::key::Key;
use crate::format::node::{CHILD_LEN, HEAD_LEN, Place};
use crate::format::pointer::Pointer;
use crate::store::blocks::Blocks;
use crate::tree::Tree;
use crate::tree::node::{Branch, Child, Item, Link, Node, item_len};
use crate::tree::read::{child_index, child_place};
use std::sync::Arc;

/// What an edit carries down the tree.
pub(super) struct Edit<'a> {
    pub(super) blocks: &'a Blocks,
    pub(super) freed: &'a mut Vec<Pointer>,
    pub(super) dirty: &'a mut usize,
    pub(super) max_node: usize,
}

/// A new right sibling, after a split.
struct Split {
    key: Key,
    node: Box<Node>,
}

impl Tree {
    /// Sets the value of `key`, replacing an old one.
    pub(crate) fn insert(&mut self, blocks: &Blocks, key: Key, value: Box<[u8]>) -> FsResult<()> {
        let place = self.root_place();
        let max_node = self.id.max_node();
        let mut edit = Edit { blocks, freed: &mut self.freed, dirty: &mut self.dirty, max_node };
        let node = edit.make_dirty(&mut self.root, &place)?;
        let Some(split) = edit.insert(node, &place, (key, value))? else { return Ok(()) };
        let level = node.level().saturating_add(1);
        let old = std::mem::replace(&mut self.root, Link::Dirty(Box::new(Node::Leaf(Vec::new()))));
        let children = vec![
            Child { key: Key::MIN, link: old },
            Child { key: split.key, link: Link::Dirty(split.node) },
        ];
        self.root = Link::Dirty(Box::new(Node::Branch(Branch { level, children })));
        self.dirty += 1;
        Ok(())
    }

    /// Removes `key`; returns whether it was there.
    pub(crate) fn remove(&mut self, blocks: &Blocks, key: &Key) -> FsResult<bool> {
        let present = self.get(blocks, key, |_| ())?.is_some();
        if !present {
            return Ok(false);
        }
        let place = self.root_place();
        let max_node = self.id.max_node();
        let mut edit = Edit { blocks, freed: &mut self.freed, dirty: &mut self.dirty, max_node };
        let node = edit.make_dirty(&mut self.root, &place)?;
        edit.remove(node, &place, key)?;
        self.collapse_root();
        Ok(true)
    }

    /// A branch with a single child is no use as a root.
    fn collapse_root(&mut self) {
        while let Link::Dirty(node) = &mut self.root {
            let Node::Branch(branch) = &mut **node else { return };
            match branch.children.len() {
                0 => **node = Node::Leaf(Vec::new()),
                1 => {
                    let Some(child) = branch.children.pop() else { return };
                    self.root = child.link;
                    self.dirty -= 1;
                }
                _ => return,
            }
        }
    }
}

impl Edit<'_> {
    /// Turns a link into a changed node in memory; its block will be free.
    pub(super) fn make_dirty<'n>(
        &mut self,
        link: &'n mut Link,
        place: &Place,
    ) -> FsResult<&'n mut Node> {
        if let Link::Clean(pointer) = *link {
            let place = Place { level: pointer.level, birth: pointer.birth, ..*place };
            let node = match self.blocks.cache.take(&pointer) {
                Some(shared) => Arc::unwrap_or_clone(shared),
                None => self.blocks.load_node(&pointer, &place)?,
            };
            *link = Link::Dirty(Box::new(node));
            self.freed.push(pointer);
            *self.dirty += 1;
        }
        match link {
            Link::Dirty(node) => Ok(node),
            Link::Clean(_) => unreachable!("the link was made dirty above"),
        }
    }

    fn insert(&mut self, node: &mut Node, place: &Place, item: Item) -> FsResult<Option<Split>> {
        match node {
            Node::Leaf(items) => {
                let appended = insert_item(items, item);
                Ok(self.split_leaf(items, appended))
            }
            Node::Branch(branch) => {
                let index = child_index(branch, &item.0);
                let inner = child_place(place, branch, index);
                let Some(child) = branch.children.get_mut(index) else { return Ok(None) };
                child.key = child.key.min(item.0);
                let node = self.make_dirty(&mut child.link, &inner)?;
                if let Some(split) = self.insert(node, &inner, item)? {
                    let right = Child { key: split.key, link: Link::Dirty(split.node) };
                    branch.children.insert(index + 1, right);
                }
                Ok(self.split_branch(branch))
            }
        }
    }

    /// Splits a leaf that became too long; one filled in key order is left nearly full.
    fn split_leaf(&mut self, items: &mut Vec<Item>, appended: bool) -> Option<Split> {
        let total: usize = items.iter().map(item_len).sum();
        if total + HEAD_LEN <= self.max_node {
            return None;
        }
        let mut at = match content_start(items) {
            // Content gets leaves of its own, so that both ranges grow at an end.
            Some(at) if total - prefix(items, at) + HEAD_LEN <= self.max_node => at,
            _ if appended => items.len() - 1,
            _ => half(items, total),
        };
        // One oversized neighbour can leave either half too long; the middle item then moves.
        while at > 1 && prefix(items, at) + HEAD_LEN > self.max_node {
            at -= 1;
        }
        let right = items.split_off(at);
        let key = right.first()?.0;
        *self.dirty += 1;
        Some(Split { key, node: Box::new(Node::Leaf(right)) })
    }

    fn split_branch(&mut self, branch: &mut Branch) -> Option<Split> {
        if HEAD_LEN + branch.children.len() * CHILD_LEN <= self.max_node {
            return None;
        }
        let right = branch.children.split_off(branch.children.len() / 2);
        let key = right.first()?.key;
        *self.dirty += 1;
        let node = Node::Branch(Branch { level: branch.level, children: right });
        Some(Split { key, node: Box::new(node) })
    }

    fn remove(&mut self, node: &mut Node, place: &Place, key: &Key) -> FsResult<()> {
        match node {
            Node::Leaf(items) => {
                if let Ok(index) = items.binary_search_by(|(candidate, _)| candidate.cmp(key)) {
                    items.remove(index);
                }
                Ok(())
            }
            Node::Branch(branch) => {
                let index = child_index(branch, key);
                let inner = child_place(place, branch, index);
                let Some(child) = branch.children.get_mut(index) else { return Ok(()) };
                let node = self.make_dirty(&mut child.link, &inner)?;
                self.remove(node, &inner, key)?;
                let len = node.encoded_len();
                if node.is_empty() {
                    branch.children.remove(index);
                    *self.dirty -= 1;
                } else if len < self.max_node / 4 {
                    self.merge(branch, place, index)?;
                }
                Ok(())
            }
        }
    }

    /// Joins a sparse child with a neighbour if both fit into three quarters of a node.
    fn merge(&mut self, branch: &mut Branch, place: &Place, index: usize) -> FsResult<()> {
        let left = if index + 1 < branch.children.len() { index } else { index.saturating_sub(1) };
        if left + 1 >= branch.children.len() {
            return Ok(());
        }
        let mut total = 0;
        for at in [left, left + 1] {
            let inner = child_place(place, branch, at);
            let Some(child) = branch.children.get(at) else { return Ok(()) };
            total += match &child.link {
                Link::Dirty(node) => node.encoded_len(),
                Link::Clean(pointer) => self.blocks.node(pointer, &inner)?.encoded_len(),
            };
        }
        if total > self.max_node / 4 * 3 {
            return Ok(());
        }
        for at in [left, left + 1] {
            let inner = child_place(place, branch, at);
            if let Some(child) = branch.children.get_mut(at) {
                self.make_dirty(&mut child.link, &inner)?;
            }
        }
        let right = branch.children.remove(left + 1);
        *self.dirty -= 1;
        if let (Some(Child { link: Link::Dirty(node), .. }), Link::Dirty(right)) =
            (branch.children.get_mut(left), right.link)
        {
            append(node, *right);
        }
        Ok(())
    }
}

/// Puts an item in order; returns whether it became the last.
fn insert_item(items: &mut Vec<Item>, item: Item) -> bool {
    match items.binary_search_by(|(candidate, _)| candidate.cmp(&item.0)) {
        Ok(index) => {
            if let Some(old) = items.get_mut(index) {
                old.1 = item.1;
            }
            false
        }
        Err(index) => {
            items.insert(index, item);
            index + 1 == items.len() && items.len() > 1
        }
    }
}

fn append(node: &mut Node, right: Node) {
    match (node, right) {
        (Node::Leaf(items), Node::Leaf(more)) => items.extend(more),
        (Node::Branch(branch), Node::Branch(more)) => branch.children.extend(more.children),
        _ => unreachable!("siblings have the same level"),
    }
}

/// Returns the index that halves the bytes of a leaf, leaving an item on each side.
fn half(items: &[Item], total: usize) -> usize {
    let mut sum = 0;
    let middle = items
        .iter()
        .position(|item| {
            sum += item_len(item);
            sum * 2 >= total
        })
        .unwrap_or(0);
    middle.clamp(1, items.len() - 1)
}

/// Returns where content begins in a leaf that holds other items too.
fn content_start(items: &[Item]) -> Option<usize> {
    let at = items.partition_point(|(key, _)| !key.is_content());
    (at > 0 && at < items.len()).then_some(at)
}

fn prefix(items: &[Item], len: usize) -> usize {
    items.iter().take(len).map(item_len).sum()
}
