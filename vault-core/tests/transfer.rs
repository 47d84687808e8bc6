//! Copying a vault: whole under new keys, interrupted anywhere and continued, and out of a damaged image.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::large_stack_arrays)]

mod common;

use common::files::{LARGE, LIMIT, SMALL, UNIT, sample, used_units};
use common::model::{Model, dump, run};
use common::operation::{Op, Random};
use common::{CREATOR, fresh, setup, setup_of};
use std::sync::Arc;
use vault_core::check::{Depth, check};
use vault_core::device::MemoryDevice;
use vault_core::error::FsError;
use vault_core::fs::transfer::{
    Care, CompareError, Copied, CopyError, LOST_AND_FOUND, Loss, Source, compare, copy,
};
use vault_core::fs::{OpenOptions, Opened, SetAttr, Setup, Volume, WriteOrigin, XattrMode};
use vault_core::ids::{Generation, InodeNo, VaultId};

const OTHER: VaultId = VaultId([8; 16]);

fn other(device: Arc<MemoryDevice>) -> Setup {
    setup_of(device, OTHER, 10)
}

fn new_target() -> (Arc<MemoryDevice>, Setup) {
    let device = Arc::new(MemoryDevice::new(2 * LIMIT));
    let setup = other(device.clone());
    Volume::format(&setup, 2 * LIMIT / 4096, (0, 0)).unwrap();
    (device, setup)
}

fn open(setup: &Setup) -> Volume {
    Volume::open(setup, &OpenOptions::default()).unwrap().0
}

fn source(setup: &Setup) -> Source {
    Source::open(setup, &OpenOptions::default()).unwrap()
}

/// A vault with everything that the model knows, sparse files, and a link with two names.
fn varied(seed: u64) -> Arc<MemoryDevice> {
    let device = Arc::new(MemoryDevice::new(LIMIT));
    let volume = fresh(device.clone(), LIMIT / 4096);
    let mut model = Model::new();
    let mut random = Random::new(seed);
    for _ in 0..400 {
        run(&mut model, &volume, &Op::random(&mut random, 100_000));
    }
    let root = InodeNo::ROOT;
    let sparse = volume.create(root, b"sparse", &common::files::REGULAR, &CREATOR).unwrap().inode;
    volume.write(sparse, 7 << 30, b"far away", WriteOrigin::Direct, false).unwrap();
    let size = SetAttr { size: Some(9 << 40), ..SetAttr::default() };
    volume.set_attr(sparse, &size).unwrap();
    volume.set_xattr(sparse, b"user.large", &[7; 30_000], XattrMode::Set).unwrap();
    volume.link(sparse, root, b"sparse-too").unwrap();
    volume.close().unwrap();
    device
}

#[test]
fn copy_under_other_keys_holds_the_same_and_is_clean() {
    for seed in 0..6 {
        let from = varied(seed);
        let (_, to) = new_target();
        let volume = open(&to);
        let origin = source(&setup(from.clone()));
        let copied = copy(&origin, &volume, Care::Strict, &mut |_| Ok(())).unwrap();
        assert_eq!(copied.files, origin.files());
        volume.close().unwrap();
        drop(volume);
        compare(&origin, &source(&to), &mut |_| Ok(())).unwrap();
        let report = check(&to, &OpenOptions::default(), Depth::Everything, &mut |_| Ok(()));
        assert_eq!(report.unwrap().findings, []);
    }
}

#[test]
fn comparison_sees_every_kind_of_difference() {
    type Change = fn(&Volume, InodeNo);
    let changes: [Change; 6] = [
        |volume, file| volume.write(file, 3, b"x", WriteOrigin::Writeback, false).unwrap(),
        |volume, file| volume.set_xattr(file, b"user.a", b"2", XattrMode::Set).unwrap(),
        |volume, file| {
            volume
                .set_attr(file, &SetAttr { uid: Some(3), ..SetAttr::default() })
                .map(|_| ())
                .unwrap();
        },
        |volume, _| {
            volume.make_dir(InodeNo::ROOT, b"more", 0o755, &CREATOR).map(|_| ()).unwrap();
        },
        |volume, _| volume.unlink(InodeNo::ROOT, b"file").unwrap(),
        |volume, file| {
            volume.link(file, InodeNo::ROOT, b"again").map(|_| ()).unwrap();
        },
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let device = Arc::new(MemoryDevice::new(LIMIT));
        let volume = fresh(device.clone(), LIMIT / 4096);
        let root = InodeNo::ROOT;
        let file = volume.create(root, b"file", &common::files::REGULAR, &CREATOR).unwrap().inode;
        volume.write(file, 0, &[5; 50_000], WriteOrigin::Direct, false).unwrap();
        volume.set_xattr(file, b"user.a", b"1", XattrMode::Set).unwrap();
        volume.close().unwrap();
        let origin = source(&setup(device));
        let (_, to) = new_target();
        let target = open(&to);
        copy(&origin, &target, Care::Strict, &mut |_| Ok(())).unwrap();
        compare(&origin, &source(&to), &mut |_| Ok(())).unwrap();
        let copied = target.lookup(root, b"file").unwrap().inode;
        change(&target, copied);
        target.close().unwrap();
        drop(target);
        let verdict = compare(&origin, &source(&to), &mut |_| Ok(()));
        assert!(
            matches!(verdict, Err(CompareError::Differs { .. })),
            "change {number}: {verdict:?}"
        );
    }
}

