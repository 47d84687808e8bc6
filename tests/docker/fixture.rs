//! A host: a user who is not root, with projects, and an engine that this user may use.

use harness::binary::{backend, tazpod};
use harness::engine::{Engine, said};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// The user on the host; the user in the images has the same uid.
const USER: u32 = 1000;

/// The passphrase of every vault here: a canary that must never leave.
pub(crate) const PASSPHRASE: &str = "canary-passphrase-7d1f";

/// Programs that ghosts and tests call in a container.
const PACKAGES: &str = include_str!("packages");

/// What every image of these tests is made from.
pub(crate) fn base() -> &'static str {
    let packages: Vec<&str> = PACKAGES.split_whitespace().collect();
    Engine::shared().import("tazpod-tests", &packages);
    "tazpod-tests"
}

/// An image with the program, a user, and the one sudo rule.
pub(crate) fn image() -> &'static str {
    static IMAGE: OnceLock<()> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        fs::copy(tazpod(), dir.path().join("tazpod")).unwrap();
        fs::write(dir.path().join("Dockerfile"), dockerfile()).unwrap();
        let mut build = Engine::shared().docker();
        said(build.args(["build", "--network", "host", "--tag", "tazpod-user"]).arg(dir.path()));
    });
    "tazpod-user"
}

/// How to make such an image from a context that has `tazpod`.
pub(crate) fn dockerfile() -> String {
    format!(
        "FROM {}\nCOPY tazpod /usr/local/bin/tazpod\n\
         RUN useradd --create-home --shell /bin/bash tazpod \\\n\
         && echo 'tazpod ALL=(root) NOPASSWD: /usr/local/bin/tazpod internal-ghost' >/etc/sudoers.d/tazpod \\\n\
         && chmod 0440 /etc/sudoers.d/tazpod \\\n\
         && install -d -o tazpod -g tazpod /home/tazpod/.local /home/tazpod/.local/state /home/tazpod/.local/state/tazpod\n",
        base()
    )
}

/// The image and the vault of a project's configuration.
pub(crate) fn settings() -> String {
    format!("image: {}\nvault:\n  backend: {}\n  size: 48M\n", image(), backend())
}

/// A host with one project of the user's. Its containers are removed with it.
pub(crate) struct Host {
    folder: tempfile::TempDir,
    user: u32,
}

impl Host {
    /// A host whose project uses [`image`] and the backend that the tests are about.
    pub(crate) fn new() -> Self {
        Self::of(USER)
    }

    /// The same for a user with another uid.
    pub(crate) fn of(user: u32) -> Self {
        let host = Self::bare(user);
        host.configure(&settings());
        host
    }

    /// A host whose project names no image yet.
    pub(crate) fn without_image() -> Self {
        Self::bare(USER)
    }

    fn bare(user: u32) -> Self {
        let engine = Engine::shared();
        // The user is in no group; others are let in as the socket's group would be.
        fs::set_permissions(engine.socket(), fs::Permissions::from_mode(0o666)).unwrap();
        let folder = tempfile::Builder::new().prefix("tazpod-host-").tempdir_in("/tmp").unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let host = Self { folder, user };
        fs::create_dir_all(host.path("bin")).unwrap();
        // By a process of its own: a file that another thread's child has open cannot be started.
        said(Command::new("cp").arg(tazpod()).arg(host.path("bin/tazpod")));
        for name in ["home", "Lab 1", "Lab 1/.tazpod", "other", "other/.tazpod"] {
            fs::create_dir_all(host.path(name)).unwrap();
            chown(host.path(name), Some(user), Some(user)).unwrap();
        }
        host
    }

    /// A path on the host.
    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    /// The project's folder.
    pub(crate) fn project(&self) -> PathBuf {
        self.path("Lab 1")
    }

    /// The name of the project's container: this host's alone on the engine.
    pub(crate) fn name(&self) -> String {
        self.name_of("lab")
    }

