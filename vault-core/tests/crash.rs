//! Power cuts: at every point, with any subset and order of the writes since the last barrier, torn
//! at sectors, a vault opens again at the last synced state or a later one, and its check is clean.
//!
//! The suite counts only because it also catches bugs that are planted: a barrier removed, a
//! superblock before its data, space reused too early.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod common;

use common::model::{Model, dump, run};
use common::operation::{Op, Random};
use common::{fresh, setup};
use std::collections::HashSet;
use std::sync::Arc;
use vault_core::check::{Depth, check};
use vault_core::device::crash::{CutImage, Event, Recorder, Timeline};
use vault_core::device::{BlockDevice, MemoryDevice};
use vault_core::fs::{OpenOptions, Sabotage, Volume};
use vault_core::ids::Generation;

const CAPACITY: u64 = 1280;
const LIMIT: u64 = CAPACITY * 4096;

/// A run: the image at its start, what reached the device, and which states were promised when.
struct Run {
    image: Vec<u8>,
    log: Vec<Event>,
    /// The tree after each operation.
    states: Vec<String>,
    /// (events so far, index of the state that is promised from here on).
    promises: Vec<(usize, usize)>,
    /// (events so far, index of the newest state that may be found).
    reached: Vec<(usize, usize)>,
}

/// A change of the log that a broken store would have caused.
type Plant = fn(Vec<Event>) -> Vec<Event>;

fn record(seed: u64, operations: usize, bug: Option<Sabotage>) -> Run {
    let device = Arc::new(MemoryDevice::new(LIMIT));
    fresh(device.clone(), CAPACITY).close().unwrap();
    record_from(device.snapshot(), seed, operations, bug)
}

fn record_from(image: Vec<u8>, seed: u64, operations: usize, bug: Option<Sabotage>) -> Run {
    let device = Arc::new(Recorder::new(image.clone(), LIMIT));
    let options = OpenOptions::default();
    let volume = Volume::open(&setup(device.clone()), &options).unwrap().0;
    if let Some(bug) = bug {
        volume.sabotage(bug);
    }
    let mut model = Model::of(&volume);
    let mut random = Random::new(seed);
    let mut states = vec![model.dump()];
    let mut promises = vec![(0, 0)];
    let mut reached = vec![(0, 0)];
    for _ in 0..operations {
        let op = Op::random(&mut random, 60_000);
        run(&mut model, &volume, &op);
        states.push(model.dump());
        reached.push((device.events(), states.len() - 1));
        match random.below(8) {
            0 | 1 => volume.sync().unwrap(),
            2 => volume.settle().unwrap(),
            _ => continue,
        }
        promises.push((device.events(), states.len() - 1));
    }
    Run { image, log: device.log(), states, promises, reached }
}

/// Opens a cut image and says what is wrong with it, if anything.
fn judge(run: &Run, position: usize, image: CutImage) -> Option<String> {
    let device: Arc<dyn BlockDevice> = Arc::new(image);
    let setup = setup(device);
    let options = OpenOptions { keep_free_space: true, ..OpenOptions::default() };
    let volume = match Volume::open(&setup, &options) {
        Ok((volume, _)) => volume,
        Err(error) => return Some(format!("does not open: {error:?}")),
    };
    let found = match dump(&volume) {
        Ok(found) => found,
        Err(error) => return Some(format!("cannot be read: {error:?}")),
    };
    let promised = run.promises.iter().rev().find(|(at, _)| *at <= position).unwrap().1;
    let newest = run.reached.iter().find(|(at, _)| *at >= position).or(run.reached.last());
    let newest = newest.unwrap().1.max(promised);
    if !run.states[promised..=newest].contains(&found) {
        let older = run.states[..promised].contains(&found);
        let what = if older { "an older state than promised" } else { "a state that never was" };
        return Some(format!("opens at {what}"));
    }
    drop(volume);
    let report = check(&setup, &options, Depth::Everything, &mut |_| Ok(())).unwrap();
    (!report.is_clean()).then(|| format!("check finds {:?}", report.findings))
}

/// Cuts a run at every event, in several ways each; returns what went wrong and how often was cut.
fn cut_everywhere(run: &Run, plant: Option<Plant>, random: &mut Random) -> (Vec<String>, usize) {
    let log = plant.map_or_else(|| run.log.clone(), |plant| plant(run.log.clone()));
    let mut timeline = Timeline::new(run.image.clone());
    let mut failures = Vec::new();
    let mut cuts = 0;
    for position in 0..=log.len() {
        // All, none, and random subsets of the writes since the barrier, torn anywhere.
        for way in 0..5 {
            let image = match way {
                0 => timeline.cut(&mut || true),
                1 => timeline.cut(&mut || false),
                2 => timeline.cut(&mut || random.below(2) == 0),
                3 => all_but_one(&timeline, random),
                _ => timeline.cut(&mut || random.below(16) != 0),
            };
            cuts += 1;
            if let Some(failure) = judge(run, position, image) {
                failures.push(format!("cut {position} way {way}: {failure}"));
            }
        }
        if let Some(event) = log.get(position) {
            timeline.advance(event);
        }
        if failures.len() > 20 {
            break;
        }
    }
    (failures, cuts)
}

#[test]
fn every_cut_opens_at_the_promised_state_or_a_later_one() {
    let sequences = std::env::var("TAZPOD_CRASH_SEQUENCES").map_or(400, |n| n.parse().unwrap());
    let mut total = 0;
    for seed in 0..sequences {
        let run = record(seed, 24, None);
        let (failures, cuts) = cut_everywhere(&run, None, &mut Random::new(seed + 77));
        assert!(failures.is_empty(), "seed {seed}: {failures:#?}");
        total += cuts;
    }
    println!("{sequences} sequences, {total} cuts");
}

