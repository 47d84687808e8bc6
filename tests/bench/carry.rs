//! `bench carry`: what `vault export` and `vault import` take beside `tar` on the mount, for the same trees and the same archives.
//!
//! `tar` is timed inside an open ghost, without the time for opening it and closing it; ours are timed whole, from the
//! start of the program to its end, with the cheapest keyslot there is. What comes out goes through a pipe and is thrown
//! away. Caches are dropped before each measurement; what an archive is read from is in them.

use crate::candidate::{Candidate, TazPod, checked, drop_caches, seconds, write_passphrase};
use crate::rows::{run, timed, write_file};
use crate::{Outcome, source};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where each candidate's files are: in the ghost, and in the vault.
const TREE: &str = "tree";

/// `bench carry`: measures, and prints medians with what ours takes divided by what the mount takes.
pub(crate) fn compare(dir: &Path, rounds: usize, mebibytes: usize) -> Outcome<()> {
    fs::create_dir_all(dir)?;
    let home = fs::canonicalize(dir)?;
    write_passphrase(&home)?;
    source::prepare(&home)?;
    let mut times: BTreeMap<(&str, &str), Vec<f64>> = BTreeMap::new();
    for round in 0..rounds {
        for (what, archive) in
            [("source tree", home.join("source.tar")), ("large file", noise(&home, mebibytes)?)]
        {
            for (way, seconds) in once(&home, &archive)? {
                eprintln!("{round} {what:<12} {way:<12} {seconds:.3}");
                times.entry((what, way)).or_default().push(seconds);
            }
        }
    }
    for ((what, way), all) in &times {
        println!("{what:<12} {way:<12} {:.3} s", median(all));
    }
    for what in ["source tree", "large file"] {
        for (ours, theirs) in [("vault export", "tar -c"), ("vault import", "tar -x")] {
            let ratio = median(&times[&(what, ours)]) / median(&times[&(what, theirs)]);
            println!("{what:<12} {ours}: {ratio:.2} of {theirs} on the mount");
        }
    }
    Ok(())
}

fn median(times: &[f64]) -> f64 {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// An archive of one file that no compression makes smaller.
fn noise(home: &Path, mebibytes: usize) -> Outcome<PathBuf> {
    let archive = home.join("noise.tar");
    if !archive.exists() {
        write_file(&home.join("noise"), mebibytes)?;
        run(Command::new("tar").arg("-C").arg(home).arg("-cf").arg(&archive).arg("noise"))?;
        fs::remove_file(home.join("noise"))?;
    }
    Ok(archive)
}

fn once(home: &Path, archive: &Path) -> Outcome<[(&'static str, f64); 4]> {
    let vault = TazPod::fuse(home, "8GiB");
    let fresh = || {
        vault.create()?;
        vault.retune(&["--kdf-memory", "64M", "--kdf-time", "1"])?;
        drop_caches()?;
        io::copy(&mut File::open(archive)?, &mut io::sink())?;
        Ok::<_, Box<dyn std::error::Error>>(())
    };
    fresh()?;
    let unpacked = seconds(in_ghost(&vault, "unpack")?.arg(archive))?;
    drop_caches()?;
    let packed = seconds(&mut in_ghost(&vault, "pack")?)?;
    drop_caches()?;
    let exported = timed(|| drained(verb(&vault, "export")?.arg("-")))?;
    fresh()?;
    let imported = timed(|| checked(verb(&vault, "import")?.arg("--keep-owners").arg(archive)))?;
    Ok([
        ("tar -x", unpacked),
        ("tar -c", packed),
        ("vault export", exported),
        ("vault import", imported),
    ])
}

fn verb(vault: &TazPod, verb: &str) -> Outcome<Command> {
    let mut command = vault.command(&["-q", "vault", verb, "--passphrase-file"])?;
    command.arg(vault.passphrase());
    Ok(command)
}

/// This very program on the mount: `bench carry-work WORD MOUNT [ARCHIVE]`.
fn in_ghost(vault: &TazPod, word: &str) -> Outcome<Command> {
    let mut command = vault.pull()?;
    command.arg(std::env::current_exe()?).args(["carry-work", word]).arg(vault.mount());
    Ok(command)
}

/// What [`in_ghost`] runs; prints the seconds as its last line.
pub(crate) fn work(word: &str, mount: &Path, archive: Option<&Path>) -> Outcome<()> {
    let tree = mount.join(TREE);
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(&tree);
    let seconds = match (word, archive) {
        ("unpack", Some(archive)) => {
            fs::create_dir(&tree)?;
            timed(|| run(tar.arg("-xf").arg(archive)))?
        }
        _ => timed(|| drained(tar.args(["-cf", "-", "."])))?,
    };
    println!("seconds {seconds:.9}");
    Ok(())
}

/// Runs a program and reads all that it writes: `tar` reads no file whose archive goes to `/dev/null`.
fn drained(command: &mut Command) -> Outcome<()> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut output = child.stdout.take().ok_or("no output")?;
    let mut buffer = vec![0; 1 << 20];
    while io::Read::read(&mut output, &mut buffer)? > 0 {}
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(format!("{command:?}: {status}").into()) }
}
