//! Tampering with a closed image: any byte flipped, blocks swapped, moved, replayed or cut off give an
//! error or the very same content; never other bytes, and never a panic.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod common;

use common::model::{Model, dump, run};
use common::operation::{Op, Random};
use common::{fresh, reopen, setup};
use std::sync::Arc;
use vault_core::device::MemoryDevice;
use vault_core::error::FsResult;
use vault_core::fs::{MountError, OpenOptions, Volume};
use vault_core::witness::{Rollback, Witness};

const UNIT: usize = 4096;
const LIMIT: u64 = 64 << 20;

/// An image with a tree that has everything, its older self, and what it holds.
struct Sample {
    older: Vec<u8>,
    image: Vec<u8>,
    tree: String,
    witness: Witness,
}

fn sample() -> Sample {
    let device = Arc::new(MemoryDevice::new(LIMIT));
    let volume = fresh(device.clone(), LIMIT / 4096);
    let mut model = Model::new();
    let mut random = Random::new(4711);
    for _ in 0..300 {
        run(&mut model, &volume, &Op::random(&mut random, 60_000));
    }
    volume.close().unwrap();
    let older = device.snapshot();
    for _ in 0..60 {
        run(&mut model, &volume, &Op::random(&mut random, 60_000));
    }
    volume.close().unwrap();
    let witness = volume.anchor();
    drop(volume);
    let mut image = device.snapshot();
    let used = reopen(device).stat_fs();
    let units = (used.total - used.free) as usize;
    assert!(units > 100, "the sample holds only {units} units");
    // Free space at the end holds nothing to tamper with.
    let end = image.iter().rposition(|&byte| byte != 0).unwrap() / UNIT + 1;
    image.truncate(image.len().max(end * UNIT));
    Sample { older, image, tree: model.dump(), witness }
}

fn read_tree(image: Vec<u8>, witness: Option<Witness>) -> Result<FsResult<String>, MountError> {
    let device = Arc::new(MemoryDevice::from_bytes(image, LIMIT));
    let options = OpenOptions { read_only: true, witness, ..OpenOptions::default() };
    Volume::open(&setup(device), &options).map(|(volume, _)| dump(&volume))
}

/// The image opens at the right state or not at all, with and without a witness. Returns whether it
/// was refused.
fn judge(sample: &Sample, image: &[u8], what: &str) -> bool {
    let mut refused = false;
    for witness in [None, Some(sample.witness)] {
        match read_tree(image.to_vec(), witness) {
            Ok(Ok(tree)) => assert!(tree == sample.tree, "{what}: other content was returned"),
            Ok(Err(_)) | Err(_) => refused = true,
        }
    }
    refused
}

fn units_in_use(sample: &Sample) -> Vec<usize> {
    (0..sample.image.len() / UNIT)
        .filter(|unit| sample.image[unit * UNIT..(unit + 1) * UNIT].iter().any(|&byte| byte != 0))
        .collect()
}

#[test]
fn flipped_byte_in_any_unit_is_an_error_or_changes_nothing() {
    let sample = sample();
    let mut random = Random::new(1);
    let mut refused = 0;
    for unit in units_in_use(&sample) {
        for at in [0, 1 + random.below(4094) as usize, 4095] {
            let mut image = sample.image.clone();
            image[unit * UNIT + at] ^= 1 << random.below(8);
            refused += usize::from(judge(&sample, &image, &format!("unit {unit} byte {at}")));
        }
    }
    assert!(refused > 100, "only {refused} flips were noticed");
}

#[test]
fn swapped_moved_and_zeroed_units_are_an_error_or_change_nothing() {
    let sample = sample();
    let mut random = Random::new(2);
    let units = units_in_use(&sample);
    let mut refused = 0;
    for &unit in &units {
        let other = units[random.below(units.len() as u64) as usize];
        let (a, b) = (unit * UNIT..(unit + 1) * UNIT, other * UNIT..(other + 1) * UNIT);
        let mut swapped = sample.image.clone();
        swapped[a.clone()].copy_from_slice(&sample.image[b.clone()]);
        swapped[b.clone()].copy_from_slice(&sample.image[a.clone()]);
        refused +=
            usize::from(judge(&sample, &swapped, &format!("units {unit} and {other} swapped")));
        let mut moved = sample.image.clone();
        moved.copy_within(a.clone(), b.start);
        judge(&sample, &moved, &format!("unit {unit} copied over {other}"));
        let mut zeroed = sample.image.clone();
        zeroed[a].fill(0);
        judge(&sample, &zeroed, &format!("unit {unit} zeroed"));
    }
    assert!(refused > 50, "only {refused} swaps were noticed");
}

#[test]
fn replayed_units_are_an_error_or_change_nothing() {
    let sample = sample();
    let mut differing = 0;
    for unit in 0..sample.older.len().min(sample.image.len()) / UNIT {
        let range = unit * UNIT..(unit + 1) * UNIT;
        if sample.older[range.clone()] == sample.image[range.clone()] {
            continue;
        }
        differing += 1;
        let mut image = sample.image.clone();
        image[range.clone()].copy_from_slice(&sample.older[range]);
        judge(&sample, &image, &format!("unit {unit} replayed"));
    }
    assert!(differing > 20, "only {differing} units differ");
}

#[test]
fn truncated_image_is_an_error_at_every_length() {
    let sample = sample();
    for units in 0..sample.image.len() / UNIT {
        let mut image = sample.image.clone();
        image.truncate(units * UNIT);
        assert!(judge(&sample, &image, &format!("cut to {units} units")));
    }
}

#[test]
fn older_image_is_refused_when_a_newer_one_was_seen() {
    let sample = sample();
    // Without a witness the older image is as good as any: the check below could fail.
    assert!(read_tree(sample.older.clone(), None).unwrap().is_ok());
    let refused = read_tree(sample.older.clone(), Some(sample.witness));
    assert!(matches!(refused, Err(MountError::RolledBack(Rollback::Older { .. }))));
    let device = Arc::new(MemoryDevice::from_bytes(sample.older, LIMIT));
    let options = OpenOptions { read_only: true, ..OpenOptions::default() };
    let found = Volume::open(&setup(device.clone()), &options).unwrap().1.generation;
    let accepting = OpenOptions {
        witness: Some(sample.witness),
        accept_generation: Some(found),
        ..OpenOptions::default()
    };
    let volume = Volume::open(&setup(device), &accepting).unwrap().0;
    volume.make_dir(vault_core::ids::InodeNo::ROOT, b"after", 0o755, &common::CREATOR).unwrap();
    volume.sync().unwrap();
    assert!(volume.anchor().generation > sample.witness.generation);
}

#[test]
fn two_histories_of_one_generation_are_told_apart() {
    let sample = sample();
    let fork = |name: &[u8]| {
        let device = Arc::new(MemoryDevice::from_bytes(sample.image.clone(), LIMIT));
        let volume = reopen(device.clone());
        let root = vault_core::ids::InodeNo::ROOT;
        volume.make_dir(root, name, 0o755, &common::CREATOR).unwrap();
        volume.close().unwrap();
        (volume.anchor(), device.snapshot())
    };
    let (seen, _) = fork(b"one");
    let (other, image) = fork(b"two");
    assert_eq!(seen.generation, other.generation);
    let refused = read_tree(image, Some(seen));
    assert!(matches!(refused, Err(MountError::RolledBack(Rollback::Fork { .. }))));
}
