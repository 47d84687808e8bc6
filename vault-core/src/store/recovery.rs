//! Choosing the state to open (FORMAT.md section 9).

use crate::error::{Damage, FsError, FsResult};
use crate::format::key::kind;
use crate::format::node::Place;
use crate::format::node::TreeId;
use crate::format::pointer::Pointer;
use crate::fs::extent_pointer;
use crate::ids::{Generation, InodeNo};
use crate::store::blocks::Blocks;
use crate::store::ring::Opened;
use crate::store::sealed::Owner;
use crate::tree::node::{Link, Node};
use crate::tree::read::child_place;

/// The outcome of recovery.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) chosen: Opened,
    /// The torn generation that was stepped back from.
    pub(crate) stepped_back: Option<Generation>,
    /// Whether the generation before holds the same trees, so that either slot may be damaged.
    pub(crate) twinned: bool,
}

/// Picks the newest generation whose blocks are all there. `known_durable` is what a witness has
/// seen reach the disk: never stepped back from.
pub(crate) fn recover(
    blocks: &Blocks,
    opened: Vec<Opened>,
    known_durable: Option<Generation>,
) -> FsResult<Recovered> {
    let mut candidates = opened.into_iter();
    let newest = candidates.next().ok_or(Damage::NoSuperblock)?;
    if newest.superblock.proven {
        let twinned = candidates.next().is_some_and(|twin| same_trees(&twin, &newest));
        return Ok(Recovered { chosen: newest, stepped_back: None, twinned });
    }
    let verdict = verify_generation(blocks, &newest);
    // Nothing that was read to judge a torn generation may answer for a later one.
    blocks.cache.clear();
    match verdict {
        Ok(()) => Ok(Recovered { chosen: newest, stepped_back: None, twinned: false }),
        Err(FsError::Damaged(damage)) => {
            let durable = known_durable.is_some_and(|known| known >= newest.generation);
            let previous = candidates.next();
            match previous {
                Some(previous) if !durable => {
                    let stepped_back = Some(newest.generation);
                    Ok(Recovered { chosen: previous, stepped_back, twinned: false })
                }
                _ => Err(damage.into()),
            }
        }
        Err(error) => Err(error),
    }
}

fn same_trees(a: &Opened, b: &Opened) -> bool {
    let (a, b) = (&a.superblock, &b.superblock);
    a.proven && a.fs_root == b.fs_root && a.allocation_root == b.allocation_root
}

/// Authenticates every block that a generation wrote.
fn verify_generation(blocks: &Blocks, opened: &Opened) -> FsResult<()> {
    let superblock = &opened.superblock;
    let roots = [
        (TreeId::FileSystem, superblock.fs_root),
        (TreeId::Allocation, superblock.allocation_root),
    ];
    for (tree, root) in roots {
        let place = Blocks::root_place(tree, &root);
        verify_node(blocks, &root, &place, opened.generation)?;
    }
    Ok(())
}

fn verify_node(
    blocks: &Blocks,
    pointer: &Pointer,
    place: &Place,
    generation: Generation,
) -> FsResult<()> {
    if pointer.birth != generation {
        return Ok(());
    }
    match blocks.load_node(pointer, place)? {
        Node::Leaf(items) => {
            for (key, value) in &items {
                if place.tree != TreeId::FileSystem || key.kind != kind::EXTENT {
                    continue;
                }
                let Some(data) = extent_pointer(value) else { continue };
                if data.birth == generation {
                    blocks.read(&data, Owner::data(InodeNo(key.object), key.offset))?;
                }
            }
        }
        Node::Branch(branch) => {
            for (index, child) in branch.children.iter().enumerate() {
                if let Link::Clean(pointer) = &child.link {
                    verify_node(blocks, pointer, &child_place(place, &branch, index), generation)?;
                }
            }
        }
    }
    Ok(())
}
