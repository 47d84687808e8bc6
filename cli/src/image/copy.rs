//! Copying an image whole: a closed one under its lock, an open one as `vault_core::backup` has it.

use super::explain::{open_error, storage, vault_error};
use super::folder::data_ranges;
use crate::error::{Error, Result};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use vault_core::backup::FixedUnits;
use vault_core::device::{Access, FileDevice, OpenError};
use vault_core::ids::Generation;

/// Bytes that are copied at a time.
const CHUNK: usize = 1 << 20;
/// How often an open image is tried, since a program may make commits all the time.
const TRIES: usize = 5;

/// What was copied.
pub(crate) struct Copied {
    pub(crate) generation: Generation,
    /// Bytes of data; the rest of the file are holes.
    pub(crate) bytes: u64,
    /// Whether somebody had the image open.
    pub(crate) open: bool,
}

/// Copies the image `path` into an empty file; `None` if it changed too fast every time.
pub(crate) fn copy(
    path: &Path,
    shown: &str,
    target_shown: &str,
    target: &File,
    show: &mut dyn FnMut(u64, u64),
) -> Result<Option<Copied>> {
    let unreadable = |error| vault_error(error, shown);
    match FileDevice::open(path, Access::ReadOnly) {
        // The lock is held while this lives.
        Ok(_locked) => {
            let source = File::open(path).map_err(|cause| unreadable(cause.into()))?;
            let fixed = fixed_units(&source).map_err(unreadable)?;
            let bytes = once(&source, target, show).map_err(|e| e.explain(shown, target_shown))?;
            Ok(Some(Copied { generation: fixed.generation(), bytes, open: false }))
        }
        Err(OpenError::InUse { .. }) => {
            let source = File::open(path).map_err(|cause| unreadable(cause.into()))?;
            for _ in 0..TRIES {
                let fixed = fixed_units(&source).map_err(unreadable)?;
                let copied = once(&source, target, show);
                let later = fixed_units(&source).map_err(unreadable)?;
                let bytes = match copied {
                    Ok(bytes) => bytes,
                    // It was cut shorter meanwhile, and is tried again.
                    Err(Failure::Source(cause)) if cause.kind() == io::ErrorKind::UnexpectedEof => {
                        continue;
                    }
                    Err(failure) => return Err(failure.explain(shown, target_shown)),
                };
                if fixed.outlasted(&later) {
                    let written = target.write_all_at(&fixed.alone(), 0).map_err(Failure::Target);
                    written.map_err(|e| e.explain(shown, target_shown))?;
                    let generation = fixed.generation();
                    return Ok(Some(Copied { generation, bytes, open: true }));
                }
            }
            Ok(None)
        }
        Err(error) => Err(open_error(error, shown)),
    }
}

/// Copies a file whose lock the caller has into an empty one.
pub(crate) fn copy_file(
    source: &File,
    target: &File,
    (shown, target_shown): (&str, &str),
    show: &mut dyn FnMut(u64, u64),
) -> Result<()> {
    once(source, target, show).map(drop).map_err(|failure| failure.explain(shown, target_shown))
}

fn fixed_units(source: &File) -> std::result::Result<FixedUnits, vault_core::vault::VaultError> {
    FixedUnits::read(&mut |buffer, offset| source.read_exact_at(buffer, offset))
}

enum Failure {
    Source(io::Error),
    Target(io::Error),
}

impl Failure {
    fn explain(self, source: &str, target: &str) -> Error {
        match self {
            Self::Source(cause) => {
                Error::environment(format!("cannot read '{source}'")).caused_by(cause)
            }
            Self::Target(cause) => storage(cause, &format!("cannot write '{target}'")),
        }
    }
}

/// Copies what is no hole; returns how much that was. A file system that can share blocks does.
fn once(
    source: &File,
    target: &File,
    show: &mut dyn FnMut(u64, u64),
) -> std::result::Result<u64, Failure> {
    let len = source.metadata().map_err(Failure::Source)?.len();
    let ranges = data_ranges(source, len).map_err(Failure::Source)?;
    let total = ranges.iter().map(|range| range.end - range.start).sum();
    if rustix::fs::ioctl_ficlone(target, source).is_ok() {
        return Ok(total);
    }
    // Another try starts from nothing: holes must not show what was there.
    target.set_len(0).and_then(|()| target.set_len(len)).map_err(Failure::Target)?;
    let mut buffer = vec![0; CHUNK];
    let mut done = 0;
    for range in ranges {
        let mut at = range.start;
        while at < range.end {
            let want = usize::try_from(range.end - at).unwrap_or(CHUNK).min(CHUNK);
            let part = buffer.get_mut(..want).unwrap_or_default();
            source.read_exact_at(part, at).map_err(Failure::Source)?;
            target.write_all_at(part, at).map_err(Failure::Target)?;
            at += want as u64;
            done += want as u64;
            show(done, total);
        }
    }
    Ok(total)
}
