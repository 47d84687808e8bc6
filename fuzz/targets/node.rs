//! Tree nodes as a hostile author may have sealed them, in any place of either tree.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vault_core::format::inode::Inode;
use vault_core::format::key::Key;
use vault_core::format::node::{Items, Place, TreeId, decode};
use vault_core::ids::Generation;

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let place = Place {
        tree: if choice & 1 == 0 { TreeId::FileSystem } else { TreeId::Allocation },
        level: choice >> 4,
        birth: Generation(1000),
        lower: Key::MIN,
        upper: (choice & 2 != 0).then_some(Key { object: 1 << 32, kind: 0, offset: 0 }),
        root: choice & 4 != 0,
    };
    match decode(bytes, &place) {
        Ok(Items::Leaf(items)) => {
            assert!(items.windows(2).all(|pair| pair[0].0 < pair[1].0), "keys ascend");
            for (_, value) in items {
                if let Ok(inode) = Inode::decode(&value) {
                    assert_eq!(inode.encode(), &*value, "an inode has one encoding");
                }
            }
        }
        Ok(Items::Branch(children)) => {
            assert!(children.windows(2).all(|pair| pair[0].0 < pair[1].0), "keys ascend");
        }
        Err(_) => {}
    }
});
