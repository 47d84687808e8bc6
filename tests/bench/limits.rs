//! Promises that are not ratios: start-up, unlocking beyond its KDF, and the server's memory.

use crate::Outcome;
use crate::candidate::{TazPod, drop_caches, program};
use std::fs;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

const MANY_FILES: usize = 100_000;

/// Measures and prints the promises, each with its bound.
pub(crate) fn print(ours: &TazPod) -> Outcome<()> {
    limit("tazpod --help, median of 51", help()?, 10.0, "ms");
    limit("pull and end, KDF of 64 MiB once", unlock(ours)?, 100.0, "ms");
    limit("server memory with 100,000 files", memory(ours)?, 128.0, "MiB");
    Ok(())
}

fn limit(title: &str, value: f64, bound: f64, unit: &str) {
    let word = if value <= bound { "ok   " } else { "SHORT" };
    println!("{word} {title:<40} {value:>8.1} {unit} (at most {bound} {unit})");
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn median(mut list: Vec<f64>) -> f64 {
    list.sort_by(f64::total_cmp);
    list[list.len() / 2]
}

fn help() -> Outcome<f64> {
    let mut times = Vec::new();
    for _ in 0..51 {
        let start = Instant::now();
        Command::new(program()?).arg("--help").stdout(Stdio::null()).status()?;
        times.push(milliseconds(start.elapsed()));
    }
    Ok(median(times))
}

/// A whole `pull -- true` at the cheapest key derivation that a vault may have, in the vault that the rows left behind.
///
/// Subtracting a derivation timed elsewhere from one at the usual cost would drown the rest in its noise.
fn unlock(ours: &TazPod) -> Outcome<f64> {
    ours.retune(&["--kdf-memory", "64M", "--kdf-time", "1"])?;
    let mut times = Vec::new();
    for _ in 0..15 {
        let start = Instant::now();
        let status = ours.pull()?.arg("true").stdin(Stdio::null()).output()?.status;
        times.push(milliseconds(start.elapsed()));
        if !status.success() {
            return Err(format!("pull -- true: {status}").into());
        }
    }
    ours.retune(&[])?;
    Ok(median(times))
}

/// Makes 100,000 files, then reads and walks them in a fresh mount: the largest resident set of the server from the moment on
/// when the vault is open.
fn memory(ours: &TazPod) -> Outcome<f64> {
    let script = "cd ~/secrets && mkdir -p many && cd many && for d in $(seq 100); do mkdir -p $d; \
        for f in $(seq 1000); do echo $f > $d/$f; done; done";
    let made = ours.pull()?.args(["sh", "-c", script]).stdin(Stdio::null()).output()?;
    if !made.status.success() {
        return Err(format!(
            "making {MANY_FILES} files: {}",
            String::from_utf8_lossy(&made.stderr)
        )
        .into());
    }
    drop_caches()?;
    let read = "read go; find ~/secrets/many -type f -print0 | xargs -0 cat | wc -l; \
        ls -lR ~/secrets/many | wc -l; echo done; read go";
    let mut child = ours
        .pull()?
        .args(["sh", "-c", &format!("echo open; {read}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut go = child.stdin.take().ok_or("no input")?;
    let mut said = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
    wait_for(&mut said, "open")?;
    // What the key derivation took is given back by now; the peak counts from here.
    for server in servers()? {
        fs::write(server.join("clear_refs"), "5")?;
    }
    go.write_all(b"\n")?;
    wait_for(&mut said, "done")?;
    let most = servers()?.iter().map(|server| peak(server)).fold(0.0, f64::max);
    go.write_all(b"\n")?;
    child.wait()?;
    if most == 0.0 { Err("no process served the vault".into()) } else { Ok(most) }
}

fn wait_for(said: &mut Lines<BufReader<ChildStdout>>, word: &str) -> Outcome<()> {
    for line in said.by_ref() {
        if line? == word {
            return Ok(());
        }
    }
    Err(format!("the ghost ended before it said '{word}'").into())
}

/// The processes that hold /dev/fuse open and are ours, as folders of /proc.
fn servers() -> Outcome<Vec<PathBuf>> {
    let is_ours = |path: &Path| {
        fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim().starts_with("tazpod"))
            && holds_fuse(path)
    };
    Ok(fs::read_dir("/proc")?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| is_ours(path))
        .collect())
}

/// The largest resident set since the peak was last reset, in MiB.
fn peak(process: &Path) -> f64 {
    let status = fs::read_to_string(process.join("status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: f64 =
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0.0);
    kib / 1024.0
}

fn holds_fuse(process: &Path) -> bool {
    let Ok(files) = fs::read_dir(process.join("fd")) else { return false };
    files
        .flatten()
        .any(|file| fs::read_link(file.path()).is_ok_and(|target| target.ends_with("fuse")))
}
