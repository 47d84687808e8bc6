//! For tests and fuzzing: known keys, and images that a hostile author would make.
//!
//! Such an author holds the volume key, so everything he writes is authentic. [`forge`] stands in for
//! him: it takes plain leaves from the bytes it is given and builds around them whatever has to be
//! right for a reader to come that far.

use crate::codec::Writer;
use crate::crypto::secret::SecretBytes;
use crate::crypto::subkeys::Subkeys;
use crate::device::BlockDevice;
use crate::format::key::Key;
use crate::format::node::{self, TreeId};
use crate::format::pointer::{BlockKind, FIRST_BLOCK, Pointer};
use crate::format::superblock::{FIRST_SLOT_UNIT, SealedSlot, Superblock, slot_aad};
use crate::fs::Setup;
use crate::ids::{BlockNo, Generation, InodeNo, UNIT, UNIT_U64, VaultId};
use crate::ports::{Clock, SystemEntropy, Timestamp};
use crate::store::sealed::{Identity, Owner, Sealer};
use std::sync::Arc;

/// The vault that all forged images claim to be.
pub const VAULT: VaultId = VaultId([7; 16]);
/// Data blocks that a forged image holds for the leaves to point to: inode, block.
const DATA: [(u64, u64); 2] = [(2, 0), (3, 1)];
const BIRTH: Generation = Generation(1);
const SEPARATOR: [u8; 4] = *b"LEAF";
const MOST_LEAVES: usize = 16;

struct Standstill;

impl Clock for Standstill {
    fn now(&self) -> Timestamp {
        Timestamp { seconds: 1_700_000_000, nanos: 0 }
    }
}

/// Returns a setup over a device, with the same keys each time.
pub fn known_setup(device: Arc<dyn BlockDevice>) -> Setup {
    Setup {
        device,
        keys: Arc::new(keys()),
        vault: VAULT,
        block_shift: 14,
        header_sequence: 1,
        entropy: Arc::new(SystemEntropy),
        clock: Arc::new(Standstill),
    }
}

fn keys() -> Subkeys {
    Subkeys::derive(&SecretBytes::init(|key| key.fill(9)), VAULT)
}

/// An image being forged.
struct Forge {
    sealer: Sealer,
    image: Vec<u8>,
}

/// Makes an image whose leaves are taken from `bytes`, separated by `LEAF`: each one is the packed items
/// of a leaf, to which head and padding are added. `None` if they do not fit into nodes.
///
/// A leaf may refer to two sealed data blocks that exist, at units 16 and 17, of inode 2 block 0 and
/// inode 3 block 1: wherever the 48 bytes of nonce and tag in an extent are zero, those of the block at
/// its address are put in.
pub fn forge(bytes: &[u8]) -> Option<Vec<u8>> {
    let sealer = Sealer::new(VAULT, Arc::new(keys()), Arc::new(SystemEntropy));
    let image = vec![0; usize::try_from(FIRST_BLOCK).ok()? * UNIT];
    let mut forge = Forge { sealer, image };
    let mut data = Vec::new();
    for (inode, block) in DATA {
        let owner = Owner::data(InodeNo(inode), block);
        data.push(forge.seal(BlockKind::Data, 0, owner, vec![b'x'; UNIT])?);
    }
    let mut children = Vec::new();
    for part in split(bytes).take(MOST_LEAVES) {
        let items = with_pointers(part, &data);
        let count = node::count_items(&items)?;
        let first = Key::decode(&mut crate::codec::Reader::new(&items)).ok()?;
        let mut out = node::start(items.len());
        out.bytes(&items);
        if out.len() > TreeId::FileSystem.max_node() {
            return None;
        }
        let plain = node::finish(out, TreeId::FileSystem, 0, count);
        let owner = Owner::tree(TreeId::FileSystem);
        children.push((first, forge.seal(BlockKind::Node, 0, owner, plain)?));
    }
    let root = forge.root(&children)?;
    let map = node::finish(node::start(UNIT), TreeId::Allocation, 0, 0);
    let map = forge.seal(BlockKind::Node, 0, Owner::tree(TreeId::Allocation), map)?;
    forge.superblock(root, map)
}

impl Forge {
    fn seal(
        &mut self,
        kind: BlockKind,
        level: u8,
        owner: Owner,
        mut plain: Vec<u8>,
    ) -> Option<Pointer> {
        let address = BlockNo((self.image.len() / UNIT) as u64);
        let identity = Identity { kind, level, address, birth: BIRTH, owner };
        let pointer = self.sealer.seal(&identity, &mut plain).ok()?;
        self.image.extend_from_slice(&plain);
        Some(pointer)
    }

    fn root(&mut self, children: &[(Key, Pointer)]) -> Option<Pointer> {
        let mut out = node::start(UNIT);
        for (key, pointer) in children {
            key.encode(&mut out);
            pointer.encode(&mut out);
        }
        let level = u8::from(!children.is_empty());
        let plain = node::finish(out, TreeId::FileSystem, level, children.len());
        self.seal(BlockKind::Node, level, Owner::tree(TreeId::FileSystem), plain)
    }

    fn superblock(mut self, fs_root: Pointer, allocation_root: Pointer) -> Option<Vec<u8>> {
        let length = (self.image.len() / UNIT) as u64;
        let superblock = Superblock {
            header_sequence: 1,
            proven: true,
            capacity: 2048,
            length,
            allocated: length,
            reserved: 0,
            next_inode: 1 << 40,
            inodes: 3,
            fs_root,
            allocation_root,
            committed_at: 0,
        };
        let mut body = superblock.encode_body();
        let nonce = self.sealer.nonce().ok()?;
        let aad = slot_aad(VAULT, BIRTH, 0);
        let tag = self.sealer.keys().superblock.seal(&nonce, &aad, &mut body);
        let unit = SealedSlot { generation: BIRTH, nonce, tag, body }.encode(VAULT);
        let start = usize::try_from(FIRST_SLOT_UNIT * UNIT_U64).ok()?;
        self.image.get_mut(start..start + UNIT)?.copy_from_slice(&unit);
        Some(self.image)
    }
}

fn split(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(bytes);
    std::iter::from_fn(move || {
        let bytes = rest?;
        let at = bytes.windows(SEPARATOR.len()).position(|window| window == SEPARATOR);
        let (part, later) = match at {
            Some(at) => (bytes.get(..at)?, bytes.get(at + SEPARATOR.len()..)),
            None => (bytes, None),
        };
        rest = later;
        Some(part)
    })
}

/// Puts the real nonce and tag where a pointer to one of the data blocks has zeros.
fn with_pointers(part: &[u8], data: &[Pointer]) -> Vec<u8> {
    let mut items = part.to_vec();
    for pointer in data {
        let mut whole = Writer::with_capacity(Pointer::LEN);
        pointer.encode(&mut whole);
        let whole = whole.finish();
        let Some((place, secret)) = whole.split_at_checked(24) else { continue };
        let mut wanted = place.to_vec();
        wanted.resize(Pointer::LEN, 0);
        let found = items.windows(Pointer::LEN).position(|window| window == wanted);
        if let Some(target) = found.and_then(|at| items.get_mut(at + 24..at + Pointer::LEN)) {
            target.copy_from_slice(secret);
        }
    }
    items
}
