//! Builds on an engine whose disk becomes full.

use super::fixture::{Host, base};
use super::registry::small;
use harness::engine::{Engine, said};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::{Output, Stdio};

/// How much room the engine has, and more than that.
const ROOM: &str = "48m";
const TOO_MUCH: u64 = 64 << 20;

/// An engine with little room and one small image.
fn engine(host: &Host) -> Engine {
    let folder = host.path("small");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("Dockerfile"), small(base())).unwrap();
    fs::write(folder.join("file"), "").unwrap();
    let words = ["build", "--network", "host", "--tag", "small"];
    said(Engine::shared().docker().args(words).arg(&folder));
    let engine = Engine::with_room(ROOM);
    fs::set_permissions(engine.socket(), Permissions::from_mode(0o666)).unwrap();
    let mut saved = Engine::shared().docker();
    let mut saved = saved.args(["save", "small"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut load = engine.docker();
    said(load.arg("load").stdin(saved.stdout.take().unwrap()));
    assert!(saved.wait().unwrap().success());
    engine
}

#[test]
fn a_disk_that_is_full_while_an_image_is_built_is_told_and_nothing_of_it_is_left() {
    let host = Host::without_image();
    let engine = engine(&host);
    let up = |words: &[&str]| -> Output {
        let mut tazpod = host.command("tazpod");
        tazpod.env("DOCKER_HOST", engine.host()).args(words).output().unwrap()
    };
    let listed = |words: &[&str]| said(engine.docker().args(words));
    let dockerfile = |rest: &str| host.write("Lab 1/Dockerfile", &format!("FROM small\n{rest}\n"));
    host.configure(
        "image: built\nbuild:\n  dockerfile: Dockerfile\nfeatures:\n  ghost_mode: false\n",
    );
    let before = listed(&["images", "--all", "--quiet"]);
    let big = host.project().join("big");
    for (rest, context) in [
        // In a program of the build, in the layer that one left, and while the context arrives.
        ("RUN cat /dev/zero >/big", 0),
        ("RUN cat /dev/zero >/big || true", 0),
        ("COPY big /big", TOO_MUCH),
    ] {
        dockerfile(rest);
        File::create(&big).unwrap().set_len(context).unwrap();
        let output = up(&["up"]);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(69), "{rest}: {text}");
        for part in [
            "the image built could not be built",
            "o space left on device",
            "the engine's disk is full",
        ] {
            assert!(text.contains(part), "{rest}: {part:?} in {text}");
        }
        // The engine colours what programs complain about, and tells it in pieces.
        assert!(!text.contains("1b"), "{rest}: {text}");
        assert_eq!(listed(&["ps", "--all", "--quiet"]), "", "{rest}");
        assert_eq!(listed(&["images", "--all", "--quiet"]), before, "{rest}");
    }
    fs::remove_file(&big).unwrap();
    dockerfile("RUN : >/small");
    let made = up(&["up"]);
    assert!(made.status.success(), "{made:?}");
    assert!(up(&["down"]).status.success());
}
