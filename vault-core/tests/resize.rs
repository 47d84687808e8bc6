//! Resizing and compacting: nothing is lost, the file is as short as it was asked to be, and a cut or an
//! error at any step leaves a vault that holds everything.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::large_stack_arrays)]

mod common;

use common::files::REGULAR;
use common::model::{Model, dump, run};
use common::operation::{Op, Random};
use common::{CREATOR, fresh, reopen, setup};
use std::sync::Arc;
use vault_core::check::{Depth, check};
use vault_core::device::crash::{Event, Recorder, Timeline};
use vault_core::device::faulty::{Fault, FaultyDevice};
use vault_core::device::{BlockDevice, MemoryDevice};
use vault_core::fs::{OpenOptions, ResizeError, Volume, WriteOrigin};
use vault_core::ids::InodeNo;

const CAPACITY: u64 = 8192;
const UNIT: u64 = 4096;

fn clean(device: Arc<dyn BlockDevice>) {
    let report =
        check(&setup(device), &OpenOptions::default(), Depth::Everything, &mut |_| Ok(())).unwrap();
    assert_eq!(report.findings, []);
}

/// A vault whose content lies scattered up to its end, and is `percent` full.
fn scattered(seed: u64, capacity: u64, percent: u64) -> (Arc<MemoryDevice>, String) {
    let device = Arc::new(MemoryDevice::new(2 * capacity * UNIT));
    let volume = fresh(device.clone(), capacity);
    let mut random = Random::new(seed);
    let root = InodeNo::ROOT;
    let mut names = Vec::new();
    let used = |volume: &Volume| {
        let stat = volume.stat_fs();
        (stat.total - stat.free) * 100 / stat.total
    };
    // Filled to the end, then thinned out.
    loop {
        let name = format!("file-{}", names.len()).into_bytes();
        let Ok(made) = volume.create(root, &name, &REGULAR, &CREATOR) else { break };
        names.push((name, made.inode));
        let len = [2000, 9000, 60_000, 300_000][random.below(4) as usize];
        let content = vec![names.len() as u8 | 1; len];
        if volume.write(made.inode, 0, &content, WriteOrigin::Direct, false).is_err() {
            break;
        }
        if names.len().is_multiple_of(20) {
            volume.sync().unwrap();
        }
    }
    while used(&volume) > percent {
        let (name, inode) = names.swap_remove(random.below(names.len() as u64) as usize);
        volume.unlink(root, &name).unwrap();
        volume.forget(inode).unwrap();
    }
    volume.close().unwrap();
    let tree = dump(&volume).unwrap();
    (device, tree)
}

#[test]
fn shrinking_moves_the_tail_and_keeps_everything() {
    for (seed, percent, to) in [(1, 40, 5120), (2, 70, 7168), (3, 20, 3072), (4, 88, 8190)] {
        let (device, tree) = scattered(seed, CAPACITY, percent);
        let volume = reopen(device.clone());
        volume.resize(to, &mut |_, _| Ok(())).unwrap();
        assert_eq!(volume.stat_fs().total, to);
        assert!(device.len().unwrap() <= to * UNIT);
        assert_eq!(dump(&volume).unwrap(), tree);
        volume.close().unwrap();
        drop(volume);
        clean(device.clone());
        let volume = reopen(device.clone());
        assert_eq!((volume.stat_fs().total, dump(&volume).unwrap()), (to, tree));
        // It grows again, and takes more than before.
        volume.resize(2 * CAPACITY, &mut |_, _| Ok(())).unwrap();
        let inode = volume.create(InodeNo::ROOT, b"more", &REGULAR, &CREATOR).unwrap().inode;
        for block in 0..200 {
            volume.write(inode, block << 16, &[9; 1 << 16], WriteOrigin::Direct, false).unwrap();
        }
        volume.close().unwrap();
        drop(volume);
        clean(device);
    }
}

/// 95 % full, up and down: what fits is done, what does not is refused and changes nothing.
#[test]
fn resize_while_nearly_full() {
    let (device, tree) = scattered(7, CAPACITY, 95);
    let before = device.snapshot();
    let volume = reopen(device.clone());
    let refused = volume.resize(CAPACITY / 2, &mut |_, _| Ok(()));
    let Err(ResizeError::TooSmall { needed }) = refused else { panic!("{refused:?}") };
    assert!(needed > CAPACITY * 9 / 10);
    assert!(device.snapshot() == before, "a refused resize changed the image");
    volume.resize(needed, &mut |_, _| Ok(())).unwrap();
    volume.resize(CAPACITY + 1000, &mut |_, _| Ok(())).unwrap();
    volume.close().unwrap();
    assert_eq!(dump(&volume).unwrap(), tree);
    drop(volume);
    clean(device);
}

