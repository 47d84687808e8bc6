//! Looking for values where they must not be. The search first finds what was planted.
#![allow(clippy::unwrap_used)]

use crate::ghost::{Project, finish, kill};
use crate::source::Sourced;
use harness::infisical::CLIENT_ID;
use std::fs;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

/// A disk of its own, which can be searched block by block.
struct Disk {
    image: PathBuf,
    mounted: PathBuf,
    _folder: tempfile::TempDir,
}

impl Disk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (image, mounted) = (folder.path().join("disk.img"), folder.path().join("disk"));
        fs::File::create(&image).unwrap().set_len(96 << 20).unwrap();
        fs::create_dir(&mounted).unwrap();
        run("mkfs.ext4", &["-q", "-F", image.to_str().unwrap()]);
        run("mount", &["-o", "loop", image.to_str().unwrap(), mounted.to_str().unwrap()]);
        Self { image, mounted, _folder: folder }
    }

    /// Whether any block of the disk, in use or not, holds the text.
    fn holds(&self, text: &str) -> bool {
        run("sync", &["-f", self.mounted.to_str().unwrap()]);
        file_holds(&self.image, text)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.mounted).status();
    }
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "{program} {arguments:?}");
}

fn file_holds(path: &Path, text: &str) -> bool {
    let Ok(mut file) = fs::File::open(path) else { return false };
    let needle = text.as_bytes();
    let mut window = Vec::new();
    let mut part = vec![0; 1 << 20];
    loop {
        let Ok(count) = file.read(&mut part) else { return false };
        if count == 0 {
            return false;
        }
        window.extend_from_slice(&part[..count]);
        if contains(&window, needle) {
            return true;
        }
        window.drain(..window.len().saturating_sub(needle.len()));
    }
}

/// Looks for the first byte alone, which is fast, then for the rest.
fn contains(text: &[u8], needle: &[u8]) -> bool {
    let Some((first, rest)) = needle.split_first() else { return true };
    let mut text = text;
    while let Some(at) = text.iter().position(|byte| byte == first) {
        text = &text[at + 1..];
        if text.starts_with(rest) {
            return true;
        }
    }
    false
}

/// Files of the whole machine, outside of the disk, that hold the text: all that were written since the
/// start, wherever they lie. File systems of the kernel's own making and other people's vaults are passed over.
fn places_that_hold(text: &str, skip: &Path, since: SystemTime) -> Vec<PathBuf> {
    let since = since.duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut find = Command::new("timeout");
    find.args(["300", "find", "/", "("]);
    for kind in ["proc", "sysfs", "cgroup", "cgroup2", "tracefs", "fuse", "fuse.tazpod"] {
        find.args(["-fstype", kind, "-o"]);
    }
    find.arg("-path").arg(skip).args([")", "-prune", "-o", "-type", "f"]);
    find.args(["-newerct", &format!("@{since}"), "-size", "-131072k"]);
    find.args(["-exec", "grep", "-laF", "--", text, "{}", "+"]);
    // Files that go away meanwhile are told of, and their own business.
    let output = find.stderr(Stdio::null()).output().unwrap();
    assert_ne!(output.status.code(), Some(124), "the search takes too long");
    let found = String::from_utf8_lossy(&output.stdout);
    found.lines().map(PathBuf::from).filter(|path| !path.starts_with(skip)).collect()
}

/// The most of a region and of a process's memory that is looked at.
const LARGEST_REGION: u64 = 256 << 20;
const MOST_MEMORY: u64 = 512 << 20;

/// Whether a process is a program of tests: as root those look into every other, and keep what they saw.
fn is_test(pid: u32) -> bool {
    let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    program.parent().is_some_and(|folder| folder.ends_with("deps"))
}

/// Processes outside of every ghost, other than test programs, that hold the text in memory they can write.
fn memories_that_hold(text: &str) -> Vec<String> {
    let own = fs::read_link("/proc/self/ns/pid").unwrap();
    let mut found = Vec::new();
    for pid in harness::process::all() {
        let outside = fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|ns| ns == own);
        if !is_test(pid) && outside && memory_holds(pid, text.as_bytes()) {
            found.push(format!("{pid} {}", harness::process::name(pid)));
        }
    }
    found
}

