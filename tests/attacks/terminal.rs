//! Attacks by way of a terminal: a multiplexer's socket, the terminal of the prompt, pushing keys into the outer one.

use super::scene::Scene;
use super::screen::Screen;
use super::victim::{Ghost, Start, inhabitant_that, plain_command, pull, pull_command};
use harness::process::{Pid, name};
use harness::stage::{OWNER, ROOT, within};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The multiplexer's socket of this test program; the file lies in `/tmp`, or would.
fn socket() -> String {
    format!("tazpod-test-{}", std::process::id())
}

fn with_a_multiplexer() -> String {
    let socket = socket();
    inhabitant_that(&format!(
        "tmux -L {socket} new-session -d 'cat ~/secrets/marker; sleep 60'; tmux -L {socket} ls >/dev/null && echo up >~/secrets/up"
    ))
}

fn capture(scene: &dyn Scene) -> String {
    scene.says(OWNER, &format!("tmux -L {} capture-pane -p", socket()))
}

pub(crate) fn shows_that_a_plain_multiplexer_can_be_reached(scene: &dyn Scene) {
    let plain = Ghost::inhabit(&plain_command(scene, OWNER, &with_a_multiplexer()));
    assert!(within(30, || capture(scene).contains(&plain.token)), "the attack does not work");
    plain.end();
    scene.says(OWNER, &format!("tmux -L {} kill-server", socket()));
}

pub(crate) fn holds_its_multiplexer_back(scene: &dyn Scene) {
    let bystanders = scene.bystanders();
    let ghost = Ghost::inhabit(&pull_command(scene, Start::Sudo, &with_a_multiplexer()));
    let up = within(30, || {
        let now = scene.brought_by(ghost.id(), &bystanders);
        now.iter().any(|pid| !scene.is_outside(*pid) && name(*pid).starts_with("tmux"))
    });
    assert!(up, "no multiplexer started in the ghost");
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(capture(scene), "");
    assert!(ghost.end().success());
}

/// The terminal on which the process named `program` reads that came with `top`.
fn terminal_of(scene: &dyn Scene, bystanders: &BTreeSet<Pid>, top: Pid, program: &str) -> PathBuf {
    let mut found = None;
    assert!(within(60, || {
        found = scene.brought_by(top, bystanders).into_iter().find(|pid| name(*pid) == program);
        found.is_some()
    }));
    // Of a terminal in another mount namespace the kernel tells the last part only.
    let link = fs::read_link(format!("/proc/{}/fd/0", found.unwrap())).unwrap();
    Path::new("/dev/pts").join(link.file_name().unwrap())
}

pub(crate) fn shows_that_a_plain_prompt_can_be_read(scene: &dyn Scene) {
    let bystanders = scene.bystanders();
    let prompt = "stty -echo; echo Passphrase:; sleep 2; read x";
    let mut screen = Screen::run(scene, OWNER, prompt);
    screen.wait_for("Passphrase:");
    let terminal = terminal_of(scene, &bystanders, screen.id(), "sleep");
    let steal = format!("timeout 5 head -n 1 {}", terminal.display());
    screen.press("plain secret\n");
    assert_eq!(scene.says(OWNER, &steal), "plain secret\n", "the attack does not work");
    drop(screen);
}

pub(crate) fn holds_the_terminal_of_the_prompt(scene: &dyn Scene) {
    // A vault exists already, so that one prompt is all there is.
    assert!(pull_command(scene, Start::Sudo, "true").status().success());
    let bystanders = scene.bystanders();
    let line = format!("{}; echo ended", pull(scene, Start::Sudo).line());
    let mut screen = Screen::run(scene, OWNER, &line);
    screen.wait_for("assphrase");
    let terminal = terminal_of(scene, &bystanders, screen.id(), "tazpod");
    let data = fs::metadata(scene.seen(&terminal)).unwrap();
    let owner_and_mode = (data.uid(), data.permissions().mode() & 0o777);
    assert_eq!(owner_and_mode, (0, 0o600), "{}", terminal.display());
    let steal = format!("timeout 3 head -n 1 {} 2>/dev/null && echo opened", terminal.display());
    assert_eq!(scene.says(OWNER, &steal), "");
    screen.press("correct horse battery staple\n");
    screen.wait_for("(ghost)");
    screen.press("exit\n");
    screen.wait_for("ended");
    let data = fs::metadata(scene.seen(&terminal));
    let is_owners = data.map_or(true, |data| data.uid() == OWNER.id);
    assert!(is_owners, "the terminal was not given back");
    assert!(!screen.text().contains("battery"), "the passphrase was echoed");
}

/// Pushes a line into whatever terminal is standard input, then stays a moment so that nothing inside reads it.
const PUSH: &str = r#"python3 -c 'import fcntl, termios
for key in b"pushed\n": fcntl.ioctl(0, termios.TIOCSTI, bytes([key]))'; echo pushing was $?"#;

const LISTEN: &str = "read -t 2 line; echo \"outer got: <$line>\"";

pub(crate) fn shows_that_keys_can_be_pushed_from_a_plain_ghost(scene: &dyn Scene) {
    let plain = plain_command(scene, OWNER, PUSH).line();
    let line = format!("HOME={} {plain}; {LISTEN}", OWNER.home().display());
    let screen = Screen::run(scene, ROOT, &line);
    screen.wait_for("outer got:");
    let text = screen.text();
    assert!(text.contains("outer got: <pushed>"), "the attack does not work: {text}");
}

pub(crate) fn holds_pushed_keys_back(scene: &dyn Scene) {
    let line = format!("{}; {LISTEN}", pull_command(scene, Start::Sudo, PUSH).line());
    let screen = Screen::run(scene, OWNER, &line);
    screen.wait_for("outer got:");
    let text = screen.text();
    assert!(text.contains("pushing was 0"), "the ghost had no terminal: {text}");
    assert!(text.contains("outer got: <>"), "got through: {text}");
}
