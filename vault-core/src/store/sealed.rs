//! Sealing and opening one block (FORMAT.md section 6).

use crate::codec::Writer;
use crate::crypto::aead::{Nonce, SealingKey};
use crate::crypto::subkeys::Subkeys;
use crate::error::{Damage, EntropyError};
use crate::format::node::TreeId;
use crate::format::pointer::{BlockKind, Pointer};
use crate::ids::{BlockNo, Generation, InodeNo, UNIT, VaultId};
use crate::ports::Entropy;
use std::sync::Arc;

/// Whose block it is: known from where its pointer stands, and part of its AAD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    object: u64,
    index: u64,
}

impl Owner {
    /// The owner of a tree's nodes.
    pub(crate) fn tree(tree: TreeId) -> Self {
        Self { object: u64::from(tree.byte()), index: 0 }
    }

    /// The owner of a file's data block.
    pub(crate) fn data(inode: InodeNo, block: u64) -> Self {
        Self { object: inode.0, index: block }
    }
}

/// What a block is, apart from its content.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    pub(crate) kind: BlockKind,
    pub(crate) level: u8,
    pub(crate) address: BlockNo,
    pub(crate) birth: Generation,
    pub(crate) owner: Owner,
}

/// Seals and opens blocks of one vault.
pub(crate) struct Sealer {
    vault: VaultId,
    keys: Arc<Subkeys>,
    entropy: Arc<dyn Entropy>,
}

impl Sealer {
    pub(crate) fn new(vault: VaultId, keys: Arc<Subkeys>, entropy: Arc<dyn Entropy>) -> Self {
        Self { vault, keys, entropy }
    }

    pub(crate) fn vault(&self) -> VaultId {
        self.vault
    }

    pub(crate) fn keys(&self) -> &Subkeys {
        &self.keys
    }

    /// Draws a fresh nonce.
    pub(crate) fn nonce(&self) -> Result<Nonce, EntropyError> {
        Nonce::random(&*self.entropy)
    }

    /// Seals whole units in place and returns the pointer that opens them.
    pub(crate) fn seal(
        &self,
        identity: &Identity,
        buffer: &mut [u8],
    ) -> Result<Pointer, EntropyError> {
        debug_assert!(buffer.len().is_multiple_of(UNIT), "blocks are whole units");
        let units = u16::try_from(buffer.len() / UNIT).expect("blocks have at most 32 units");
        let nonce = self.nonce()?;
        let aad = self.aad(identity, units);
        let tag = self.key(identity.kind).seal(&nonce, &aad, buffer);
        let Identity { kind, level, address, birth, .. } = *identity;
        Ok(Pointer { address, birth, units, kind, level, nonce, tag })
    }

    /// Opens a block in place.
    pub(crate) fn open(
        &self,
        pointer: &Pointer,
        owner: Owner,
        buffer: &mut [u8],
    ) -> Result<(), Damage> {
        let Pointer { address, birth, kind, level, .. } = *pointer;
        let aad = self.aad(&Identity { kind, level, address, birth, owner }, pointer.units);
        self.key(kind)
            .open(&pointer.nonce, &aad, buffer, &pointer.tag)
            .map_err(|_| Damage::Block { block: address, birth })
    }

    fn key(&self, kind: BlockKind) -> &SealingKey {
        match kind {
            BlockKind::Node => &self.keys.metadata,
            BlockKind::Data => &self.keys.data,
        }
    }

    fn aad(&self, identity: &Identity, units: u16) -> Vec<u8> {
        let mut aad = Writer::with_capacity(64);
        aad.bytes(b"TZBLOCK\n")
            .bytes(&self.vault.0)
            .u64(identity.address.0)
            .u64(identity.birth.0)
            .u16(units)
            .u8(identity.kind.byte())
            .u8(identity.level)
            .zeros(4)
            .u64(identity.owner.object)
            .u64(identity.owner.index);
        aad.finish()
    }
}
