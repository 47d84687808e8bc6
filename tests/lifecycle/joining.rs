//! A second `pull`, and `lock`, from another terminal.
#![allow(clippy::unwrap_used)]

use crate::ghost::{Project, finish, kill, wait_until};
use std::fs;

#[test]
fn second_pull_joins_after_the_passphrase_and_ends_alone() {
    let project = Project::with_vault();
    let first = project.start("sleep 100; exit 3");
    let joined = project.run("cat ~/secrets/kept; exit 4");
    assert_eq!(joined.stdout, b"kept\n", "{joined:?}");
    assert_eq!(joined.status.code(), Some(4));
    fs::write(project.path().join("pass"), "another\n").unwrap();
    assert_eq!(project.run("cat ~/secrets/kept").status.code(), Some(77));
    fs::write(project.path().join("pass"), "a passphrase\n").unwrap();
    assert_eq!(project.run("cat ~/secrets/kept").stdout, b"kept\n");
    kill(i32::try_from(first.id()).unwrap(), "TERM");
    finish(first);
    project.assert_nothing_left();
}

#[test]
fn end_of_the_first_session_ends_those_that_joined() {
    let project = Project::with_vault();
    let first = project.start("while test ! -e go; do sleep 0.05; done; exit 3");
    let second = project.pull("touch joined; sleep 100").spawn().unwrap();
    wait_until("the second has joined", || project.path().join("project/joined").exists());
    fs::write(project.path().join("project/go"), "").unwrap();
    assert_eq!(finish(first).status.code(), Some(3));
    assert_eq!(finish(second).status.code(), Some(129));
    project.assert_nothing_left();
}

#[test]
fn killed_joiner_takes_its_session_along_and_nothing_else() {
    let project = Project::with_vault();
    let first = project.start("while test ! -e go; do sleep 0.05; done; exit 3");
    let mut second = project.pull("touch joined; sleep 4711").spawn().unwrap();
    wait_until("the second has joined", || project.path().join("project/joined").exists());
    second.kill().unwrap();
    second.wait().unwrap();
    let sleeps = || {
        let output = project.run("cat /proc/[0-9]*/cmdline | tr '\\0' ' '");
        String::from_utf8_lossy(&output.stdout).contains("sleep 4711 ")
    };
    wait_until("its session is gone", || !sleeps());
    fs::write(project.path().join("project/go"), "").unwrap();
    assert_eq!(finish(first).status.code(), Some(3));
    project.assert_nothing_left();
}

#[test]
fn wrong_passphrases_close_the_door_for_a_while() {
    let project = Project::with_vault();
    let first = project.start("sleep 100");
    fs::write(project.path().join("pass"), "another\n").unwrap();
    for _ in 0..5 {
        assert_eq!(project.run("true").status.code(), Some(77));
    }
    fs::write(project.path().join("pass"), "a passphrase\n").unwrap();
    let refused = project.run("true");
    assert_eq!(refused.status.code(), Some(77));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("too many"), "{refused:?}");
    kill(i32::try_from(first.id()).unwrap(), "TERM");
    finish(first);
    project.assert_nothing_left();
}

#[test]
fn lock_names_programs_and_ends_the_ghost_when_forced() {
    let project = Project::with_vault();
    let first = project.start("sleep 4712; exit 1");
    project.whole(6);
    let asked = project.tazpod(&["lock"]).output().unwrap();
    assert_eq!(asked.status.code(), Some(75), "{asked:?}");
    assert!(String::from_utf8_lossy(&asked.stderr).contains("sleep "), "{asked:?}");
    let forced = project.tazpod(&["lock", "--force"]).output().unwrap();
    assert!(forced.status.success(), "{forced:?}");
    assert_eq!(finish(first).status.code(), Some(129));
    project.assert_nothing_left();
    assert!(project.tazpod(&["lock"]).output().unwrap().status.success());
}

#[test]
fn hostile_words_at_the_door_are_refused_and_the_ghost_goes_on() {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    let project = Project::with_vault();
    let first = project.start("while test ! -e go; do sleep 0.05; done; exit 3");
    let door = project.door();
    let words: [&[u8]; 5] = [
        &[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
        &[2, 0, 0, 0, 1, 0, 0, 0, b'x'],
        &[1, 0, 0, 0, 2, 0, 0, 0, b'{', b'}'],
        &[1, 0, 0],
        &[9; 64],
    ];
    for word in words {
        let mut knocker = UnixStream::connect(&door).unwrap();
        knocker.write_all(word).unwrap();
        knocker.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        let _ = knocker.read_to_end(&mut answer);
    }
    assert_eq!(project.run("cat ~/secrets/kept").stdout, b"kept\n");
    fs::write(project.path().join("project/go"), "").unwrap();
    assert_eq!(finish(first).status.code(), Some(3));
    project.assert_nothing_left();
}