    /// The name of the container of the project `lab` or `other`.
    pub(crate) fn name_of(&self, project: &str) -> String {
        let unique = self.folder.path().file_name().unwrap().to_string_lossy().replace('.', "");
        format!("tazpod-{project}-{unique}")
    }

    /// Writes the project's configuration, with its name.
    pub(crate) fn configure(&self, rest: &str) {
        self.write(
            "Lab 1/.tazpod/config.yaml",
            &format!("container_name: {}\n{rest}", self.name()),
        );
    }

    /// Makes the folder `other` a project too; returns its container's name.
    pub(crate) fn configure_other(&self) -> String {
        let name = self.name_of("other");
        self.write("other/.tazpod/config.yaml", &format!("container_name: {name}\n{}", settings()));
        name
    }

    /// Writes a file of the user's.
    pub(crate) fn write(&self, below: &str, content: &str) {
        let path = self.path(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        chown(&path, Some(self.user), Some(self.user)).unwrap();
    }

    /// A command of the user's in the project.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.project()).uid(self.user).gid(self.user).env_clear();
        command.envs(self.environment()).stdin(Stdio::null());
        command
    }

    fn environment(&self) -> [(&'static str, String); 7] {
        let bin = self.path("bin");
        [
            ("PATH", format!("{}:/usr/bin:/bin", bin.display())),
            ("HOME", self.path("home").display().to_string()),
            ("DOCKER_HOST", Engine::shared().host()),
            ("DOCKER_CONFIG", self.path("home/.docker").display().to_string()),
            ("SHELL", "/bin/sh".to_owned()),
            ("LANG", "C.UTF-8".to_owned()),
            ("TERM", "dumb".to_owned()),
        ]
    }

    /// Runs `tazpod` with these words.
    pub(crate) fn tazpod(&self, words: &[&str]) -> Output {
        self.command("tazpod").args(words).output().expect("tazpod runs")
    }

    /// Runs `tazpod`, which must end well; returns its standard output.
    pub(crate) fn says(&self, words: &[&str]) -> String {
        said(self.command("tazpod").args(words))
    }

    /// Runs `tazpod`, which must end with `status`; returns what it complained about.
    pub(crate) fn complains(&self, words: &[&str], status: i32) -> String {
        let output = self.tazpod(words);
        assert_eq!(output.status.code(), Some(status), "{words:?}: {output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// The state of a container as the engine has it; nothing if there is none.
    #[allow(clippy::unused_self, reason = "a host has one engine")]
    pub(crate) fn inspect(&self, name: &str, format: &str) -> String {
        let mut docker = Engine::shared().docker();
        let output = docker.args(["inspect", "--format", format, name]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Sends a signal to a process of the user's.
    #[allow(clippy::unused_self, reason = "a host has one table of processes")]
    pub(crate) fn kill(&self, signal: &str, pid: &str) {
        assert!(pid.parse::<u32>().is_ok_and(|pid| pid > 1), "{pid:?}");
        said(Command::new("kill").args([&format!("-{signal}"), pid]));
    }

    /// Programs in the project's container, one line each.
    pub(crate) fn programs(&self) -> String {
        self.docker(&["exec", "--user", "root", &self.name(), "ps", "-eo", "stat,args"])
    }

    /// Runs a command of the docker client's that must end well.
    #[allow(clippy::unused_self, reason = "a host has one engine")]
    pub(crate) fn docker(&self, words: &[&str]) -> String {
        said(Engine::shared().docker().args(words))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for project in ["lab", "other"] {
            let name = self.name_of(project);
            let _ = Engine::shared().docker().args(["rm", "--force", "--volumes", &name]).output();
        }
    }
}

/// Waits until `ready` holds.
pub(crate) fn wait_until(what: &str, ready: impl FnMut() -> bool) {
    assert!(harness::stage::within(harness::terminal::patience(), ready), "{what}: not in time");
}

/// Whether a file below a folder holds these bytes.
pub(crate) fn holds(bytes: &[u8], what: &str) -> bool {
    bytes.windows(what.len()).any(|window| window == what.as_bytes())
}
