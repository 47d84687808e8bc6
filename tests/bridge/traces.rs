//! Looking for values where they must not be. The search first finds what was planted.
#![allow(clippy::unwrap_used)]

use crate::ghost::{Project, finish, kill};
use crate::source::Sourced;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

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

/// Files outside of the disk in which programs leave things: logs, temporary files, shared memory,
/// core files, the state of services.
fn places_that_hold(text: &str, skip: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> =
        ["/tmp", "/var/tmp", "/var/log", "/var/crash", "/var/lib/systemd", "/dev/shm", "/run"]
            .map(PathBuf::from)
            .to_vec();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(about) = path.symlink_metadata() else { continue };
            if path.starts_with(skip) {
                continue;
            }
            if about.is_dir() {
                folders.push(path);
            } else if about.is_file() && about.len() < 64 << 20 && file_holds(&path, text) {
                found.push(path);
            }
        }
    }
    found
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

#[test]
fn no_value_or_token_is_left_anywhere_outside_of_the_vault() {
    let disk = Disk::new();
    // Both halves apart, so that this program's own file does not hold it.
    let canary = |name: &str| format!("canary-{name}-{}", 7_193_001_u64 * 1_000_003);
    // What the search must find: a file, a deleted file, an argument, an environment.
    let planted = canary("planted");
    assert!(!disk.holds(&planted));
    let path = disk.mounted.join("planted");
    fs::write(&path, planted.repeat(40)).unwrap();
    assert!(disk.holds(&planted), "a file is not found");
    fs::remove_file(&path).unwrap();
    assert!(disk.holds(&planted), "a deleted file is not found");
    let temporary = tempfile::NamedTempFile::new().unwrap();
    fs::write(temporary.path(), &planted).unwrap();
    let places = places_that_hold(&planted, &disk.mounted);
    assert!(places.contains(&temporary.path().to_owned()), "a temporary file is not found");
    let mut victim = Command::new("sleep");
    let mut victim = victim.arg("100").env("PLANTED", &planted).spawn().unwrap();
    let seen = processes_that_hold(&planted);
    kill(i32::try_from(victim.id()).unwrap(), "KILL");
    victim.wait().unwrap();
    assert_eq!(seen.len(), 1, "an environment is not found");

    // A whole life: log in, pull, a shell's environment, a failed pull, a killed one.
    let project = Project::within(&disk.mounted);
    let made = project.run("true");
    assert!(made.status.success(), "{made:?}");
    let sourced = Sourced::of(project);
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
    assert_eq!(processes_that_hold(&variable), [""; 0]);
    assert_eq!(processes_that_hold(&file), [""; 0]);
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
    for secret in [&file, &variable] {
        assert!(!words.contains(secret.as_str()), "in what was printed: {words}");
        assert!(!disk.holds(secret), "on the disk: {secret}");
        assert_eq!(places_that_hold(secret, &disk.mounted), Vec::<PathBuf>::new());
        assert_eq!(processes_that_hold(secret), [""; 0]);
    }
    // The tokens share their beginning; none of them may be there.
    let start = token.get(..token.len().min(24)).unwrap();
    let session = sourced.as_they_are("cat ~/.infisical/tazpod-sessions.json");
    let kept = session.split("\"token\": \"").nth(1).or(session.split("\"token\":\"").nth(1));
    let kept = kept.and_then(|rest| rest.split('"').next()).unwrap();
    assert!(!disk.holds(kept), "the token is on the disk");
    assert_eq!(places_that_hold(kept, &disk.mounted), Vec::<PathBuf>::new(), "{start}");
    // What lay in the clear before it was moved into the vault did touch the disk: that is told.
    let plain = sourced.project.path().join("home/.infisical/old");
    fs::write(&plain, &migrated).unwrap();
    sourced.as_they_are("cat ~/.infisical/old");
    assert!(!plain.exists());
}
