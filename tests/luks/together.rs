//! Several vaults at once, and both backends on one machine.

use crate::by_hand::image;
use crate::ghost::{Project, finish, kill};
use std::fs;

#[test]
fn two_vaults_and_a_copy_of_one_are_open_at_once() {
    let (first, second) = (Project::with_vault(), Project::with_vault());
    // The copy has the first one's UUID.
    let copy = Project::new();
    fs::create_dir_all(image(&copy).parent().unwrap()).unwrap();
    fs::copy(image(&first), image(&copy)).unwrap();
    let open = [&first, &second, &copy].map(|project| project.start("sleep 100"));
    for project in [&first, &second, &copy] {
        assert_eq!(project.devices().len(), 2);
    }
    for (project, child) in [&first, &second, &copy].into_iter().zip(open) {
        kill(i32::try_from(child.id()).unwrap(), "TERM");
        assert_eq!(finish(child).status.code(), Some(143));
        project.assert_nothing_left();
    }
    for project in [&first, &second, &copy] {
        project.assert_vault_whole();
    }
}

#[test]
fn backend_is_chosen_by_word_configuration_image_and_machine() {
    let project = Project::new();
    let pass = project.path().join("pass");
    let pull = |arguments: &[&str]| {
        let mut command = project.tazpod(&["pull", "--kdf-memory", "64M", "--passphrase-file"]);
        command.arg(&pass).args(arguments).args(["--", "true"]);
        finish(command.spawn().unwrap())
    };
    // Nothing was chosen, and LUKS works here.
    assert!(pull(&[]).status.success());
    assert!(fs::read(image(&project)).unwrap().starts_with(b"LUKS\xba\xbe"));
    let mismatch = pull(&["--backend", "fuse"]);
    assert_eq!(mismatch.status.code(), Some(64), "{mismatch:?}");
    assert!(String::from_utf8_lossy(&mismatch.stderr).contains("for a fuse vault beside it"));
    // The configuration is about new vaults; this one is what it is.
    let config = project.path().join("project/.tazpod/config.yaml");
    fs::write(config, "vault:\n  backend: fuse\n").unwrap();
    assert!(pull(&[]).status.success());
    // It cannot be opened without root, and says what is missing.
    let rootless = pull(&["--rootless"]);
    assert_eq!(rootless.status.code(), Some(69), "{rootless:?}");
    assert!(String::from_utf8_lossy(&rootless.stderr).contains("missing: the right to mount"));
    fs::remove_file(image(&project)).unwrap();
    assert!(pull(&[]).status.success());
    assert!(!fs::read(image(&project)).unwrap().starts_with(b"LUKS"));
    assert_eq!(pull(&["--backend", "luks"]).status.code(), Some(64));
    project.assert_nothing_left();
}
