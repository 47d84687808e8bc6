//! An image full of files whose content is known, to be damaged.

use super::operation::Random;
use super::{CREATOR, fresh};
use std::collections::BTreeMap;
use std::sync::Arc;
use vault_core::device::MemoryDevice;
use vault_core::fs::{FileKind, NewFile, WriteOrigin};
use vault_core::ids::InodeNo;

pub const UNIT: usize = 4096;
pub const LIMIT: u64 = 32 << 20;
pub const LARGE: [usize; 6] = [0, 10, 1500, 5000, 40_000, 200_000];
pub const SMALL: [usize; 6] = [0, 10, 100, 1500, 2000, 6000];
pub const REGULAR: NewFile = NewFile { kind: FileKind::Regular, permissions: 0o644, device: 0 };

/// Path, inode and content of each file.
pub type Files = BTreeMap<Vec<u8>, (InodeNo, Vec<u8>)>;

/// A closed image with files of all sizes in some folders.
pub fn sample(sizes: [usize; 6]) -> (Vec<u8>, Files) {
    let device = Arc::new(MemoryDevice::new(LIMIT));
    let volume = fresh(device.clone(), LIMIT / 4096);
    let mut files = BTreeMap::new();
    let mut random = Random::new(8);
    for folder in 0..12 {
        let name = format!("folder-{folder}").into_bytes();
        let at = volume.make_dir(InodeNo::ROOT, &name, 0o755, &CREATOR).unwrap().inode;
        for file in 0..20 {
            let len = sizes[random.below(6) as usize];
            let content: Vec<u8> = (0..len).map(|i| (i / 64 + folder + file) as u8 | 1).collect();
            let own = format!("a-file-with-a-longer-name-{file}").into_bytes();
            let inode = volume.create(at, &own, &REGULAR, &CREATOR).unwrap().inode;
            volume.write(inode, 0, &content, WriteOrigin::Direct, false).unwrap();
            files.insert([&name[..], b"/", &own].concat(), (inode, content));
        }
    }
    volume.close().unwrap();
    drop(volume);
    (device.snapshot(), files)
}

/// The units behind the ring that hold anything.
pub fn used_units(image: &[u8]) -> Vec<usize> {
    let zero = |unit: &usize| image[unit * UNIT..(unit + 1) * UNIT].iter().any(|&byte| byte != 0);
    (16..image.len() / UNIT).filter(zero).collect()
}
