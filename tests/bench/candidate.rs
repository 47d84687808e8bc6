//! What is compared: each candidate can be created once and can run the workload in a fresh mount of its own.

use crate::Outcome;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The name that the report divides by.
pub(crate) const OURS: &str = "tazpod";
const PASSPHRASE: &str = "correct horse battery staple";

/// A file system under measurement.
pub(crate) trait Candidate {
    fn name(&self) -> &'static str;
    fn create(&self) -> Outcome<()>;
    /// Mounts, runs `bench work ROW PHASE` on the mount, unmounts; answers the seconds that the work reported.
    fn run(&self, row: &str, phase: &str) -> Outcome<f64>;
}

/// Whether a candidate's fsync is one.
pub(crate) fn syncs(name: &str) -> bool {
    PEERS.iter().all(|peer| peer.name != name || peer.syncs)
}

/// The candidates that can run here; our vaults are of this size.
pub(crate) fn all(dir: &Path, vault_size: &str) -> Outcome<Vec<Box<dyn Candidate>>> {
    let home = fs::canonicalize(dir)?;
    write_passphrase(&home)?;
    let mut list: Vec<Box<dyn Candidate>> = vec![Box::new(TazPod::fuse(&home, vault_size))];
    // The kernels that most benchmarks run on have no device mapper; one that has it is started by `tests/run backends`.
    if fs::read_to_string("/proc/misc").is_ok_and(|misc| misc.contains("device-mapper")) {
        list.push(Box::new(TazPod::luks(&home, vault_size)));
    }
    list.push(Box::new(Plain { dir: home.join("ext4") }));
    for peer in PEERS {
        list.push(Box::new(Mounted { peer, dir: home.join(peer.name) }));
    }
    Ok(list)
}

/// Writes the passphrase of all vaults beside them.
pub(crate) fn write_passphrase(home: &Path) -> Outcome<()> {
    use std::os::unix::fs::PermissionsExt;
    let path = home.join("passphrase");
    fs::write(&path, PASSPHRASE)?;
    Ok(fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?)
}

/// Writes back and forgets everything that the kernel caches.
pub(crate) fn drop_caches() -> Outcome<()> {
    checked(&mut Command::new("sync"))?;
    Ok(fs::write("/proc/sys/vm/drop_caches", "3")
        .map_err(|e| format!("cannot drop caches, which needs root: {e}"))?)
}

/// Runs the workload of this very program on `dir`.
fn work(row: &str, phase: &str, dir: &Path) -> Outcome<f64> {
    seconds(Command::new(std::env::current_exe()?).args(["work", row, phase]).arg(dir))
}

/// The last line that the workload prints is its time.
pub(crate) fn seconds(command: &mut Command) -> Outcome<f64> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::piped()).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{}: {} {}", output.status, text.trim(), stderr.trim()).into());
    }
    let last = text.lines().rev().find_map(|line| line.strip_prefix("seconds "));
    Ok(last.ok_or_else(|| format!("the workload printed no time: {text}"))?.parse()?)
}

pub(crate) fn checked(command: &mut Command) -> Outcome<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{command:?}: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    )
    .into())
}

/// A folder of the disk's own file system.
struct Plain {
    dir: PathBuf,
}

impl Candidate for Plain {
    fn name(&self) -> &'static str {
        "ext4"
    }

    fn create(&self) -> Outcome<()> {
        empty(&self.dir)
    }

    fn run(&self, row: &str, phase: &str) -> Outcome<f64> {
        work(row, phase, &self.dir)
    }
}

fn empty(dir: &Path) -> Outcome<()> {
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    Ok(fs::create_dir_all(dir)?)
}

/// How a peer from Debian is made and mounted; the passphrase comes on standard input or as its own option wants it.
/// `syncs` tells whether its fsync reaches the disk (seen with strace): a row that promises it has no other meaning.
struct Peer {
    name: &'static str,
    create: &'static [&'static str],
    mount: &'static [&'static str],
    syncs: bool,
}

const PEERS: &[Peer] = &[
    Peer {
        name: "gocryptfs",
        create: &["gocryptfs", "-q", "-init", "-passfile", "PASSFILE", "CIPHER"],
        mount: &["gocryptfs", "-q", "-passfile", "PASSFILE", "CIPHER", "MOUNT"],
        syncs: true,
    },
    Peer { name: "cryfs", create: &[], mount: &["cryfs", "CIPHER", "MOUNT"], syncs: false },
    Peer {
        name: "securefs",
        create: &["securefs", "create", "--pass", PASSPHRASE, "CIPHER"],
        mount: &[
            "securefs", "mount", "-b", "--log", "LOG", "--pass", PASSPHRASE, "CIPHER", "MOUNT",
        ],
        syncs: true,
    },
    Peer {
        name: "encfs",
        create: &[],
        mount: &["encfs", "--standard", "--stdinpass", "CIPHER", "MOUNT"],
        syncs: true,
    },
];

struct Mounted {
    peer: &'static Peer,
    dir: PathBuf,
}