#[test]
fn compacted_vault_takes_little_more_than_what_it_holds() {
    for (seed, percent) in [(5, 10), (6, 50)] {
        let (device, tree) = scattered(seed, CAPACITY, percent);
        let volume = reopen(device.clone());
        volume.compact(&mut |_, _| Ok(())).unwrap();
        let stat = volume.stat_fs();
        let held = stat.total - stat.free;
        let len = device.len().unwrap() / UNIT;
        assert!(len <= (held + 1536).max(1024), "{len} units for {held}");
        assert_eq!(stat.total, CAPACITY);
        assert_eq!(dump(&volume).unwrap(), tree);
        drop(volume);
        clean(device);
    }
}

/// Cuts the power at every event of a resize, in several ways.
#[test]
fn resize_survives_every_power_cut() {
    let (device, tree) = scattered(9, 2048, 45);
    let image = device.snapshot();
    let recorder = Arc::new(Recorder::new(image.clone(), 4096 * UNIT));
    let volume = Volume::open(&setup(recorder.clone()), &OpenOptions::default()).unwrap().0;
    volume.resize(1536, &mut |_, _| Ok(())).unwrap();
    volume.close().unwrap();
    let log = recorder.log();
    assert!(log.iter().any(|event| matches!(event, Event::Length(len) if *len == 1536 * UNIT)));
    let mut timeline = Timeline::new(image);
    let mut random = Random::new(3);
    let mut shorter = 0;
    for position in 0..=log.len() {
        for way in 0..3 {
            let cut = match way {
                0 => timeline.cut(&mut || true),
                1 => timeline.cut(&mut || false),
                _ => timeline.cut(&mut || random.below(2) == 0),
            };
            let cut: Arc<dyn BlockDevice> = Arc::new(cut);
            let options = OpenOptions { keep_free_space: true, ..OpenOptions::default() };
            let (volume, _) = Volume::open(&setup(cut.clone()), &options)
                .unwrap_or_else(|error| panic!("event {position} way {way}: {error:?}"));
            let total = volume.stat_fs().total;
            assert!([2048, 1536].contains(&total), "a size between: {total}");
            shorter += u32::from(total == 1536);
            assert!(dump(&volume).unwrap() == tree, "event {position} way {way}");
            drop(volume);
            clean(cut);
        }
        if let Some(event) = log.get(position) {
            timeline.advance(event);
        }
    }
    assert!(shorter > 3);
}

/// Every call of the device fails once: the vault holds everything, and the next try succeeds.
#[test]
fn resize_survives_every_io_error_and_a_full_disk() {
    let (device, tree) = scattered(11, 2048, 45);
    let image = device.snapshot();
    let mut failed = 0;
    for fault in [Fault::Once, Fault::Forever, Fault::FullFor(100_000)] {
        for number in (0..4000).step_by(5) {
            let inner = Arc::new(MemoryDevice::from_bytes(image.clone(), 4096 * UNIT));
            let faulty = Arc::new(FaultyDevice::new(inner.clone(), fault));
            let options = OpenOptions::default();
            let (volume, _) = Volume::open(&setup(faulty.clone()), &options).unwrap();
            faulty.fail_at(number);
            let outcome = volume.resize(1536, &mut |_, _| Ok(()));
            drop(volume);
            if outcome.is_ok() {
                break;
            }
            failed += 1;
            let volume = reopen(inner.clone());
            assert!(dump(&volume).unwrap() == tree, "{fault:?} at call {number}");
            volume.resize(1536, &mut |_, _| Ok(())).unwrap();
            drop(volume);
            clean(inner);
        }
    }
    assert!(failed > 20, "{failed} calls failed");
}

/// Random operations before, between and after.
#[test]
fn resized_vault_behaves_like_any_other() {
    for seed in 0..12 {
        let device = Arc::new(MemoryDevice::new(4 * CAPACITY * UNIT));
        let volume = fresh(device.clone(), CAPACITY);
        let mut model = Model::new();
        let mut random = Random::new(seed);
        for _ in 0..8 {
            for _ in 0..60 {
                run(&mut model, &volume, &Op::random(&mut random, 60_000));
            }
            match random.below(3) {
                0 => volume.compact(&mut |_, _| Ok(())).unwrap(),
                1 => drop(volume.resize(2048 + random.below(6000), &mut |_, _| Ok(()))),
                _ => volume.resize(CAPACITY, &mut |_, _| Ok(())).unwrap(),
            }
            assert_eq!(dump(&volume).unwrap(), model.dump());
        }
        volume.close().unwrap();
        drop(volume);
        clean(device);
    }
}
