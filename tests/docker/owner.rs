//! Projects of people whose uid is not the one that images are made for.

use super::fixture::{Host, PASSPHRASE, image};
use harness::engine::{Engine, said};
use std::fs;
use std::os::unix::fs::MetadataExt;

const OTHER: u32 = 4711;

/// What the user in the container is, and may do.
const LOOK: &str = "id -u; id -g; id -gn; stat -c '%u:%g' ~ ~/.local ~/secrets; touch /workspace/made; find ~ -xdev -user 1000";

#[test]
fn the_user_in_the_container_has_the_uid_of_the_projects_owner() {
    let host = Host::of(OTHER);
    host.write("Lab 1/.gemini/memory.md", "remembered");
    let made = host.complains(&["up"], 0);
    assert!(made.contains("'tazpod' in it has the uid 4711"), "{made}");
    let ids = "4711\n4711\ntazpod\n4711:4711\n4711:4711\n4711:4711\n";
    assert_eq!(host.says(&["enter", "--", "sh", "-c", LOOK]), ids);
    assert_eq!(fs::metadata(host.project().join("made")).unwrap().uid(), OTHER);

    // A vault is made and opened there, and what the program keeps outside is the person's own.
    host.write("Lab 1/pass", PASSPHRASE);
    let pull = ["pull", "--offline", "--passphrase-file", "pass", "--"];
    let write = [&pull[..], &["sh", "-c", "echo kept >~/secrets/note"]].concat();
    host.says(&write);
    assert_eq!(host.says(&[&pull[..], &["sh", "-c", "cat ~/secrets/note"]].concat()), "kept\n");
    assert!(host.says(&["status"]).contains("no ghost is open"));
    let vault = fs::metadata(host.project().join(".tazpod/vault/vault.img")).unwrap();
    assert_eq!((vault.uid(), vault.gid()), (OTHER, OTHER));
    let doctor = host.tazpod(&["doctor"]);
    assert!(!String::from_utf8_lossy(&doctor.stdout).contains("MISSING"), "{doctor:?}");

    // Nothing of it is done twice, and it survives a stop.
    assert_eq!(host.complains(&["up"], 0), "");
    host.docker(&["stop", "--time", "0", &host.name()]);
    assert_eq!(host.complains(&["up"], 0), "");
    assert_eq!(host.says(&["enter", "--", "sh", "-c", LOOK]), ids);
    assert!(host.says(&["down"]).starts_with("removed"));
}

#[test]
fn an_up_that_was_interrupted_before_the_user_had_its_uid_is_completed_by_the_next() {
    let host = Host::of(OTHER);
    host.says(&["up"]);
    // As if it had ended in the middle: the database of users comes last.
    let undo = "sed -i s/^tazpod:x:4711:4711:/tazpod:x:1000:1000:/ /etc/passwd && sed -i s/^tazpod:x:4711:/tazpod:x:1000:/ /etc/group && chown 1000:1000 /home/tazpod/.local";
    host.docker(&["exec", "--user", "root", &host.name(), "sh", "-c", undo]);
    assert!(host.complains(&["enter", "--", "tazpod", "status"], 64).contains("uid 4711"));
    assert!(host.complains(&["up"], 0).contains("has the uid 4711"));
    assert_eq!(host.says(&["enter", "--", "sh", "-c", "id -u; find ~ -xdev -user 1000"]), "4711\n");
}

#[test]
fn a_uid_that_somebody_has_in_the_image_is_told_and_a_group_of_it_is_not_joined() {
    let host = Host::of(OTHER);
    let folder = host.path("taken");
    fs::create_dir(&folder).unwrap();
    let tag = format!("taken-{}", host.name()).to_lowercase();
    let build = |line: &str| {
        let text = format!("FROM {}\nUSER root\nRUN {line}\nUSER tazpod\n", image());
        fs::write(folder.join("Dockerfile"), text).unwrap();
        said(
            Engine::shared()
                .docker()
                .args(["build", "--network", "host", "--tag", &tag])
                .arg(&folder),
        );
        host.configure(&format!("image: {tag}\nvault:\n  backend: fuse\n"));
    };
    build("useradd --uid 4711 somebody");
    let told = host.complains(&["up"], 0);
    assert!(told.contains("cannot be given the uid 4711") && told.contains("'somebody'"), "{told}");
    host.says(&["down", "--force"]);
    build("groupadd --gid 4711 wheel");
    host.says(&["up"]);
    let ids = host.says(&["enter", "--", "sh", "-c", "id -u; id -gn"]);
    assert_eq!(ids, "4711\ntazpod\n");
    host.says(&["down"]);
    host.docker(&["rmi", &tag]);
}

#[test]
fn a_project_of_root_is_told_the_way_that_works() {
    let host = Host::of(0);
    let told = host.complains(&["up"], 0);
    assert!(told.contains("belongs to root") && told.contains("'user: root'"), "{told}");
    let doctor = host.tazpod(&["doctor"]);
    assert_eq!(doctor.status.code(), Some(69), "{doctor:?}");
    host.configure(&format!("{}user: root\n", super::fixture::settings()));
    assert_eq!(host.complains(&["up", "--recreate"], 0), "");
    host.write("Lab 1/pass", PASSPHRASE);
    fs::set_permissions(
        host.project().join("pass"),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    let pull = ["pull", "--offline", "--passphrase-file", "pass", "--", "id", "-u"];
    assert_eq!(host.says(&pull), "0\n");
}
