//! What goes into a vault comes out again, and other programs understand it.

use crate::vault::{Place, assert_ok, said};
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

fn compare(expected: &[String], actual: &[String]) {
    for line in expected {
        assert!(actual.contains(line), "lost or changed: {line}\nhave: {actual:#?}");
    }
    assert_eq!(expected.len(), actual.len());
}

/// Modes, owners, times, attributes, lists, links and holes: a folder goes in, and GNU tar and bsdtar
/// both unpack the very same tree.
#[test]
fn furnished_folder_survives_the_vault_for_gnu_tar_and_bsdtar() {
    let place = Place::new();
    let folder = place.furnished("in");
    let expected = place.manifest(&folder);
    assert!(expected.len() > 30);
    place.vault("v");
    assert_ok(&place.vault_verb("v", "import", &["--keep-owners", "in"]));
    let unpacked = place.unpacked("v", "gnu");
    compare(&expected, &place.manifest(&unpacked));
    place.folder("bsd");
    place.sh("bsdtar -C bsd --xattrs --acls --numeric-owner -pxf gnu.tar");
    compare(&expected, &place.manifest(&place.path("bsd")));
    for name in ["in", "gnu", "bsd"] {
        let used: u64 = place.sh(&format!("du -sk {name} | cut -f1")).trim().parse().unwrap();
        assert!(used < 20_000, "{name} has lost its holes: {used} KiB");
    }
}

/// A vault that was exported and imported again exports the same archive.
#[test]
fn imported_archive_exports_as_the_same_archive() {
    let place = Place::new();
    place.furnished("in");
    place.vault("one");
    place.vault("two");
    assert_ok(&place.vault_verb("one", "import", &["--keep-owners", "in"]));
    let unpacked = place.unpacked("one", "first");
    let into = place.vault_verb("two", "import", &["--keep-owners", "first.tar"]);
    assert_ok(&into);
    assert!(said(&into).contains("imported"), "{}", said(&into));
    compare(&place.manifest(&unpacked), &place.manifest(&place.unpacked("two", "second")));
}

/// The formats that people have lying about.
#[test]
fn archives_of_other_programs_are_understood() {
    let place = Place::new();
    place.furnished("in");
    let expected = place.manifest(Path::new("in"));
    place.sh("tar -C in --format=posix --xattrs --acls --numeric-owner -S -cf posix.tar .");
    place.sh("tar -C in --format=gnu -S -cf gnu.tar .");
    place.sh("bsdtar -C in --format=pax --xattrs --acls --numeric-owner -cf bsd.tar .");
    for format in ["posix", "bsd"] {
        place.vault(format);
        let archive = format!("{format}.tar");
        assert_ok(&place.vault_verb(format, "import", &["--keep-owners", &archive]));
        let unpacked = place.unpacked(format, &format!("from-{format}"));
        compare(&expected, &place.manifest(&unpacked));
    }
    // GNU's own format knows whole seconds and no attributes.
    place.vault("gnu");
    assert_ok(&place.vault_verb("gnu", "import", &["--keep-owners", "gnu.tar"]));
    let unpacked = place.unpacked("gnu", "from-gnu");
    let kept = |(at, field): &(usize, &str)| {
        *at != 3 && !field.starts_with("user.") && !field.starts_with("system.")
    };
    let coarse = |line: &String| {
        let fields = line.split(' ').enumerate().filter(kept).map(|(_, field)| field);
        fields.collect::<Vec<_>>().join(" ")
    };
    let (left, right) = (expected, place.manifest(&unpacked));
    let left: Vec<_> = left.iter().map(coarse).collect();
    compare(&left, &right.iter().map(coarse).collect::<Vec<_>>());
}

/// `vault export - | vault import -`: nothing touches the disk in between.
#[test]
fn vault_is_copied_through_a_pipe() {
    let place = Place::new();
    place.furnished("in");
    place.vault("one");
    place.vault("two");
    assert_ok(&place.vault_verb("one", "import", &["in"]));
    let exported = place.vault_verb("one", "export", &["-"]);
    assert_ok(&exported);
    let mut import = place.command("two", "import", &["-"]);
    let mut import = import.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    import.stdin.take().unwrap().write_all(&exported.stdout).unwrap();
    assert_ok(&import.wait_with_output().unwrap());
    let one = place.manifest(&place.unpacked("one", "out-one"));
    compare(&one, &place.manifest(&place.unpacked("two", "out-two")));
}

/// Without --keep-owners all belongs to who imports, and set-user-id is gone with the owner.
#[test]
fn files_belong_to_the_importer_unless_owners_are_kept() {
    let place = Place::new();
    place.furnished("in");
    place.vault("v");
    assert_ok(&place.vault_verb("v", "import", &["in"]));
    let lines = place.manifest(&place.unpacked("v", "out"));
    assert!(lines.iter().all(|line| line.contains(" 0:0 ")), "{lines:#?}");
    let program = lines.iter().find(|line| line.contains("set-id")).unwrap();
    assert!(program.contains("0o100755"), "{program}");
}

#[test]
fn export_replaces_nothing_and_leaves_nothing_half_done() {
    let place = Place::new();
    place.vault("v");
    place.sh("echo mine > out.tar");
    let refused = place.vault_verb("v", "export", &["out.tar"]);
    assert_eq!(refused.status.code(), Some(64), "{}", said(&refused));
    assert_eq!(place.sh("cat out.tar"), "mine\n");
    // /dev/full takes no byte; a reader that goes away is no error of ours.
    let full = place
        .command("v", "export", &["-"])
        .stdout(std::fs::File::create("/dev/full").unwrap())
        .output();
    let full = full.unwrap();
    assert_eq!(full.status.code(), Some(69), "{}", said(&full));
    place.sh("mkdir small && mount -t tmpfs -o size=64k none small");
    place.furnished("in");
    assert_ok(&place.vault_verb("v", "import", &["in"]));
    let refused = place.vault_verb("v", "export", &["small/out.tar"]);
    let left = place.sh("ls -A small; umount small");
    assert_eq!(refused.status.code(), Some(69), "{}", said(&refused));
    assert_eq!(left, "");
}
