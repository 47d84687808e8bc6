//! Engines that are not there, not allowed, or not on this machine.

use super::fixture::Host;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;

#[test]
fn an_engine_that_is_down_or_closed_is_said_and_pull_stays_on_the_host() {
    let host = Host::new();
    let dead = host.path("dead.sock");
    drop(UnixListener::bind(&dead).unwrap());
    let closed = host.path("closed.sock");
    let _listening = UnixListener::bind(&closed).unwrap();
    chown(&closed, Some(0), Some(0)).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(&dead, fs::Permissions::from_mode(0o666)).unwrap();
    for (socket, message, hint) in [
        (&dead, "does not listen", "start it"),
        (&closed, "you may not use", "docker"),
        (&host.path("absent.sock"), "does not listen", "start it"),
    ] {
        for verb in ["up", "enter", "down", "logs"] {
            let output = host
                .command("tazpod")
                .arg(verb)
                .env("DOCKER_HOST", format!("unix://{}", socket.display()))
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(69), "{text}");
            assert!(text.contains(message) && text.contains(hint), "{verb}: {text}");
        }
        let lock = host
            .command("tazpod")
            .arg("lock")
            .env("DOCKER_HOST", format!("unix://{}", socket.display()))
            .output()
            .unwrap();
        assert!(lock.status.success(), "{lock:?}");
        assert!(String::from_utf8_lossy(&lock.stderr).contains("No ghost"), "{lock:?}");
    }
}

#[test]
fn an_engine_elsewhere_is_refused_with_the_way_out() {
    let host = Host::new();
    for (name, value) in
        [("DOCKER_HOST", "ssh://me@server"), ("DOCKER_HOST", "tcp://192.0.2.1:2376")]
    {
        let output = host.command("tazpod").arg("up").env(name, value).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(69), "{text}");
        assert!(
            text.contains("not on this machine") && text.contains("unset DOCKER_HOST"),
            "{text}"
        );
    }
}

#[test]
fn up_is_for_projects_that_were_set_up() {
    let host = Host::new();
    fs::remove_file(host.project().join(".tazpod/config.yaml")).unwrap();
    assert!(host.complains(&["up"], 64).contains("tazpod init"));
    host.configure("image: 'a b'\n");
    assert!(host.complains(&["up"], 78).contains("config.yaml:2:8: image: invalid value"));
}
