//! Reading sealed blocks from the device, nodes through a cache.

use crate::device::BlockDevice;
use crate::error::{Damage, FsError, FsResult};
use crate::format::node::{self, Items, Place, TreeId};
use crate::format::pointer::{BlockKind, Pointer};
use crate::ids::{BlockNo, UNIT, UNIT_U64};
use crate::store::alloc::is_full;
use crate::store::cache::NodeCache;
use crate::store::sealed::{Owner, Sealer};
use crate::tree::node::Node;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// Most bytes that wait in memory for a full host.
const BACKLOG_LIMIT: usize = 64 << 20;

/// The device with its keys: hands out plaintext that is authentic.
pub(crate) struct Blocks {
    pub(crate) device: Arc<dyn BlockDevice>,
    pub(crate) sealer: Sealer,
    pub(crate) cache: NodeCache,
    /// Writes that the host had no room for, by address; they are tried again before a commit.
    backlog: RwLock<BTreeMap<u64, Vec<u8>>>,
}

impl Blocks {
    pub(crate) fn new(device: Arc<dyn BlockDevice>, sealer: Sealer) -> Self {
        Self { device, sealer, cache: NodeCache::new(), backlog: RwLock::default() }
    }

    /// Reads, opens and decodes a node; `place` says where it stands in its tree.
    pub(crate) fn node(&self, pointer: &Pointer, place: &Place) -> FsResult<Arc<Node>> {
        if let Some(node) = self.cache.find(pointer) {
            return Ok(node);
        }
        let node = Arc::new(self.load_node(pointer, place)?);
        self.cache.insert(pointer, Arc::clone(&node));
        Ok(node)
    }

    /// Like [`Self::node`], past the cache.
    pub(crate) fn load_node(&self, pointer: &Pointer, place: &Place) -> FsResult<Node> {
        if pointer.kind != BlockKind::Node
            || usize::from(pointer.units) * UNIT > place.tree.max_node()
        {
            return Err(Damage::Pointer { block: pointer.address }.into());
        }
        let bytes = self.read(pointer, Owner::tree(place.tree))?;
        let items = node::decode(&bytes, place)
            .map_err(|source| Damage::Node { block: pointer.address, source })?;
        Ok(match items {
            Items::Leaf(items) => Node::from_leaf(items),
            Items::Branch(children) => Node::from_branch(place.level, children),
        })
    }

    /// Reads and opens one block.
    pub(crate) fn read(&self, pointer: &Pointer, owner: Owner) -> FsResult<Vec<u8>> {
        let mut buffer = vec![0; usize::from(pointer.units) * UNIT];
        self.read_raw(pointer, &mut buffer)?;
        self.sealer.open(pointer, owner, &mut buffer)?;
        Ok(buffer)
    }

    /// Reads ciphertext of a run that starts at `pointer`'s address.
    pub(crate) fn read_raw(&self, pointer: &Pointer, buffer: &mut [u8]) -> FsResult<()> {
        if let Some(found) = self.in_backlog(pointer.address.0, buffer.len()) {
            buffer.copy_from_slice(&found);
            return Ok(());
        }
        let offset = pointer.address.0.saturating_mul(UNIT_U64);
        self.device.read_at(buffer, offset).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                FsError::Damaged(Damage::Pointer { block: pointer.address })
            }
            _ => FsError::Io(error),
        })
    }

    /// Says that these units will be read soon.
    pub(crate) fn prefetch(&self, units: Range<u64>) {
        let offset = units.start.saturating_mul(UNIT_U64);
        self.device.prefetch(offset, units.end.saturating_mul(UNIT_U64).saturating_sub(offset));
    }

    /// Writes sealed units; a full host keeps them pending in memory, where reads find them.
    pub(crate) fn write(&self, address: BlockNo, bytes: &[u8]) -> FsResult<()> {
        let mut backlog = self.backlog.write();
        let end = address.0 + (bytes.len() / UNIT) as u64;
        backlog
            .retain(|start, held| *start >= end || start + (held.len() / UNIT) as u64 <= address.0);
        match self.device.write_at(bytes, address.0.saturating_mul(UNIT_U64)) {
            Ok(()) => Ok(()),
            Err(error) if is_full(&error) => {
                if backlog.values().map(Vec::len).sum::<usize>() > BACKLOG_LIMIT {
                    return Err(FsError::NoSpace);
                }
                backlog.insert(address.0, bytes.to_vec());
                Ok(())
            }
            Err(error) => Err(FsError::Io(error)),
        }
    }

    /// Writes what is pending; fails with `NoSpace` while the host is full.
    pub(crate) fn drain_backlog(&self) -> FsResult<()> {
        let mut backlog = self.backlog.write();
        while let Some(entry) = backlog.first_entry() {
            let offset = entry.key().saturating_mul(UNIT_U64);
            match self.device.write_at(entry.get(), offset) {
                Ok(()) => drop(entry.remove()),
                Err(error) if is_full(&error) => return Err(FsError::NoSpace),
                Err(error) => return Err(FsError::Io(error)),
            }
        }
        Ok(())
    }

    fn in_backlog(&self, address: u64, len: usize) -> Option<Vec<u8>> {
        let backlog = self.backlog.read();
        let (start, held) = backlog.range(..=address).next_back()?;
        let skip = usize::try_from(address - start).ok()?.checked_mul(UNIT)?;
        held.get(skip..)?.get(..len).map(<[u8]>::to_vec)
    }

    /// The place of a tree's root.
    pub(crate) fn root_place(tree: TreeId, pointer: &Pointer) -> Place {
        Place {
            tree,
            level: pointer.level,
            birth: pointer.birth,
            lower: crate::format::key::Key::MIN,
            upper: None,
            root: true,
        }
    }
}
