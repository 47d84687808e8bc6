//! What happens on a terminal: the prompt hides what is typed, Ctrl-C puts the terminal back.

use super::Folder;
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

/// A shell on a terminal of its own, typed into through a pipe.
struct Terminal {
    child: Child,
    keyboard: ChildStdin,
    screen: ChildStdout,
    seen: String,
}

impl Terminal {
    fn run(folder: &Folder, line: &str) -> Self {
        let mut script = folder.command("script");
        script.args(["--quiet", "--return", "--flush", "--echo", "never", "--command", line]);
        script.arg("/dev/null").env("SHELL", "/bin/sh").env("TERM", "dumb");
        let mut child = script
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script is installed");
        let keyboard = child.stdin.take().unwrap();
        let screen = child.stdout.take().unwrap();
        Self { child, keyboard, screen, seen: String::new() }
    }

    /// Reads the screen until `text` is there.
    fn wait_for(&mut self, text: &str) {
        let mut bytes = [0; 4096];
        while !self.seen.contains(text) {
            let count = self.screen.read(&mut bytes).unwrap();
            assert!(count > 0, "ended without {text:?}: {:?}", self.seen);
            self.seen += &String::from_utf8_lossy(&bytes[..count]);
        }
    }

    /// Reads the screen until `text` is there once more after what was seen last.
    fn wait_for_again(&mut self, text: &str) {
        let times = self.seen.matches(text).count() + 1;
        let mut bytes = [0; 4096];
        while self.seen.matches(text).count() < times {
            let count = self.screen.read(&mut bytes).unwrap();
            assert!(count > 0, "ended without another {text:?}: {:?}", self.seen);
            self.seen += &String::from_utf8_lossy(&bytes[..count]);
        }
    }

