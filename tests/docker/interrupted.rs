//! Ctrl-C, whenever it comes.

use super::fixture::{Host, wait_until};
use std::io::Read;
use std::process::Stdio;
use std::time::Duration;

const INTERRUPT: i32 = 2;

/// Where in a command's time, in milliseconds, it is interrupted. None of them has to hit anything.
const MOMENTS: [u64; 5] = [1, 25, 70, 150, 320];

/// Interrupts a command, unless it has ended by itself before.
fn interrupt(host: &Host, words: &[&str], after: Duration) {
    let mut command = host.command("tazpod");
    let mut child =
        command.args(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(after);
    host.kill("INT", &child.id().to_string());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    let status = child.wait().unwrap();
    // By the signal, done already, or refused, since the engine is still at work on what came before: never by a bug.
    let in_order = status.code().is_none_or(|code| code < 100 || code == 128 + INTERRUPT);
    assert!(in_order && !said.contains("panicked"), "{words:?}: {status}: {said}");
}

#[test]
fn after_an_interrupted_up_or_down_the_next_up_works() {
    let host = Host::new();
    for words in [&["up"][..], &["up", "--recreate"], &["down"]] {
        for moment in MOMENTS {
            let before = if words == ["up"] { "down" } else { "up" };
            wait_until(before, || host.tazpod(&[before]).status.success());
            interrupt(&host, words, Duration::from_millis(moment));
            // The engine goes on with what it was asked for: it may be removing still what the next command finds.
            wait_until("a container that is well", || {
                host.tazpod(&["up"]).status.success()
                    && host.tazpod(&["enter", "--", "true"]).status.success()
            });
        }
    }
}

#[test]
fn an_interrupted_enter_ends_what_it_had_started() {
    let host = Host::new();
    host.says(&["up"]);
    let mut command = host.command("tazpod");
    command.args(["enter", "--", "sh", "-c", "echo be''gun; exec sleep 4242"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut said = [0; 6];
    child.stdout.take().unwrap().read_exact(&mut said).unwrap();
    assert_eq!(&said, b"begun\n");
    host.kill("INT", &child.id().to_string());
    assert_eq!(child.wait().unwrap().code(), Some(128 + INTERRUPT));
    assert_eq!(host.says(&["enter", "--", "echo", "well"]), "well\n");
    host.says(&["down"]);
}
