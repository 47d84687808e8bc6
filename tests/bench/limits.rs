//! Promises that are not ratios: start-up, unlocking beyond its KDF, and the server's memory.

use crate::Outcome;
use crate::candidate::{OURS, TazPod, drop_caches, program};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const MANY_FILES: usize = 100_000;

/// Measures and prints the promises, each with its bound.
pub(crate) fn print(dir: &Path) -> Outcome<()> {
    let ours = TazPod { home: fs::canonicalize(dir)?.join(OURS) };
    limit("tazpod --help, median of 51", help()?, 10.0, "ms");
    limit("pull and end without the KDF, warm", unlock(&ours)?, 100.0, "ms");
    limit("server memory with 100,000 files", memory(&ours)?, 128.0, "MiB");
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

/// A whole `pull -- true`, less what the key derivation alone takes at the same cost.
fn unlock(ours: &TazPod) -> Outcome<f64> {
    let mut times = Vec::new();
    for _ in 0..7 {
        let start = Instant::now();
        let status = ours.pull()?.arg("true").stdin(Stdio::null()).output()?.status;
        let whole = milliseconds(start.elapsed());
        if !status.success() {
            return Err(format!("pull -- true: {status}").into());
        }
        times.push(whole - key_derivation()?);
    }
    Ok(median(times))
}

/// Argon2id at the default cost, in this process.
fn key_derivation() -> Outcome<f64> {
    let params =
        argon2::Params::new(256 * 1024, 3, 4, Some(32)).map_err(|e| format!("argon2: {e}"))?;
    let kdf = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let mut out = [0; 32];
    let start = Instant::now();
    kdf.hash_password_into(b"correct horse battery staple", &[7; 32], &mut out)
        .map_err(|e| format!("argon2: {e}"))?;
    Ok(milliseconds(start.elapsed()))
}

/// Makes 100,000 files, then walks and reads them in a fresh mount: the largest resident set of any process of the ghost.
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
    let read = "cat ~/secrets/many/*/* | wc -l; ls -lR ~/secrets/many | wc -l; echo ready; sleep 3";
    let mut child =
        ours.pull()?.args(["sh", "-c", read]).stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    let mut most = 0.0_f64;
    // The kernel keeps the peak, but only as long as the process lives.
    while child.try_wait()?.is_none() {
        most = most.max(peak_of("tazpod")?);
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(most)
}

/// The largest resident set so far, in MiB, of the processes of that name that hold /dev/fuse open.
fn peak_of(name: &str) -> Outcome<f64> {
    let mut most = 0.0_f64;
    for entry in fs::read_dir("/proc")?.flatten() {
        let path = entry.path();
        let is_ours =
            fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim().starts_with(name));
        if is_ours && holds_fuse(&path) {
            let status = fs::read_to_string(path.join("status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let kib: f64 =
                line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0.0);
            most = most.max(kib / 1024.0);
        }
    }
    Ok(most)
}

fn holds_fuse(process: &Path) -> bool {
    let Ok(files) = fs::read_dir(process.join("fd")) else { return false };
    files
        .flatten()
        .any(|file| fs::read_link(file.path()).is_ok_and(|target| target.ends_with("fuse")))
}
