//! Devices that stand on the image when it is opened: a dead holder's are removed, others are named.

use crate::by_hand::{by_hand, cheap, image};
use crate::ghost::{Project, finish, kill};
use std::fs;
use std::os::unix::fs::MetadataExt;

/// The name that a holder gives its mapping.
fn mapping(project: &Project) -> String {
    let about = fs::metadata(image(project)).unwrap();
    let uuid = by_hand(project, "cryptsetup luksUUID vault.img");
    format!("tazpod-{uuid}-{:x}-{:x}", about.dev(), about.ino())
}

/// Opens the image as a holder does, and leaves it there as a holder that was killed before it
/// mounted: the loop device goes by itself with what is above it.
fn leave(project: &Project, name: &str) {
    by_hand(
        project,
        &format!(
            "disk=$(losetup --find --show vault.img)
             printf %s \"$pass\" | cryptsetup open --key-file - $disk {name}; losetup --detach $disk"
        ),
    );
    assert_eq!(project.devices().len(), 2, "nothing is left that could be cleaned up");
}

#[test]
fn mapping_of_a_dead_holder_is_removed_by_the_next_pull() {
    let project = Project::with_vault();
    leave(&project, &mapping(&project));
    project.assert_vault_whole();
    project.assert_nothing_left();
}

/// `cryptsetup` was killed after it had made the device and before it gave it a table: nothing stands below it, and
/// its name is taken.
#[test]
fn mapping_without_a_table_is_removed_by_the_next_pull_and_by_doctor() {
    let project = Project::with_vault();
    let name = mapping(&project);
    let make = || {
        let uuid = by_hand(&project, "cryptsetup luksUUID vault.img").replace('-', "");
        let given = format!("--uuid CRYPT-LUKS2-{uuid}-{name} --notable");
        by_hand(&project, &format!("dmsetup create {name} {given}"));
        assert_eq!(project.devices(), [&*name]);
    };
    make();
    project.assert_vault_whole();
    make();
    let output = finish(project.tazpod(&["doctor", "--yes"]).spawn().unwrap());
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(&format!("removed {name}")), "{said}");
    project.assert_nothing_left();
}

/// All of a ghost was killed while it made a vault: the file of that attempt goes, and what stands on it before.
#[test]
fn mapping_of_a_vault_that_was_being_made_is_removed_by_the_next_pull() {
    let project = Project::with_vault();
    by_hand(&project, "mv vault.img vault.img.new");
    let about = fs::metadata(image(&project).with_extension("img.new")).unwrap();
    let uuid = by_hand(&project, "cryptsetup luksUUID vault.img.new");
    let name = format!("tazpod-{uuid}-{:x}-{:x}", about.dev(), about.ino());
    by_hand(
        &project,
        &format!(
            "disk=$(losetup --find --show vault.img.new)
             printf %s \"$pass\" | cryptsetup open --key-file - $disk {name}; losetup --detach $disk"
        ),
    );
    assert_eq!(project.devices().len(), 2);
    assert!(project.run("true").status.success());
    project.assert_nothing_left();
}

#[test]
fn doctor_removes_what_a_dead_holder_left_and_only_that() {
    let project = cheap("48M");
    assert!(project.run("true").status.success());
    let doctor = |words: &[&str]| {
        let command = project.tazpod(&[&["doctor"], words].concat()).spawn().unwrap();
        let output = finish(command);
        String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr)
    };
    assert!(!doctor(&["--yes"]).contains("leftovers"));
    let name = mapping(&project);
    leave(&project, &name);
    // Asked for JSON it asks nothing, and changes nothing.
    assert!(doctor(&["--json"]).contains(&format!("a killed ghost left {name}")));
    assert_eq!(project.devices().len(), 2);
    by_hand(&project, &format!("mkdir tree; mount /dev/mapper/{name} tree"));
    let said = doctor(&["--yes"]);
    assert!(said.contains("is in use as") && said.contains(&name), "{said}");
    by_hand(&project, "cat tree/kept; umount tree; rmdir tree");
    assert!(doctor(&["--yes"]).contains(&format!("removed {name}")));
    project.assert_nothing_left();
    leave(&project, "somebody-elses");
    assert!(!doctor(&["--yes"]).contains("removed"));
    assert_eq!(project.devices().len(), 2);
    by_hand(&project, "cryptsetup close somebody-elses");
    let open = project.start("sleep 100");
    assert!(!doctor(&["--yes"]).contains("leftovers"));
    assert_eq!(project.devices().len(), 2);
    kill(i32::try_from(open.id()).unwrap(), "TERM");
    finish(open);
    project.assert_vault_whole();
}

#[test]
fn mapping_that_somebody_uses_stays_and_is_named() {
    let project = Project::with_vault();
    let name = mapping(&project);
    leave(&project, &name);
    by_hand(&project, &format!("mkdir tree; mount /dev/mapper/{name} tree"));
    let output = project.run("true");
    assert_eq!(output.status.code(), Some(75), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains(&name), "{output:?}");
    assert_eq!(by_hand(&project, "cat tree/kept"), "kept");
    by_hand(&project, &format!("umount tree; rmdir tree; cryptsetup close {name}"));
    project.assert_vault_whole();
    project.assert_nothing_left();
}

#[test]
fn what_another_program_opened_is_never_closed() {
    let project = Project::with_vault();
    leave(&project, "somebody-elses");
    let output = project.run("true");
    assert_eq!(output.status.code(), Some(75), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("somebody-elses"), "{output:?}");
    assert_eq!(project.devices().len(), 2);
    by_hand(&project, "cryptsetup close somebody-elses");
    project.assert_vault_whole();
    project.assert_nothing_left();
}

#[test]
fn open_vault_has_no_name_outside_of_the_ghost_and_goes_with_a_killed_one() {
    let project = Project::with_vault();
    let child = project.start("sleep 100");
    assert_eq!(project.devices().len(), 2);
    let named = fs::read_dir("/dev/mapper").into_iter().flatten().flatten();
    let own = mapping(&project);
    assert!(!named.into_iter().any(|entry| entry.file_name() == own.as_str()));
    for victim in project.processes() {
        kill(victim, "KILL");
    }
    let _ = finish(child);
    // Nobody is left who could clean up: the kernel does.
    crate::ghost::wait_until("its devices are gone", || project.devices().is_empty());
    project.assert_vault_whole();
    project.assert_nothing_left();
}

/// What the machine's root can do, and SECURITY.md says so; the vault's owner cannot.
#[test]
fn device_of_an_open_vault_can_be_read_by_root_alone() {
    let project = Project::with_vault();
    let child = project.start("sleep 100");
    let devices = project.devices();
    let mapped = devices.iter().find(|device| device.starts_with("dm-")).unwrap();
    // The magic number of ext4: plain text of the vault.
    let read = format!("dd if=/dev/{mapped} bs=1 skip=1080 count=2 status=none | od -An -tx1");
    assert_eq!(by_hand(&project, &read), "53 ef");
    let neighbour =
        format!("setpriv --reuid 65534 --regid 65534 --clear-groups sh -c '{read}' 2>&1");
    let said = by_hand(&project, &neighbour);
    assert!(said.contains("Permission denied") && !said.contains("53 ef"), "{said}");
    kill(i32::try_from(child.id()).unwrap(), "TERM");
    finish(child);
    project.assert_nothing_left();
}
