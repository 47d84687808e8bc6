//! Sessions begin and end as they promise, and take nobody else's mount along.

mod common;

use common::{Vault, noise, shell};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use vault_core::fs::{Creator, FileKind, NewFile};
use vault_core::ids::InodeNo;
use vault_fuse::{Ended, MountError, Options, Session, SessionError};

fn mount_line(root: &Path) -> Option<String> {
    let table = fs::read_to_string("/proc/thread-self/mountinfo").expect("proc is mounted");
    let root = format!(" {} ", root.display());
    table.lines().rfind(|line| line.contains(&root)).map(str::to_owned)
}

#[test]
fn what_was_written_is_there_after_a_stop() {
    let mut vault = Vault::new();
    let data = noise(3_000_000, 1);
    fs::write(vault.path("file"), &data).expect("written");
    assert_eq!(vault.unmount().expect("a clean end"), Ended::Unmounted);
    assert_eq!(mount_line(&vault.root()), None);
    vault.mount();
    assert_eq!(fs::read(vault.path("file")).expect("read"), data);
}

#[test]
fn unwritten_cache_reaches_the_vault_at_a_stop() {
    let mut vault = Vault::new();
    let path = vault.path("mapped");
    // A shared mapping is dirty without any write call, and survives the close of its file.
    let holder = thread::spawn({
        let folder = vault.root();
        move || {
            common::python(
                &folder,
                "import mmap,os
f = os.open('mapped', os.O_CREAT|os.O_RDWR); os.ftruncate(f, 8192)
m = mmap.mmap(f, 8192); os.close(f); m[:5] = b'dirty'; m[4096:4099] = b'two'",
            );
        }
    });
    holder.join().expect("no panic");
    vault.remount();
    let data = fs::read(path).expect("read");
    assert_eq!((&data[..5], &data[4096..4099]), (&b"dirty"[..], &b"two"[..]));
}

#[test]
fn an_unmount_by_someone_else_ends_the_session_and_commits() {
    let mut vault = Vault::new();
    fs::write(vault.path("file"), b"kept").expect("written");
    shell(Path::new("/"), &format!("umount {}", vault.root().display()));
    assert_eq!(vault.wait().expect("a clean end"), Ended::Unmounted);
    vault.mount();
    assert_eq!(fs::read(vault.path("file")).expect("read"), b"kept");
}

#[test]
fn a_file_in_use_does_not_hold_the_end_up_for_ever() {
    let mut vault = Vault::new();
    let mut file = File::create(vault.path("busy")).expect("made");
    file.write_all(b"written before the end").expect("written");
    let began = Instant::now();
    assert_eq!(vault.unmount().expect("committed"), Ended::StillInUse);
    assert!(began.elapsed() < Duration::from_secs(60));
    assert_eq!(mount_line(&vault.root()), None);
    drop(file);
    // The old server still holds the image; it would end with its process.
    vault.wait_until_free();
    vault.mount();
    assert_eq!(fs::read(vault.path("busy")).expect("read"), b"written before the end");
}

#[test]
fn another_mount_at_the_same_place_stays() {
    let mut vault = Vault::new();
    let root = vault.root();
    let none = None::<&str>;
    mount(Some("above"), &root, Some("tmpfs"), MsFlags::empty(), none).expect("a second mount");
    fs::write(root.join("mark"), b"").expect("on the tmpfs");
    vault.unmount().expect("committed");
    assert!(root.join("mark").exists(), "the end of the session removed the mount above it");
    umount2(&root, MntFlags::MNT_DETACH).expect("the tmpfs");
    if mount_line(&root).is_some() {
        umount2(&root, MntFlags::MNT_DETACH).expect("the vault below");
    }
}

#[test]
fn the_mount_is_nosuid_and_nodev_and_names_itself() {
    let vault = Vault::new();
    let line = mount_line(&vault.root()).expect("mounted");
    assert!(line.contains("nosuid") && line.contains("nodev"), "{line}");
    assert!(line.contains(" - fuse.tazpod tazpod "), "{line}");
    assert!(line.contains("default_permissions") && line.contains("allow_other"), "{line}");
}

#[test]
fn root_raises_readahead() {
    let vault = Vault::new();
    let device = fs::metadata(vault.root()).expect("mounted").dev();
    let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    let read = |name| {
        fs::read_to_string(format!("/sys/class/bdi/{major}:{minor}/{name}"))
            .expect("a backing device")
    };
    assert_eq!(read("read_ahead_kb").trim(), "1024");
    assert_eq!(read("max_ratio").trim(), "40");
}

#[test]
fn a_mount_point_that_is_missing_is_named() {
    let mut vault = Vault::new();
    vault.unmount().expect("a clean end");
    let volume = vault.volume();
    let refused = Session::mount(volume, &vault.path("missing"), &Options::default());
    assert!(matches!(refused, Err(SessionError::Mount(MountError::MountPoint { .. }))));
}

