#![allow(clippy::unwrap_used)]

use super::*;
use nix::sys::stat::Mode;
use std::os::unix::fs::symlink;
use tempfile::TempDir;

fn folder_with_image(len: u64) -> (TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault.img");
    let device = FileDevice::create_new(&path).unwrap();
    device.grow(len).unwrap();
    (folder, path)
}

fn open_error(path: &Path) -> OpenError {
    FileDevice::open(path, Access::ReadWrite).unwrap_err()
}

#[test]
fn a_second_writer_is_told_that_the_image_is_in_use() {
    let (_folder, path) = folder_with_image(FileDevice::MIN_LEN);
    let first = FileDevice::open(&path, Access::ReadWrite).unwrap();
    assert!(matches!(open_error(&path), OpenError::InUse { holder: None }));
    assert!(matches!(
        FileDevice::open(&path, Access::ReadOnly).unwrap_err(),
        OpenError::InUse { .. }
    ));
    drop(first);
    FileDevice::open(&path, Access::ReadWrite).unwrap();
}

#[test]
fn readers_share_the_image_and_exclude_a_writer() {
    let (_folder, path) = folder_with_image(FileDevice::MIN_LEN);
    let first = FileDevice::open(&path, Access::ReadOnly).unwrap();
    let second = FileDevice::open(&path, Access::ReadOnly).unwrap();
    assert!(matches!(open_error(&path), OpenError::InUse { .. }));
    for error in [
        first.write_at(b"x", 0).unwrap_err(),
        first.grow(1 << 20).unwrap_err(),
        second.truncate(0).unwrap_err(),
        second.discard(0, 4096).unwrap_err(),
    ] {
        assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem);
    }
}

#[test]
fn a_new_image_is_locked_private_and_never_replaces_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault.img");
    let device = FileDevice::create_new(&path).unwrap();
    assert_eq!(device.file.metadata().unwrap().mode() & 0o777, 0o600);
    assert!(matches!(open_error(&path), OpenError::InUse { .. }));
    assert!(matches!(FileDevice::create_new(&path).unwrap_err(), OpenError::Exists));
}

#[test]
fn a_closed_image_is_free_even_while_a_copy_of_its_descriptor_lives() {
    let (_folder, path) = folder_with_image(FileDevice::MIN_LEN);
    let opened = FileDevice::open(&path, Access::ReadWrite).unwrap();
    let copy = opened.file.try_clone().unwrap();
    assert!(matches!(open_error(&path), OpenError::InUse { .. }));
    drop(opened);
    FileDevice::open(&path, Access::ReadWrite).unwrap();
    drop(copy);
}

#[test]
fn whatever_is_not_a_regular_file_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name| folder.path().join(name);
    assert!(matches!(open_error(&at("missing")), OpenError::NotFound));
    assert!(matches!(open_error(folder.path()), OpenError::NotRegular { kind: "folder" }));
    let read_only = FileDevice::open(folder.path(), Access::ReadOnly).unwrap_err();
    assert!(matches!(read_only, OpenError::NotRegular { kind: "folder" }));
    nix::unistd::mkfifo(&at("fifo"), Mode::S_IRWXU).unwrap();
    assert!(matches!(open_error(&at("fifo")), OpenError::NotRegular { kind: "fifo or socket" }));
    let null = open_error(Path::new("/dev/null"));
    assert!(matches!(null, OpenError::NotRegular { kind: "character device" }));
}

#[test]
fn a_link_is_refused_even_if_it_leads_to_an_image() {
    let (folder, path) = folder_with_image(FileDevice::MIN_LEN);
    let link = folder.path().join("link");
    symlink(&path, &link).unwrap();
    assert!(matches!(open_error(&link), OpenError::SymbolicLink));
    symlink("missing", folder.path().join("dangling")).unwrap();
    assert!(matches!(
        FileDevice::create_new(&folder.path().join("dangling")).unwrap_err(),
        OpenError::Exists
    ));
}

#[test]
fn a_file_without_room_for_a_header_is_too_short() {
    let (_folder, path) = folder_with_image(FileDevice::MIN_LEN - 1);
    assert!(matches!(open_error(&path), OpenError::TooShort { len: 65535 }));
}

#[test]
fn a_file_renamed_over_the_path_is_noticed() {
    let (folder, path) = folder_with_image(FileDevice::MIN_LEN);
    let opened = open_regular(&path, Access::ReadWrite).unwrap();
    assert!(still_at(&path, &opened).unwrap());
    let other = folder.path().join("other.img");
    FileDevice::create_new(&other).unwrap();
    std::fs::rename(&other, &path).unwrap();
    assert!(!still_at(&path, &opened).unwrap());
    std::fs::remove_file(&path).unwrap();
    assert!(!still_at(&path, &opened).unwrap());
}

#[test]
fn growth_is_physically_allocated_and_a_hole_is_given_back() {
    let (_folder, path) = folder_with_image(FileDevice::MIN_LEN);
    let device = FileDevice::open(&path, Access::ReadWrite).unwrap();
    device.grow(4 << 20).unwrap();
    assert_eq!(device.len().unwrap(), 4 << 20);
    let allocated = device.file.metadata().unwrap().blocks();
    assert!(allocated * 512 >= 4 << 20, "{allocated} sectors");
    device.write_at(&[7; 8192], 1 << 20).unwrap();
    device.discard(1 << 20, 1 << 20).unwrap();
    assert!(device.file.metadata().unwrap().blocks() < allocated);
    let mut buffer = [1; 8192];
    device.read_at(&mut buffer, 1 << 20).unwrap();
    assert_eq!(buffer, [0; 8192]);
    assert_eq!(device.len().unwrap(), 4 << 20);
    device.grow(1 << 20).unwrap();
    assert_eq!(device.len().unwrap(), 4 << 20, "growing never shrinks");
    device.truncate(8 << 20).unwrap();
    assert_eq!(device.len().unwrap(), 4 << 20, "truncating never grows");
    device.truncate(1 << 20).unwrap();
    assert_eq!(device.len().unwrap(), 1 << 20);
    device.flush().unwrap();
}

#[test]
fn growth_beyond_what_the_host_can_hold_leaves_the_length() {
    let (_folder, path) = folder_with_image(FileDevice::MIN_LEN);
    let device = FileDevice::open(&path, Access::ReadWrite).unwrap();
    device.grow(1 << 60).unwrap_err();
    device.grow(u64::MAX).unwrap_err();
    assert_eq!(device.len().unwrap(), FileDevice::MIN_LEN);
}

#[test]
fn growth_by_writing_zeros_covers_the_range_exactly() {
    let (_folder, path) = folder_with_image(FileDevice::MIN_LEN);
    let device = FileDevice::open(&path, Access::ReadWrite).unwrap();
    let end = FileDevice::MIN_LEN + (1 << 20) + 4096;
    write_zeros(&device.file, FileDevice::MIN_LEN, end).unwrap();
    assert_eq!(device.len().unwrap(), end);
}

#[test]
fn a_file_is_recognised_even_while_it_is_locked() {
    let (_folder, path) = folder_with_image(FileDevice::MIN_LEN);
    let device = FileDevice::open(&path, Access::ReadWrite).unwrap();
    assert_eq!(recognise(&path).unwrap(), ImageFormat::Empty);
    device.write_at(b"LUKS\xba\xbe\0\x02", 0).unwrap();
    assert_eq!(recognise(&path).unwrap(), ImageFormat::Luks { version: 2 });
    assert!(matches!(recognise(path.parent().unwrap()), Err(OpenError::NotRegular { .. })));
}
