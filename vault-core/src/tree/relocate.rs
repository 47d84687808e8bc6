//! Making nodes change that lie beyond a limit, so that the next commit writes them elsewhere.

use crate::error::FsResult;
use crate::format::node::Place;
use crate::store::blocks::Blocks;
use crate::tree::Tree;
use crate::tree::edit::Edit;
use crate::tree::node::{Link, Node};
use crate::tree::read::child_place;

impl Tree {
    /// Marks up to `most` nodes that end beyond `limit` as changed, with those above them; says whether
    /// there may be more.
    pub(crate) fn relocate(&mut self, blocks: &Blocks, limit: u64, most: usize) -> FsResult<bool> {
        let place = self.root_place();
        let before = self.dirty;
        let max_node = self.id.max_node();
        let mut edit = Edit { blocks, freed: &mut self.freed, dirty: &mut self.dirty, max_node };
        relocate(&mut edit, &mut self.root, &place, limit, before.saturating_add(most))?;
        Ok(self.dirty >= before.saturating_add(most))
    }
}

fn relocate(
    edit: &mut Edit<'_>,
    link: &mut Link,
    place: &Place,
    limit: u64,
    full: usize,
) -> FsResult<()> {
    if *edit.dirty >= full || !concerned(edit.blocks, link, place, limit)? {
        return Ok(());
    }
    let node = edit.make_dirty(link, place)?;
    if let Node::Branch(branch) = node {
        for index in 0..branch.children.len() {
            let inner = child_place(place, branch, index);
            if let Some(child) = branch.children.get_mut(index) {
                relocate(edit, &mut child.link, &inner, limit, full)?;
            }
        }
    }
    Ok(())
}

/// Whether a node, or one below it, ends beyond the limit. Leaves are not read: the pointer tells.
fn concerned(blocks: &Blocks, link: &Link, place: &Place, limit: u64) -> FsResult<bool> {
    let Link::Clean(pointer) = link else { return Ok(true) };
    if pointer.end() > limit {
        return Ok(true);
    }
    if pointer.level == 0 {
        return Ok(false);
    }
    let place = Place { level: pointer.level, birth: pointer.birth, ..*place };
    let node = blocks.node(pointer, &place)?;
    let Node::Branch(branch) = &*node else { return Ok(false) };
    for (index, child) in branch.children.iter().enumerate() {
        if concerned(blocks, &child.link, &child_place(&place, branch, index), limit)? {
            return Ok(true);
        }
    }
    Ok(false)
}
