//! A file system from a hostile author: sixteen blocks, of which all but the superblock's fixed part are his.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::collections::HashSet;
use std::sync::Arc;
use vault_core::device::MemoryDevice;
use vault_core::foreign::Plain;
use vault_core::foreign::ext4::{Ext4, ROOT};
use vault_core::fs::FileKind;

const BLOCK: usize = 1024;
const BLOCKS: usize = 16;
/// Fields of the superblock that must be right for anything else to be read: offset and bytes.
const FIXED: [(usize, &[u8]); 12] = [
    (0, &[24, 0, 0, 0]),
    (4, &[16, 0, 0, 0]),
    (20, &[1, 0, 0, 0]),
    (24, &[0, 0, 0, 0]),
    (32, &[0, 32, 0, 0]),
    (40, &[24, 0, 0, 0]),
    (56, &[0x53, 0xef]),
    (76, &[1, 0, 0, 0]),
    (88, &[0, 1]),
    (97, &[2, 0, 0]),
    (100, &[0, 0, 0, 0]),
    (336, &[0, 0, 0, 0]),
];

fuzz_target!(|bytes: &[u8]| {
    let mut image = vec![0; BLOCK * BLOCKS];
    for (byte, new) in image[BLOCK..].iter_mut().zip(bytes) {
        *byte = *new;
    }
    for (at, fixed) in FIXED {
        image[BLOCK + at..BLOCK + at + fixed.len()].copy_from_slice(fixed);
    }
    // Extents and file types are always there; 64 bits and a journal may be.
    image[BLOCK + 96] = image[BLOCK + 96] & 0x84 | 0x42;
    let device = Arc::new(MemoryDevice::from_bytes(image, 1 << 20));
    let plain = Plain::new(device).expect("memory has a length");
    let Ok(fs) = Ext4::open(Arc::new(plain)) else { return };
    let mut entered = HashSet::from([ROOT]);
    let mut pending = vec![ROOT];
    while let Some(number) = pending.pop() {
        let Ok(node) = fs.node(number) else { continue };
        let _ = fs.xattrs(&node);
        let _ = fs.link_target(&node);
        if let Ok(runs) = fs.runs(&node) {
            let mut buffer = [0; 3000];
            let _ = fs.read(&runs, 100, &mut buffer);
            let _ = fs.read(&runs, u64::MAX - 5, &mut buffer);
        }
        if node.kind == FileKind::Directory {
            for (_, below) in fs.read_dir(&node).unwrap_or_default() {
                if entered.insert(below) {
                    pending.push(below);
                }
            }
        }
    }
});
