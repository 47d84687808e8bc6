//! Ghosts in the project's container, opened by commands that are typed on the host.

use super::fixture::{Host, PASSPHRASE, holds, wait_until};
use harness::engine::Engine;
use harness::terminal::Terminal;
use std::fs;
use std::io::Write;
use std::process::{Output, Stdio};

/// What a vault holds here: nothing of it may be seen from outside.
pub(crate) const SECRET: &str = "canary-secret-51c9";

/// A host whose container runs and whose vault holds the secret.
pub(crate) fn host() -> Host {
    let host = Host::new();
    host.write("Lab 1/passphrase", PASSPHRASE);
    host.says(&["up"]);
    let made = pull(&host, &format!("echo {SECRET} >~/secrets/file; cat ~/secrets/file; hostname"));
    let text = String::from_utf8_lossy(&made.stdout);
    assert!(made.status.success() && text.starts_with(SECRET), "{made:?}");
    host
}

/// Runs a line in a ghost, by `pull` on the host.
pub(crate) fn pull(host: &Host, line: &str) -> Output {
    pull_in(host, ".", line)
}

/// Runs a line in a ghost of the project in this folder.
pub(crate) fn pull_in(host: &Host, folder: &str, line: &str) -> Output {
    let words = [
        "-C",
        folder,
        "pull",
        "--passphrase-file",
        "passphrase",
        "--kdf-memory",
        "64M",
        "--kdf-time",
        "1",
        "--",
        "sh",
        "-c",
        line,
    ];
    host.tazpod(&words)
}

/// Opens a ghost on a terminal and leaves it open.
pub(crate) fn open(host: &Host) -> Terminal {
    open_in(host, ".", SECRET)
}

/// Opens a ghost of the project in this folder, whose vault holds `secret`, and leaves it open.
pub(crate) fn open_in(host: &Host, folder: &str, secret: &str) -> Terminal {
    let line = format!("tazpod -C {folder} pull --passphrase-file passphrase; echo status=$?");
    let mut terminal = Terminal::run(host.command("script"), &line);
    terminal.press("echo ready=$(cat ~/secrets/file)\n");
    terminal.wait_for(&format!("ready={secret}"));
    terminal
}

/// What a neighbour tries from the shell that another `enter` gives: by path, through the processes there are, and
/// through the devices that it has.
const LOOK: &str = "ls -A ~/secrets; cat ~/secrets/file; for p in /proc/[0-9]*; do cat $p/root/home/tazpod/secrets/file; \
                    tr '\\0' '\\n' <$p/environ; ls -l $p/cwd $p/fd/; done; find / -xdev -name file -path '*secrets*'; \
                    for d in /dev/dm-* /dev/mapper/* /dev/loop*; do head -c 64M $d; done";

/// What the neighbour gets to see in the container of the project in this folder.
pub(crate) fn neighbour(host: &Host, folder: &str) -> Vec<u8> {
    // A program of no ghost, which the same look must find.
    let words = ["-C", folder, "enter", "--", "sh", "-c"];
    let visible = format!("VISIBLE=canary-visible sleep infinity & {LOOK}; kill $!");
    let output = host.tazpod(&[&words[..], &[visible.as_str()]].concat());
    assert!(holds(&output.stdout, "VISIBLE=canary-visible"), "{output:?}");
    output.stdout
}

/// The ghost in the host's container, as `status` has it.
pub(crate) fn ghost(host: &Host) -> serde_json::Value {
    let status: serde_json::Value =
        serde_json::from_str(&host.says(&["status", "--json"])).unwrap();
    status["container"]["ghost"].clone()
}

