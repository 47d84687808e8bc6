//! One ghost, used as a person would.
#![allow(clippy::unwrap_used)]

use crate::ghost::{Project, finish, kill, wait_until};
use std::fs;
use std::io::Write;
use std::process::Stdio;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn command_sees_the_vault_and_its_status_is_handed_on() {
    let project = Project::new();
    let first = project.run("echo hello > ~/secrets/file; ls ~/secrets; exit 5");
    assert_eq!(
        (text(&first.stdout).as_str(), first.status.code()),
        ("file\n", Some(5)),
        "{first:?}"
    );
    project.assert_nothing_left();
    let second = project.run("cat ~/secrets/file; kill -TERM $$");
    assert_eq!(text(&second.stdout), "hello\n");
    assert_eq!(second.status.code(), Some(143));
    project.assert_nothing_left();
}

#[test]
fn streams_of_a_command_are_the_callers_own() {
    let project = Project::with_vault();
    let mut child = project.pull("cat; echo err >&2").stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"\x00typed\xff").unwrap();
    let output = finish(child);
    assert_eq!(output.stdout, b"\x00typed\xff");
    assert!(text(&output.stderr).ends_with("err\n"), "{output:?}");
}

#[test]
fn wrong_passphrase_opens_nothing_and_leaves_nothing() {
    let project = Project::with_vault();
    fs::write(project.path().join("pass"), "another\n").unwrap();
    let output = project.run("true");
    assert_eq!(output.status.code(), Some(77), "{output:?}");
    fs::write(project.path().join("pass"), "a passphrase\n").unwrap();
    project.assert_nothing_left();
    project.assert_vault_whole();
}

#[test]
fn failed_making_leaves_no_image() {
    let project = Project::new();
    fs::write(project.path().join("pass"), "\n").unwrap();
    assert_eq!(project.run("true").status.code(), Some(64));
    let child = project.pull("true").stdin(Stdio::null()).spawn().unwrap();
    let _ = finish(child);
    let vault = project.path().join("project/.tazpod/vault");
    let left = fs::read_dir(vault).map_or(0, Iterator::count);
    assert_eq!(left, 0);
}

#[test]
fn what_was_left_in_the_background_is_dead_after_the_end() {
    let project = Project::with_vault();
    let marks = project.path().join("project");
    let marks = marks.display();
    let line = format!(
        "setsid sh -c 'while :; do date > {marks}/setsid; sleep 0.05; done' &
         nohup sh -c 'trap \"\" HUP TERM INT; while :; do date > {marks}/nohup; sleep 0.05; done' >/dev/null 2>&1 &
         (setsid sh -c 'exec 9> ~/secrets/held; (while :; do date > {marks}/fork; sleep 0.05; done) & ' &) &
         for mark in setsid nohup fork; do while test ! -e {marks}/$mark; do sleep 0.05; done; done; ls {marks}"
    );
    let output = project.run(&line);
    for mark in ["setsid", "nohup", "fork"] {
        assert!(text(&output.stdout).contains(mark), "it never ran: {output:?}");
        fs::remove_file(project.path().join("project").join(mark)).unwrap();
    }
    project.assert_nothing_left();
    std::thread::sleep(std::time::Duration::from_millis(300));
    for mark in ["setsid", "nohup", "fork"] {
        assert!(!project.path().join("project").join(mark).exists(), "{mark} lives on");
    }
    project.assert_vault_whole();
}

#[test]
fn signals_that_end_the_client_commit_and_unmount() {
    for (signal, status) in [("TERM", 143), ("HUP", 129)] {
        let project = Project::with_vault();
        let child = project.start("echo late > ~/secrets/late; touch ready; sleep 100");
        wait_until("the file is written", || project.path().join("project/ready").exists());
        kill(i32::try_from(child.id()).unwrap(), signal);
        assert_eq!(finish(child).status.code(), Some(status));
        project.assert_nothing_left();
        assert_eq!(text(&project.run("cat ~/secrets/late").stdout), "late\n");
    }
}

