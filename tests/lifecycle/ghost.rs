//! A throwaway project and home, and what can be seen of its ghosts from outside.

use harness::binary::{backend, tazpod};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longer than anything here takes, unless it hangs.
const LIMIT: Duration = Duration::from_secs(120);

/// A user of this machine who may start the helper by sudo, until dropped.
pub(crate) struct User {
    name: String,
    pub(crate) uid: u32,
    folder: TempDir,
    binary: String,
}

impl User {
    pub(crate) fn new(suffix: &str) -> Self {
        let name = format!("tazpod-test-{suffix}");
        let done = Command::new("useradd").args(["--no-create-home", &name]).status();
        assert!(done.is_ok_and(|status| status.success()), "useradd {name}");
        let folder = tempfile::tempdir().expect("a folder");
        let binary = folder.path().join("tazpod");
        fs::copy(tazpod(), &binary).expect("a copy that the user can reach");
        set_mode(folder.path(), 0o755);
        set_mode(&binary, 0o755);
        let binary = binary.to_str().expect("a plain path").to_owned();
        let rule = format!("{name} ALL=(root) NOPASSWD: {binary} internal-ghost\n");
        fs::write(format!("/etc/sudoers.d/{name}"), rule).expect("a rule");
        let id = Command::new("id").args(["-u", &name]).output().expect("id");
        let uid = String::from_utf8_lossy(&id.stdout).trim().parse().expect("a number");
        Self { name, uid, folder, binary }
    }

    /// Lets the user database name a home folder.
    #[allow(dead_code, reason = "for the suite of ghosts by sudo")]
    pub(crate) fn live_in(&self, home: &Path) {
        let done = Command::new("usermod").arg("--home").arg(home).arg(&self.name).status();
        assert!(done.is_ok_and(|status| status.success()), "usermod {}", self.name);
    }

    pub(crate) fn binary(&self) -> &str {
        assert!(self.folder.path().exists());
        &self.binary
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _ = fs::remove_file(format!("/etc/sudoers.d/{}", self.name));
        // One who still has processes too, as after a failed test.
        let _ = Command::new("userdel").args(["--force", &self.name]).status();
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours");
}

pub(crate) struct Project {
    top: TempDir,
    home: PathBuf,
    user: Option<(u32, String)>,
}

impl Project {
    /// A project without a vault yet.
    pub(crate) fn new() -> Self {
        Self::within(&std::env::temp_dir())
    }

    /// A project, home and all, below a folder.
    pub(crate) fn within(folder: &Path) -> Self {
        let top = tempfile::Builder::new().prefix("ghost-life-").tempdir_in(folder);
        let top = top.expect("a folder");
        for name in ["home", "project"] {
            fs::create_dir(top.path().join(name)).expect("a folder");
        }
        fs::write(top.path().join("pass"), "a passphrase\n").expect("a file");
        set_mode(&top.path().join("pass"), 0o600);
        let home = top.path().join("home");
        Self { top, home, user: None }
    }

    /// Another project of the same home.
    #[allow(dead_code, reason = "for the suite of the bridges")]
    pub(crate) fn another(&self) -> Self {
        let mut other = Self::new();
        other.home.clone_from(&self.home);
        other
    }

    /// Another project of the same home and user.
    pub(crate) fn another_of(&self, user: &User) -> Self {
        let mut other = Self::of(user);
        other.home.clone_from(&self.home);
        other
    }

    /// A project of a user who is not root.
    pub(crate) fn of(user: &User) -> Self {
        let mut project = Self::new();
        set_mode(project.path(), 0o755);
        for name in ["home", "project", "pass"] {
            let path = project.path().join(name);
            std::os::unix::fs::chown(path, Some(user.uid), Some(user.uid)).expect("we are root");
        }
        project.user = Some((user.uid, user.binary().to_owned()));
        project
    }

    /// A project whose vault holds `~/secrets/kept`.
    pub(crate) fn with_vault() -> Self {
        let project = Self::new();
        let made = project.run("echo kept > ~/secrets/kept; sync ~/secrets/kept");
        assert!(made.status.success(), "{made:?}");
        project
    }

    pub(crate) fn path(&self) -> &Path {
        self.top.path()
    }

    pub(crate) fn secrets(&self) -> PathBuf {
        self.home.join("secrets")
    }

    /// `tazpod` in the project.
    pub(crate) fn tazpod(&self, arguments: &[&str]) -> Command {
        let program = self.user.as_ref().map_or_else(|| tazpod(), |(_, binary)| Path::new(binary));
        self.command(program.to_str().expect("a plain path"), arguments)
    }