fn memory_holds(pid: u32, needle: &[u8]) -> bool {
    let Ok(memory) = fs::File::open(format!("/proc/{pid}/mem")) else { return false };
    let mut left = MOST_MEMORY;
    let mut part = vec![0; 1 << 20];
    for region in harness::process::writable_memory(pid) {
        let Some((start, end)) = region.split_once('-') else { continue };
        let number = |text| u64::from_str_radix(text, 16).unwrap_or(0);
        let (mut at, end) = (number(start), number(end));
        if end.saturating_sub(at) > LARGEST_REGION {
            continue;
        }
        while at < end && left > 0 {
            let want = part.len().min(usize::try_from(end - at).unwrap_or(part.len()));
            let Ok(count @ 1..) = memory.read_at(&mut part[..want], at) else { break };
            if contains(&part[..count], needle) {
                return true;
            }
            // A text across two parts is seen in the second.
            let step = if count > 4096 { count - 4096 } else { count };
            at += step as u64;
            left = left.saturating_sub(step as u64);
            if at + 4096 >= end && count == want {
                break;
            }
        }
    }
    false
}

/// Processes outside of every ghost whose arguments or environment hold the text.
fn processes_that_hold(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let own = fs::read_link("/proc/self/ns/pid").unwrap();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let path = entry.path();
        let arguments = file_holds(&path.join("cmdline"), text);
        // Root may look into a ghost; what is in the environment there is meant to be.
        let outside = fs::read_link(path.join("ns/pid")).is_ok_and(|other| other == own);
        if arguments || (outside && file_holds(&path.join("environ"), text)) {
            found.push(path.display().to_string());
        }
    }
    found
}

/// Logs a machine identity in, whose secret nobody writes to a file.
fn log_in_by_pipe(sourced: &Sourced, secret: &str) {
    sourced.server.world().client_secret = secret.into();
    let url = format!("--url={}", sourced.server.url);
    let words = [&url, "--client-id", CLIENT_ID, "--client-secret-fd", "0"];
    let pass = sourced.project.path().join("pass");
    let pass = ["login", "--passphrase-file", pass.to_str().unwrap()];
    let mut login = sourced.project.tazpod(&[&pass[..], &words].concat());
    let mut child = login.stdin(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), secret.as_bytes()).unwrap();
    let output = finish(child);
    let said = format!("{output:?}");
    assert!(output.status.success() && !said.contains(secret), "{said}");
}

