//! The source tree that is unpacked and committed: what cargo unpacked of this project's own dependencies.

use crate::Outcome;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Enough to be a real tree, little enough for the slowest peer.
const FILES: usize = 3000;

/// Packs the tree once: the same archive for all candidates and rounds.
pub(crate) fn prepare(dir: &Path) -> Outcome<()> {
    let archive = dir.join("source.tar");
    if archive.exists() {
        return Ok(());
    }
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo = home
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")))
        .ok_or("no home")?;
    let registry = fs::read_dir(cargo.join("registry/src"))?
        .next()
        .ok_or("cargo has unpacked no sources")??
        .path();
    let mut packages: Vec<_> = fs::read_dir(&registry)?.collect::<Result<Vec<_>, _>>()?;
    packages.sort_by_key(fs::DirEntry::file_name);
    let (mut names, mut count) = (Vec::new(), 0);
    for package in packages {
        if count < FILES {
            count += count_files(&package.path())?;
            names.push(package.file_name());
        }
    }
    let status = Command::new("tar")
        .arg("-cf")
        .arg(&archive)
        .arg("-C")
        .arg(&registry)
        .args(&names)
        .status()?;
    eprintln!("source tree: {count} files, {} KiB", fs::metadata(&archive)?.len() / 1024);
    if status.success() { Ok(()) } else { Err(format!("tar: {status}").into()) }
}

fn count_files(dir: &Path) -> Outcome<usize> {
    let mut count = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        count += if entry.file_type()?.is_dir() { count_files(&entry.path())? } else { 1 };
    }
    Ok(count)
}
