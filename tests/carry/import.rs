//! An import happens whole or not at all, and replaces nothing unless told.

use crate::vault::{Place, assert_ok, said};
use std::io::Write;
use std::process::Stdio;

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

/// Killed in the middle, with the content on its way: the vault holds what it held before, and the
/// next import removes the remains.
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
        let seen = names(&place, "v");
        let seen: Vec<_> =
            seen.split(' ').filter(|name| !name.starts_with("./.tazpod-import")).collect();
        assert_eq!(seen, ["./", "./folder/", "./folder/a", "./top", ""]);
    }
    assert_ok(&place.vault_verb("v", "import", &["-q", "big"]));
    assert_eq!(names(&place, "v"), "./ ./after ./folder/ ./folder/a ./noise ./top ");
    assert_ok(&place.vault_verb("v", "check", &[]));
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
