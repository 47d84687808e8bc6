//! Check names the damaged files and ranges, all of them and no others.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod common;

use common::files::{LARGE, LIMIT, SMALL, sample, used_units};
use common::operation::Random;
use common::setup;
use std::sync::Arc;
use vault_core::check::{Depth, Finding, Report, check};
use vault_core::device::MemoryDevice;
use vault_core::fs::{OpenOptions, Volume};
use vault_core::ids::InodeNo;

const UNIT: usize = 4096;

fn report_of(image: Vec<u8>) -> Report {
    let device = Arc::new(MemoryDevice::from_bytes(image, LIMIT));
    check(&setup(device), &OpenOptions::default(), Depth::Everything, &mut |_| Ok(())).unwrap()
}

fn open(image: Vec<u8>) -> Volume {
    let device = Arc::new(MemoryDevice::from_bytes(image, LIMIT));
    let options = OpenOptions { read_only: true, ..OpenOptions::default() };
    Volume::open(&setup(device), &options).unwrap().0
}

fn find(volume: &Volume, path: &[u8]) -> Option<InodeNo> {
    let mut parts = path.split(|&byte| byte == b'/');
    parts.try_fold(InodeNo::ROOT, |at, name| Some(volume.lookup(at, name).ok()?.inode))
}

/// The ranges of a file that cannot be read, 16 KiB at a time.
fn unreadable(volume: &Volume, inode: InodeNo, size: usize) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for offset in (0..size).step_by(16384) {
        let len = 16384.min(size - offset);
        if volume.read(inode, offset as u64, len).is_err() {
            match ranges.last_mut() {
                Some((start, joined)) if *start + *joined == offset as u64 => *joined += len as u64,
                _ => ranges.push((offset as u64, len as u64)),
            }
        }
    }
    ranges
}

#[test]
fn damaged_content_is_named_with_path_and_exact_ranges() {
    let (image, files) = sample(LARGE);
    assert!(report_of(image.clone()).is_clean());
    let mut random = Random::new(5);
    let units = used_units(&image);
    let (mut named, mut structural) = (0, 0);
    for _ in 0..60 {
        let mut hurt = image.clone();
        for _ in 0..=random.below(4) {
            let unit = units[random.below(units.len() as u64) as usize];
            hurt[unit * UNIT..(unit + 1) * UNIT].fill(0);
        }
        let report = report_of(hurt.clone());
        assert!(!report.is_clean());
        if report.findings.iter().any(|finding| matches!(finding, Finding::Node { .. })) {
            structural += 1;
            continue;
        }
        let volume = open(hurt);
        for (path, (inode, content)) in &files {
            let expected = unreadable(&volume, *inode, content.len());
            let found: Vec<(u64, u64)> = report
                .findings
                .iter()
                .filter_map(|finding| match finding {
                    Finding::Content { inode: at, offset, len, .. } if at == inode => {
                        Some((*offset, *len))
                    }
                    _ => None,
                })
                .collect();
            assert_eq!(found, expected);
            if !found.is_empty() {
                assert_eq!(&report.paths[inode], path);
                named += 1;
            }
        }
    }
    assert!(named > 30 && structural > 0, "{named} files named, {structural} nodes hit");
}

#[test]
fn files_that_a_damaged_node_took_are_named_one_by_one() {
    let (image, files) = sample(SMALL);
    let mut gone = 0;
    for unit in used_units(&image) {
        let mut hurt = image.clone();
        hurt[unit * UNIT..(unit + 1) * UNIT].fill(0);
        let report = report_of(hurt.clone());
        let root_lost = report.inodes == 0;
        let node = report.findings.iter().any(|finding| matches!(finding, Finding::Node { .. }));
        if !node || root_lost {
            continue;
        }
        let volume = open(hurt);
        for (path, (inode, content)) in &files {
            let reached = find(&volume, path);
            let read = volume.read(*inode, 0, content.len());
            let whole = read.is_ok_and(|bytes| bytes == *content);
            let named = report.findings.iter().any(|finding| {
                finding.loses_data() && finding.inode() == Some(*inode)
                    || matches!(finding, Finding::Unreachable { inode: at } if at == inode)
            });
            if whole && reached.is_some() {
                continue;
            }
            // Either the file itself is named, or a folder on its way whose entries are gone.
            let folder = find(&volume, path.split(|&byte| byte == b'/').next().unwrap());
            let above = report.findings.iter().any(|finding| {
                finding.inode().is_some()
                    && (finding.inode() == folder || folder.is_none())
                    && finding.inode() != Some(*inode)
            });
            assert!(named || above, "unit {unit}: {} is not named", String::from_utf8_lossy(path));
            gone += usize::from(named);
        }
    }
    assert!(gone > 50, "{gone} files were named");
}

#[test]
fn torn_superblock_slot_is_told_and_is_no_damage() {
    let (mut image, _) = sample(SMALL);
    assert!(report_of(image.clone()).torn_slots.is_empty());
    let free = (1..=8).find(|unit| image[unit * UNIT..(unit + 1) * UNIT].iter().all(|&b| b == 0));
    let slot = free.unwrap_or(1);
    image[slot * UNIT + 100] ^= 0xff;
    let report = report_of(image);
    assert_eq!(report.torn_slots, [slot - 1]);
    assert!(report.is_clean());
}
