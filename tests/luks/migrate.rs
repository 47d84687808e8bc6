//! Vaults that move to the other backend and back, with one of everything in them.

use crate::by_hand::{by_hand, cheap, image};
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

/// What is seen in a ghost of the vault, which may be of either kind.
#[derive(Debug, PartialEq)]
struct Seen {
    /// Everything that is to be kept, a line for each file.
    files: Vec<String>,
    /// The files that no ghost can make.
    special: Vec<String>,
}

/// Looks at everything, and asserts that files with holes take no more than the blocks of `unit` KiB in which
/// they have content.
fn look(project: &Project, unit: u64) -> Seen {
    let line = format!(
        "{} ~/secrets; stat -c 'top %a %u:%g' ~/secrets; cd ~/secrets; stat -c 'blocks %n %b' sparse hole many-holes
         for name in null disk socket; do
           if [ -e $name ]; then stat -c 'special %n %a %u:%g %t:%T %F' $name; fi
         done",
        tool("manifest")
    );
    let output = pull(project, &line);
    assert_ok(&output);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let begins = |word: &'static str| text.lines().filter_map(move |line| line.strip_prefix(word));
    let taken: Vec<(&str, u64)> = begins("blocks ")
        .filter_map(|line| line.split_once(' '))
        .map(|(name, blocks)| (name, blocks.parse::<u64>().unwrap() / 2))
        .collect();
    // What they hold: a start and 70 kB, nothing, 400 pieces in different blocks. A tree of extents besides.
    let most = [("sparse", 72 + 3 * unit), ("hole", unit), ("many-holes", 400 * unit + 64)];
    assert_eq!(taken.len(), most.len(), "{text}");
    for ((name, taken), (wanted, most)) in taken.into_iter().zip(most) {
        assert!(name == wanted && taken <= most, "{name} takes {taken} KiB, {most} would do");
    }
    // The bridge's folders are used by every pull.
    let passing = ["infisical", "lost+found", "blocks ", "special "];
    let kept = text.lines().filter(|line| passing.iter().all(|part| !line.contains(part)));
    let mut files: Vec<String> = kept.map(str::to_owned).collect();
    files.sort_unstable();
    Seen { files, special: begins("special ").map(str::to_owned).collect() }
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
    let project = cheap("64M");
    assert_ok(&project.run(&format!("chmod 700 ~/secrets; {} ~/secrets", tool("furnish"))));
    let before = look(&project, 4);
    assert!(before.files.len() > 30, "{before:#?}");

    let moved = migrate(&project, "fuse", &["--json"]);
    assert_ok(&moved);
    assert!(String::from_utf8_lossy(&moved.stdout).contains("\"to\":\"fuse\""), "{moved:?}");
    assert!(!fs::read(image(&project)).unwrap().starts_with(b"LUKS"));
    assert_eq!(look(&project, 16), before);
    assert_eq!(project.devices(), Vec::<String>::new());
    // The old image is there, and tells what it is.
    let kept = beside(&project, ".luks");
    assert!(fs::read(&kept).unwrap().starts_with(b"LUKS\xba\xbe"));
    let again = migrate(&project, "fuse", &[]);
    assert_ok(&again);
    assert!(String::from_utf8_lossy(&again.stderr).contains("fuse vault already"), "{again:?}");

    in_vault(&project, SPECIAL);
    let (before, attributes) = (look(&project, 16), trusted(&project));
    assert!(before.special[1].contains("disk 644 7:8 103:11170 block special file"), "{before:#?}");
    assert!(attributes.contains("trusted.link=\"2\""), "{attributes}");
    let moved = migrate(&project, "luks", &[]);
    assert_ok(&moved);
    project.assert_nothing_left();
    assert!(fs::read(image(&project)).unwrap().starts_with(b"LUKS\xba\xbe"));
    assert_eq!(look(&project, 16), before);
    // Nothing that was kept is ever replaced.
    let refused = migrate(&project, "fuse", &[]);
    assert_eq!(refused.status.code(), Some(64), "{refused:?}");
    fs::remove_file(kept).unwrap();
    assert_ok(&migrate(&project, "fuse", &[]));
    assert_eq!(look(&project, 16), before);
    assert_eq!(trusted(&project), attributes);
    project.assert_nothing_left();
}

