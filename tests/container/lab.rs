//! Containers to attack in: prepared so that everything lies where the stage has it.

use super::attacks::scene::{Action, BIN, Scene};
use super::profile;
use harness::binary::tazpod;
use harness::engine::{Container, Engine};
use harness::process::Pid;
use harness::stage::{OWNER, STRANGER, User};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The image that the tests of this program run in, and the programs that they call there.
pub(crate) const IMAGE: &str = "tazpod-tests";
const PACKAGES: &[&str] = &["sudo", "procps", "python3", "tmux", "bsdutils"];

/// Options under which a plain ghost can be made as well as ours.
pub(crate) const PERMISSIVE: &[&str] = &[
    "--cap-add=SYS_ADMIN",
    "--security-opt=seccomp=unconfined",
    "--security-opt=systempaths=unconfined",
];

/// What a container for the fuse backend has, and no more.
pub(crate) fn usual() -> Vec<String> {
    let given = ["--security-opt=systempaths=unconfined", "--ulimit=core=1:1"];
    let given = given.map(str::to_owned).into_iter();
    given.chain([seccomp()]).chain(placeholders()).collect()
}

/// The option that sets our seccomp profile.
pub(crate) fn seccomp() -> String {
    format!("--security-opt=seccomp={}", profile::path().display())
}

/// The options that make mount points, which nobody can move, of the folders that a ghost covers.
pub(crate) fn placeholders() -> Vec<String> {
    let User { id, .. } = OWNER;
    let covered =
        ["secrets", ".infisical", "infisical-keyring"].map(|name| OWNER.home().join(name));
    let option =
        |path: &PathBuf| format!("--tmpfs={}:ro,uid={id},gid={id},mode=0500", path.display());
    covered.iter().map(option).collect()
}

/// A container with the owner, the stranger and the programs.
pub(crate) struct Lab {
    pub(crate) container: Container<'static>,
    /// The first process in it, by its number on the machine.
    init: Pid,
}

impl Lab {
    pub(crate) fn start<T: AsRef<str>>(options: &[T]) -> Self {
        let engine = Engine::shared();
        engine.import(IMAGE, PACKAGES);
        let mut all = vec!["--device=/dev/fuse"];
        all.extend(options.iter().map(AsRef::as_ref));
        let container = engine.idle(IMAGE, &all);
        // As its image would have it, and /dev/fuse as udev leaves it.
        container.prepare(&format!(
            "set -e; mkdir -p {BIN} /srv/home/root/project; chmod 0666 /dev/fuse
             sed -i 's|:/root:|:/srv/home/root:|' /etc/passwd
             for user in {OWNER}:{OWNER_ID} {STRANGER}:{STRANGER_ID}; do
               name=${{user%:*}} id=${{user#*:}} home=/srv/home/$name
               echo \"$name:x:$id:$id::$home:/bin/bash\" >>/etc/passwd
               echo \"$name:x:$id:\" >>/etc/group
               echo \"$name:*:19000:0:99999:7:::\" >>/etc/shadow
               mkdir -p $home/secrets $home/project
               chown $id:$id $home $home/project
               mountpoint -q $home/secrets || chown $id:$id $home/secrets
             done",
            OWNER = OWNER.name,
            OWNER_ID = OWNER.id,
            STRANGER = STRANGER.name,
            STRANGER_ID = STRANGER.id,
        ));
        for program in [Path::new(env!("CARGO_BIN_EXE_neighbour")), tazpod()] {
            container.copy_in(program, BIN);
        }
        Self::around(container)
    }

    /// A container that was prepared before.
    pub(crate) fn around(container: Container<'static>) -> Self {
        let init = *container.processes().first().unwrap();
        Self { container, init }
    }

    /// Starts the container again after it was stopped.
    pub(crate) fn restart(&mut self) {
        assert!(self.container.docker(&["start"]).status.success());
        self.container.prepare("chmod 0666 /dev/fuse");
        self.init = *self.container.processes().first().unwrap();
    }

    pub(crate) fn permissive() -> Self {
        Self::start(PERMISSIVE)
    }

    pub(crate) fn usual() -> Self {
        Self::start(&usual())
    }
}

impl Scene for Lab {
    fn stage(&self, action: &Action<'_>) -> Command {
        let mut command = self.container.engine().docker();
        command.args(["exec", "--interactive", "--user", action.user.name]);
        command.arg("--workdir").arg(&action.folder);
        for (name, value) in &action.environment {
            command.args(["--env", &format!("{name}={value}")]);
        }
        command.arg(&self.container.name).args(&action.words);
        command
    }

    fn seen(&self, path: &Path) -> PathBuf {
        let below = path.strip_prefix("/").unwrap();
        PathBuf::from(format!("/proc/{}/root", self.init)).join(below)
    }

    fn number(&self, pid: Pid) -> Pid {
        // The namespaces of a process from ours inwards; as deep as the container's first process is the container's.
        let depth = numbers(self.init).len();
        numbers(pid).get(depth - 1).copied().unwrap_or_default()
    }

    fn is_outside(&self, pid: Pid) -> bool {
        let namespace = |pid: Pid| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        namespace(pid) == namespace(self.init)
    }

    fn bystanders(&self) -> BTreeSet<Pid> {
        self.container.processes()
    }

    fn brought_by(&self, _child: Pid, bystanders: &BTreeSet<Pid>) -> BTreeSet<Pid> {
        &self.container.processes() - bystanders
    }

    fn mounts(&self) -> String {
        fs::read_to_string(format!("/proc/{}/mountinfo", self.init)).unwrap()
    }

    fn allow_sudo(&self, user: User, rule: &str) {
        let line = format!("{} ALL=(root) NOPASSWD: {rule}", user.name);
        let file = "/etc/sudoers.d/tazpod-tests";
        self.container.prepare(&format!("echo '{line}' >{file} && chmod 0440 {file}"));
    }
}

fn numbers(pid: Pid) -> Vec<Pid> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    line.split_whitespace().filter_map(|number| number.parse().ok()).collect()
}
