//! A login to Infisical from the host into the container's vault, and what the engine keeps of it.

use super::fixture::{Host, PASSPHRASE};
use harness::engine::{Engine, said};
use harness::infisical::{CLIENT_ID, CLIENT_SECRET, PROJECT_ID, Server};
use std::fs;
use std::process::Command;

/// What the secret is; no other test has it.
const VALUE: &str = "value-canary-2e90";
/// How every token of the test server ends.
const TOKEN: &str = "token-canary-";

/// The files in which the engine keeps images' layers, containers' files, configurations and logs, as far as they
/// hold a text.
fn kept_by_the_engine(text: &str) -> Vec<String> {
    let engine = Engine::shared();
    let mut grep = Command::new("grep");
    grep.args([
        "--recursive",
        "--files-with-matches",
        "--text",
        "--fixed-strings",
        "--devices=skip",
    ]);
    grep.args(["--regexp", text]).arg(engine.data()).arg(engine.run());
    let output = grep.output().unwrap();
    // 2 says that a file went away meanwhile: other tests' containers do.
    assert!(matches!(output.status.code(), Some(0..=2)), "{output:?}");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn login_in_the_container_reaches_its_vault_and_nothing_that_the_engine_keeps() {
    // What the search must find: a file that a later layer of an image took away.
    let planted = format!("planted-canary-{}", std::process::id());
    let folder = tempfile::tempdir().unwrap();
    let recipe = format!(
        "FROM {}\nRUN echo {planted} > /planted\nRUN rm /planted\n",
        super::fixture::base()
    );
    fs::write(folder.path().join("Dockerfile"), recipe).unwrap();
    said(Engine::shared().docker().args(["build", "--tag", "planted"]).arg(folder.path()));
    let found = kept_by_the_engine(&planted);
    assert!(found.iter().any(|path| path.ends_with("/planted")), "a layer is not found: {found:?}");
    said(Engine::shared().docker().args(["rmi", "planted"]));

    let server = Server::start();
    server.world().set("dev", "/", "A", VALUE);
    let host = Host::new();
    host.write("Lab 1/passphrase", PASSPHRASE);
    host.write("Lab 1/client-secret", CLIENT_SECRET);
    host.write(
        "Lab 1/secrets.yml",
        &format!(
            "config: {{project: {PROJECT_ID}, url: '{}'}}\nsecrets: [{{name: A, file: a, env: A, value_in_env: true}}]\n",
            server.url
        ),
    );
    host.says(&["up"]);
    let by_passphrase = ["--passphrase-file", "passphrase"];
    let new = ["--kdf-memory", "64M", "--kdf-time", "1"];
    let made = host.tazpod(&[&["unlock"], &by_passphrase[..], &new, &["--", "true"]].concat());
    assert!(made.status.success(), "{made:?}");
    let login = ["login", "--client-id", CLIENT_ID, "--client-secret-file", "client-secret"];
    let output = host.tazpod(&[&login, &by_passphrase[..]].concat());
    let words = format!("{output:?}");
    assert!(output.status.success() && words.contains("as deployer (universal auth)"), "{words}");
    assert!(!words.contains(CLIENT_SECRET) && !words.contains(TOKEN), "{words}");

    // In the ghost all of it is there; while it is open the engine has nothing of it, nor afterwards.
    let line = "printf '%s ' \"$A\"; cat ~/secrets/a; grep -c token-canary ~/.infisical/tazpod-sessions.json; \
                touch ready; while [ -e ready ]; do sleep 0.1; done";
    let mut pull = host.command("tazpod");
    pull.args([&["pull"], &by_passphrase[..], &["--", "sh", "-c", line]].concat());
    let child = pull.stdout(std::process::Stdio::piped()).spawn().unwrap();
    super::fixture::wait_until("the ghost is open", || host.path("Lab 1/ready").exists());
    let while_open: Vec<_> =
        [VALUE, TOKEN, CLIENT_SECRET].into_iter().flat_map(kept_by_the_engine).collect();
    fs::remove_file(host.path("Lab 1/ready")).unwrap();
    let seen = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&seen.stdout), format!("{VALUE} {VALUE}1\n"));
    assert_eq!(while_open, [""; 0]);
    let container = host.name();
    host.docker(&["commit", &container, "after-login"]);
    for secret in [VALUE, TOKEN, CLIENT_SECRET, PASSPHRASE] {
        assert_eq!(kept_by_the_engine(secret), [""; 0]);
    }
    host.docker(&["rmi", "after-login"]);
    let output = host.tazpod(&[&["logout"], &by_passphrase[..]].concat());
    assert!(output.status.success(), "{output:?}");
    assert_eq!(server.world().live_tokens(), 0);
}
