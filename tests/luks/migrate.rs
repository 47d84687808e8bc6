//! Vaults that move to the other backend and back, with one of everything in them.

use crate::by_hand::{by_hand, image};
use crate::ghost::{Project, finish, kill};
use std::fs;
use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

/// What no archive holds comes along as well; a ghost may make none of it.
const SPECIAL: &str = "mknod null c 1 3; mknod disk b 259 70000; chown 7:8 disk
    python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"socket\")'
    setfattr -n trusted.mine -v 1 small; setfattr -h -n trusted.link -v 2 link; chmod 2751 .";

fn tool(name: &str) -> String {
    format!("{}/carry/tools/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Runs a line in a ghost of whatever the vault is now.
fn pull(project: &Project, line: &str) -> Output {
    let pass = project.path().join("pass");
    let words = ["pull", "--passphrase-file", pass.to_str().unwrap(), "--", "sh", "-ec", line];
    finish(project.tazpod(&words).spawn().unwrap())
}

fn migrate(project: &Project, to: &str, more: &[&str]) -> Output {
    let pass = project.path().join("pass");
    let cost = ["--kdf-memory", "64M", "--kdf-time", "1"];
    let words = ["vault", "migrate", "--to", to, "--passphrase-file", pass.to_str().unwrap()];
    finish(project.tazpod(&[&words[..], &cost, more].concat()).spawn().unwrap())
}

fn assert_ok(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}

/// Everything that is to be kept, a line for each file. The bridge's folders are used by every pull.
fn manifest(project: &Project) -> Vec<String> {
    let line = format!(
        "{} ~/secrets | grep -v infisical | sort; stat -c '%a %u:%g' ~/secrets",
        tool("manifest")
    );
    let output = pull(project, &line);
    assert_ok(&output);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let specials = pull(
        project,
        "stat -c '%n %t:%T %F' ~/secrets/null ~/secrets/disk ~/secrets/socket; \
        getfattr -hd -m- ~/secrets/small ~/secrets/link 2>/dev/null; du -sk ~/secrets/sparse ~/secrets/hole ~/secrets/many-holes | \
        awk '$1 > 8000 { print \"not sparse: \" $0 }'",
    );
    let specials = String::from_utf8_lossy(&specials.stdout).into_owned();
    text.lines().chain(specials.lines()).map(str::to_owned).collect()
}

/// Runs a line in the top folder of what is a fuse vault now, with all rights.
fn in_vault(project: &Project, line: &str) -> String {
    let (program, pass) = (harness::binary::tazpod().display(), project.path().join("pass"));
    by_hand(
        project,
        &format!(
            "mkdir ../../../top; {program} vault mount ../../../top --image vault.img --passphrase-file {} >&2
             here=$PWD; cd ../../../top; {line}; cd $here
             {program} vault unmount ../../../top >&2; rmdir ../../../top",
            pass.display()
        ),
    )
}

fn trusted(project: &Project) -> String {
    in_vault(project, "getfattr -hd -m trusted small link 2>&1")
}

fn beside(project: &Project, suffix: &str) -> PathBuf {
    let mut path = image(project).into_os_string();
    path.push(suffix);
    path.into()
}

#[test]
fn everything_survives_the_way_to_fuse_and_back() {
    let project = Project::new();
    assert_ok(&project.run(&format!("{} ~/secrets", tool("furnish"))));
    let before = manifest(&project);
    assert!(before.len() > 30, "{before:#?}");
    assert!(!before.iter().any(|line| line.contains("not sparse")), "{before:#?}");

    let moved = migrate(&project, "fuse", &["--json"]);
    assert_ok(&moved);
    assert!(String::from_utf8_lossy(&moved.stdout).contains("\"to\":\"fuse\""), "{moved:?}");
    assert!(!fs::read(image(&project)).unwrap().starts_with(b"LUKS"));
    assert_eq!(manifest(&project), before);
    assert_eq!(project.devices(), Vec::<String>::new());
    // The old image is there, and tells what it is.
    let kept = beside(&project, ".luks");
    assert!(fs::read(&kept).unwrap().starts_with(b"LUKS\xba\xbe"));
    let again = migrate(&project, "fuse", &[]);
    assert_ok(&again);
    assert!(String::from_utf8_lossy(&again.stderr).contains("fuse vault already"), "{again:?}");

    in_vault(&project, SPECIAL);
    let (before, attributes) = (manifest(&project), trusted(&project));
    assert!(before.iter().any(|line| line.contains("103:11170 block special file")), "{before:#?}");
    assert!(attributes.contains("trusted.link=\"2\""), "{attributes}");
    let moved = migrate(&project, "luks", &[]);
    assert_ok(&moved);
    project.assert_nothing_left();
    assert!(fs::read(image(&project)).unwrap().starts_with(b"LUKS\xba\xbe"));
    assert_eq!(manifest(&project), before);
    // Nothing that was kept is ever replaced.
    let refused = migrate(&project, "fuse", &[]);
    assert_eq!(refused.status.code(), Some(64), "{refused:?}");
    fs::remove_file(kept).unwrap();
    assert_ok(&migrate(&project, "fuse", &[]));
    assert_eq!(manifest(&project), before);
    assert_eq!(trusted(&project), attributes);
    project.assert_nothing_left();
}

#[test]
fn containers_made_by_hand_move_to_fuse() {
    for (kind, cost) in [
        ("luks1", "--pbkdf-force-iterations 1000"),
        ("luks1 --hash sha512 --key-size 256", "--pbkdf-force-iterations 1000"),
        ("luks2", "--pbkdf pbkdf2 --pbkdf-force-iterations 1000"),
        (
            "luks2 --sector-size 4096",
            "--pbkdf argon2i --pbkdf-memory 1024 --pbkdf-force-iterations 4",
        ),
    ] {
        let project = Project::new();
        by_hand(
            &project,
            &format!(
                "truncate -s 48M vault.img; disk=$(losetup --find --show vault.img)
                 printf %s \"$pass\" | cryptsetup luksFormat --batch-mode --type {kind} {cost} --key-file - $disk
                 printf %s \"$pass\" | cryptsetup open --key-file - $disk by-hand
                 mkfs.ext4 -q -b 1024 /dev/mapper/by-hand; mkdir tree; mount /dev/mapper/by-hand tree
                 echo kept >tree/kept; mkdir tree/many; for n in $(seq 300); do echo $n >tree/many/a-name-$n; done
                 umount tree; rmdir tree; cryptsetup close by-hand; losetup --detach $disk"
            ),
        );
        let refused = pull(&project, "true");
        assert_ok(&refused);
        assert_ok(&migrate(&project, "fuse", &[]));
        let output =
            pull(&project, "cat ~/secrets/kept; cat ~/secrets/many/* | sort -n | tail -n 1");
        assert_eq!(output.stdout, b"kept\n300\n", "{kind}: {output:?}");
        project.assert_nothing_left();
    }
}

#[test]
fn file_system_that_was_never_unmounted_is_read_with_its_journal() {
    let project = Project::with_vault();
    // A copy of an open vault, as a power cut leaves one: durable in the journal alone.
    let open = project.start(
        "mkdir ~/secrets/made; echo late >~/secrets/made/late; rm ~/secrets/kept; sync ~/secrets/made/late ~/secrets/made; touch synced; sleep 100",
    );
    crate::ghost::wait_until("it is written", || project.path().join("project/synced").exists());
    let copy = Project::new();
    fs::create_dir_all(image(&copy).parent().unwrap()).unwrap();
    fs::copy(image(&project), image(&copy)).unwrap();
    kill(i32::try_from(open.id()).unwrap(), "TERM");
    let _ = finish(open);
    assert_ok(&migrate(&copy, "fuse", &[]));
    let output = pull(&copy, "cat ~/secrets/made/late; ls ~/secrets/kept 2>&1 || true");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.starts_with("late\n") && said.contains("No such file"), "{output:?}");
    copy.assert_nothing_left();
}

#[test]
fn killed_migration_leaves_the_vault_and_the_next_one_works() {
    let project = Project::with_vault();
    assert_ok(&migrate(&project, "fuse", &[]));
    fs::remove_file(beside(&project, ".luks")).unwrap();
    let before = fs::read(image(&project)).unwrap();
    for wait in [200, 900, 1700, 2600, 3500, 5000] {
        let pass = project.path().join("pass");
        let words =
            ["vault", "migrate", "--to", "luks", "--kdf-memory", "64M", "--passphrase-file"];
        let mut child = project.tazpod(&words).arg(pass).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(wait));
        if child.try_wait().unwrap().is_some() {
            break;
        }
        for victim in project.processes() {
            kill(victim, "KILL");
        }
        let _ = finish(child);
        crate::ghost::wait_until("its processes are gone", || project.processes().is_empty());
        if fs::read(image(&project)).unwrap().starts_with(b"LUKS") {
            break;
        }
        assert!(fs::read(image(&project)).unwrap() == before, "{wait} ms: the vault has changed");
    }
    assert_ok(&migrate(&project, "luks", &[]));
    assert_eq!(pull(&project, "cat ~/secrets/kept").stdout, b"kept\n");
    project.assert_nothing_left();
    assert!(!beside(&project, ".new").exists());
}

