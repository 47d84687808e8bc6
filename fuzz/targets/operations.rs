//! Sequences of operations on a volume and on a model: the same answers, the same tree, a clean check.
#![no_main]

#[path = "../../vault-core/tests/common/model.rs"]
#[allow(dead_code)]
mod model;
#[path = "../../vault-core/tests/common/operation.rs"]
#[allow(dead_code)]
mod operation;

use libfuzzer_sys::fuzz_target;
use model::{Model, dump, run, same};
use operation::{Op, Random};
use std::sync::Arc;
use vault_core::check::{Depth, check};
use vault_core::device::MemoryDevice;
use vault_core::fs::{Creator, OpenOptions, Volume};
use vault_core::testing::known_setup;

const CREATOR: Creator = Creator { uid: 1000, gid: 1000, umask: 0o022 };
const CAPACITY: u64 = 2048;

fuzz_target!(|bytes: &[u8]| {
    let device = Arc::new(MemoryDevice::new(CAPACITY * 4096));
    let setup = known_setup(device);
    Volume::format(&setup, CAPACITY, (1000, 1000)).expect("an empty volume");
    let options = OpenOptions::default();
    let mut volume = Volume::open(&setup, &options).expect("it opens").0;
    let mut model = Model::new();
    for word in bytes.chunks(3).take(60) {
        let seed = word.iter().fold(0, |seed, byte| seed << 8 | u64::from(*byte));
        match word[0] {
            250 => volume.sync().expect("storage in memory does not fail"),
            251 => {
                volume.close().expect("storage in memory does not fail");
                volume = Volume::open(&setup, &options).expect("it opens again").0;
            }
            _ => {
                let op = Op::random(&mut Random::new(seed), 50_000);
                if let Some((ideal, real)) = run(&mut model, &volume, &op) {
                    assert!(same(&ideal, &real), "{op:?}: {ideal:?} is not {real:?}");
                }
            }
        }
    }
    assert_eq!(model.dump(), dump(&volume).expect("it can be read"));
    volume.close().expect("storage in memory does not fail");
    drop(volume);
    let report = check(&setup, &options, Depth::Everything, &mut |_| Ok(())).expect("a state");
    assert!(report.is_clean(), "{:?}", report.findings);
});
