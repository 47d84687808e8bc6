//! What `/proc` tells root about other processes: who descends from whom, who still lives.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

/// A process, by the number that it has outside of every ghost.
pub type Pid = u32;

/// Every process of the machine.
pub fn all() -> Vec<Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// A field of `/proc/PID/status`.
fn status(pid: Pid, field: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines()
        .find_map(|line| Some(line.strip_prefix(field)?.strip_prefix(':')?.trim().to_owned()))
}

/// The process's name, as the kernel knows it.
pub fn name(pid: Pid) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

/// Whether the process exists and is more than a zombie.
pub fn alive(pid: Pid) -> bool {
    status(pid, "State").is_some_and(|state| !state.starts_with('Z'))
}

/// `pid` and everything below it.
pub fn family(pid: Pid) -> BTreeSet<Pid> {
    let parents: Vec<(Pid, Pid)> = all()
        .into_iter()
        .filter_map(|one| Some((one, status(one, "PPid")?.parse().ok()?)))
        .collect();
    let mut found = BTreeSet::from([pid]);
    loop {
        let more: Vec<Pid> = parents
            .iter()
            .filter(|(child, parent)| found.contains(parent) && !found.contains(child))
            .map(|(child, _)| *child)
            .collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

fn namespace(pid: Pid, kind: &str) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok()
}

/// Every process in the PID namespace of `pid`, whoever its parent is.
pub fn companions(pid: Pid) -> BTreeSet<Pid> {
    let Some(inside) = namespace(pid, "pid") else { return BTreeSet::new() };
    all().into_iter().filter(|one| namespace(*one, "pid").as_ref() == Some(&inside)).collect()
}

/// Whether a process lives in the same PID namespace as this program.
pub fn is_outside(pid: Pid) -> bool {
    namespace(pid, "pid") == namespace(std::process::id(), "pid")
}

/// The processes whose command line is exactly `text`.
pub fn running(text: &str) -> BTreeSet<Pid> {
    let runs = |pid: &Pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ").trim_end() == text
    };
    all().into_iter().filter(runs).filter(|pid| alive(*pid)).collect()
}

/// The writable memory of a process, as `START-END` in hexadecimal: what an attacker would have to guess.
pub fn writable_memory(pid: Pid) -> Vec<String> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let writable = maps
        .lines()
        .filter(|line| line.split(' ').nth(1).is_some_and(|mode| mode.starts_with("rw")));
    writable.filter_map(|line| Some(line.split(' ').next()?.to_owned())).collect()
}