    /// Any program in the project, as its user.
    pub(crate) fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.path().join("project"));
        if let Some((uid, _)) = &self.user {
            command.uid(*uid).gid(*uid);
        }
        command.env("HOME", &self.home).env("SHELL", "/bin/sh");
        command.env_remove("XDG_STATE_HOME").env_remove("SUDO_UID");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// `tazpod pull -- sh -c LINE` with the passphrase from a file.
    pub(crate) fn pull(&self, line: &str) -> Command {
        self.verb("pull", &["--", "sh", "-c", line])
    }

    /// A verb that opens the vault, with the passphrase from a file.
    pub(crate) fn verb(&self, verb: &str, more: &[&str]) -> Command {
        let pass = self.path().join("pass");
        let pass = pass.to_str().expect("a plain path");
        let words = [
            verb,
            "--backend",
            &backend(),
            "--kdf-memory",
            "64M",
            "--kdf-time",
            "1",
            "--passphrase-file",
            pass,
        ];
        self.tazpod(&[&words[..], more].concat())
    }

    /// Runs a line in a ghost to its end.
    pub(crate) fn run(&self, line: &str) -> Output {
        finish(self.pull(line).spawn().expect("tazpod starts"))
    }

    /// Starts a line in a ghost that is open when this returns.
    pub(crate) fn start(&self, line: &str) -> Child {
        let child = self
            .pull(&format!("touch {}/open; {line}", self.path().join("project").display()))
            .spawn()
            .expect("tazpod starts");
        wait_until("the ghost is open", || self.path().join("project/open").exists());
        fs::remove_file(self.path().join("project/open")).expect("it was there");
        child
    }

    /// The socket of this project's ghost.
    pub(crate) fn door(&self) -> PathBuf {
        self.place().join("socket")
    }

    /// The folder of this project's ghost: it is named by the project's path.
    fn place(&self) -> PathBuf {
        let line = format!("printf %s '{}/project' | sha256sum", self.path().display());
        let output = Command::new("sh").args(["-c", &line]).output().expect("sha256sum");
        let digest = String::from_utf8_lossy(&output.stdout).into_owned();
        let name = digest.get(..16).expect("a digest");
        let uid = self.user.as_ref().map_or(0, |(uid, _)| *uid);
        Path::new("/run/tazpod").join(uid.to_string()).join(name)
    }

    /// What is left of this project's ghosts, root's and rootless ones, beside their mounts and processes.
    pub(crate) fn remains(&self) -> Vec<PathBuf> {
        use std::os::unix::fs::MetadataExt;
        let place = self.place();
        let home = fs::metadata(&self.home).expect("the home");
        let note = format!("{:x}-{:x}.home", home.dev(), home.ino());
        let roots = [place.clone(), place.with_extension("lock"), place.with_file_name(note)];
        let rootless = fs::read_dir(self.home.join(".local/state/tazpod/run"));
        let rootless = rootless.into_iter().flatten().flatten().map(|entry| entry.path());
        roots.into_iter().filter(|path| path.exists()).chain(rootless).collect()
    }

    /// Waits until the ghost has at least `count` processes, and returns all of them in order: what a
    /// shell was told to start may not be there yet when the shell is.
    pub(crate) fn whole(&self, count: usize) -> Vec<i32> {
        wait_until("the ghost is whole", || self.processes().len() >= count);
        let mut processes = self.processes();
        processes.sort_unstable();
        processes
    }

