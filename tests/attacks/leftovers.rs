//! What outlives a ghost, and what its own surroundings can make it do.

use super::scene::{Scene, program};
use super::screen::Screen;
use super::victim::{Ghost, Start, inhabitant_that, plain_command, pull, pull_command};
use harness::process::running;
use harness::stage::{OWNER, within};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// Three ways to stay behind, told apart by how long they sleep.
const STAY: &str =
    "setsid sleep 71001 & nohup sleep 71002 >/dev/null 2>&1 & sh -c 'sleep 71003 &' & sleep 0.3";
const STAYING: [&str; 3] = ["sleep 71001", "sleep 71002", "sleep 71003"];

fn all_stay() -> bool {
    STAYING.iter().all(|one| !running(one).is_empty())
}

pub(crate) fn shows_that_programs_outlive_a_plain_ghost(scene: &dyn Scene) {
    let plain = Ghost::inhabit(&plain_command(scene, OWNER, &inhabitant_that(STAY)));
    assert!(within(60, all_stay));
    plain.end();
    for one in STAYING {
        let left = running(one);
        assert!(!left.is_empty(), "the plain ghost ended '{one}', so this test shows nothing");
        for pid in left {
            Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap();
        }
    }
}

pub(crate) fn holds_programs_to_its_end(scene: &dyn Scene) {
    let ghost = Ghost::inhabit(&pull_command(scene, Start::Sudo, &inhabitant_that(STAY)));
    assert!(within(60, all_stay));
    assert!(ghost.end().success());
    for one in STAYING {
        assert!(running(one).is_empty(), "'{one}' outlived the ghost");
    }
}

/// Crashes in the project's folder; the test's own limit must not hide the leak.
fn crash() -> String {
    format!(
        "cd {}; ulimit -c unlimited 2>/dev/null || ulimit -c hard; sh -c 'kill -SEGV $$'; ls | grep -c ^core",
        OWNER.project().display()
    )
}

pub(crate) fn shows_that_a_crash_leaves_a_core_file(scene: &dyn Scene) {
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    assert!(pattern.starts_with("core"), "this machine pipes its core files: {pattern}");
    let plain = plain_command(scene, OWNER, &crash()).under(&["prlimit", "--core=unlimited"]);
    let output = plain.output();
    let count = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert_eq!(count, "1", "the plain ghost dumps no core: {output:?}");
    for entry in fs::read_dir(scene.seen(&OWNER.project())).unwrap().flatten() {
        if entry.file_name().to_string_lossy().starts_with("core") {
            fs::remove_file(entry.path()).unwrap();
        }
    }
}

pub(crate) fn holds_core_files_back(scene: &dyn Scene) {
    let output = pull_command(scene, Start::Sudo, &crash()).output();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "0", "{output:?}");
}

/// Programs that a helper might call by name, replaced by ones that note who runs them.
pub(crate) struct Poison {
    path: String,
    log: std::path::PathBuf,
}

impl Poison {
    pub(crate) fn lay(scene: &dyn Scene) -> Self {
        let evil = OWNER.home().join("evil");
        let log = OWNER.home().join("log");
        fs::create_dir(scene.seen(&evil)).unwrap();
        for program in [
            "sh",
            "mount",
            "umount",
            "unshare",
            "id",
            "sudo",
            "tazpod",
            "fusermount3",
            "setpriv",
            "bash",
        ] {
            let path = scene.seen(&evil.join(program));
            let text = format!(
                "#!/bin/sh\n/usr/bin/id -u >>{}\nexec /usr/bin/{program} \"$@\"\n",
                log.display()
            );
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let seen = scene.seen(&log);
        fs::write(&seen, "").unwrap();
        fs::set_permissions(&seen, fs::Permissions::from_mode(0o666)).unwrap();
        Self { path: format!("{}:/usr/bin:/bin", evil.display()), log }
    }

    fn ran_as_root(&self, scene: &dyn Scene) -> bool {
        scene.read(&self.log).lines().any(|uid| uid == "0")
    }

    /// The usual rule, and the usual helper that calls programs by name.
    pub(crate) fn shows_that_it_works_under_the_usual_rule(&self, scene: &dyn Scene) {
        scene.allow_sudo(OWNER, "ALL");
        let path = format!("PATH={}", self.path);
        let sudo = scene.action(OWNER, "/usr/bin/sudo");
        assert!(sudo.args(["-n", &path, "/bin/sh", "-c", "sh -c true"]).status().success());
        assert!(self.ran_as_root(scene), "the attack does not work");
        fs::write(scene.seen(&self.log), "").unwrap();
    }

    /// `pull` writes the rule for exactly the helper over it.
    pub(crate) fn holds(&self, scene: &dyn Scene) {
        let pull = pull_command(scene, Start::Sudo, "true").env("PATH", self.path.as_str());
        let status = pull.status();
        assert!(!self.ran_as_root(scene), "a program of the caller ran as root");
        assert!(status.success());
        let path = format!("PATH={}", self.path);
        let sudo = scene.action(OWNER, "/usr/bin/sudo").args(["-n", &path]);
        let output = sudo.arg(program("tazpod")).arg("internal-ghost").output();
        assert!(!output.status.success(), "the rule lets the caller choose root's PATH");
        assert!(!self.ran_as_root(scene));
    }
}

/// Not stopped, by intention: the kernel cannot tell a poisoned `~/.bashrc` from the user's own. SECURITY.md says so.
pub(crate) fn shows_that_the_users_own_dotfiles_run(scene: &dyn Scene) {
    let stolen = OWNER.home().join("stolen");
    let poison = "[ -e ~/secrets/marker ] && cp ~/secrets/marker ~/stolen\n";
    fs::write(scene.seen(&OWNER.home().join(".bashrc")), poison).unwrap();
    let write = "echo from the vault >~/secrets/marker";
    assert!(pull_command(scene, Start::Sudo, write).status().success());
    assert_eq!(scene.read(&stolen), "");
    let pull = pull(scene, Start::Sudo);
    let line = pull.arg("--passphrase-file").arg(OWNER.project().join("passphrase")).line();
    let mut screen = Screen::run(scene, OWNER, &line);
    screen.wait_for("(ghost)");
    screen.press("exit\n");
    screen.end();
    assert_eq!(scene.read(&stolen), "from the vault\n");
}