impl Mounted {
    fn command(&self, words: &[&str]) -> Outcome<()> {
        let path = |word: &str| match word {
            "CIPHER" => self.dir.join("cipher").into_os_string(),
            "MOUNT" => self.dir.join("mount").into_os_string(),
            "LOG" => self.dir.join("log").into_os_string(),
            "PASSFILE" => self.dir.with_file_name("passphrase").into_os_string(),
            other => other.into(),
        };
        let Some((program, rest)) = words.split_first() else { return Ok(()) };
        // The daemons keep their output open, so it goes to a file and not to a pipe that we would wait on.
        let log = fs::File::create(self.dir.join("output"))?;
        let mut child = Command::new(program)
            .args(rest.iter().map(|word| path(word)))
            .env("CRYFS_FRONTEND", "noninteractive")
            .env("CRYFS_NO_UPDATE_CHECK", "true")
            .env("CRYFS_LOCAL_STATE_DIR", self.dir.join("state"))
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .map_err(|error| format!("{program}: {error}; it is a Debian package"))?;
        if let Some(mut input) = child.stdin.take() {
            // Who takes the passphrase elsewhere may have closed its input already.
            input.write_all(PASSPHRASE.as_bytes()).and_then(|()| input.write_all(b"\n")).ok();
        }
        let status = child.wait()?;
        if status.success() {
            return Ok(());
        }
        Err(format!("{words:?}: {status}: {}", fs::read_to_string(self.dir.join("output"))?.trim())
            .into())
    }

    fn is_mounted(&self) -> Outcome<bool> {
        let mount = self.dir.join("mount");
        let table = fs::read_to_string("/proc/self/mountinfo")?;
        Ok(table.lines().any(|line| line.split(' ').nth(4) == mount.to_str()))
    }

    fn wait_until(&self, mounted: bool) -> Outcome<()> {
        for _ in 0..3000 {
            if self.is_mounted()? == mounted {
                return Ok(());
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        Err(format!("{} did not {}", self.peer.name, if mounted { "mount" } else { "unmount" })
            .into())
    }
}

impl Candidate for Mounted {
    fn name(&self) -> &'static str {
        self.peer.name
    }

    fn create(&self) -> Outcome<()> {
        if self.dir.exists() && self.is_mounted()? {
            checked(Command::new("fusermount").arg("-u").arg(self.dir.join("mount")))?;
        }
        empty(&self.dir)?;
        fs::create_dir(self.dir.join("cipher"))?;
        fs::create_dir(self.dir.join("mount"))?;
        self.command(self.peer.create)
    }

    fn run(&self, row: &str, phase: &str) -> Outcome<f64> {
        self.command(self.peer.mount)?;
        self.wait_until(true)?;
        let result = work(row, phase, &self.dir.join("mount"));
        checked(Command::new("fusermount").arg("-u").arg(self.dir.join("mount")))?;
        self.wait_until(false)?;
        // The daemon finishes writing after the mount is gone; the next one of its kind must not meet it.
        std::thread::sleep(std::time::Duration::from_millis(200));
        result
    }
}

/// The real program: `tazpod pull --backend … -- bench work …` in a project and a home of its own.
pub(crate) struct TazPod {
    name: &'static str,
    backend: &'static str,
    size: String,
    home: PathBuf,
}

impl TazPod {
    /// Our own image, which the others are compared with.
    pub(crate) fn fuse(home: &Path, size: &str) -> Self {
        Self { name: OURS, backend: "fuse", size: size.into(), home: home.join(OURS) }
    }

    fn luks(home: &Path, size: &str) -> Self {
        Self { name: "luks", backend: "luks", size: size.into(), home: home.join("luks") }
    }

    pub(crate) fn command(&self, words: &[&str]) -> Outcome<Command> {
        let mut command = Command::new(program()?);
        command
            .args(words)
            .current_dir(self.home.join("project"))
            .env("HOME", self.home.join("home"));
        Ok(command)
    }

    /// Gives the vault's keyslot another cost; the usual one without options.
    pub(crate) fn retune(&self, options: &[&str]) -> Outcome<()> {
        let mut command = self.command(&["vault", "kdf", "--passphrase-file"])?;
        checked(command.arg(self.passphrase()).args(options))
    }

    pub(crate) fn pull(&self) -> Outcome<Command> {
        let mut command =
            self.command(&["pull", "--backend", self.backend, "--passphrase-file"])?;
        command.arg(self.passphrase()).arg("--");
        Ok(command)
    }

    /// Where the vault is open in a ghost.
    pub(crate) fn mount(&self) -> PathBuf {
        self.home.join("home/secrets")
    }

    /// The file with its passphrase.
    pub(crate) fn passphrase(&self) -> PathBuf {
        self.home.with_file_name("passphrase")
    }
}

/// The release build beside this program.
pub(crate) fn program() -> Outcome<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("tazpod");
    if path.exists() {
        Ok(path)
    } else {
        Err(format!("{} is missing: build it first", path.display()).into())
    }
}

impl Candidate for TazPod {
    fn name(&self) -> &'static str {
        self.name
    }

    fn create(&self) -> Outcome<()> {
        empty(&self.home)?;
        fs::create_dir_all(self.mount())?;
        fs::create_dir_all(self.home.join("project"))?;
        let config = self.home.join("project/.tazpod/config.yaml");
        fs::create_dir_all(config.parent().ok_or("no folder")?)?;
        fs::write(config, format!("vault:\n  size: {}\n", self.size))?;
        checked(self.pull()?.arg("true"))
    }

    fn run(&self, row: &str, phase: &str) -> Outcome<f64> {
        let mut command = self.pull()?;
        command.arg(std::env::current_exe()?).args(["work", row, phase]).arg(self.mount());
        seconds(&mut command)
    }
}