#[test]
fn no_value_or_token_is_left_anywhere_outside_of_the_vault() {
    let (disk, since) = (Disk::new(), SystemTime::now());
    // Both halves apart, so that this program's own file does not hold it.
    let canary = |name: &str| format!("canary-{name}-{}", 7_193_001_u64 * 1_000_003);
    // What the search must find: a file, a deleted file, a file anywhere else, a core file, an
    // argument, an environment, the memory of another process.
    let planted = canary("planted");
    assert!(!disk.holds(&planted));
    let path = disk.mounted.join("planted");
    fs::write(&path, planted.repeat(40)).unwrap();
    assert!(disk.holds(&planted), "a file is not found");
    fs::remove_file(&path).unwrap();
    assert!(disk.holds(&planted), "a deleted file is not found");
    let temporary = tempfile::NamedTempFile::new().unwrap();
    fs::write(temporary.path(), &planted).unwrap();
    let elsewhere = tempfile::NamedTempFile::new_in("/opt").unwrap();
    fs::write(elsewhere.path(), &planted).unwrap();
    let crash = tempfile::tempdir().unwrap();
    let crashed = "ulimit -c unlimited; sh -c 'kill -SEGV $$'; ls | grep -c ^core";
    let mut crashing = Command::new("sh");
    crashing.args(["-c", crashed]).current_dir(crash.path()).env("PLANTED", &planted);
    assert_eq!(crashing.output().unwrap().stdout, b"1\n", "no core file");
    let places = places_that_hold(&planted, &disk.mounted, since);
    for path in [temporary.path(), elsewhere.path()] {
        assert!(places.contains(&path.to_owned()), "{} is not found", path.display());
    }
    assert!(places.iter().any(|path| path.starts_with(crash.path())), "a core file is not found");
    drop((temporary, elsewhere, crash));
    let mut victim = Command::new("sleep");
    let mut victim = victim.arg("100").env("PLANTED", &planted).spawn().unwrap();
    let mut named = Command::new("sh");
    let mut named =
        named.args(["-c", "read line", &planted]).stdin(Stdio::piped()).spawn().unwrap();
    // The kernel lets the parent go on a moment before the child's new image is complete.
    let found = || processes_that_hold(&planted).len() == 2;
    let seen = harness::stage::within(60, found);
    let read = memories_that_hold(&planted);
    kill(i32::try_from(victim.id()).unwrap(), "KILL");
    victim.wait().unwrap();
    drop(named.stdin.take());
    named.wait().unwrap();
    assert!(seen, "an environment or an argument is not found");
    assert_eq!(read.len(), 2, "the memory of another process is not found");

    // A whole life: log in, pull, a shell's environment, a failed pull, a killed one.
    let project = Project::within(&disk.mounted);
    let made = project.run("true");
    assert!(made.status.success(), "{made:?}");
    let sourced = Sourced::of(project);
    let client = canary("client");
    log_in_by_pipe(&sourced, &client);
    let (file, variable, migrated) = (canary("file"), canary("variable"), canary("migrated"));
    sourced.set("FILE", &file.repeat(40));
    sourced.set("VARIABLE", &variable);
    sourced.map("{name: FILE, file: file, env: FILE}\n{name: VARIABLE, env: VARIABLE}");
    let tazpod = crate::source::program().display();
    let line = format!("{tazpod} env --shell sh; touch ready; sleep 100");
    let line = line.replace("--shell sh", "--shell bash | cat >/dev/null");
    let child = sourced.project.pull(&line).spawn().unwrap();
    crate::ghost::wait_until("the ghost is open", || {
        sourced.project.path().join("project/ready").exists()
    });
    for secret in [&variable, &file] {
        assert_eq!(processes_that_hold(secret), [""; 0]);
        assert_eq!(memories_that_hold(secret), [""; 0], "beside the open ghost");
    }
    for pid in sourced.project.processes() {
        kill(pid, "KILL");
    }
    finish(child);
    let sees = sourced.good("echo $VARIABLE; cat ~/secrets/file");
    assert!(sees.contains(&variable) && sees.contains(&file), "it never arrived");
    sourced.server.world().remove("dev", "/", "FILE");
    let failed = sourced.run("true");
    let words = format!("{failed:?}");
    assert!(!failed.status.success());
    let token = sourced.server.world().issue();
    sourced.project.assert_nothing_left();
    for secret in [&file, &variable, &client] {
        assert!(!words.contains(secret.as_str()), "in what was printed: {words}");
        assert!(!disk.holds(secret), "on the disk: {secret}");
        assert_eq!(places_that_hold(secret, &disk.mounted, since), Vec::<PathBuf>::new());
        assert_eq!(processes_that_hold(secret), [""; 0]);
        assert_eq!(memories_that_hold(secret), [""; 0]);
    }
    // The tokens share their beginning; none of them may be there.
    let start = token.get(..token.len().min(24)).unwrap();
    let session = sourced.as_they_are("cat ~/.infisical/tazpod-sessions.json");
    assert!(session.contains(&client), "the login is not in the vault");
    let kept = session.split("\"token\": \"").nth(1).or(session.split("\"token\":\"").nth(1));
    let kept = kept.and_then(|rest| rest.split('"').next()).unwrap();
    assert!(!disk.holds(kept), "the token is on the disk");
    assert_eq!(places_that_hold(kept, &disk.mounted, since), Vec::<PathBuf>::new(), "{start}");
    // What lay in the clear before it was moved into the vault did touch the disk: that is told.
    let plain = sourced.project.path().join("home/.infisical/old");
    fs::create_dir_all(plain.parent().unwrap()).unwrap();
    fs::write(&plain, &migrated).unwrap();
    sourced.as_they_are("cat ~/.infisical/old");
    assert!(!plain.exists());
}
