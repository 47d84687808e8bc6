//! `enter`: bytes, sizes, signals and statuses pass through as they are.

use super::fixture::{Host, wait_until};
use harness::terminal::{Terminal, resize};
use std::io::Write;
use std::process::Stdio;

fn entered() -> Host {
    let host = Host::new();
    host.says(&["up"]);
    host
}

#[test]
fn on_a_terminal_keys_arrive_one_by_one_and_no_output_is_lost() {
    let host = entered();
    let mut terminal = Terminal::run(
        host.command("script"),
        "stty rows 31 cols 97; tazpod enter; echo status=$?; stty -a | grep -c ' icanon'",
    );
    terminal.press("stty size; echo te''rm=$TERM; tty; test -t 0 && test -t 1 && test -t 2 && echo all-th''ree\n");
    terminal.wait_for("31 97");
    terminal.wait_for("term=xterm");
    terminal.wait_for("/dev/pts/");
    terminal.wait_for("all-three");
    // Bytes below three would be taken for frame headers by a client that guesses.
    terminal.press("printf '\\001\\002\\000ab\\001c\\n'; echo beg''in; stty raw -echo; dd bs=1 count=1 2>/dev/null | od -An -tx1; stty sane; echo\n");
    terminal.wait_for("begin");
    terminal.wait_for("\u{1}\u{2}");
    terminal.wait_for("c\r\n");
    // Ctrl-P alone: an engine with its usual detach keys would hold it back.
    terminal.press("\u{10}");
    terminal.wait_for(" 10\n");
    terminal.press("echo re''ady; exit 43\n");
    let (seen, status) = terminal.end();
    assert!(seen.contains("status=43") && seen.trim_end().ends_with('1'), "{seen:?}");
    assert_eq!(status, 0, "{seen:?}");
}

#[test]
fn a_changed_size_and_ctrl_c_reach_the_program() {
    let host = entered();
    let mut terminal =
        Terminal::run(host.command("script"), "echo outer=$(tty); tazpod enter; echo status=$?");
    terminal.wait_for("outer=/dev/pts/");
    let outer = terminal.word_after("outer=");
    terminal.press("trap 'echo si''ze=$(stty size)' WINCH; echo re''ady\n");
    terminal.wait_for("ready");
    resize(&outer, 40, 120);
    // A shell that waits for a line runs its traps after that line; the size may come later than the keys.
    terminal.press_until("\n", "size=40 120");
    terminal.press("sleep 1000; echo fin''ished\n");
    wait_until("sleep runs", || {
        !host.tazpod(&["enter", "--", "pgrep", "-x", "-f", "sleep 1000"]).stdout.is_empty()
    });
    terminal.press("\u{3}");
    terminal.press("echo go''es on\n");
    terminal.wait_for("goes on");
    terminal.press("exit\n");
    let (seen, _) = terminal.end();
    assert!(seen.contains("status=130") || seen.contains("status=0"), "{seen:?}");
}

#[test]
fn through_pipes_there_is_no_terminal_and_streams_stay_apart() {
    let host = entered();
    let line = "test -t 0 || echo none; cat; echo complaint >&2; exit 7";
    let mut command = host.command("tazpod");
    command.args(["enter", "--", "sh", "-c", line]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    // More than any buffer between, so that both ways are busy at once.
    let large: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let sent = large.clone();
    let writer = std::thread::spawn(move || input.write_all(&sent));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(output.stderr, b"complaint\n");
    assert_eq!(output.stdout.strip_prefix(b"none\n").map(<[u8]>::len), Some(large.len()));
    assert!(output.stdout.ends_with(&large));
}

#[test]
fn users_folders_and_statuses_are_the_programs_own() {
    let host = entered();
    std::fs::create_dir_all(host.project().join("a/b")).unwrap();
    assert_eq!(host.says(&["enter", "--", "id", "-un"]), "tazpod\n");
    assert_eq!(
        host.says(&["ssh", "--root", "--", "sh", "-c", "id -un; echo $HOME"]),
        "root\n/root\n"
    );
    let mut deep = host.command("tazpod");
    let deep =
        deep.current_dir(host.project().join("a/b")).args(["enter", "--", "pwd"]).output().unwrap();
    assert_eq!(deep.stdout, b"/workspace/a/b\n");
    let missing = host.tazpod(&["enter", "--", "no-such-program"]);
    assert!(matches!(missing.status.code(), Some(126 | 127)), "{missing:?}");
    assert_eq!(host.tazpod(&["enter", "--", "sh", "-c", "kill -9 $$"]).status.code(), Some(137));
    assert_eq!(host.tazpod(&["-C", "../other", "enter", "--", "id"]).status.code(), Some(69));
}

#[test]
fn a_container_that_is_killed_ends_enter_and_the_terminal_is_as_before() {
    let host = entered();
    let mut terminal = Terminal::run(
        host.command("script"),
        "tazpod enter; echo status=$?; stty -a | grep -c ' icanon'",
    );
    terminal.press("echo re''ady\n");
    terminal.wait_for("ready");
    host.docker(&["kill", &host.name()]);
    let (seen, _) = terminal.end();
    assert!(seen.contains("status=137") || seen.contains("status=69"), "{seen:?}");
    assert!(seen.trim_end().ends_with('1'), "{seen:?}");
    assert!(host.complains(&["enter", "--", "id"], 69).contains("tazpod up"));
    assert!(host.says(&["up"]).starts_with("started"));
}
