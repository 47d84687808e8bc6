//! The paths of what is wrong: names are read again, and only those on the way to it are kept.

use super::counts::Seen;
use crate::error::{FsError, FsResult};
use crate::format::key::kind;
use crate::format::node::{Place, TreeId};
use crate::format::pointer::Pointer;
use crate::fs::decode_entry;
use crate::ids::InodeNo;
use crate::store::blocks::Blocks;
use crate::store::pool::Pool;
use crate::tree::node::{Link, Node};
use crate::tree::read::child_place;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Folders above each other that a path may have.
const DEEPEST: usize = 4096;

/// Names by inode.
type Names = HashMap<u64, Vec<u8>>;

/// Returns the paths of some inodes, as far as names are left.
pub(super) fn paths(
    pool: &Pool,
    seen: &Seen,
    wanted: impl Iterator<Item = InodeNo>,
) -> FsResult<BTreeMap<InodeNo, Vec<u8>>> {
    let wanted: HashSet<InodeNo> = wanted.collect();
    let mut names = Names::new();
    for inode in &wanted {
        let mut at = *inode;
        // A name is wanted for each folder on the way up; a circle ends at what was seen before.
        while at != InodeNo::ROOT && names.insert(at.0, Vec::new()).is_none() {
            let Some(folder) = seen.named_by(at) else { break };
            at = folder;
        }
    }
    if !names.is_empty() {
        let root = pool.roots().0;
        collect(pool, &root, &Blocks::root_place(TreeId::FileSystem, &root), seen, &mut names)?;
    }
    Ok(wanted.into_iter().filter_map(|inode| Some((inode, path(seen, &names, inode)?))).collect())
}

fn collect(
    pool: &Pool,
    pointer: &Pointer,
    place: &Place,
    seen: &Seen,
    names: &mut Names,
) -> FsResult<()> {
    let node = match pool.blocks.load_node(pointer, place) {
        Ok(node) => node,
        // The walk has reported it.
        Err(FsError::Damaged(_)) => return Ok(()),
        Err(error) => return Err(error),
    };
    match node {
        Node::Leaf(items) => {
            for (key, value) in items.iter().filter(|(key, _)| key.kind == kind::DIRENT) {
                let folder = InodeNo(key.object);
                let Ok((child, _, name)) = decode_entry(folder, value) else { continue };
                if let Some(kept) = names.get_mut(&child.0)
                    && seen.named_by(child) == Some(folder)
                {
                    *kept = name.to_vec();
                }
            }
            Ok(())
        }
        Node::Branch(branch) => {
            branch.children.iter().enumerate().try_for_each(|(index, child)| match &child.link {
                Link::Clean(pointer) => {
                    collect(pool, pointer, &child_place(place, &branch, index), seen, names)
                }
                Link::Dirty(_) => Ok(()),
            })
        }
    }
}

fn path(seen: &Seen, names: &Names, inode: InodeNo) -> Option<Vec<u8>> {
    let mut parts = Vec::new();
    let mut at = inode;
    while at != InodeNo::ROOT {
        if parts.len() > DEEPEST {
            return None;
        }
        parts.push(names.get(&at.0).filter(|name| !name.is_empty())?.as_slice());
        at = seen.named_by(at)?;
    }
    parts.reverse();
    Some(parts.join(&b'/'))
}
