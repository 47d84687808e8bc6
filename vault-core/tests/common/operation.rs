//! Random operations on files and folders.

use vault_core::fs::{Fallocate, RenameMode};

/// A small generator of random numbers: the same seed, the same operations.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// One operation; folders and files are named by their index among those that exist.
#[derive(Clone, Debug)]
pub enum Op {
    Create { folder: u64, name: u8 },
    MakeDir { folder: u64, name: u8 },
    Symlink { folder: u64, name: u8, len: u16 },
    Link { file: u64, folder: u64, name: u8 },
    Remove { folder: u64, name: u8 },
    Rename { folder: u64, name: u8, to: u64, new: u8, mode: RenameMode },
    Write { file: u64, offset: u64, len: u64, byte: u8 },
    Resize { file: u64, size: u64 },
    Allocate { file: u64, offset: u64, len: u64, mode: Fallocate },
    Chmod { file: u64, mode: u16 },
    SetXattr { file: u64, name: u8, len: u64 },
    RemoveXattr { file: u64, name: u8 },
}

impl Op {
    /// Draws an operation; sizes stay within `largest` bytes.
    pub fn random(random: &mut Random, largest: u64) -> Self {
        let folder = random.next();
        let file = random.next();
        let name = u8::try_from(random.below(10)).unwrap();
        let offset = match random.below(3) {
            0 => 0,
            1 => random.below(largest),
            _ => random.below(largest / 4096 + 1) * 4096,
        };
        let len = match random.below(4) {
            0 => 1 + random.below(100),
            1 => 1 + random.below(5000),
            2 => 16_384 * (1 + random.below(6)),
            _ => 1 + random.below(largest / 2),
        };
        match random.below(24) {
            0..=3 => Self::Create { folder, name },
            4 => Self::MakeDir { folder, name },
            5 => Self::Symlink { folder, name, len: 1 + u16::try_from(random.below(300)).unwrap() },
            6 => Self::Link { file, folder, name },
            7..=8 => Self::Remove { folder, name },
            9..=10 => {
                let mode = [RenameMode::Replace, RenameMode::NoReplace, RenameMode::Exchange];
                let mode = mode[usize::try_from(random.below(3)).unwrap()];
                let new = u8::try_from(random.below(10)).unwrap();
                Self::Rename { folder, name, to: random.next(), new, mode }
            }
            11..=16 => Self::Write { file, offset, len, byte: 1 + (random.below(255) as u8) },
            17..=18 => Self::Resize { file, size: offset },
            19..=20 => {
                let keep_size = random.below(2) == 0;
                let mode = [
                    Fallocate::Reserve { keep_size },
                    Fallocate::PunchHole,
                    Fallocate::ZeroRange { keep_size },
                ];
                let mode = mode[usize::try_from(random.below(3)).unwrap()];
                Self::Allocate { file, offset, len, mode }
            }
            21 => Self::Chmod { file, mode: 0o600 | u16::try_from(random.below(64)).unwrap() },
            22 => Self::SetXattr { file, name, len: random.below(6000) },
            _ => Self::RemoveXattr { file, name },
        }
    }
}