#[test]
fn interrupt_reaches_the_command_and_the_ghost_ends_with_its_status() {
    let project = Project::with_vault();
    let child = project.start("trap 'exit 9' INT; touch ready; sleep 100 & wait");
    wait_until("it is ready", || project.path().join("project/ready").exists());
    kill(i32::try_from(child.id()).unwrap(), "INT");
    assert_eq!(finish(child).status.code(), Some(9));
    project.assert_nothing_left();
}

#[test]
fn mount_point_cannot_be_moved_and_takes_no_writes_outside_while_the_ghost_is_open() {
    let project = Project::with_vault();
    let child = project.start("sleep 100");
    assert!(fs::rename(project.secrets(), project.path().join("moved")).is_err());
    assert!(fs::remove_dir(project.secrets()).is_err());
    assert!(fs::write(project.secrets().join("plain"), "text").is_err());
    assert_eq!(fs::read_dir(project.secrets()).unwrap().count(), 0);
    kill(i32::try_from(child.id()).unwrap(), "TERM");
    finish(child);
    project.assert_nothing_left();
    fs::rename(project.secrets(), project.path().join("moved")).unwrap();
}

#[test]
fn link_in_place_of_the_mount_point_is_refused() {
    let project = Project::with_vault();
    fs::remove_dir(project.secrets()).unwrap();
    std::os::unix::fs::symlink("/etc", project.secrets()).unwrap();
    let output = project.run("true");
    assert_eq!(output.status.code(), Some(69), "{output:?}");
    assert!(project.processes().is_empty());
}

#[test]
fn ghost_sees_private_folders_and_only_its_own_processes() {
    let project = Project::with_vault();
    let outside = tempfile::NamedTempFile::new().unwrap();
    let line = format!(
        "test ! -e {} && touch /tmp/inside && ls /proc | grep -c '^[0-9]'",
        outside.path().display()
    );
    let output = project.run(&line);
    assert!(output.status.success(), "{output:?}");
    let count: usize = text(&output.stdout).trim().parse().unwrap();
    assert!(count <= 6, "{count} processes");
    assert!(!std::path::Path::new("/tmp/inside").exists());
}

#[test]
fn private_home_lies_in_the_vault_and_dotfiles_outside_do_not_run() {
    let project = Project::with_vault();
    let config = project.path().join("project/.tazpod/config.yaml");
    fs::write(config, "ghost:\n  home: private\n").unwrap();
    fs::write(project.path().join("home/.gitconfig"), "[user]\n\tname = Mallory\n").unwrap();
    let line = "git config user.name; echo $HOME; cat ~/secrets/kept; touch ~/.mark";
    let output = project.run(line);
    let home = project.secrets().join(".home");
    assert_eq!(text(&output.stdout), format!("{}\nkept\n", home.display()), "{output:?}");
    assert_eq!(text(&project.run("ls ~/.mark").stdout), format!("{}/.mark\n", home.display()));
    project.assert_nothing_left();
}

#[test]
fn sockets_that_the_configuration_passes_are_reached_and_others_are_left_outside() {
    let project = Project::with_vault();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        while let Ok((mut caller, _)) = listener.accept() {
            let _ = caller.write_all(b"agent");
        }
    });
    let line = "python3 -c 'import os, socket
s = socket.socket(socket.AF_UNIX)
s.connect(os.environ[\"SSH_AUTH_SOCK\"])
print(s.recv(9).decode())'";
    let ask = || finish(project.pull(line).env("SSH_AUTH_SOCK", &path).spawn().unwrap());
    let without = ask();
    assert!(!without.status.success(), "{without:?}");
    assert!(text(&without.stderr).contains("Left outside: SSH_AUTH_SOCK"), "{without:?}");
    let config = project.path().join("project/.tazpod/config.yaml");
    fs::write(config, "ghost:\n  pass: [SSH_AUTH_SOCK]\n").unwrap();
    assert_eq!(text(&ask().stdout), "agent\n");
}
