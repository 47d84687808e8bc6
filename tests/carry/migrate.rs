//! A luks vault becomes a fuse vault: without root, without a device mapper, read by nothing but ourselves.
//!
//! The images are made by `mkfs.ext4`, filled through the kernel, and encrypted by `cryptsetup reencrypt`, which
//! needs no device mapper for a file.

use crate::vault::{Place, assert_ok, said};
use harness::binary::tazpod;
use std::fs;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

const COST: [&str; 4] = ["--kdf-memory", "64M", "--kdf-time", "1"];

/// Makes a luks image with what a script leaves in `tree`, and returns the manifest of that.
fn luks(place: &Place, name: &str, fill: &str) -> Vec<String> {
    place.sh(&format!(
        "truncate -s 80M {name}; mkfs.ext4 -q -b 4096 -F {name}; mkdir -p tree; mount -o loop {name} tree
         (cd tree; {fill}); true"
    ));
    let manifest = place.manifest(&place.path("tree"));
    place.sh(&format!(
        "umount tree; truncate -s 96M {name}; printf passphrase >key
         cryptsetup reencrypt --encrypt --type luks2 --batch-mode --pbkdf argon2id --pbkdf-memory 1024 \
           --pbkdf-force-iterations 4 --reduce-device-size 16M --key-file key {name} 2>&1"
    ));
    manifest.into_iter().filter(|line| !line.contains("lost+found")).collect()
}

fn furnish() -> String {
    format!(
        "{}/carry/tools/furnish .; mknod null c 1 3; mknod disk b 259 70000; chmod 2751 .
         python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"socket\")'
         setfattr -n trusted.mine -v 1 small; setfattr -h -n trusted.link -v 2 link
         mkdir many; for n in $(seq 2000); do echo $n >many/a-long-enough-name-$n; done",
        env!("CARGO_MANIFEST_DIR")
    )
}

/// Everything in a fuse image, seen through the kernel.
fn mounted(place: &Place, name: &str) -> (Vec<String>, String) {
    let folder = place.folder("mounted");
    let target = folder.to_str().unwrap();
    assert_ok(&place.vault_verb(name, "mount", &[target]));
    let manifest = place.manifest(&folder);
    let more = place.sh(&format!(
        "cd {target}; stat -c '%n %a %t:%T %F' . null disk socket; getfattr -hd -m- link; du -sk sparse hole many-holes"
    ));
    let unmounted = Command::new(tazpod()).args(["vault", "unmount", target]).output().unwrap();
    assert_ok(&unmounted);
    fs::remove_dir(folder).unwrap();
    (manifest, more)
}

fn migrate(place: &Place, name: &str, more: &[&str]) -> Output {
    place.vault_verb(name, "migrate", &[&["--to", "fuse"], &COST[..], more].concat())
}

/// A folder that a user who is nobody can reach, with the program in it.
struct Nobody(tempfile::TempDir);

impl Nobody {
    fn new(place: &Place, image: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().display();
        place.sh(&format!(
            "cp {} {path}/tazpod; cp --sparse=always {image} p {path}; chown -R 65534:65534 {path}",
            tazpod().display()
        ));
        Self(dir)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new("setpriv")
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--bounding-set=-all"])
            .args(["--inh-caps=-all", "./tazpod"])
            .args(arguments)
            .current_dir(self.0.path())
            .env_clear()
            .env("HOME", self.0.path())
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }
}

#[test]
fn everything_in_a_luks_image_comes_over_without_root_or_devices() {
    let place = Place::new();
    let expected = luks(&place, "v", &furnish());
    let nobody = Nobody::new(&place, "v");
    let words =
        ["vault", "migrate", "--to", "fuse", "--image", "v", "--passphrase-file", "p", "--json"];
    let moved = nobody.run(&[&words[..], &COST].concat());
    assert_ok(&moved);
    assert!(said(&moved).contains("\"kept\":\"v.luks\""), "{}", said(&moved));
    let path = nobody.0.path().display();
    place.sh(&format!(
        "cmp v {path}/v.luks; chown -R 0:0 {path}; rm v; cp --sparse=always {path}/v v"
    ));
    assert_ok(&place.vault_verb("v", "check", &[]));
    let (manifest, more) = mounted(&place, "v");
    for line in &expected {
        assert!(manifest.contains(line), "lost or changed: {line}\nhave: {manifest:#?}");
    }
    assert_eq!(manifest.len(), expected.len());
    for wanted in [
        ". 2751 ",
        "null 644 1:3 character special file",
        "disk 644 103:11170 block special file",
        "socket 755 0:0 socket",
        "trusted.link=\"2\"",
    ] {
        assert!(more.contains(wanted), "{wanted}: {more}");
    }
    // What they hold in blocks of 16 KiB: a start and 70 kB, nothing, 400 pieces in different blocks.
    let sizes: Vec<(u64, &str)> = more
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(kib, name)| (kib.parse().unwrap(), name))
        .collect();
    assert_eq!(sizes.len(), 3, "{more}");
    for (most, name) in [(72 + 3 * 16, "sparse"), (16, "hole"), (400 * 16 + 64, "many-holes")] {
        assert!(sizes.iter().any(|(kib, found)| name == *found && *kib <= most), "{name}: {more}");
    }
}

