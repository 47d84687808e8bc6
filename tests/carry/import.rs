//! An import happens whole or not at all, and replaces nothing unless told.

use crate::vault::{Place, assert_ok, said};
use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

fn names(place: &Place, vault: &str) -> String {
    let export = place.vault_verb(vault, "export", &["-"]);
    assert_ok(&export);
    std::fs::write(place.path("names.tar"), &export.stdout).unwrap();
    place.sh("tar -tf names.tar | sort | tr '\\n' ' '")
}

fn content(place: &Place, vault: &str, path: &str) -> String {
    let export = place.vault_verb(vault, "export", &["-"]);
    assert_ok(&export);
    std::fs::write(place.path("content.tar"), &export.stdout).unwrap();
    place.sh(&format!("tar -xOf content.tar {path}"))
}

fn started() -> Place {
    let place = Place::new();
    place.vault("v");
    place.sh("mkdir -p one/folder && echo first > one/folder/a && echo first > one/top");
    assert_ok(&place.vault_verb("v", "import", &["one"]));
    place
}

#[test]
fn folders_are_joined_and_files_are_never_replaced_unless_told() {
    let place = started();
    place.sh("mkdir -p two/folder/new && echo second > two/folder/b && echo n > two/folder/new/c");
    assert_ok(&place.vault_verb("v", "import", &["two"]));
    let all = "./ ./folder/ ./folder/a ./folder/b ./folder/new/ ./folder/new/c ./top ";
    assert_eq!(names(&place, "v"), all);

    place.sh("mkdir -p three/folder && echo third > three/folder/a && echo x > three/extra");
    let refused = place.vault_verb("v", "import", &["three"]);
    assert_eq!(refused.status.code(), Some(64), "{}", said(&refused));
    assert!(said(&refused).contains("'folder/a' is in the vault already"), "{}", said(&refused));
    assert_eq!(names(&place, "v"), all, "a refused import left something");
    assert_eq!(content(&place, "v", "./folder/a"), "first\n");

    assert_ok(&place.vault_verb("v", "import", &["--overwrite", "three"]));
    assert_eq!(content(&place, "v", "./folder/a"), "third\n");
    assert_eq!(content(&place, "v", "./folder/b"), "second\n");
}

#[test]
fn folder_and_file_never_replace_each_other() {
    let place = started();
    place.sh("mkdir -p a/top/inner b && echo x > b/folder && mkdir -p c/top && echo x > c/top/x");
    for source in ["a", "b", "c"] {
        let refused = place.vault_verb("v", "import", &["--overwrite", source]);
        assert_eq!(refused.status.code(), Some(64), "{}", said(&refused));
        assert!(said(&refused).contains("folder on one side only"), "{}", said(&refused));
        assert_eq!(names(&place, "v"), "./ ./folder/ ./folder/a ./top ");
    }
}

/// Killed in the middle, with the content on its way: the vault holds what it held before, and nothing of what was
/// gathered is seen.
#[test]
fn killed_import_leaves_the_vault_as_it_was() {
    let place = started();
    place.sh("mkdir big && head -c 60000000 /dev/urandom > big/noise && echo x > big/after");
    place.sh("tar -C big -cf big.tar ./noise ./after");
    let archive = std::fs::read(place.path("big.tar")).unwrap();
    for share in [1, 3, 9, 10] {
        let mut import = place.command("v", "import", &["-"]);
        let mut import = import.stdin(Stdio::piped()).spawn().unwrap();
        let mut input = import.stdin.take().unwrap();
        // The pipe is small: once this much went in, it was read.
        input.write_all(&archive[..archive.len() / 10 * share]).unwrap();
        import.kill().unwrap();
        import.wait().unwrap();
        drop(input);
        assert_eq!(names(&place, "v"), "./ ./folder/ ./folder/a ./top ");
    }
    assert_ok(&place.vault_verb("v", "import", &["-q", "big"]));
    assert_eq!(names(&place, "v"), "./ ./after ./folder/ ./folder/a ./noise ./top ");
    assert_ok(&place.vault_verb("v", "check", &[]));
}

/// Interrupted at any moment: who is told that nothing was imported finds nothing of it, and who is told that it was, all.
#[test]
fn interrupted_import_says_what_is_true() {
    let place = started();
    place.sh("mkdir -p many/folder && cd many/folder && seq 3000 | xargs -n 300 touch");
    assert_ok(&place.backup("v", "before"));
    let (mut given_up, mut done) = (0, 0);
    let mut delay = Duration::from_millis(20);
    for _ in 0..40 {
        // With what this machine has seen of the vault forgotten.
        place.sh("rm -rf again home && mkdir home && cp before again");
        let mut import = place.command("again", "import", &["many"]);
        import.stdout(Stdio::piped()).stderr(Stdio::piped());
        let import = import.spawn().unwrap();
        std::thread::sleep(delay);
        place.sh(&format!("kill -INT {} || true", import.id()));
        let ended = import.wait_with_output().unwrap();
        let count = names(&place, "again").matches("./folder/").count();
        if said(&ended).contains("nothing was imported") {
            assert_eq!((count, ended.status.code()), (2, Some(130)), "{delay:?}");
            given_up += 1;
            delay += Duration::from_millis(7);
        } else if said(&ended).contains("imported 300") {
            assert_eq!((count, ended.status.code()), (3002, Some(0)), "{delay:?}");
            done += 1;
            delay = delay.saturating_sub(Duration::from_millis(11));
        } else {
            // Before the work began.
            assert_eq!(count, 2, "{delay:?}: {}", said(&ended));
            delay += Duration::from_millis(20);
        }
    }
    assert!(given_up > 3 && done > 3, "{given_up} {done}");
}

#[test]
fn import_that_does_not_fit_leaves_the_vault_as_it_was() {
    let place = Place::new();
    let made = place.vault_verb(
        "v",
        "create",
        &["--kdf-memory", "64M", "--kdf-time", "1", "--size", "16M"],
    );
    assert_ok(&made);
    place.sh("mkdir big && echo small > big/a && head -c 40000000 /dev/urandom > big/noise");
    let refused = place.vault_verb("v", "import", &["big"]);
    assert_eq!(refused.status.code(), Some(69), "{}", said(&refused));
    assert!(said(&refused).contains("no room"), "{}", said(&refused));
    assert_eq!(names(&place, "v"), "./ ");
    assert_ok(&place.vault_verb("v", "check", &[]));
}
