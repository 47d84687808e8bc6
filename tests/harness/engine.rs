//! A Docker engine of the tests' own, and throwaway containers on it.
//!
//! One engine serves a test program. Its data, sockets and mounts are nobody else's, and all of it is gone soon after the
//! program has ended, in whatever way. Images come from Debian's archive: no registry is asked.

use crate::process::Pid;
use crate::stage::within;
use crate::terminal::patience;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

/// The distribution that images are made of.
const SUITE: &str = include_str!("suite");

/// A running engine.
pub struct Engine {
    run: PathBuf,
    data: PathBuf,
    imported: Mutex<BTreeSet<String>>,
    /// Its standard input is held open: the end of that is the engine's.
    _keeper: Child,
}

impl Engine {
    /// Returns the engine of this test program, and starts it for the first who asks.
    ///
    /// # Panics
    /// Without root, and when the engine does not start.
    pub fn shared() -> &'static Self {
        static ENGINE: OnceLock<Engine> = OnceLock::new();
        ENGINE.get_or_init(|| Self::start("", ""))
    }

    /// Starts another engine whose disk has only this much room, as `mount` writes it. It ends when it is dropped.
    ///
    /// # Panics
    /// Without root, and when the engine does not start.
    pub fn with_room(size: &str) -> Self {
        Self::start("-small", size)
    }

    fn start(suffix: &str, size: &str) -> Self {
        assert!(
            nix::unistd::Uid::effective().is_root(),
            "this test needs root: run it by tests/run"
        );
        let name = format!("tazpod-engine-{}{suffix}", std::process::id());
        // Paths of sockets are short; data goes where the build has room for it.
        let run = PathBuf::from("/tmp").join(&name);
        let data = target().join("engine").join(&name);
        for folder in [&run, &data] {
            fs::create_dir_all(folder).expect("room for an engine");
        }
        let mut keeper = Command::new("sh");
        keeper
            .args(["-c", include_str!("engine.sh"), "engine"])
            .args([&run, &data])
            .args([&name, size]);
        keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // A group of its own: what ends the tests must not end those who clean up after them.
        let keeper = keeper.process_group(0).spawn().expect("a shell");
        let engine = Self { run, data, imported: Mutex::default(), _keeper: keeper };
        let answers =
            || engine.docker().arg("version").output().is_ok_and(|one| one.status.success());
        // Twice what anything else may take.
        assert!(within(2 * patience(), answers), "the engine does not start:\n{}", engine.log());
        engine
    }

    /// Where it keeps images and containers.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Where it keeps what lasts as long as it runs: sockets, its log, its client's configuration.
    pub fn run(&self) -> &Path {
        &self.run
    }

    /// The engine's socket.
    pub fn socket(&self) -> PathBuf {
        self.run.join("socket")
    }

    /// The value of `DOCKER_HOST` that leads to this engine.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// What the engine said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.run.join("log")).unwrap_or_default()
    }

    /// A `docker` command for this engine, without the configuration of whoever runs the tests.
    pub fn docker(&self) -> Command {
        self.with_client("docker")
    }

    /// Another program that will call `docker` and meet this engine.
    pub fn with_client(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("DOCKER_HOST", self.host()).env("DOCKER_CONFIG", self.run.join("config"));
        command.env("DOCKER_BUILDKIT", "0").env_remove("DOCKER_CONTEXT").stdin(Stdio::null());
        command
    }

    /// Makes `debian:trixie-slim` available and returns its name.
    pub fn debian(&self) -> &'static str {
        let name = "debian:trixie-slim";
        self.import(name, &["ca-certificates"]);
        name
    }

    /// Makes an image `name` out of Debian's archive: a minimal system and `packages`.
    ///
    /// # Panics
    /// When the archive cannot be reached.
    pub fn import(&self, name: &str, packages: &[&str]) {
        let mut imported = self.imported.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if imported.contains(name) {
            return;
        }
        let tar = root_tar(packages);
        let changes = [
            "--change=CMD [\"bash\"]",
            "--change=ENV NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt",
        ];
        said(self.docker().arg("import").args(changes).arg(tar).arg(name));
        imported.insert(name.to_owned());
    }

    /// Starts a container that idles, as `tazpod up` makes them, with these options of `docker run`.
    ///
    /// # Panics
    /// When it does not start.
    pub fn idle<'engine>(&'engine self, image: &str, options: &[&str]) -> Container<'engine> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let mut run = self.docker();
        run.args(["run", "--detach", "--init", "--network", "host", "--name", &name]).args(options);
        let id = said(run.args([image, "sleep", "infinity"])).trim().to_owned();
        Container { engine: self, name, id }
    }
}

/// A container of one test. Dropping it removes it.
pub struct Container<'engine> {
    engine: &'engine Engine,
    /// Its name.
    pub name: String,
    id: String,
}

impl<'engine> Container<'engine> {
    /// The engine that it runs on.
    pub fn engine(&self) -> &'engine Engine {
        self.engine
    }

    /// Makes an image of it as it is now.
    ///
    /// # Panics
    /// When that fails.
    pub fn commit(&self, image: &str) {
        said(self.engine.docker().args(["commit", &self.name, image]));
    }

    /// A `docker exec` of `program` as `user`, with standard input left open to it if `interactive`.
    pub fn exec(&self, user: &str, interactive: bool, program: &str) -> Command {
        let mut command = self.engine.docker();
        command.args(["exec", "--user", user]);
        if interactive {
            command.arg("--interactive");
        }
        command.args([&self.name, program]);
        command
    }

    /// Runs a shell line in the container and returns what became of it.
    ///
    /// # Panics
    /// When there is no docker client.
    pub fn shell(&self, user: &str, line: &str) -> Output {
        self.exec(user, false, "sh").args(["-c", line]).output().expect("docker runs")
    }

    /// Runs a shell line as root that must work.
    ///
    /// # Panics
    /// When the line fails.
    pub fn prepare(&self, line: &str) {
        said(self.exec("root", false, "sh").args(["-c", line]));
    }

    /// Copies a file of the machine into the container.
    ///
    /// # Panics
    /// When it cannot be copied.
    pub fn copy_in(&self, file: &Path, to: &str) {
        said(self.engine.docker().arg("cp").arg(file).arg(format!("{}:{to}", self.name)));
    }

    /// Runs a `docker` command about this container, its name last, and returns what it said on both streams.
    ///
    /// # Panics
    /// When there is no docker client.
    pub fn docker(&self, words: &[&str]) -> Output {
        self.engine.docker().args(words).arg(&self.name).output().expect("docker runs")
    }

    /// The processes in the container, by the numbers that they have on the machine.
    pub fn processes(&self) -> BTreeSet<Pid> {
        crate::process::all()
            .into_iter()
            .filter(|pid| {
                let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
                groups.contains(&self.id)
            })
            .collect()
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        self.docker(&["rm", "--force", "--volumes"]);
    }
}

/// Runs a command that must work, and returns what it said.
///
/// # Panics
/// When it fails.
pub fn said(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{text}{complaint}", output.status);
    text
}

fn target() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/")).join("target")
}

/// Returns the tar of a minimal system with `packages`, made once per list of packages.
fn root_tar(packages: &[&str]) -> PathBuf {
    let folder = target().join("checks/roots");
    let name = packages.iter().fold(SUITE.trim().to_owned(), |name, package| name + "+" + package);
    let tar = folder.join(format!("{name}.tar"));
    if !tar.exists() {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("harness/root-tar");
        said(Command::new(script).arg(folder).arg(SUITE.trim()).args(packages));
    }
    tar
}