/// Stops the copy after some steps and throws away what was not committed, again and again.
#[test]
fn copy_interrupted_anywhere_is_continued() {
    let from = varied(3);
    let origin = source(&setup(from));
    let mut random = Random::new(12);
    for _ in 0..40 {
        let (device, to) = new_target();
        let mut tries = 0;
        loop {
            let volume = open(&to);
            let mut left = 20 + random.below(250);
            let outcome = copy(&origin, &volume, Care::Strict, &mut |_| {
                left = left.saturating_sub(1);
                if left.is_multiple_of(40) {
                    volume.sync()?;
                }
                if left == 0 { Err(FsError::NotPermitted) } else { Ok(()) }
            });
            tries += 1;
            match outcome {
                Ok(_) => {
                    volume.close().unwrap();
                    break;
                }
                Err(CopyError::Source(FsError::NotPermitted)) => {}
                Err(error) => panic!("{error:?}"),
            }
            assert!(tries < 200, "no progress");
        }
        drop(device);
        compare(&origin, &source(&to), &mut |_| Ok(())).unwrap();
    }
}

/// What was changed in the source between the interruption and the next try comes out as it is now.
#[test]
fn continued_copy_follows_a_changed_source() {
    let from = varied(5);
    let (_, to) = new_target();
    let volume = open(&to);
    copy(&source(&setup(from.clone())), &volume, Care::Strict, &mut |_| Ok(())).unwrap();
    let changed = common::reopen(from.clone());
    // The model holds whole files in memory.
    let sparse = changed.lookup(InodeNo::ROOT, b"sparse").unwrap().inode;
    changed.unlink(InodeNo::ROOT, b"sparse").unwrap();
    changed.unlink(InodeNo::ROOT, b"sparse-too").unwrap();
    changed.forget(sparse).unwrap();
    let mut model = Model::of(&changed);
    let mut random = Random::new(99);
    for _ in 0..200 {
        run(&mut model, &changed, &Op::random(&mut random, 50_000));
    }
    changed.close().unwrap();
    drop(changed);
    let origin = source(&setup(from));
    copy(&origin, &volume, Care::Strict, &mut |_| Ok(())).unwrap();
    volume.close().unwrap();
    drop(volume);
    compare(&origin, &source(&to), &mut |_| Ok(())).unwrap();
}

#[test]
fn copy_of_a_damaged_image_is_refused_unless_it_is_a_rescue() {
    let (mut image, _) = sample(LARGE);
    let report = check(
        &setup(Arc::new(MemoryDevice::from_bytes(image.clone(), LIMIT))),
        &OpenOptions::default(),
        Depth::Everything,
        &mut |_| Ok(()),
    );
    let units: Vec<u64> = report.unwrap().used.units().filter(|unit| *unit >= 16).collect();
    let unit = units[units.len() / 2] as usize;
    image[unit * UNIT..(unit + 1) * UNIT].fill(0);
    let setup = setup(Arc::new(MemoryDevice::from_bytes(image, LIMIT)));
    let (_, to) = new_target();
    let outcome = copy(&source(&setup), &open(&to), Care::Strict, &mut |_| Ok(()));
    assert!(matches!(outcome, Err(CopyError::Source(FsError::Damaged(_)))), "{outcome:?}");
}

fn rescue(image: Vec<u8>) -> Option<(Volume, Setup, Copied, Opened)> {
    let from = setup(Arc::new(MemoryDevice::from_bytes(image, LIMIT)));
    let origin = Source::rescue(&from, &OpenOptions::default()).ok()?;
    let device = Arc::new(MemoryDevice::new(2 * LIMIT));
    let to = setup(device);
    let above = Generation(origin.highest_generation().0 + 1);
    Volume::format_above(&to, 2 * LIMIT / 4096, (0, 0), above).unwrap();
    let volume = open(&to);
    assert!(volume.anchor().generation > above);
    let copied = copy(&origin, &volume, Care::Rescue, &mut |_| Ok(())).unwrap();
    volume.close().unwrap();
    Some((volume, to, copied, origin.opened()))
}

fn find(volume: &Volume, path: &[u8]) -> Option<InodeNo> {
    let mut parts = path.split(|&byte| byte == b'/');
    parts.try_fold(InodeNo::ROOT, |at, name| Some(volume.lookup(at, name).ok()?.inode))
}