#[test]
fn what_does_not_fit_is_told_and_nothing_is_left() {
    let project = Project::new();
    assert_ok(&project.run("head -c 30000000 /dev/urandom >~/secrets/much"));
    assert_ok(&migrate(&project, "fuse", &[]));
    fs::remove_file(beside(&project, ".luks")).unwrap();
    let small = migrate(&project, "luks", &["--size", "40M"]);
    assert_eq!(small.status.code(), Some(69), "{small:?}");
    assert!(String::from_utf8_lossy(&small.stderr).contains("--size"), "{small:?}");
    // A disk on which there is no room for a second image.
    let folder = image(&project).parent().unwrap().to_owned();
    let size = fs::metadata(image(&project)).unwrap().len() + (20 << 20);
    by_hand(
        &project,
        &format!("mkdir ../full; mount -t tmpfs -o size={size} none ../full; cp vault.img ../full"),
    );
    let full = project.path().join("project/.tazpod/full/vault.img");
    let refused = migrate(&project, "luks", &["--image", full.to_str().unwrap()]);
    let left = by_hand(&project, "ls ../full; umount ../full; rmdir ../full");
    assert_eq!(refused.status.code(), Some(69), "{refused:?}");
    assert_eq!(left, "vault.img");
    assert_eq!(fs::read_dir(folder).unwrap().count(), 1);
    assert_eq!(pull(&project, "stat -c %s ~/secrets/much").stdout, b"30000000\n");
    project.assert_nothing_left();
}
