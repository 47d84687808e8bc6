//! What outlives a ghost, and what its own surroundings can make it do.

use super::screen::Screen;
use super::victim::{Ghost, Start, inhabitant_that, plain_command, pull, pull_command};
use harness::binary::tazpod;
use harness::process::running;
use harness::stage::{OWNER, ROOT, Stage, within};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// Three ways to stay behind, told apart by how long they sleep.
const STAY: &str =
    "setsid sleep 71001 & nohup sleep 71002 >/dev/null 2>&1 & sh -c 'sleep 71003 &' & sleep 0.3";
const STAYING: [&str; 3] = ["sleep 71001", "sleep 71002", "sleep 71003"];

#[test]
fn nothing_in_the_background_outlives_the_shell() {
    Stage::run(&[tazpod()], |stage| {
        let script = inhabitant_that(STAY);
        let plain = Ghost::inhabit(plain_command(stage, OWNER, &script));
        let members = plain.members.clone();
        assert!(within(10, || STAYING.iter().all(|one| !running(one).is_empty())));
        plain.end();
        for one in STAYING {
            let left = running(one);
            assert!(!left.is_empty(), "the plain ghost ended '{one}', so this test shows nothing");
            for pid in left {
                assert!(members.len() > 1);
                kill(pid);
            }
        }

        let ghost = Ghost::inhabit(pull_command(stage, Start::Sudo, &script));
        assert!(within(10, || STAYING.iter().all(|one| !running(one).is_empty())));
        assert!(ghost.end().success());
        for one in STAYING {
            assert!(running(one).is_empty(), "'{one}' outlived the ghost");
        }
    });
}

fn kill(pid: u32) {
    Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap();
}

#[test]
fn a_crash_leaves_no_core_file() {
    Stage::run(&[tazpod()], |stage| {
        // The test's own limit must not hide the leak.
        let crash = format!(
            "cd {}; ulimit -c unlimited 2>/dev/null || ulimit -c hard; sh -c 'kill -SEGV $$'; ls | grep -c ^core",
            OWNER.project().display()
        );
        let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
        assert!(pattern.starts_with("core"), "this machine pipes its core files: {pattern}");
        let mut plain = Command::new("prlimit");
        let inner = plain_command(stage, OWNER, &crash);
        plain.arg("--core=unlimited").arg(inner.get_program()).args(inner.get_args());
        plain.env_clear().envs(inner.get_envs().filter_map(|(key, value)| Some((key, value?))));
        plain.current_dir(OWNER.project());
        let output = plain.output().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout).trim(),
            "1",
            "the plain ghost dumps no core: {output:?}"
        );
        for entry in fs::read_dir(OWNER.project()).unwrap().flatten() {
            if entry.file_name().to_string_lossy().starts_with("core") {
                fs::remove_file(entry.path()).unwrap();
            }
        }

        let output = pull_command(stage, Start::Sudo, &crash).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "0", "{output:?}");
    });
}

#[test]
fn programs_from_a_poisoned_path_never_run_as_root() {
    Stage::run(&[tazpod()], |stage| {
        let evil = OWNER.home().join("evil");
        let log = OWNER.home().join("log");
        fs::create_dir(&evil).unwrap();
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
            let path = evil.join(program);
            let text = format!(
                "#!/bin/sh\n/usr/bin/id -u >>{}\nexec /usr/bin/{program} \"$@\"\n",
                log.display()
            );
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::write(&log, "").unwrap();
        fs::set_permissions(&log, fs::Permissions::from_mode(0o666)).unwrap();
        let poisoned = format!("{}:/usr/bin:/bin", evil.display());
        let ran_as_root = || fs::read_to_string(&log).unwrap().lines().any(|uid| uid == "0");

        // The usual rule, and the usual helper that calls programs by name.
        stage.allow_sudo(OWNER, "ALL");
        let mut sudo = stage.command(OWNER, "/usr/bin/sudo");
        sudo.args(["-n", &format!("PATH={poisoned}"), "/bin/sh", "-c", "unshare -m true"]);
        assert!(sudo.status().unwrap().success());
        assert!(ran_as_root(), "the attack does not work");
        fs::write(&log, "").unwrap();

        // `pull` writes the rule for exactly the helper over it.
        let mut command = pull_command(stage, Start::Sudo, "true");
        command.env("PATH", &poisoned);
        let status = command.status().unwrap();
        assert!(!ran_as_root(), "a program of the caller ran as root");
        assert!(status.success());
        let mut sudo = stage.command(OWNER, "/usr/bin/sudo");
        sudo.args(["-n", &format!("PATH={poisoned}")])
            .arg(stage.program("tazpod"))
            .arg("internal-ghost");
        assert!(
            !sudo.output().unwrap().status.success(),
            "the rule lets the caller choose root's PATH"
        );
        assert!(!ran_as_root());
    });
}

/// Not stopped, by intention: the kernel cannot tell a poisoned `~/.bashrc` from the user's own. SECURITY.md says so.
#[test]
fn the_users_own_dotfiles_run_in_the_ghost() {
    Stage::run(&[tazpod()], |stage| {
        let stolen = OWNER.home().join("stolen");
        let poison = "[ -e ~/secrets/marker ] && cp ~/secrets/marker ~/stolen\n";
        fs::write(OWNER.home().join(".bashrc"), poison).unwrap();
        let write = "echo from the vault >~/secrets/marker";
        assert!(pull_command(stage, Start::Sudo, write).status().unwrap().success());
        assert!(!stolen.exists());
        let mut command = pull(stage, Start::Sudo);
        command.arg("--passphrase-file").arg(OWNER.project().join("passphrase"));
        let words: Vec<_> =
            command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        let mut screen = Screen::run(
            stage,
            OWNER,
            &format!("{} {}", stage.program("tazpod").display(), words.join(" ")),
        );
        screen.wait_for("(ghost)");
        screen.press("exit\n");
        screen.end();
        assert_eq!(fs::read_to_string(&stolen).unwrap(), "from the vault\n");
        assert_ne!(ROOT, OWNER);
    });
}