    fn press(&mut self, keys: &str) {
        // The program reads the terminal only after it has set it up, which the question shows.
        std::thread::sleep(Duration::from_millis(50));
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Returns the process id that the line has printed.
    fn pid(&self) -> String {
        let rest = self.seen.split("pid=").nth(1).unwrap();
        rest.split_whitespace().next().unwrap().to_owned()
    }

    /// Reads to the end and returns all that was on the screen, and the status.
    fn end(mut self) -> (String, i32) {
        let mut rest = Vec::new();
        self.screen.read_to_end(&mut rest).unwrap();
        self.seen += &String::from_utf8_lossy(&rest);
        let status = self.child.wait().unwrap();
        (self.seen, status.code().unwrap_or(-1))
    }
}

/// What takes a line away.
const CLEAR: &str = "\r\x1b[K";

const STATE: &str = "{ stty -a; stat -c '%u %g %a' $(tty); }";

/// Runs a command between two looks at the terminal, and shows its status.
fn watched(command: &str) -> String {
    format!(
        "{STATE} >before; {command}; echo status=$?; {STATE} >after; cmp before after && echo same"
    )
}

fn project() -> Folder {
    let folder = Folder::new();
    assert_eq!(
        folder.run("mkdir -p .tazpod/vault; forge-header .tazpod/vault/vault.img 65536,1,1"),
        ""
    );
    folder
}

#[test]
fn ctrl_c_at_the_prompt_puts_the_terminal_back_and_ends_with_130() {
    let folder = project();
    let mut terminal = Terminal::run(&folder, &watched("tazpod vault slot test"));
    terminal.wait_for("Passphrase of");
    terminal.press("half a secr\x03");
    let (seen, _) = terminal.end();
    assert!(seen.contains("status=130") && seen.contains("same"), "{seen}");
    assert!(!seen.contains("half"), "{seen}");
}

#[test]
fn a_killed_prompt_puts_the_terminal_back() {
    for (signal, status) in [("INT", 130), ("TERM", 143), ("HUP", 129), ("QUIT", 131)] {
        let folder = project();
        let line = "sh -c 'echo pid=$$; exec tazpod vault slot test'";
        let mut terminal = Terminal::run(&folder, &watched(line));
        terminal.wait_for("Passphrase of");
        let pid = terminal.pid();
        assert_eq!(folder.run(&format!("kill -{signal} {pid}")), "");
        let (seen, _) = terminal.end();
        assert!(seen.contains(&format!("status={status}")) && seen.contains("same"), "{seen}");
    }
}

/// The threads of the KDF took the signal that the prompt after it waited for: the program died where it stood.
#[test]
fn a_prompt_that_follows_the_kdf_is_killed_in_order_too() {
    let folder = Folder::new();
    let setup = "umask 077; echo one > p
        tazpod -q vault create --image v.img --passphrase-file p --kdf-memory 64M --kdf-time 1";
    assert!(folder.run(setup).starts_with("made"));
    for (signal, status) in [("INT", 130), ("TERM", 143), ("HUP", 129), ("QUIT", 131)] {
        let line =
            "sh -c 'echo pid=$$; exec tazpod vault slot add --image v.img --passphrase-file p'";
        let mut terminal = Terminal::run(&folder, &watched(line));
        terminal.wait_for("New passphrase of");
        let pid = terminal.pid();
        assert_eq!(folder.run(&format!("kill -{signal} {pid}")), "");
        let (seen, _) = terminal.end();
        assert!(seen.contains(&format!("status={status}")) && seen.contains("same"), "{seen}");
    }
}

/// As above: what an interrupted export had written stayed, and nobody was told what state the vault was in.
#[test]
fn ctrl_c_within_work_that_follows_the_kdf_says_how_things_are() {
    let folder = Folder::new();
    let setup = "umask 077; echo one > p; head -c 3M /dev/urandom > noise; tar -cf in.tar noise; mkfifo pipe
        tazpod -q vault create --image v.img --passphrase-file p --kdf-memory 64M --kdf-time 1";
    assert!(folder.run(setup).starts_with("made"));
    let line = "(head -c 2M in.tar; exec sleep 30) >pipe & \
        sh -c 'echo pid=$$; exec tazpod vault import --image v.img --passphrase-file p - <pipe'";
    let mut terminal = Terminal::run(&folder, &watched(line));
    terminal.wait_for("importing");
    let pid = terminal.pid();
    assert_eq!(folder.run(&format!("kill -INT {pid}")), "");
    terminal.wait_for("same");
    let seen = &terminal.seen;
    assert!(seen.contains("status=130") && seen.contains("nothing was imported"), "{seen}");
    terminal.child.kill().unwrap();
    let check = "tazpod vault check --image v.img --passphrase-file p";
    assert!(folder.run(check).contains("is clean"));
}

#[test]
fn what_is_typed_is_not_shown_and_can_be_corrected() {
    let folder = project();
    // Both the question and the repetition take the same passphrase by different keys.
    let mut terminal = Terminal::run(&folder, &watched("tazpod vault slot test"));
    terminal.wait_for("Passphrase of");
    terminal.press("wrong\x15swordfisx\x7fh\r");
    let (seen, _) = terminal.end();
    assert!(seen.contains("no keyslot") && seen.contains("status=77"), "{seen}");
    assert!(
        seen.contains("same") && !seen.contains("wrong\n") && !seen.contains("sword"),
        "{seen}"
    );
}

#[test]
fn no_neighbour_can_open_the_terminal_while_a_secret_is_typed() {
    let folder = project();
    let line = "echo tty=$(tty); tazpod vault slot test; stat -c 'mode=%a' $(tty)";
    let mut terminal = Terminal::run(&folder, line);
    terminal.wait_for("Passphrase of");
    let tty =
        terminal.seen.split("tty=").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    // As another user: root may open a terminal in exclusive use.
    let read = format!("setpriv --reuid 65534 --regid 65534 --clear-groups sh -c 'exec <{tty}'");
    let during = folder.run(&read);
    assert!(during.contains("cannot open") || during.contains("Permission"), "{during}");
    terminal.press("\x03");
    terminal.end();
}

#[test]
fn a_new_passphrase_is_asked_for_twice_and_must_agree() {
    let folder = Folder::new();
    let create = "tazpod vault create --image v.img --kdf-memory 64M --kdf-time 1";
    for (second, status, shown) in [("swordfish\r", 0, "made v.img"), ("other\r", 64, "differ")] {
        let mut terminal = Terminal::run(&folder, &watched(create));
        terminal.wait_for("New passphrase of v.img: ");
        terminal.press("swordfish\r");
        terminal.wait_for("Repeat: ");
        terminal.press(second);
        let (seen, _) = terminal.end();
        assert!(seen.contains(shown) && seen.contains(&format!("status={status}")), "{seen}");
        assert!(seen.contains("same") && !seen.contains("sword"), "{seen}");
        if status == 0 {
            let test = "echo swordfish | tazpod vault slot test --image v.img; rm v.img";
            assert_eq!(folder.run(test), "keyslot 0 of v.img opens\n");
        }
    }
    assert_eq!(folder.run("ls"), "after\nbefore\n");
}

#[test]
fn a_recovery_key_is_shown_once_and_believed_when_typed_back() {
    let folder = Folder::new();
    let setup = "umask 077; echo one > p
        tazpod -q vault create --image v.img --passphrase-file p --kdf-memory 64M --kdf-time 1";
    assert!(folder.run(setup).starts_with("made"));
    let another = "abandon ".repeat(23) + "art";
    for (right, typed) in [(false, another.as_str()), (false, ""), (true, "")] {
        let add = "tazpod vault slot add recovery --image v.img --passphrase-file p";
        let mut terminal = Terminal::run(&folder, &watched(add));
        terminal.wait_for("Press Enter");
        let words = terminal.seen.split("shown once:").nth(1).unwrap();
        let lines: Vec<_> = words.split("Press").next().unwrap().trim().lines().collect();
        assert!(lines.iter().all(|line| line.len() < 60), "{lines:?}");
        let words = lines.join(" ");
        assert_eq!(words.split_whitespace().count(), 24, "{words}");
        terminal.press("\r");
        terminal.wait_for("Type the recovery key back: ");
        let typed = if right { words } else { typed.to_owned() };
        terminal.press(&format!("{typed}\r"));
        let (seen, _) = terminal.end();
        let (said, status) =
            if right { ("added keyslot 1", 0) } else { ("not the recovery key", 64) };
        assert!(seen.contains(said) && seen.contains(&format!("status={status}")), "{seen}");
        let count = if right { 2 } else { 1 };
        assert_eq!(
            folder.run("tazpod vault slot list --image v.img | wc -l"),
            format!("{count}\n")
        );
    }
}

#[test]
fn ctrl_c_within_long_work_leaves_nothing_and_says_so() {
    let folder = Folder::new();
    let create = "sh -c 'echo pid=$$; exec tazpod vault create --image v.img --passphrase-file p \
        --kdf-memory 1G --kdf-time 16'";
    folder.run("umask 077; echo one > p");
    let mut terminal = Terminal::run(&folder, &watched(create));
    terminal.wait_for("\n");
    let deadline = Instant::now() + Duration::from_secs(20);
    while folder.run("ls v.img.new").contains("[2]") {
        assert!(Instant::now() < deadline, "the work has not begun");
    }
    // To the program alone: the shell around it would end with it.
    let pid = terminal.pid();
    assert_eq!(folder.run(&format!("kill -INT {pid}")), "");
    let (seen, _) = terminal.end();
    assert!(seen.contains("status=130") && seen.contains("no vault was made"), "{seen}");
    assert_eq!(folder.run("ls"), "after\nbefore\np\n");
}

/// Long work says on a terminal how far it has come, and what stays on the screen is the result. Interrupted, its
/// error used to follow on the same line.
#[test]
fn progress_is_shown_to_eyes_alone_and_goes_away() {
    let folder = Folder::new();
    let make = "umask 077; echo one > p; mkdir in; head -c 40M /dev/urandom > in/noise
        tazpod -q vault create --image v.img --passphrase-file p --kdf-memory 64M --kdf-time 1
        tazpod -q vault import --image v.img --passphrase-file p in";
    assert!(folder.run(make).starts_with("made"));
    let verb = |verb: &str| format!("tazpod vault {verb} --image v.img");
    for (line, label, result) in [
        (verb("check --passphrase-file p"), "checking", "v.img is clean"),
        (verb("import --overwrite in --passphrase-file p"), "importing", "imported 1 entry"),
        (verb("export out.tar --passphrase-file p"), "exporting", "wrote out.tar"),
        (verb("backup copy.img"), "copying", "wrote copy.img"),
        (verb("compact --passphrase-file p"), "compacting", "v.img takes"),
        (
            verb("rekey --kdf-memory 64M --kdf-time 1 --passphrase-file p"),
            "comparing",
            "new volume key",
        ),
    ] {
        let (seen, status) = Terminal::run(&folder, &line).end();
        assert_eq!(status, 0, "{seen:?}");
        let (work, left) = seen.rsplit_once(CLEAR).unwrap_or_else(|| panic!("{line}: {seen:?}"));
        assert!(work.contains(&format!("{CLEAR}{label} ")), "{seen:?}");
        assert!(left.contains(result) && !left.contains(label), "{seen:?}");
    }
    for (line, after) in [("check --json", ""), ("-q check", ""), ("check", "2>said; cat said")] {
        let line = format!("{} --passphrase-file p {after}", verb(line));
        let (seen, _) = Terminal::run(&folder, &line).end();
        assert!(seen.contains("clean") && !seen.contains("checking"), "{seen:?}");
    }
}

#[test]
fn init_proposes_what_the_folder_asks_for_and_takes_another_answer() {
    let folder = Folder::new();
    folder.run("touch main.tf");
    for (typed, image, status) in
        [("vim\r", "", 64), ("\r", "tazpod:k8s", 0), ("base\r", "tazpod:base", 0)]
    {
        let mut terminal = Terminal::run(&folder, &watched("tazpod init"));
        terminal.wait_for("[k8s]: ");
        terminal.press(typed);
        let (seen, _) = terminal.end();
        assert!(seen.contains("since this folder has main.tf"), "{seen}");
        assert!(seen.contains(&format!("status={status}")) && seen.contains("same"), "{seen}");
        let written = folder.run("cat .tazpod/config.yaml; rm -rf .tazpod");
        assert_eq!(written.contains("image:"), status == 0, "{written}");
        assert!(written.contains(image), "{written}");
    }
}

#[test]
fn ctrl_c_at_the_prompt_of_pull_leaves_no_vault_and_no_ghost() {
    let folder = Folder::new();
    let mut terminal = Terminal::run(&folder, &watched("tazpod pull"));
    terminal.wait_for("assphrase");
    terminal.press("half\x03");
    let (seen, _) = terminal.end();
    assert!(seen.contains("status=130") && seen.contains("same"), "{seen}");
    assert!(!seen.contains("half"), "{seen}");
    assert_eq!(folder.run("ls -A .tazpod/vault; ls -A ../home/secrets"), "");
    assert_eq!(folder.run("tazpod lock"), "No ghost of this project is open.\n");
}

#[test]
fn a_wrong_passphrase_may_be_typed_again() {
    let folder = Folder::new();
    let make = "umask 077; echo one > p
        tazpod -q vault create --passphrase-file p --kdf-memory 64M --kdf-time 1";
    assert!(folder.run(make).starts_with("made"));
    let mut terminal = Terminal::run(&folder, &watched("tazpod -q pull -- echo inside"));
    terminal.wait_for("assphrase of");
    terminal.press("two\r");
    terminal.wait_for_again("assphrase of");
    terminal.press("one\r");
    let (seen, _) = terminal.end();
    assert!(seen.contains("inside") && seen.contains("status=0"), "{seen}");
}

/// A relay that was told to end by a signal lost what a short command had said before it was ready;
/// and a pty that hung up while more than the relay's buffer was left lost the rest.
#[test]
fn all_that_a_command_says_arrives_however_short_or_long_it_is() {
    let folder = Folder::new();
    let make = "umask 077; echo one > p
        tazpod -q vault create --passphrase-file p --kdf-memory 64M --kdf-time 1";
    assert!(folder.run(make).starts_with("made"));
    let pull = "tazpod -q pull --passphrase-file p --";
    for round in 0..20 {
        let (seen, status) = Terminal::run(&folder, &format!("{pull} echo inside")).end();
        assert!(seen.contains("inside") && status == 0, "round {round}: {seen:?} {status}");
    }
    let (seen, status) = Terminal::run(&folder, &format!("{pull} seq 60000")).end();
    let lines: Vec<_> = seen.lines().filter(|line| line.parse::<u32>().is_ok()).collect();
    assert_eq!((lines.len(), lines.last(), status), (60_000, Some(&"60000"), 0));
}

/// `vault.lock_after`: a ghost at whose terminal nobody types is ended and its vault closed; one without a
/// terminal works on its own and stays.
#[test]
fn a_ghost_in_which_nobody_types_is_locked() {
    let folder = Folder::new();
    let make = "umask 077; echo one > p; mkdir .tazpod
        printf 'vault:\\n  lock_after: 1s\\n' > .tazpod/config.yaml
        tazpod -q vault create --passphrase-file p --kdf-memory 64M --kdf-time 1";
    assert!(folder.run(make).starts_with("made"));
    let pull = "tazpod pull --passphrase-file p";
    let busy = folder.run(&format!("{pull} -- sh -c 'sleep 8; echo alive'"));
    assert!(busy.contains("alive"), "{busy}");
    let mut terminal = Terminal::run(&folder, &watched(pull));
    terminal.wait_for("has been locked");
    let (seen, _) = terminal.end();
    assert!(seen.contains("status=129") && seen.contains("same"), "{seen}");
    assert_eq!(folder.run("tazpod lock"), "No ghost of this project is open.\n");
    assert_eq!(folder.run("ls -A ../home/secrets"), "");
    assert!(folder.run("tazpod vault check --passphrase-file p").contains("is clean"));
}
