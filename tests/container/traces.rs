//! What Docker itself keeps of a container in which a ghost is open: nothing of the vault.

use crate::attacks::victim::{Start, ours};
use crate::lab::{Lab, seccomp};
use harness::engine::Container;
use harness::stage::OWNER;

const WAYS: [&str; 5] = ["inspect", "logs", "export", "commit", "cp"];

/// The ways by which Docker gives the token away.
fn leaks(container: &Container<'_>, token: &str) -> Vec<&'static str> {
    WAYS.into_iter().filter(|way| leaks_by(container, way, token)).collect()
}

fn leaks_by(container: &Container<'_>, way: &str, token: &str) -> bool {
    let name = &container.name;
    let produce = match way {
        "commit" => {
            format!("docker commit {name} {name}-kept >/dev/null && docker save {name}-kept")
        }
        "cp" => format!("docker cp {name}:{} -", OWNER.secrets().display()),
        _ => format!("docker {way} {name} 2>&1"),
    };
    let mut search = container.engine().with_client("sh");
    let line = format!("({produce}) | grep --count --text --fixed-strings -e {token}");
    search.args(["-c", &line]);
    let output = search.output().unwrap();
    let count: u32 = String::from_utf8_lossy(&output.stdout).trim().parse().unwrap();
    count > 0
}

#[test]
fn docker_keeps_nothing_of_an_open_vault() {
    let canary = "canary-4711";
    let careless = Lab::start(&[seccomp(), format!("--env=SECRET={canary}")]);
    let file = OWNER.secrets().join("file");
    careless
        .container
        .prepare(&format!("echo {canary} >{}; echo {canary} >/proc/1/fd/1", file.display()));
    assert_eq!(leaks(&careless.container, canary), WAYS, "this test cannot see a leak");

    let lab = Lab::usual();
    let ghost = ours(&lab, Start::Sudo);
    assert_eq!(leaks(&lab.container, &ghost.token), [""; 0]);
    let token = ghost.token.clone();
    assert!(ghost.end().success());
    assert_eq!(leaks(&lab.container, &token), [""; 0]);
}
