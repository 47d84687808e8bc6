//! What a program was told to be durable is in the image at that moment, as a copy of it shows.

mod common;

use common::{Vault, noise};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use vault_core::error::{FsError, FsResult};
use vault_core::fs::Volume;
use vault_core::ids::InodeNo;

/// Opens the image as a power cut at this moment would leave it.
fn after_a_cut(vault: &Vault) -> Volume {
    let copy = vault.outside("cut").join("vault.img");
    fs::copy(vault.image(), &copy).expect("copied");
    common::open_copy(&copy)
}

fn content(volume: &Volume, path: &str) -> FsResult<Vec<u8>> {
    let mut inode = InodeNo::ROOT;
    for name in path.split('/') {
        inode = volume.lookup(inode, name.as_bytes())?.inode;
    }
    volume.read(inode, 0, 1 << 24)
}

#[test]
fn fsync_makes_a_file_durable_and_its_name_too() {
    let vault = Vault::new();
    fs::create_dir_all(vault.path("a/b")).expect("made");
    let data = noise(700_000, 11);
    let mut file = File::create(vault.path("a/b/file")).expect("made");
    file.write_all(&data).expect("written");
    file.sync_all().expect("synced");
    assert!(content(&after_a_cut(&vault), "a/b/file").expect("there") == data);
    file.write_all_at(b"changed", 100_000).expect("written");
    file.sync_data().expect("synced");
    let mut changed = data;
    changed[100_000..100_007].copy_from_slice(b"changed");
    assert!(content(&after_a_cut(&vault), "a/b/file").expect("there") == changed);
}

#[test]
fn a_folders_fsync_makes_a_rename_durable() {
    let vault = Vault::new();
    fs::write(vault.path("new"), b"new").expect("written");
    fs::write(vault.path("file"), b"old").expect("written");
    File::open(vault.path("new")).expect("opened").sync_all().expect("synced");
    fs::rename(vault.path("new"), vault.path("file")).expect("renamed");
    File::open(vault.root()).expect("opened").sync_all().expect("synced");
    let volume = after_a_cut(&vault);
    assert_eq!(content(&volume, "file").expect("there"), b"new");
    assert!(matches!(content(&volume, "new"), Err(FsError::NotFound)));
}

#[test]
fn a_synchronous_write_is_durable_when_it_returns() {
    let vault = Vault::new();
    let open = |name: &str, flag| {
        OpenOptions::new()
            .write(true)
            .create(true)
            .custom_flags(flag)
            .open(vault.path(name))
            .expect("made")
    };
    open("o_sync", libc::O_SYNC).write_all(b"one").expect("written");
    open("o_dsync", libc::O_DSYNC).write_all(b"two").expect("written");
    let volume = after_a_cut(&vault);
    assert_eq!(content(&volume, "o_sync").expect("there"), b"one");
    assert_eq!(content(&volume, "o_dsync").expect("there"), b"two");
}

#[test]
fn a_mapping_is_durable_after_msync() {
    let vault = Vault::new();
    common::python(
        &vault.root(),
        "import mmap, os
f = os.open('f', os.O_CREAT | os.O_RDWR); os.ftruncate(f, 100000)
m = mmap.mmap(f, 100000); m[50000:50006] = b'mapped'; m.flush()",
    );
    assert_eq!(content(&after_a_cut(&vault), "f").expect("there")[50_000..50_006], *b"mapped");
}

#[test]
fn sync_waits_for_nothing_but_an_idle_vault_is_durable_soon() {
    let vault = Vault::new();
    fs::write(vault.path("file"), b"text").expect("written");
    common::shell(&vault.root(), "sync");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while content(&after_a_cut(&vault), "file").is_err() {
        assert!(std::time::Instant::now() < deadline, "nothing was committed");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    assert_eq!(content(&after_a_cut(&vault), "file").expect("there"), b"text");
}
