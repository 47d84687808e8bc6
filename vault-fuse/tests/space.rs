//! How a vault counts its space, and what happens when there is none left.

mod common;

use common::{Vault, assert_errno, mib, noise, python};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use std::fs::{self, File};
use std::io::{self, Write};

#[test]
fn reserved_space_is_taken_from_what_is_free() {
    let vault = Vault::with_capacity(mib(64));
    let file = File::create(vault.path("file")).expect("made");
    let free = || {
        let space = nix::sys::statvfs::statvfs(&vault.root()).expect("statvfs");
        space.blocks_available() * space.fragment_size()
    };
    let before = free();
    fallocate(&file, FallocateFlags::empty(), 0, 16 << 20).expect("reserved");
    assert!(before - free() >= mib(16), "{} {}", before, free());
    let too_much: io::Result<()> =
        fallocate(&file, FallocateFlags::empty(), 0, 128 << 20).map_err(io::Error::from);
    assert_errno(too_much, Errno::ENOSPC);
    fs::write(vault.path("other"), noise(1 << 20, 5)).expect("there is room");
    drop(file);
    fs::remove_file(vault.path("file")).expect("removed");
}

#[test]
fn a_full_vault_says_so_and_can_be_emptied() {
    let mut vault = Vault::with_capacity(mib(32));
    let block = noise(1 << 20, 6);
    let mut written = 0;
    let error = loop {
        let path = vault.path(&format!("file-{written}"));
        let result = File::create(&path).and_then(|mut file| {
            file.write_all(&block)?;
            file.sync_all()
        });
        match result {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 64, "the vault holds more than it should");
    };
    assert_eq!(error.raw_os_error(), Some(Errno::ENOSPC as i32), "{error}");
    assert!(written > 16, "full after {written} MiB of 32");
    for file in 0..written {
        assert!(
            fs::read(vault.path(&format!("file-{file}"))).expect("read") == block,
            "file {file}"
        );
    }
    for file in 0..=written {
        let _ = fs::remove_file(vault.path(&format!("file-{file}")));
    }
    fs::write(vault.path("again"), &block).expect("there is room again");
    File::open(vault.path("again")).expect("opened").sync_all().expect("synced");
    vault.remount();
    assert!(fs::read(vault.path("again")).expect("read") == block);
}

#[test]
fn statfs_tells_the_capacity() {
    let vault = Vault::with_capacity(mib(128));
    let space = nix::sys::statvfs::statvfs(&vault.root()).expect("statvfs");
    assert_eq!(space.blocks() * space.fragment_size(), mib(128));
    assert!(space.blocks_available() <= space.blocks_free());
    assert_eq!(space.name_max(), 255);
}

#[test]
fn a_write_that_does_not_fit_fails_at_once() {
    let vault = Vault::with_capacity(mib(16));
    python(
        &vault.root(),
        "import errno, os
f = os.open('big', os.O_CREAT | os.O_WRONLY)
written = 0
try:
    for _ in range(40): written += os.write(f, os.urandom(1 << 20))
except OSError as e: assert e.errno == errno.ENOSPC, e
else: raise AssertionError
os.fsync(f); os.close(f)
assert os.stat('big').st_size == written > 4 << 20, written
os.unlink('big')",
    );
}

#[test]
fn a_failure_of_a_collected_write_is_told_at_close_and_fsync() {
    let mut vault = Vault::with_capacity(mib(16));
    vault.unmount().expect("a clean end");
    vault.options.write_back = true;
    vault.mount();
    python(
        &vault.root(),
        "import errno, os
f = os.open('big', os.O_CREAT | os.O_WRONLY)
for _ in range(40): os.write(f, os.urandom(1 << 20))
g = os.dup(f)
def fails(call):
    try: call()
    except OSError as e: assert e.errno == errno.ENOSPC, e
    else: raise AssertionError(call)
fails(lambda: os.close(g)); os.unlink('big')
# What was still under way at the first close tells its failure at the second.
try: os.close(f)
except OSError as e: assert e.errno == errno.ENOSPC, e",
    );
    python(
        &vault.root(),
        "import errno, os
f = os.open('big', os.O_CREAT | os.O_WRONLY)
for _ in range(40): os.write(f, os.urandom(1 << 20))
try: os.fsync(f)
except OSError as e: assert e.errno == errno.ENOSPC, e
else: raise AssertionError
os.unlink('big')",
    );
}
