//! Superblocks: the slot as it lies in the image, and the body as a hostile author may have sealed it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vault_core::format::superblock::{SealedSlot, Superblock};
use vault_core::ids::{Generation, VaultId};

fuzz_target!(|bytes: &[u8]| {
    let vault = VaultId([7; 16]);
    if let Ok(slot) = SealedSlot::decode(bytes, vault) {
        assert_eq!(slot.encode(vault), bytes, "a slot has one encoding");
    }
    let generation = Generation(u64::from(bytes.first().copied().unwrap_or(0)) << 8);
    if let Ok(superblock) = Superblock::decode_body(bytes, generation) {
        assert!(superblock.length <= superblock.capacity);
        assert!(superblock.fs_root.birth <= generation);
        assert_eq!(superblock.encode_body(), bytes, "a body has one encoding");
    }
});
