//! Where the image comes from.

use super::fixture::{Host, dockerfile};
use harness::binary::tazpod;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Stdio;

fn with_build(host: &Host) -> String {
    let image = format!("built-{}", host.name()).to_lowercase();
    fs::copy(tazpod(), host.project().join("tazpod")).unwrap();
    host.write("Lab 1/.tazpod/Dockerfile", &format!("{}COPY . /context\n", dockerfile()));
    host.write("Lab 1/.dockerignore", "*.log\n");
    host.write("Lab 1/noise.log", "no");
    host.write("Lab 1/kept", "yes");
    host.write("Lab 1/.tazpod/vault/vault.img", "not a vault");
    host.configure(&format!(
        "image: {image}\nbuild:\n  dockerfile: .tazpod/Dockerfile\nvault:\n  backend: fuse\n  path: elsewhere.img\n"
    ));
    image
}

#[test]
fn up_builds_what_the_project_describes_and_the_vault_stays_out() {
    let host = Host::without_image();
    let image = with_build(&host);
    let output = host.tazpod(&["up"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("Building ") && said.contains("Step 1/"), "{said}");
    let found = host.says(&["enter", "--", "sh", "-c", "cd /context; find . -type f | sort"]);
    assert_eq!(
        found,
        "./.dockerignore\n./.tazpod/Dockerfile\n./.tazpod/config.yaml\n./kept\n./tazpod\n"
    );
    // Another time nothing is built unless asked for.
    assert!(!host.complains(&["up"], 0).contains("Step"));
    host.write("Lab 1/kept", "changed");
    let again = host.complains(&["up", "--build"], 0);
    assert!(again.contains("Step 1/") && again.contains(&format!("{image} is newer")), "{again}");
    host.says(&["up", "--recreate"]);
    assert_eq!(host.says(&["enter", "--", "cat", "/context/kept"]), "changed");
    host.says(&["down"]);
    host.docker(&["rmi", &image]);
}

#[test]
fn a_build_that_fails_says_why_even_to_those_who_wanted_quiet() {
    let host = Host::without_image();
    with_build(&host);
    host.write(
        "Lab 1/.tazpod/Dockerfile",
        &format!("FROM {}\nRUN echo the-reason && exit 3\n", super::fixture::base()),
    );
    let complaint = host.complains(&["--quiet", "up"], 69);
    assert!(
        complaint.contains("could not be built") && complaint.contains("the-reason"),
        "{complaint}"
    );
    host.write("Lab 1/.tazpod/Dockerfile", "FORM nothing\n");
    assert!(host.complains(&["up"], 69).contains("FORM"));
    fs::remove_file(host.project().join(".tazpod/Dockerfile")).unwrap();
    assert!(host.complains(&["up"], 78).contains("no Dockerfile at"));
    assert_eq!(host.inspect(&host.name(), "{{.Id}}"), "");
}

#[test]
fn an_image_that_cannot_be_had_is_said_with_the_way_to_it() {
    let host = Host::without_image();
    host.configure("image: tazpod:no-such\nvault:\n  backend: fuse\n");
    let complaint = host.complains(&["up"], 69);
    assert!(
        complaint.contains("not on this machine")
            && complaint.contains("tazpod image build no-such"),
        "{complaint}"
    );
    // A registry at a port where nobody listens.
    host.configure("image: localhost:1/team/app:1\nvault:\n  backend: fuse\n");
    let complaint = host.complains(&["up"], 69);
    assert!(
        complaint.contains("could not be pulled") && complaint.contains("connection refused"),
        "{complaint}"
    );
    assert!(host.complains(&["up", "--build"], 78).contains("does not say how to build"));
    host.configure(&format!(
        "image: {}\nuser: nobody-here\nvault:\n  backend: fuse\n",
        super::fixture::base()
    ));
    let complaint = host.complains(&["up"], 69);
    assert!(complaint.contains("the image has no user 'nobody-here'"), "{complaint}");
    assert_eq!(host.inspect(&host.name(), "{{.Id}}"), "");
}

#[test]
fn ctrl_c_during_a_build_leaves_nothing_half_done() {
    let host = Host::without_image();
    let image = with_build(&host);
    host.write(
        "Lab 1/.tazpod/Dockerfile",
        &format!("FROM {}\nRUN echo beg''in; sleep 1000\n", super::fixture::base()),
    );
    let mut command = host.command("tazpod");
    // A group of its own, as a terminal's foreground is.
    let mut child = command.arg("up").process_group(0).stderr(Stdio::piped()).spawn().unwrap();
    let stderr = child.stderr.take().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(stderr));
    assert!(lines.any(|line| line.unwrap() == "begin"));
    let killed = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    assert!(!child.wait().unwrap().success());
    assert_eq!(host.inspect(&host.name(), "{{.Id}}"), "");
    assert_eq!(host.inspect(&image, "{{.Id}}"), "");
    // And the engine has given the build up.
    super::fixture::wait_until("the build has ended", || {
        !host
            .docker(&[
                "ps",
                "--quiet",
                "--no-trunc",
                "--filter",
                "status=running",
                "--format",
                "{{.Command}}",
            ])
            .contains("sleep 1000")
    });
}
