//! Projects whose folder is removed or replaced while their container runs.

use super::fixture::{Host, settings};
use std::fs;

#[test]
fn a_folder_that_was_replaced_is_told_before_anything_is_done_in_the_old_one() {
    let host = Host::new();
    host.says(&["up"]);
    // Moved away, so that what is done in it would work; then gone.
    for leave in [true, false] {
        if leave {
            fs::rename(host.project(), host.path("old")).unwrap();
        } else {
            fs::remove_dir_all(host.project()).unwrap();
        }
        assert!(!host.project().exists());
        for name in ["Lab 1", "Lab 1/.tazpod"] {
            fs::create_dir(host.path(name)).unwrap();
            std::os::unix::fs::chown(host.path(name), Some(1000), Some(1000)).unwrap();
        }
        host.configure(&settings());
        for words in [&["up"][..], &["enter", "--", "true"], &["pull", "--offline"]] {
            let complaint = host.complains(words, 69);
            assert!(complaint.contains("replaced"), "{words:?}: {complaint}");
            assert!(complaint.contains("up --recreate"), "{words:?}: {complaint}");
        }
        let doctor = host.tazpod(&["doctor"]);
        let text = String::from_utf8_lossy(&doctor.stdout);
        assert!(text.contains("MISSING  folder"), "{text}");
        host.says(&["up", "--recreate"]);
        host.write("Lab 1/which", "the new one");
        assert_eq!(host.says(&["enter", "--", "cat", "which"]), "the new one");
    }
    assert!(!host.path("old/.tazpod/vault").exists());

    // Stopped and started it has the folder that is there, whatever it was made with.
    fs::rename(host.project(), host.path("older")).unwrap();
    fs::create_dir(host.project()).unwrap();
    host.write("Lab 1/which", "a third");
    host.configure(&settings());
    for folder in ["Lab 1", "Lab 1/.tazpod"] {
        std::os::unix::fs::chown(host.path(folder), Some(1000), Some(1000)).unwrap();
    }
    host.docker(&["stop", "--time", "0", &host.name()]);
    assert!(host.says(&["up"]).starts_with("started"));
    assert_eq!(host.says(&["enter", "--", "cat", "which"]), "a third");
}

#[test]
fn a_project_that_is_gone_is_told_with_the_way_to_remove_its_container() {
    let host = Host::new();
    let other = host.configure_other();
    host.says(&["up"]);
    host.says(&["-C", "../other", "up"]);
    fs::remove_dir_all(host.path("other")).unwrap();
    let json = host.says(&["status", "--all", "--json"]);
    let all: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
    for (name, gone) in [(host.name(), false), (other.clone(), true)] {
        let one = all.iter().find(|one| one["name"] == name.as_str()).unwrap();
        assert_eq!(one["project_gone"], gone, "{one}");
    }
    let text = host.says(&["status", "--all"]);
    assert!(text.contains(&format!("docker rm --force {other}")), "{text}");
    assert!(!text.contains(&format!("docker rm --force {}", host.name())), "{text}");
}
