//! Storage that fails: for every n, the n-th call fails with an I/O error, or the host is full for a
//! while. The error surfaces, nothing that was promised is lost, and the image opens again.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod common;

use common::model::{Model, dump, run, same};
use common::operation::{Op, Random};
use common::{fresh, setup};
use std::sync::Arc;
use vault_core::check::{Depth, check};
use vault_core::device::MemoryDevice;
use vault_core::device::faulty::{Fault, FaultyDevice};
use vault_core::error::FsError;
use vault_core::fs::{Health, OpenOptions, Volume};

const CAPACITY: u64 = 2048;
const LIMIT: u64 = CAPACITY * 4096;

/// Runs operations with a sync now and then until something fails. Returns the states that may be
/// found afterwards, the last promised one first, and whether the device failed at all.
fn work(volume: &Volume, seed: u64) -> (Vec<String>, bool) {
    let mut model = Model::new();
    let mut random = Random::new(seed);
    let mut states = vec![model.dump()];
    for _ in 0..30 {
        let op = Op::random(&mut random, 60_000);
        let before = model.clone();
        // The model's own walk asks the volume too; once that fails, so has the device.
        let outcome =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&mut model, volume, &op)));
        match outcome {
            Ok(None) => continue,
            Ok(Some((ideal, real))) if same(&ideal, &real) => {}
            Ok(Some(_)) | Err(_) => {
                states.push(before.dump());
                return (states, true);
            }
        }
        states.push(model.dump());
        if random.below(4) == 0 {
            match volume.sync() {
                Ok(()) => states.drain(..states.len() - 1).for_each(drop),
                Err(_) => return (states, true),
            }
        }
    }
    (states, false)
}

fn image() -> Vec<u8> {
    let device = Arc::new(MemoryDevice::new(LIMIT));
    fresh(device.clone(), CAPACITY).close().unwrap();
    device.snapshot()
}

fn every_failure(fault: Fault) {
    std::panic::set_hook(Box::new(|_| {}));
    let image = image();
    for seed in 0..6 {
        for n in 0.. {
            let memory = Arc::new(MemoryDevice::from_bytes(image.clone(), LIMIT));
            let faulty = Arc::new(FaultyDevice::new(memory.clone(), fault));
            let options = OpenOptions::default();
            let volume = Volume::open(&setup(faulty.clone()), &options).unwrap().0;
            faulty.fail_at(n);
            let (states, failed) = work(&volume, seed);
            // After a failed barrier or half an operation nothing more may be written.
            let frozen = volume.health() == Health::Frozen;
            if frozen {
                assert!(matches!(volume.sync(), Err(FsError::ReadOnly)), "seed {seed} call {n}");
            }
            drop(volume);
            let volume = Volume::open(&setup(memory.clone()), &options).unwrap().0;
            let found = dump(&volume).unwrap();
            assert!(states.contains(&found), "seed {seed} call {n}: a state that was not promised");
            volume.close().unwrap();
            drop(volume);
            let report =
                check(&setup(memory), &options, Depth::Everything, &mut |_| Ok(())).unwrap();
            assert!(report.is_clean(), "seed {seed} call {n}: {:?}", report.findings);
            if !failed {
                assert!(n > 20, "the device was called only {n} times");
                break;
            }
        }
    }
}

#[test]
fn any_single_io_error_surfaces_and_loses_nothing_promised() {
    every_failure(Fault::Once);
}

#[test]
fn device_that_dies_loses_nothing_promised() {
    every_failure(Fault::Forever);
}

#[test]
fn full_host_keeps_acknowledged_operations_until_there_is_room() {
    let image = image();
    for seed in 0..20 {
        for n in 0..60 {
            let memory = Arc::new(MemoryDevice::from_bytes(image.clone(), LIMIT));
            let faulty = Arc::new(FaultyDevice::new(memory.clone(), Fault::FullFor(4)));
            let options = OpenOptions::default();
            let volume = Volume::open(&setup(faulty.clone()), &options).unwrap().0;
            let mut model = Model::new();
            let mut random = Random::new(seed);
            faulty.fail_at(n);
            for _ in 0..30 {
                let op = Op::random(&mut random, 60_000);
                if let Some((ideal, real)) = run(&mut model, &volume, &op) {
                    assert!(same(&ideal, &real), "seed {seed} call {n}: {op:?} {ideal:?} {real:?}");
                }
                if random.below(4) == 0 {
                    match volume.sync() {
                        Ok(()) | Err(FsError::NoSpace) => {}
                        Err(error) => panic!("seed {seed} call {n}: {error:?}"),
                    }
                }
            }
            // There is room again: everything acknowledged is there, and durable.
            while let Err(error) = volume.sync() {
                assert!(matches!(error, FsError::NoSpace), "seed {seed} call {n}: {error:?}");
            }
            assert_eq!(volume.health(), Health::Writable, "seed {seed} call {n}");
            drop(volume);
            let volume = Volume::open(&setup(memory), &options).unwrap().0;
            assert_eq!(dump(&volume).unwrap(), model.dump(), "seed {seed} call {n}");
        }
    }
}
