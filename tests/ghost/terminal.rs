//! Attacks by way of a terminal: a multiplexer's socket, the terminal of the prompt, pushing keys into the outer one.

use super::screen::Screen;
use super::victim::{Ghost, Start, inhabitant_that, plain_command, pull, pull_command};
use harness::binary::tazpod;
use harness::process::{Pid, family, name};
use harness::stage::{OWNER, ROOT, Stage, within};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

fn neighbour_says(stage: &Stage, line: &str) -> String {
    let output = stage.command(OWNER, "sh").args(["-c", line]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_terminal_multiplexer_in_the_ghost_cannot_be_reached() {
    Stage::run(&[tazpod()], |stage| {
        let socket = format!("tazpod-test-{}", std::process::id());
        let script = inhabitant_that(&format!(
            "tmux -L {socket} new-session -d 'cat ~/secrets/marker; sleep 60'; tmux -L {socket} ls >/dev/null && echo up >~/secrets/up"
        ));
        let capture = format!("tmux -L {socket} capture-pane -p");
        let plain = Ghost::inhabit(plain_command(stage, OWNER, &script));
        assert!(
            within(10, || neighbour_says(stage, &capture).contains(&plain.token)),
            "the attack does not work"
        );
        plain.end();
        neighbour_says(stage, &format!("tmux -L {socket} kill-server"));

        let ghost = Ghost::inhabit(pull_command(stage, Start::Sudo, &script));
        let up = within(10, || ghost.inside().any(|pid| name(pid).starts_with("tmux")));
        assert!(up, "no multiplexer started in the ghost");
        std::thread::sleep(std::time::Duration::from_millis(500));
        assert_eq!(neighbour_says(stage, &capture), "");
        assert!(ghost.end().success());
    });
}

/// The terminal on which the process below `top` with that name reads.
fn terminal_of(top: Pid, program: &str) -> PathBuf {
    let mut found = None;
    assert!(within(20, || {
        let mut members = family(top).into_iter();
        found = members.find(|pid| name(*pid) == program);
        found.is_some()
    }));
    fs::read_link(format!("/proc/{}/fd/0", found.unwrap())).unwrap()
}

#[test]
fn the_terminal_cannot_be_opened_while_the_passphrase_is_typed() {
    Stage::run(&[tazpod()], |stage| {
        let prompt = "stty -echo; echo Passphrase:; sleep 2; read x";
        let mut screen = Screen::run(stage, OWNER, prompt);
        screen.wait_for("Passphrase:");
        let terminal = terminal_of(screen.id(), "sleep");
        let steal = format!("timeout 5 head -n 1 {}", terminal.display());
        screen.press("plain secret\n");
        assert_eq!(neighbour_says(stage, &steal), "plain secret\n", "the attack does not work");
        drop(screen);

        // A vault exists already, so that one prompt is all there is.
        assert!(pull_command(stage, Start::Sudo, "true").status().unwrap().success());
        let line = format!("{}; echo ended", words(&pull(stage, Start::Sudo)));
        let mut screen = Screen::run(stage, OWNER, &line);
        screen.wait_for("assphrase");
        let terminal = terminal_of(screen.id(), "tazpod");
        let data = fs::metadata(&terminal).unwrap();
        assert_eq!(
            (data.uid(), data.permissions().mode() & 0o777),
            (0, 0o600),
            "{}",
            terminal.display()
        );
        let steal =
            format!("timeout 3 head -n 1 {} 2>/dev/null && echo opened", terminal.display());
        assert_eq!(neighbour_says(stage, &steal), "");
        screen.press("correct horse battery staple\n");
        screen.wait_for("(ghost)");
        screen.press("exit\n");
        screen.wait_for("ended");
        let data = fs::metadata(&terminal);
        assert!(
            data.is_err() || data.unwrap().uid() == OWNER.id,
            "the terminal was not given back"
        );
        assert!(!screen.text().contains("battery"), "the passphrase was echoed");
    });
}

/// A command as one line for a shell.
fn words(command: &std::process::Command) -> String {
    let all = std::iter::once(command.get_program()).chain(command.get_args());
    all.map(|word| format!("'{}'", word.to_string_lossy().replace('\'', r"'\''")))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Pushes a line into whatever terminal is standard input, then stays a moment so that nothing inside reads it.
const PUSH: &str = r#"python3 -c 'import fcntl, termios
for key in b"pushed\n": fcntl.ioctl(0, termios.TIOCSTI, bytes([key]))'; echo pushing was $?"#;

#[test]
fn keys_pushed_in_the_ghost_do_not_arrive_in_the_outer_shell() {
    Stage::run(&[tazpod()], |stage| {
        let listen = "read -t 2 line; echo \"outer got: <$line>\"";
        let plain = format!("{}; {listen}", words(&plain_command(stage, OWNER, PUSH)));
        let screen = Screen::run(
            stage,
            ROOT,
            &plain.replacen("'unshare'", &format!("HOME={} unshare", OWNER.home().display()), 1),
        );
        screen.wait_for("outer got:");
        assert!(
            screen.text().contains("outer got: <pushed>"),
            "the attack does not work: {}",
            screen.text()
        );

        let line = format!("{}; {listen}", words(&pull_command(stage, Start::Sudo, PUSH)));
        let screen = Screen::run(stage, OWNER, &line);
        screen.wait_for("outer got:");
        assert!(
            screen.text().contains("pushing was 0"),
            "the ghost had no terminal: {}",
            screen.text()
        );
        assert!(screen.text().contains("outer got: <>"), "got through: {}", screen.text());
    });
}