#[test]
fn containers_made_by_hand_move_to_fuse() {
    for (kind, cost, block) in [
        ("luks1", "--pbkdf-force-iterations 1000", 1024),
        ("luks1 --hash sha512 --key-size 256", "--pbkdf-force-iterations 1000", 2048),
        ("luks2", "--pbkdf pbkdf2 --pbkdf-force-iterations 1000", 1024),
        (
            "luks2 --sector-size 4096",
            "--pbkdf argon2i --pbkdf-memory 1024 --pbkdf-force-iterations 4",
            // Smaller ones than the sectors cannot be.
            4096,
        ),
    ] {
        let project = Project::new();
        by_hand(
            &project,
            &format!(
                "truncate -s 48M vault.img; disk=$(losetup --find --show vault.img)
                 printf %s \"$pass\" | cryptsetup luksFormat --batch-mode --type {kind} {cost} --key-file - $disk
                 printf %s \"$pass\" | cryptsetup open --key-file - $disk by-hand
                 mkfs.ext4 -q -b {block} /dev/mapper/by-hand; mkdir tree; mount /dev/mapper/by-hand tree
                 echo kept >tree/kept; mkdir tree/many; for n in $(seq 300); do echo $n >tree/many/a-name-$n; done
                 umount tree; rmdir tree; cryptsetup close by-hand; losetup --detach $disk"
            ),
        );
        assert_ok(&migrate(&project, "fuse", &[]));
        let output =
            pull(&project, "cat ~/secrets/kept; cat ~/secrets/many/* | sort -n | tail -n 1");
        assert_eq!(output.stdout, b"kept\n300\n", "{kind}: {output:?}");
        project.assert_nothing_left();
    }
}

#[test]
fn file_system_that_was_never_unmounted_is_read_with_its_journal() {
    let project = cheap("48M");
    // A copy of an open vault, as a power cut leaves one: durable in the journal alone.
    let open = project.start(
        "mkdir ~/secrets/made; echo late >~/secrets/made/late; rm ~/secrets/kept; sync ~/secrets/made/late ~/secrets/made; touch synced; sleep 100",
    );
    crate::ghost::wait_until("it is written", || project.path().join("project/synced").exists());
    let copy = Project::new();
    fs::create_dir_all(image(&copy).parent().unwrap()).unwrap();
    fs::copy(image(&project), image(&copy)).unwrap();
    let refused = migrate(&project, "fuse", &[]);
    assert_eq!(refused.status.code(), Some(75), "an open vault moves: {refused:?}");
    assert!(!beside(&project, ".new").exists() && !beside(&project, ".luks").exists());
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
    let project = cheap("48M");
    assert_ok(&migrate(&project, "fuse", &[]));
    fs::remove_file(beside(&project, ".luks")).unwrap();
    let before = fs::read(image(&project)).unwrap();
    // Each at other moments: all of it at once, the program alone, and by Ctrl-C.
    let ways = [("KILL", true), ("KILL", false), ("INT", false)];
    for (wait, (signal, all)) in (0..9).map(|n| 300 + n * 500).zip(ways.into_iter().cycle()) {
        let pass = project.path().join("pass");
        let words =
            ["vault", "migrate", "--to", "luks", "--kdf-memory", "64M", "--passphrase-file"];
        let mut child = project.tazpod(&words).arg(pass).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(wait));
        if child.try_wait().unwrap().is_some() {
            break;
        }
        let main = i32::try_from(child.id()).unwrap();
        for victim in if all { project.processes() } else { vec![main] } {
            kill(victim, signal);
        }
        let _ = finish(child);
        crate::ghost::wait_until("its processes are gone", || project.processes().is_empty());
        if fs::read(image(&project)).unwrap().starts_with(b"LUKS") {
            break;
        }
        assert!(fs::read(image(&project)).unwrap() == before, "{wait} ms: the vault has changed");
        if !all {
            // Nothing half made is left, but what the program itself had begun when it was killed.
            assert_eq!(project.devices(), Vec::<String>::new(), "{signal} after {wait} ms");
        }
        if signal == "INT" {
            assert!(!beside(&project, ".new").exists(), "{signal} after {wait} ms");
        }
    }
    assert_ok(&migrate(&project, "luks", &[]));
    assert_eq!(pull(&project, "cat ~/secrets/kept").stdout, b"kept\n");
    project.assert_nothing_left();
    assert!(!beside(&project, ".new").exists());
}

#[test]
fn what_does_not_fit_is_told_and_nothing_is_left() {
    let project = cheap("80M");
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