/// An image that lacks a single sector of what was written since the barrier: the most treacherous
/// kind of torn commit.
fn all_but_one(timeline: &Timeline, random: &mut Random) -> CutImage {
    let mut sectors = 0;
    timeline.cut(&mut || {
        sectors += 1;
        true
    });
    let lost = random.below(sectors.max(1));
    let mut sector = 0;
    timeline.cut(&mut || {
        sector += 1;
        sector - 1 != lost
    })
}

/// Cuts once, works on from what is found, and cuts again: what a torn commit left behind must not
/// come back.
fn second_cut(seed: u64) -> Vec<String> {
    let first = record(seed, 12, None);
    let mut random = Random::new(seed + 900);
    let mut timeline = Timeline::new(first.image.clone());
    let stop = random.below(first.log.len() as u64 + 1) as usize;
    first.log[..stop].iter().for_each(|event| timeline.advance(event));
    let image = all_but_one(&timeline, &mut random);
    let mut bytes = vec![0; image.len().unwrap() as usize];
    image.read_at(&mut bytes, 0).unwrap();
    let second = record_from(bytes, seed + 31, 8, None);
    cut_everywhere(&second, None, &mut random).0
}

#[test]
fn cut_after_a_cut_opens_at_the_promised_state_or_a_later_one() {
    for seed in 0..150 {
        let failures = second_cut(seed);
        assert!(failures.is_empty(), "seed {seed}: {failures:#?}");
    }
}

/// Whether the suite sees a planted bug within some sequences.
fn catches(bug: Option<Sabotage>, plant: Option<Plant>) -> bool {
    (0..60).any(|seed| {
        let run = record(seed, 40, bug);
        !cut_everywhere(&run, plant, &mut Random::new(seed + 5)).0.is_empty()
    })
}

fn is_superblock(event: &Event) -> bool {
    matches!(event, Event::Write(offset, bytes) if bytes.len() == 4096 && (1..=8).contains(&(offset / 4096)))
}

#[test]
fn removed_barrier_after_a_superblock_is_caught() {
    fn plant(log: Vec<Event>) -> Vec<Event> {
        let mut after_superblock = false;
        log.into_iter()
            .map(|event| {
                let drop = event == Event::Flush && after_superblock;
                after_superblock = is_superblock(&event);
                // A barrier that was not made takes no time: positions stay what they were.
                if drop { Event::Length(0) } else { event }
            })
            .collect()
    }
    assert!(catches(None, Some(plant)));
}

#[test]
fn removed_barrier_before_a_proven_superblock_is_caught() {
    fn plant(mut log: Vec<Event>) -> Vec<Event> {
        for at in 1..log.len() {
            if log[at - 1] == Event::Flush && is_superblock(&log[at]) {
                log[at - 1] = Event::Length(0);
            }
        }
        log
    }
    assert!(catches(None, Some(plant)));
}

#[test]
fn superblock_before_its_data_is_caught() {
    fn plant(mut log: Vec<Event>) -> Vec<Event> {
        for at in 2..log.len() {
            let proven = log[at - 1] == Event::Flush && is_superblock(&log[at]);
            if proven && !is_superblock(&log[at - 2]) {
                log.swap(at - 2, at);
            }
        }
        log
    }
    assert!(catches(None, Some(plant)));
}

#[test]
fn space_reused_before_its_commit_is_durable_is_caught() {
    assert!(catches(Some(Sabotage::ReuseBeforeDurable), None));
}

/// Finds writes to space that the last two durable generations hold (INV-3).
fn early_reuse(run: &Run) -> Option<String> {
    let mut timeline = Timeline::new(run.image.clone());
    let mut held = vec![generation_of(&timeline)];
    for (position, event) in run.log.iter().enumerate() {
        if let Event::Write(offset, bytes) = event {
            let units = offset / 4096..(offset + bytes.len() as u64) / 4096;
            let early = units.filter(|unit| *unit >= 16);
            let mut early = early.filter(|unit| held.iter().any(|(_, units)| units.contains(unit)));
            if let Some(unit) = early.next() {
                return Some(format!("unit {unit} is written at event {position}"));
            }
        }
        timeline.advance(event);
        if *event == Event::Flush {
            let now = generation_of(&timeline);
            if held.last().is_none_or(|(generation, _)| *generation != now.0) {
                held.push(now);
                held.drain(..held.len().saturating_sub(2));
            }
        }
    }
    None
}

/// The generation that is durable now, and the units that it holds.
fn generation_of(timeline: &Timeline) -> (Generation, HashSet<u64>) {
    let device: Arc<dyn BlockDevice> = Arc::new(timeline.cut(&mut || true));
    let options = OpenOptions { read_only: true, ..OpenOptions::default() };
    let depth = Depth::Structure;
    let report = check(&setup(device), &options, depth, &mut |_| Ok(())).unwrap();
    (report.opened.generation, report.used.units().collect())
}

#[test]
fn space_is_reused_only_after_the_next_generation_is_durable() {
    for seed in 0..40 {
        let run = record(seed, 60, None);
        assert_eq!(early_reuse(&run), None, "seed {seed}");
    }
}

#[test]
fn space_reused_one_generation_early_is_caught() {
    let caught = |seed| early_reuse(&record(seed, 60, Some(Sabotage::ReuseOneEarly))).is_some();
    assert!((0..40).any(caught));
}