#[test]
fn what_cannot_be_read_is_refused_and_nothing_is_left() {
    let place = Place::new();
    luks(&place, "v", "echo kept >kept");
    let before = fs::read(place.path("v")).unwrap();
    let refused = |change: &dyn Fn(&mut Vec<u8>), status: i32, words: &str| {
        let mut bytes = before.clone();
        change(&mut bytes);
        fs::write(place.path("w"), &bytes).unwrap();
        let output = migrate(&place, "w", &[]);
        assert_eq!(output.status.code(), Some(status), "{}", said(&output));
        assert!(said(&output).contains(words), "{words}: {}", said(&output));
        assert!(fs::read(place.path("w")).unwrap() == bytes);
        assert!(!place.path("w.new").exists() && !place.path("w.luks").exists());
    };
    // One header is as good as two; without both there is nothing to go by.
    let break_headers = |bytes: &mut Vec<u8>, headers: &[usize]| {
        for header in headers {
            bytes[header + 5000] ^= 1;
        }
    };
    refused(&|bytes| break_headers(bytes, &[0, 16384]), 65, "checksum of the LUKS header");
    refused(&|bytes| bytes.truncate(9 << 20), 65, "cannot be right");
    refused(&|bytes| bytes[(8 << 20) + 1024] ^= 1, 65, "checksum of the superblock");
    refused(&|bytes| bytes[(8 << 20) + 1024 + 56] ^= 1, 66, "other than ext4");
    fs::write(place.path("p"), "another\n").unwrap();
    refused(&|_| (), 77, "no keyslot");
    fs::write(place.path("p"), "passphrase\n").unwrap();
    fs::write(place.path("w.luks"), "kept earlier").unwrap();
    assert_eq!(migrate(&place, "w", &[]).status.code(), Some(64));
    fs::remove_file(place.path("w.luks")).unwrap();
    let mut bytes = before.clone();
    break_headers(&mut bytes, &[0]);
    fs::write(place.path("w"), &bytes).unwrap();
    assert_ok(&migrate(&place, "w", &[]));
    assert_eq!(place.sh("head -c 6 w"), "TAZPOD");
}

#[test]
fn image_on_a_loop_device_is_in_use() {
    let place = Place::new();
    luks(&place, "v", "echo kept >kept");
    let device = place.sh("losetup --find --show v");
    let output = migrate(&place, "v", &[]);
    place.sh(&format!("losetup --detach {device}"));
    assert_eq!(output.status.code(), Some(75), "{}", said(&output));
    assert_ok(&migrate(&place, "v", &[]));
}

#[test]
fn killed_or_without_room_it_leaves_the_vault_as_it_was() {
    let place = Place::new();
    luks(&place, "v", "head -c 30000000 /dev/urandom >much");
    let before = place.sh("sha256sum v");
    for wait in [20, 150, 300, 450, 600, 900] {
        let mut child = place
            .command("v", "migrate", &[&["--to", "fuse"], &COST[..]].concat())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(wait));
        child.kill().unwrap();
        child.wait().unwrap();
        if place.path("v.luks").exists() {
            break;
        }
        assert_eq!(place.sh("sha256sum v"), before, "{wait}");
    }
    if !place.path("v.luks").exists() {
        place.sh(
            "mkdir small; mount -t tmpfs -o size=110M none small; cp --sparse=always v small/v",
        );
        let refused = migrate(&place, "small/v", &[]);
        let left = place.sh("ls -A small; umount small");
        assert_eq!(refused.status.code(), Some(69), "{}", said(&refused));
        assert_eq!(left, "v\n");
        assert_ok(&migrate(&place, "v", &[]));
    }
    assert!(place.path("v.luks").exists() && !place.path("v.new").exists());
    assert_eq!(count(&place), 1);
}

/// How many files a fuse image has at its top.
fn count(place: &Place) -> usize {
    let folder = place.folder("mounted");
    let target = folder.to_str().unwrap();
    assert_ok(&place.vault_verb("v", "mount", &[target]));
    let count = place.sh(&format!("ls {target} | wc -l")).trim().parse().unwrap();
    assert_ok(&Command::new(tazpod()).args(["vault", "unmount", target]).output().unwrap());
    count
}
