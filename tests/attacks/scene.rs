//! Where an attack takes place: on the stage, which is this machine in miniature, or in a container.
//!
//! Users, their homes and the programs lie at the same paths in every scene.

use harness::process::{Pid, companions, family, is_outside};
use harness::stage::{Stage, User};
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};

/// What the attacks need to know of a scene.
pub(crate) trait Scene {
    /// Makes the command that carries out an action.
    fn stage(&self, action: &Action<'_>) -> Command;

    /// Where this test program finds a file of the scene.
    fn seen(&self, path: &Path) -> PathBuf;

    /// The number by which the scene's own processes know a process.
    fn number(&self, pid: Pid) -> Pid;

    /// Whether a process lives in the scene's own PID namespace, and not in a ghost's.
    fn is_outside(&self, pid: Pid) -> bool;

    /// The scene's processes that a test must tell apart from those that it starts.
    fn bystanders(&self) -> BTreeSet<Pid>;

    /// Everybody who came by starting `child`, those in a ghost included.
    fn brought_by(&self, child: Pid, bystanders: &BTreeSet<Pid>) -> BTreeSet<Pid>;

    /// The scene's table of mounts.
    fn mounts(&self) -> String;

    /// Lets `user` run, by sudo and without a password, what `rule` says: a command, or ALL.
    fn allow_sudo(&self, user: User, rule: &str);
}

impl dyn Scene + '_ {
    /// Something for `user` to do in the own project folder, without sudo and without root's environment.
    pub(crate) fn action(&self, user: User, program: impl AsRef<OsStr>) -> Action<'_> {
        Action {
            scene: self,
            user,
            folder: user.project(),
            environment: user.environment(Path::new(BIN)),
            words: vec![program.as_ref().to_owned()],
        }
    }

    /// Runs a shell line and returns what it printed.
    pub(crate) fn says(&self, user: User, line: &str) -> String {
        let output = self.action(user, "sh").args(["-c", line]).output();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Reads a text of the scene; an empty one if there is none.
    pub(crate) fn read(&self, path: &Path) -> String {
        std::fs::read_to_string(self.seen(path)).unwrap_or_default()
    }
}

/// Where the programs are.
pub(crate) const BIN: &str = "/srv/bin";

/// The copy of a program that every user may run.
pub(crate) fn program(name: &str) -> PathBuf {
    Path::new(BIN).join(name)
}

/// A program to be run by somebody in a scene.
pub(crate) struct Action<'scene> {
    scene: &'scene dyn Scene,
    pub(crate) user: User,
    pub(crate) folder: PathBuf,
    pub(crate) environment: Vec<(&'static str, String)>,
    /// The program and its arguments.
    pub(crate) words: Vec<OsString>,
}

impl Action<'_> {
    pub(crate) fn arg(mut self, word: impl AsRef<OsStr>) -> Self {
        self.words.push(word.as_ref().to_owned());
        self
    }

    pub(crate) fn args<T: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = T>) -> Self {
        self.words.extend(words.into_iter().map(|word| word.as_ref().to_owned()));
        self
    }

    /// Sets a variable, also one that was set already.
    pub(crate) fn env(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.environment.retain(|(known, _)| *known != name);
        self.environment.push((name, value.into()));
        self
    }

    pub(crate) fn folder(mut self, folder: PathBuf) -> Self {
        self.folder = folder;
        self
    }

    /// Puts another program, which runs this one, in front.
    pub(crate) fn under(mut self, words: &[&str]) -> Self {
        self.words.splice(0..0, words.iter().map(OsString::from));
        self
    }

    /// The action as one line for a shell.
    pub(crate) fn line(&self) -> String {
        let quote =
            |word: &OsString| format!("'{}'", word.to_string_lossy().replace('\'', r"'\''"));
        self.words.iter().map(quote).collect::<Vec<_>>().join(" ")
    }

    pub(crate) fn command(&self) -> Command {
        self.scene.stage(self)
    }

    pub(crate) fn output(&self) -> Output {
        self.command().output().unwrap()
    }

    pub(crate) fn status(&self) -> ExitStatus {
        self.command().status().unwrap()
    }

    pub(crate) fn scene(&self) -> &dyn Scene {
        self.scene
    }
}

impl Scene for Stage {
    fn stage(&self, action: &Action<'_>) -> Command {
        let (program, arguments) = action.words.split_first().unwrap();
        let mut command = self.command(action.user, program);
        command.args(arguments).current_dir(&action.folder);
        command.env_clear().envs(action.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    fn seen(&self, path: &Path) -> PathBuf {
        path.to_owned()
    }

    fn number(&self, pid: Pid) -> Pid {
        pid
    }

    fn is_outside(&self, pid: Pid) -> bool {
        is_outside(pid)
    }

    fn bystanders(&self) -> BTreeSet<Pid> {
        BTreeSet::new()
    }

    fn brought_by(&self, child: Pid, _bystanders: &BTreeSet<Pid>) -> BTreeSet<Pid> {
        let mut found = family(child);
        let inside: Vec<Pid> = found.iter().copied().filter(|one| !is_outside(*one)).collect();
        found.extend(inside.into_iter().flat_map(companions));
        found
    }

    fn mounts(&self) -> String {
        std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap()
    }

    fn allow_sudo(&self, user: User, rule: &str) {
        Self::allow_sudo(self, user, rule);
    }
}
