//! What a container must grant for a ghost to be made in it.

use super::profile;
use harness::binary::tazpod;
use harness::engine::{Container, Engine};
use std::process::Output;

/// Programs that the ghosts of these tests call.
const PACKAGES: &[&str] = &["sudo", "procps", "python3-minimal", "tmux", "bsdutils"];

/// A container with a user `tazpod` (uid 1000), the program, and the one sudo rule for the helper.
pub(crate) fn container(options: &[&str]) -> Container<'static> {
    let engine = Engine::shared();
    engine.import("tazpod-tests", PACKAGES);
    let mut all = vec!["--device", "/dev/fuse"];
    all.extend(options);
    let container = engine.idle("tazpod-tests", &all);
    container.copy_in(tazpod(), "/usr/local/bin/tazpod");
    container.prepare(
        "useradd --create-home --shell /bin/bash tazpod &&
         echo 'tazpod ALL=(root) NOPASSWD: /usr/local/bin/tazpod internal-ghost' >/etc/sudoers.d/tazpod &&
         chmod 0440 /etc/sudoers.d/tazpod && chmod 0666 /dev/fuse &&
         install -d -o tazpod -g tazpod /workspace && cd /workspace &&
         echo 'correct horse battery staple' >/passphrase && chown tazpod /passphrase && chmod 0600 /passphrase",
    );
    container
}

/// What `tazpod up` gives a container for the fuse backend.
pub(crate) fn usual() -> Vec<String> {
    [
        format!("--security-opt=seccomp={}", profile::path().display()),
        "--security-opt=systempaths=unconfined".to_owned(),
        "--ulimit=core=1:1".to_owned(),
        covered("secrets"),
        covered(".infisical"),
        covered("infisical-keyring"),
    ]
    .to_vec()
}

/// Mounts over a folder of the home folder, so that it cannot be moved from under a ghost.
fn covered(name: &str) -> String {
    format!("--tmpfs=/home/tazpod/{name}:ro,uid=1000,gid=1000,mode=0500")
}

/// Runs a line in a ghost.
pub(crate) fn in_ghost(container: &Container<'_>, user: &str, options: &str, line: &str) -> Output {
    let pull = format!(
        "cd /workspace && tazpod pull --backend fuse --kdf-memory 64M --kdf-time 1 \
         --passphrase-file /passphrase {options} -- sh -c '{line}'"
    );
    container.shell(user, &pull)
}

#[test]
fn a_ghost_opens_in_the_usual_container_without_any_added_capability() {
    let options = usual();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let container = container(&options);
    let output =
        in_ghost(&container, "tazpod", "", "echo kept >~/secrets/file; id -u; cat ~/secrets/file");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1000\nkept\n", "{output:?}");
}
