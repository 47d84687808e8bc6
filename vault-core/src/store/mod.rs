//! Sealed blocks, free space, and the commits that make them a vault.
//!
//! Nothing above this folder ever sees ciphertext, and nothing below it knows files. The invariants
//! INV-1 to INV-6 of FORMAT.md section 9 are kept here: `alloc` keeps INV-2 and INV-3, `ring`
//! INV-4 to INV-6, `commit` INV-1.

pub(crate) mod alloc;
pub(crate) mod batch;
pub(crate) mod blocks;
pub(crate) mod cache;
pub(crate) mod commit;
pub(crate) mod pool;
pub(crate) mod recovery;
pub(crate) mod ring;
pub(crate) mod sealed;