/// Random blocks are zeroed. Every file that can still be read by its inode comes out byte for byte, at
/// its own place or in lost+found; every other one is named as lost; and what stands at its own place is
/// whole.
#[test]
fn every_undamaged_file_comes_out_byte_for_byte() {
    let mut random = Random::new(77);
    let (mut whole, mut found_again, mut lost) = (0, 0, 0);
    for sizes in [SMALL, LARGE] {
        let (image, files) = sample(sizes);
        let units = used_units(&image);
        for _ in 0..40 {
            let mut hurt = image.clone();
            for _ in 0..=random.below(12) {
                let unit = units[random.below(units.len() as u64) as usize];
                hurt[unit * UNIT..(unit + 1) * UNIT].fill(0);
            }
            let Some((volume, to, copied, opened)) = rescue(hurt.clone()) else { continue };
            if opened.stepped_back.is_some() {
                // The newest root is gone; an older state says nothing of later files.
                continue;
            }
            let device = Arc::new(MemoryDevice::from_bytes(hurt, LIMIT));
            let options = OpenOptions { read_only: true, ..OpenOptions::default() };
            let damaged = Volume::open(&setup(device), &options).unwrap().0;
            for (path, (inode, content)) in &files {
                let readable =
                    damaged.read(*inode, 0, content.len()).is_ok_and(|bytes| bytes == *content);
                let told = copied.lost.iter().find(|lost| lost.inode == *inode);
                if let Some(at) = find(&volume, path) {
                    let bytes = volume.read(at, 0, content.len() + 1).unwrap();
                    assert!(bytes == *content, "{} is not whole", String::from_utf8_lossy(path));
                    whole += 1;
                    continue;
                }
                if readable {
                    let places = volume.lookup(InodeNo::ROOT, LOST_AND_FOUND).unwrap().inode;
                    let own = format!("inode-{inode}");
                    let below = path.rsplit(|&byte| byte == b'/').next().unwrap();
                    let mut candidates = vec![volume.lookup(places, own.as_bytes()).ok()];
                    volume
                        .read_dir(places, 2, &mut |entry| {
                            candidates.push(volume.lookup(entry.inode, below).ok());
                            true
                        })
                        .unwrap();
                    let same = candidates.into_iter().flatten().any(|attr| {
                        volume.read(attr.inode, 0, content.len() + 1).unwrap() == *content
                    });
                    assert!(same, "{} did not come out", String::from_utf8_lossy(path));
                    found_again += 1;
                } else {
                    let named = told.is_some_and(|lost| lost.loss != Loss::Nameless)
                        || copied.lost.iter().any(|lost| {
                            let above = path.starts_with(&lost.path)
                                || lost.path.starts_with(LOST_AND_FOUND);
                            above && matches!(lost.loss, Loss::Entries | Loss::Gone)
                        });
                    assert!(named, "{} is not told", String::from_utf8_lossy(path));
                    lost += 1;
                }
            }
            drop(volume);
            let report = check(&to, &options, Depth::Everything, &mut |_| Ok(())).unwrap();
            assert_eq!(report.findings, []);
        }
    }
    println!("{whole} at their place, {found_again} in lost+found, {lost} lost");
    assert!(whole > 1000 && found_again > 20 && lost > 20, "{whole} {found_again} {lost}");
}

/// The newest root is gone, and an older generation still has one.
#[test]
fn older_generation_is_rescued_when_the_newest_root_is_gone() {
    let device = Arc::new(MemoryDevice::new(LIMIT));
    let volume = fresh(device.clone(), LIMIT / 4096);
    let root = InodeNo::ROOT;
    let file = volume.create(root, b"old", &common::files::REGULAR, &CREATOR).unwrap().inode;
    volume.write(file, 0, &[5; 50_000], WriteOrigin::Direct, false).unwrap();
    volume.sync().unwrap();
    let before = device.snapshot();
    volume.create(root, b"new", &common::files::REGULAR, &CREATOR).unwrap();
    volume.sync().unwrap();
    let after = device.snapshot();
    // What the last commit wrote, except its superblock, is destroyed.
    let mut hurt = after.clone();
    for unit in 16..after.len() / UNIT {
        let range = unit * UNIT..(unit + 1) * UNIT;
        if before.get(range.clone()) != Some(&after[range.clone()]) {
            hurt[range].fill(0);
        }
    }
    let (rescued, _, _, opened) = rescue(hurt).unwrap();
    assert!(opened.stepped_back.is_some());
    let at = rescued.lookup(root, b"old").unwrap().inode;
    assert_eq!(rescued.read(at, 0, 60_000).unwrap(), [5; 50_000]);
    assert!(rescued.lookup(root, b"new").is_err());
    assert!(dump(&rescued).is_ok());
}
