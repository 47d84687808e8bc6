//! From `up` to a program in the container, beside the docker client's own way.

use super::fixture::{Host, image};
use harness::engine::{Engine, said};
use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

const ROUNDS: usize = 5;

/// No assertion: this machine is shared. The numbers are for the reader of the log.
#[test]
fn up_and_enter_beside_docker_run_and_exec() {
    let host = Host::new();
    let name = host.name();
    let docker = || Engine::shared().docker();
    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    for _ in 0..ROUNDS {
        ours.push(timed(&mut [
            host.command("tazpod").arg("up"),
            host.command("tazpod").args(["enter", "--", "true"]),
        ]));
        said(docker().args(["rm", "--force", &name]));
        theirs.push(timed(&mut [
            docker().args([
                "run",
                "--detach",
                "--init",
                "--network",
                "host",
                "--device",
                "/dev/fuse",
                "--name",
                &name,
                image(),
                "sleep",
                "infinity",
            ]),
            docker().args(["exec", "--interactive", &name, "true"]),
        ]));
        said(docker().args(["rm", "--force", &name]));
    }
    // Past the test runner, which keeps what passing tests print.
    let _ = writeln!(
        std::io::stderr(),
        "measured: up + enter {} ms, docker run -d + docker exec {} ms (medians of {ROUNDS})",
        median(&mut ours).as_millis(),
        median(&mut theirs).as_millis()
    );
}

fn timed(commands: &mut [&mut Command]) -> Duration {
    let start = Instant::now();
    for command in commands {
        said(command);
    }
    start.elapsed()
}

fn median(samples: &mut [Duration]) -> Duration {
    samples.sort_unstable();
    samples.get(samples.len() / 2).copied().unwrap_or_default()
}
