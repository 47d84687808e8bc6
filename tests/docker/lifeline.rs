//! Whatever ends a client on the host ends what it had started in the container, and the ghost in it.

use super::fixture::{Host, wait_until};
use super::ghosts::{SECRET, ghost, host, pull};
use harness::terminal::Terminal;
use std::process::{Child, Command, Stdio};

/// The mark by which what stands beside a program finds it.
const MARK: &str = "TAZPOD_CLIENT";

/// Waits until no line of these programs, and nothing that stands beside one, is left.
fn wait_for_the_end_of(host: &Host, program: &str) {
    wait_until("nothing else is left", || {
        let left = host.programs();
        !left.contains(program) && !left.contains(MARK)
    });
}

/// A client that is killed, and one whose window is closed: the same program goes on under a client that does not
/// care for it.
#[test]
fn a_client_that_dies_hangs_up_its_terminal_and_ends_the_ghost_on_it() {
    let host = host();
    let careless = format!("docker exec -it {} sh -c 'sleep 72002; :'", host.name());
    let mut terminal =
        Terminal::run(host.command("script"), &format!("echo pid=$$; exec {careless}"));
    terminal.wait_for("pid=");
    wait_until("it runs", || host.programs().contains("sleep 72002"));
    host.kill("KILL", &terminal.word_after("pid="));
    terminal.end();
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert!(host.programs().contains("sleep 72002"), "nothing is to be done: the engine hangs up");

    for signal in ["KILL", "HUP", "TERM"] {
        for client in ["tazpod pull --passphrase-file passphrase", "tazpod enter"] {
            let mut terminal =
                Terminal::run(host.command("script"), &format!("echo pid=$$; exec {client}"));
            terminal.wait_for("pid=");
            let pid = terminal.word_after("pid=");
            if client.ends_with("enter") {
                terminal.press("sleep 72003 & tazpod pull --passphrase-file passphrase\n");
            }
            terminal.press("echo ready=$(cat ~/secrets/file)\n");
            terminal.wait_for(&format!("ready={SECRET}"));
            assert!(ghost(&host)["since"].is_u64());
            wait_until("somebody stands beside it", || host.programs().contains(MARK));
            host.kill(signal, &pid);
            wait_until(&format!("{client} ends by {signal}"), || ghost(&host).is_null());
            terminal.end();
            wait_for_the_end_of(&host, "72003");
        }
    }
    assert_eq!(pull(&host, "cat ~/secrets/file").stdout, format!("{SECRET}\n").as_bytes());
}

/// A program without a terminal whose standard input had ended long before, so that it cannot tell.
fn piped(host: &Host, program: &str, words: &[&str], until: &str) -> Child {
    let mut command: Command = host.command(program);
    command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().unwrap();
    wait_until(&format!("{until} runs"), || host.programs().contains(until));
    child
}

#[test]
fn a_client_that_dies_ends_its_program_without_a_terminal_too() {
    let host = host();
    let name = host.name();
    let careless = ["exec", "-i", &name, "sh", "-c", "sleep 72005; :"];
    let mut child = piped(&host, "docker", &careless, "sleep 72005");
    child.kill().unwrap();
    child.wait().unwrap();
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert!(host.programs().contains("sleep 72005"), "nothing is to be done: the engine hangs up");

    let pull = ["pull", "--passphrase-file", "passphrase", "--", "sh", "-c", "sleep 72006; :"];
    let enter = ["enter", "--", "sh", "-c", "sleep 72006; :"];
    for words in [&pull[..], &enter[..]] {
        for signal in ["KILL", "INT"] {
            let mut child = piped(&host, "tazpod", words, "sleep 72006");
            assert_eq!(ghost(&host)["since"].is_u64(), words[0] == "pull");
            wait_until("somebody stands beside it", || host.programs().contains(MARK));
            host.kill(signal, &child.id().to_string());
            child.wait().unwrap();
            wait_for_the_end_of(&host, "72006");
            wait_until("no ghost is left", || ghost(&host).is_null());
        }
    }
}

#[test]
fn an_ended_session_leaves_what_it_left_in_the_background() {
    let host = host();
    let mut terminal = Terminal::run(host.command("script"), "tazpod enter; echo status=$?");
    terminal.press("echo re''ady\n");
    terminal.wait_for("ready");
    wait_until("somebody stands beside it", || host.programs().contains(MARK));
    terminal
        .press("setsid -f script -qc 'sleep 72004' /dev/null </dev/null >/dev/null 2>&1; exit 3\n");
    let (seen, _) = terminal.end();
    assert!(seen.contains("status=3"), "{seen}");
    wait_until("nobody stands beside it", || !host.programs().contains(MARK));
    assert!(host.programs().contains("sleep 72004"));
}