#[test]
fn pull_on_the_host_opens_the_ghost_in_the_container_and_here_stays_here() {
    let host = host();
    let output = pull(&host, "test -d /workspace/.tazpod && cat ~/secrets/file; exit 5");
    assert_eq!(output.status.code(), Some(5));
    assert_eq!(output.stdout, format!("{SECRET}\n").as_bytes());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(&format!("In the container {}", host.name())), "{said}");
    // By standard input too.
    let mut command = host.command("tazpod");
    command.args(["pull", "--", "cat", "/home/tazpod/secrets/file"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{PASSPHRASE}").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.stdout, format!("{SECRET}\n").as_bytes());
    // What the container cannot see is not asked of it.
    host.write("home/key", "x");
    let outside = host.path("home/key").display().to_string();
    assert!(host.complains(&["pull", "--key-file", &outside], 64).contains("not in the project"));
    let wrong = host.tazpod(&["unlock", "--passphrase-file", ".tazpod/config.yaml", "--", "true"]);
    assert_eq!(wrong.status.code(), Some(77), "{wrong:?}");
    let here = host.tazpod(&["lock", "--here"]);
    assert!(here.status.success(), "{here:?}");
    assert!(!String::from_utf8_lossy(&here.stderr).contains("In the container"), "{here:?}");
}

#[test]
fn a_neighbour_sees_nothing_and_the_engine_keeps_nothing() {
    let host = host();
    let mut terminal = open(&host);
    let name = host.name();
    let seen = neighbour(&host, ".");
    assert!(!holds(&seen, SECRET) && !holds(&seen, PASSPHRASE));
    let tar = host.path("exported.tar");
    let copied = host.path("copied");
    let tar_name = tar.display().to_string();
    let copied_name = copied.display().to_string();
    host.docker(&["commit", &name, "canary-image"]);
    host.docker(&["export", "--output", &tar_name, &name]);
    host.docker(&["cp", &format!("{name}:/home/tazpod"), &copied_name]);
    host.docker(&[
        "save",
        "--output",
        &host.path("saved.tar").display().to_string(),
        "canary-image",
    ]);
    host.docker(&["rmi", "canary-image"]);
    let all_logs = Engine::shared().docker().args(["logs", &name]).output().unwrap();
    let seen = [
        host.docker(&["inspect", &name]).into_bytes(),
        all_logs.stdout,
        all_logs.stderr,
        fs::read(&tar).unwrap(),
        fs::read(host.path("saved.tar")).unwrap(),
        host.docker(&[
            "exec",
            "--user",
            "root",
            &name,
            "sh",
            "-c",
            "cat /home/tazpod/secrets/* /proc/*/cmdline 2>/dev/null; true",
        ])
        .into_bytes(),
    ];
    // The same search finds what is no secret, so it can find.
    assert!(holds(&seen[3], "NOPASSWD: /usr/local/bin/tazpod"));
    for bytes in &seen {
        assert!(!holds(bytes, SECRET) && !holds(bytes, PASSPHRASE));
    }
    let found =
        std::process::Command::new("grep").args(["-r", SECRET]).arg(&copied).output().unwrap();
    assert!(found.stdout.is_empty(), "{found:?}");
    terminal.press("exit\n");
    assert!(terminal.end().0.contains("status=0"));
}

#[test]
fn an_open_ghost_is_seen_from_outside_and_holds_the_container() {
    let host = host();
    assert!(ghost(&host).is_null());
    let terminal = open(&host);
    assert!(ghost(&host)["since"].is_u64());
    assert!(host.says(&["status", "--all"]).contains("a ghost is open since"));
    let id = host.inspect(&host.name(), "{{.Id}}");
    for words in [&["down"][..], &["up", "--recreate"]] {
        let complaint = host.complains(words, 75);
        assert!(
            complaint.contains("a ghost is open") && complaint.contains("--force"),
            "{complaint}"
        );
    }
    assert_eq!(host.inspect(&host.name(), "{{.Id}} {{.State.Running}}"), format!("{id} true"));
    host.says(&["down", "--force"]);
    assert_eq!(host.inspect(&host.name(), "{{.Id}}"), "");
    drop(terminal);
    // It was closed in order: the vault opens, and holds what was written.
    host.says(&["up"]);
    assert_eq!(pull(&host, "cat ~/secrets/file").stdout, format!("{SECRET}\n").as_bytes());
}

#[test]
fn lock_on_the_host_ends_the_ghost_in_the_container() {
    let host = host();
    let terminal = open(&host);
    host.says(&["lock", "--force"]);
    assert!(ghost(&host).is_null());
    let (seen, _) = terminal.end();
    assert!(seen.contains("status="), "{seen}");
}

#[test]
fn a_container_killed_under_a_ghost_leaves_a_vault_that_opens() {
    let host = host();
    let terminal = open(&host);
    host.docker(&["kill", &host.name()]);
    terminal.end();
    // The engine's word that it has stopped, before it is started again.
    wait_until("it has stopped", || host.inspect(&host.name(), "{{.State.Running}}") == "false");
    host.says(&["up"]);
    assert!(ghost(&host).is_null());
    let output = pull(&host, "cat ~/secrets/file");
    assert_eq!(output.stdout, format!("{SECRET}\n").as_bytes(), "{output:?}");
}

#[test]
fn ctrl_c_at_the_passphrase_leaves_nothing_open() {
    let host = host();
    let mut terminal = Terminal::run(
        host.command("script"),
        "tazpod pull; echo status=$?; stty -a | grep -c ' icanon'",
    );
    terminal.wait_for("assphrase");
    terminal.press("half a pass\u{3}");
    let (seen, _) = terminal.end();
    assert!(
        seen.contains("status=130") && seen.trim_end().ends_with('1') && !seen.contains("half"),
        "{seen:?}"
    );
    assert!(ghost(&host).is_null());
    host.says(&["down"]);
}
