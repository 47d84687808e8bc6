//! Random operations on a volume and on a model: the same answers, the same tree, also after
//! reopening, and a clean check.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod common;

use common::model::{Model, dump, run, same};
use common::operation::{Op, Random};
use common::{fresh, reopen, setup};
use std::sync::Arc;
use vault_core::check::{Depth, check};
use vault_core::device::MemoryDevice;
use vault_core::fs::OpenOptions;

fn sequence(seed: u64, operations: usize, capacity: u64, largest: u64) {
    let device = Arc::new(MemoryDevice::new(capacity * 4096));
    let mut volume = fresh(device.clone(), capacity);
    let mut model = Model::new();
    let mut random = Random::new(seed);
    for step in 0..operations {
        let op = Op::random(&mut random, largest);
        let Some((ideal, real)) = run(&mut model, &volume, &op) else { continue };
        assert!(same(&ideal, &real), "seed {seed} step {step} {op:?}: {ideal:?} is not {real:?}");
        match random.below(60) {
            0 => volume.sync().unwrap(),
            1 => volume.settle().unwrap(),
            2 => {
                volume.close().unwrap();
                drop(volume);
                volume = reopen(device.clone());
            }
            _ => {}
        }
        if random.below(20) == 0 {
            assert_eq!(model.dump(), dump(&volume).unwrap(), "seed {seed} step {step}");
        }
    }
    assert_eq!(model.dump(), dump(&volume).unwrap(), "seed {seed} at the end");
    volume.close().unwrap();
    drop(volume);
    let options = OpenOptions::default();
    let report = check(&setup(device), &options, Depth::Everything, &mut |_| Ok(())).unwrap();
    assert!(report.is_clean(), "seed {seed}: {:?}", report.findings);
}

#[test]
fn volume_behaves_like_the_model() {
    for seed in 0..150 {
        sequence(seed, 300, 65_536, 400_000);
    }
}

#[test]
fn small_volume_that_runs_full_behaves_like_the_model() {
    for seed in 1000..1150 {
        sequence(seed, 400, 1536, 600_000);
    }
}

#[test]
fn long_sequences_on_a_large_tree_behave_like_the_model() {
    for seed in 2000..2004 {
        sequence(seed, 4000, 262_144, 100_000);
    }
}