    /// Every process that belongs to a ghost of this project: its command line names the folder,
    /// or it is a child of one whose does.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let needle = self.path().to_str().expect("a plain path").as_bytes();
        let all = processes();
        let mut ours: Vec<i32> = all
            .iter()
            .filter(|found| found.words.windows(needle.len()).any(|part| part == needle))
            .map(|found| found.pid)
            .collect();
        loop {
            let more: Vec<i32> = all
                .iter()
                .filter(|found| ours.contains(&found.parent) && !ours.contains(&found.pid))
                .map(|found| found.pid)
                .collect();
            if more.is_empty() {
                return ours;
            }
            ours.extend(more);
        }
    }

    /// Mount points of this project in this mount namespace, and of any ghost: those are never seen
    /// here.
    pub(crate) fn mounts(&self) -> Vec<String> {
        let table = fs::read_to_string("/proc/self/mountinfo").expect("the kernel's table");
        let needle = self.path().to_str().expect("a plain path");
        table
            .lines()
            .filter_map(|line| line.split(' ').nth(4))
            .filter(|point| point.starts_with(needle) || point.starts_with("/run/tazpod/"))
            .map(ToOwned::to_owned)
            .collect()
    }

    /// Loop devices over this project's files, and what is mapped over them, as the kernel lists them.
    pub(crate) fn devices(&self) -> Vec<String> {
        let needle = self.path().to_str().expect("a plain path");
        let class = Path::new("/sys/class/block");
        let names = |folder: &Path| -> Vec<String> {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
        };
        let over_ours = |name: &String| {
            let file = fs::read_to_string(class.join(name).join("loop/backing_file"));
            file.is_ok_and(|file| file.starts_with(needle))
        };
        let all = names(class);
        let mut found: Vec<String> = all.iter().filter(|name| over_ours(name)).cloned().collect();
        let on_them = |name: &&String| {
            names(&class.join(name).join("slaves")).iter().any(|below| found.contains(below))
        };
        let mapped: Vec<String> = all.iter().filter(on_them).cloned().collect();
        found.extend(mapped);
        found.extend(unfinished_mappings());
        found
    }

    /// Asserts that nothing of any ghost of this project is left, now or in a moment.
    pub(crate) fn assert_nothing_left(&self) {
        wait_until("its processes are gone", || self.processes().is_empty());
        wait_until("its mounts are gone", || self.mounts().is_empty());
        wait_until("its devices are gone", || self.devices().is_empty());
        let left: Vec<_> = fs::read_dir(self.secrets()).expect("the mount point").collect();
        assert!(left.is_empty(), "{left:?}");
        assert!(!self.path().join("project/.tazpod/vault/vault.img.in-use").exists());
    }

    /// Asserts that the vault opens and holds what was made durable in it, and that this ghost, whose end
    /// is an ordinary one, takes away what earlier ones may have left too.
    pub(crate) fn assert_vault_whole(&self) {
        let output = self.run("cat ~/secrets/kept");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "kept\n", "{output:?}");
        assert!(output.status.success());
        self.assert_nothing_left();
        let left = self.remains();
        assert!(left.is_empty(), "{left:?} is left");
    }
}

/// Mappings of any vault that have no table: they stand on nothing, and only the device mapper knows them.
fn unfinished_mappings() -> Vec<String> {
    let misc = fs::read_to_string("/proc/misc").unwrap_or_default();
    if backend() != "luks" || !misc.contains("device-mapper") {
        return Vec::new();
    }
    let columns = ["info", "--columns", "--noheadings", "--separator", " ", "-o", "attr,name"];
    let output = Command::new("dmsetup").args(columns).output().expect("dmsetup");
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    let ours = ["tazpod-", "temporary-cryptsetup-"];
    let mappings = listed.lines().filter_map(|line| line.trim().split_once(' '));
    mappings
        // The first two say whether there is a live table, and one that waits.
        .filter(|(state, name)| {
            state.starts_with("--") && ours.iter().any(|start| name.starts_with(start))
        })
        .map(|(_, name)| name.to_owned())
        .collect()
}

impl Drop for Project {
    fn drop(&mut self) {
        // A test that failed may leave a ghost behind; what is killed here is this test's own.
        for pid in self.processes() {
            kill(pid, "KILL");
        }
    }
}

pub(crate) fn finish(mut child: Child) -> Output {
    let deadline = Instant::now() + LIMIT;
    while child.try_wait().expect("a child of ours").is_none() {
        assert!(Instant::now() < deadline, "it hangs");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().expect("a child of ours")
}

pub(crate) fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub(crate) fn kill(pid: i32, signal: &str) {
    let _ = Command::new("kill")
        .args([&format!("-{signal}"), "--", &pid.to_string()])
        .stderr(Stdio::null())
        .status();
}

struct Process {
    pid: i32,
    parent: i32,
    words: Vec<u8>,
}

fn processes() -> Vec<Process> {
    let own = std::process::id().to_string();
    fs::read_dir("/proc")
        .expect("proc")
        .flatten()
        .filter(|entry| entry.file_name().to_str() != Some(&own))
        .filter_map(|entry| {
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            let (pid, rest) = stat.split_once(" (")?;
            let mut fields = rest.rsplit_once(") ")?.1.split(' ');
            let state = fields.next()?;
            let parent = fields.next()?.parse().ok()?;
            let words = fs::read(entry.path().join("cmdline")).ok()?;
            (state != "Z").then_some(Process { pid: pid.parse().ok()?, parent, words })
        })
        .collect()
}