#[test]
fn a_change_is_committed_without_being_asked() {
    let mut vault = Vault::new();
    vault.unmount().expect("a clean end");
    let volume = vault.volume();
    let session =
        Session::mount(Arc::clone(&volume), &vault.root(), &Options::default()).expect("mounts");
    let stop = session.stop_handle();
    let server = thread::spawn(move || session.run());
    let before = volume.anchor().generation;
    fs::create_dir(vault.path("folder")).expect("made");
    let deadline = Instant::now() + Duration::from_secs(60);
    while volume.anchor().generation == before {
        assert!(Instant::now() < deadline, "nothing was committed");
        thread::sleep(Duration::from_millis(100));
    }
    stop.stop();
    assert_eq!(server.join().expect("no panic").expect("a clean end"), Ended::Unmounted);
}

#[test]
fn a_read_only_vault_refuses_every_change() {
    let mut vault = Vault::new();
    fs::write(vault.path("file"), b"old").expect("written");
    vault.unmount().expect("a clean end");
    vault.options.read_only = true;
    vault.mount();
    common::assert_errno(fs::write(vault.path("file"), b"new"), nix::errno::Errno::EROFS);
    common::assert_errno(fs::create_dir(vault.path("folder")), nix::errno::Errno::EROFS);
    assert_eq!(fs::read(vault.path("file")).expect("read"), b"old");
}

/// An unlinked file that was never opened goes at once; one that is open goes with its last user.
#[test]
fn an_unlinked_file_gives_its_space_back_when_it_is_closed() {
    let vault = Vault::new();
    let used = || {
        let space = nix::sys::statvfs::statvfs(&vault.root()).expect("statvfs");
        space.files() - space.files_free()
    };
    let before = used();
    let file = File::create(vault.path("file")).expect("made");
    assert_eq!(used(), before + 1);
    fs::remove_file(vault.path("file")).expect("unlinked");
    assert_eq!(used(), before + 1, "it is open");
    drop(file);
    let deadline = Instant::now() + Duration::from_secs(60);
    while used() != before {
        assert!(Instant::now() < deadline, "an orphan is left");
        thread::sleep(Duration::from_millis(10));
    }
}

/// What another holder of the volume does is not the kernel's business here; the root's creator is.
#[test]
fn a_volume_changed_before_the_mount_shows_it() {
    let mut vault = Vault::new();
    vault.unmount().expect("a clean end");
    {
        let volume = vault.volume();
        let new = NewFile { kind: FileKind::Regular, permissions: 0o640, device: 0 };
        let creator = Creator { uid: 5, gid: 6, umask: 0o022 };
        volume.create(InodeNo::ROOT, b"made inside", &new, &creator).expect("made");
        volume.close().expect("closed");
    }
    vault.mount();
    let meta = fs::metadata(vault.path("made inside")).expect("there");
    assert_eq!((meta.uid(), meta.gid(), meta.mode()), (5, 6, 0o100_640));
}

/// Runs a script in the vault and cuts the connection when it says "ready": from there on whatever asks the vault fails.
fn run_and_cut(vault: &mut Vault, script: &str) {
    let mut runner = std::process::Command::new("python3")
        .args(["-c", script])
        .current_dir(vault.root())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("python3 is installed");
    let mut said = [0; 6];
    runner.stdout.take().expect("piped").read_exact(&mut said).expect("it is ready");
    umount2(&vault.root(), MntFlags::MNT_FORCE | MntFlags::MNT_DETACH).expect("cut");
    runner.stdin.take().expect("piped").write_all(b"\n").expect("it listens");
    assert!(runner.wait().expect("a child").success());
    let _ = vault.wait();
}

/// What was walked and read is still there after the cut, and what was never read is not. The second walk asks for the
/// listings again, which the first reads outdated, and the third for the folders, whose access times that moved.
#[test]
fn what_is_known_is_not_asked_for_again() {
    let mut vault = Vault::new();
    let walk = "import os, sys
def walk(want):
    seen = {}
    for path, folders, files in os.walk('.'):
        for name in files:
            if name == 'unknown': continue
            file = os.path.join(path, name)
            about = os.lstat(file)
            with open(file, 'rb') as f: seen[file] = (about, f.read())
    assert len(seen) == 60, len(seen)
    assert want in (None, seen)
    return seen
for folder in 'abc':
    os.mkdir(folder)
    for n in range(20): open('%s/%d' % (folder, n), 'wb').write(os.urandom(300 * n))
open('unknown', 'wb').write(b'x' * 100)
known = walk(walk(walk(None)))
print('ready', flush=True); sys.stdin.readline()
walk(known)
try: open('unknown', 'rb').read()
except OSError: pass
else: raise AssertionError('the connection was not cut')";
    run_and_cut(&mut vault, walk);
}

/// Reading content makes the kernel forget attributes, for the access time may have moved. A listing of the folder brings
/// them back in one go, although the kernel had kept an older one.
#[test]
fn a_listing_brings_back_what_reading_made_the_kernel_forget() {
    let mut vault = Vault::new();
    shell(&vault.root(), "for n in $(seq 60); do head -c $((n * 300)) /dev/urandom > $n; done");
    vault.remount();
    let script = "import os, sys
names = os.listdir('.')
content = {name: open(name, 'rb').read() for name in names}
os.listdir('.')
print('ready', flush=True); sys.stdin.readline()
assert len(content) == 60
for name in content:
    assert os.lstat(name).st_size == len(content[name])
    assert open(name, 'rb').read() == content[name]
try: os.statvfs('.')
except OSError: pass
else: raise AssertionError('the connection was not cut')";
    run_and_cut(&mut vault, script);
}
