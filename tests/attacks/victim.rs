//! Ghosts to attack: ours, and the plain ones that show that an attack works.

use super::scene::{Action, Scene, program};
use harness::binary::backend;
use harness::process::{Pid, alive};
use harness::stage::{OWNER, ROOT, User, within};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Stdio};

/// Lives in the vault: its token is in a file, an open descriptor, its working folder, its environment and its memory.
pub(crate) const INHABITANT: &str = r#"
cd "$HOME/secrets" || exit 1
token=ghosttoken-$(od -An -tx1 -N16 /dev/urandom | tr -d ' \n')
echo "$token" >marker || exit 1
exec 9<marker
export GHOST_TOKEN="$token"
echo "token $token"
sleep 600 &
own=$!
cat
kill $own
"#;

/// An inhabited ghost. Dropping it ends it.
pub(crate) struct Ghost {
    child: Child,
    pub(crate) token: String,
    /// Everybody in it, the processes that hold it from outside included.
    pub(crate) members: BTreeSet<Pid>,
}

impl Ghost {
    /// Starts what `command` says and waits for the inhabitant's token.
    pub(crate) fn inhabit(action: &Action<'_>) -> Self {
        let scene = action.scene();
        let bystanders = scene.bystanders();
        let mut child =
            action.command().stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut screen = BufReader::new(child.stdout.take().unwrap());
        let mut seen = String::new();
        let token = loop {
            let mut line = String::new();
            assert!(screen.read_line(&mut line).unwrap() > 0, "the ghost ended early: {seen}");
            if let Some(token) = line.trim_end().strip_prefix("token ") {
                break token.to_owned();
            }
            seen += &line;
        };
        let mut ghost = Self { child, token, members: BTreeSet::new() };
        // `sleep` is started after the token is printed.
        assert!(within(60, || {
            ghost.members = scene.brought_by(ghost.child.id(), &bystanders);
            ghost.members.iter().any(|pid| harness::process::name(*pid) == "sleep")
        }));
        ghost
    }

    /// Those who live in a PID namespace of the ghost's own.
    pub(crate) fn inside(&self, scene: &dyn Scene) -> Vec<Pid> {
        self.members.iter().copied().filter(|pid| !scene.is_outside(*pid)).collect()
    }

    /// Writes a line to the inhabitant.
    pub(crate) fn tell(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().unwrap();
        writeln!(input, "{line}").unwrap();
    }

    /// The process that was started.
    pub(crate) fn id(&self) -> Pid {
        self.child.id()
    }

    /// Ends the inhabitant by closing its input, and waits for the ghost.
    pub(crate) fn end(mut self) -> std::process::ExitStatus {
        drop(self.child.stdin.take());
        // Whoever stays behind now does so for the test to see.
        self.members.clear();
        self.child.wait().unwrap()
    }
}

impl Drop for Ghost {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // The members are this test's own processes; one that is left by then has been asked to end already.
        if !within(10, || !self.members.iter().any(|pid| alive(*pid))) {
            for pid in self.members.iter().rev().filter(|pid| alive(**pid)) {
                let pid = nix::unistd::Pid::from_raw(i32::try_from(*pid).unwrap());
                nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).ok();
            }
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The inhabitant, doing something else as well before it waits.
pub(crate) fn inhabitant_that(does: &str) -> String {
    INHABITANT.replace("\ncat\n", &format!("\n{does}\ncat\n"))
}

/// The usual way: root makes a mount namespace, mounts, gives up root, starts a shell.
pub(crate) fn plain(scene: &dyn Scene) -> Ghost {
    Ghost::inhabit(&plain_command(scene, OWNER, INHABITANT))
}

/// The same with any program for the shell.
pub(crate) fn plain_command<'scene>(
    scene: &'scene dyn Scene,
    user: User,
    script: &str,
) -> Action<'scene> {
    let User { name, id } = user;
    let setup = format!(
        "mount -t tmpfs -o uid={id},gid={id},mode=0700 plain {secrets} && \
         exec setpriv --reuid {name} --regid {name} --clear-groups sh -c '{script}'",
        secrets = user.secrets().display(),
        script = script.replace('\'', r"'\''"),
    );
    scene
        .action(ROOT, "unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", &setup])
        .env("HOME", user.home().display().to_string())
        .folder(user.project())
}

/// The usual way without root: the user's own user namespace.
pub(crate) fn plain_rootless(scene: &dyn Scene) -> Ghost {
    let script = format!("mount -t tmpfs plain {} && {INHABITANT}", OWNER.secrets().display());
    let action = scene.action(OWNER, "unshare");
    Ghost::inhabit(&action.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script]))
}

/// Where the inhabitant's file is, seen from inside.
pub(crate) fn vault() -> &'static Path {
    Path::new("/srv/home/tzowner/secrets")
}

/// Who starts a ghost of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// The vault's owner, by the one sudo rule that it takes.
    Sudo,
    /// The vault's owner without root.
    Rootless,
}

/// The options that every pull of these tests has, and a command for the shell.
pub(crate) fn pull_command<'scene>(
    scene: &'scene dyn Scene,
    start: Start,
    script: &str,
) -> Action<'scene> {
    let passphrase = OWNER.project().join("passphrase");
    pull(scene, start).arg("--passphrase-file").arg(passphrase).args(["--", "sh", "-c", script])
}

/// `tazpod pull` without a credential.
pub(crate) fn pull(scene: &dyn Scene, start: Start) -> Action<'_> {
    let tazpod = program("tazpod");
    let passphrase = scene.seen(&OWNER.project().join("passphrase"));
    if !passphrase.exists() {
        std::fs::write(&passphrase, "correct horse battery staple\n").unwrap();
        std::os::unix::fs::chown(&passphrase, Some(OWNER.id), Some(OWNER.id)).unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&passphrase, private).unwrap();
        scene.allow_sudo(OWNER, &format!("{} internal-ghost", tazpod.display()));
    }
    let backend = backend();
    let usual = ["pull", "--backend", &backend, "--kdf-memory", "64M", "--kdf-time", "1"];
    let action = scene.action(OWNER, tazpod).args(usual);
    if start == Start::Rootless { action.arg("--rootless") } else { action }
}

/// Our ghost, inhabited.
pub(crate) fn ours(scene: &dyn Scene, start: Start) -> Ghost {
    Ghost::inhabit(&pull_command(scene, start, INHABITANT))
}
