//! What SEMANTICS.md promises about files, names and attributes, one call at a time.

mod common;

use common::{ALICE, BOB, Vault, as_user, assert_errno, mib, noise, python, set_mode, shell};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, RenameFlags, fallocate, renameat2};
use nix::sys::stat::Mode;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, chown, symlink};
use std::path::Path;

fn swap(from: &Path, to: &Path, flags: RenameFlags) -> io::Result<()> {
    Ok(renameat2(nix::fcntl::AT_FDCWD, from, nix::fcntl::AT_FDCWD, to, flags)?)
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("there").mode() & 0o7777
}

#[test]
fn holes_read_as_zeros_and_files_pass_4_gib() {
    let mut vault = Vault::new();
    let path = vault.path("sparse");
    let file = File::create(&path).expect("made");
    let far = 5 << 30;
    file.write_all_at(b"far", far).expect("written");
    file.write_all_at(b"near", 10_000).expect("written");
    drop(file);
    vault.remount();
    let file = File::open(&path).expect("opened");
    let meta = file.metadata().expect("stat");
    assert_eq!(meta.len(), far + 3);
    assert!(meta.blocks() * 512 < mib(1), "{} blocks for two blocks of data", meta.blocks());
    let mut buffer = [1; 8];
    file.read_exact_at(&mut buffer, 9_998).expect("read");
    assert_eq!(&buffer, b"\0\0near\0\0");
    file.read_exact_at(&mut buffer[..5], far - 2).expect("read");
    assert_eq!(&buffer[..5], b"\0\0far");
}

#[test]
fn the_largest_offset_is_refused_and_not_wrapped() {
    let vault = Vault::new();
    let file = File::create(vault.path("file")).expect("made");
    file.set_len(i64::MAX as u64).expect("a hole");
    assert_errno(file.write_all_at(b"xy", i64::MAX as u64 - 1), Errno::EINVAL);
    assert_eq!(file.metadata().expect("stat").len(), i64::MAX as u64);
    file.set_len(0).expect("empty");
}

#[test]
fn truncation_forgets_what_was_beyond() {
    let mut vault = Vault::new();
    let path = vault.path("file");
    fs::write(&path, noise(100_000, 3)).expect("written");
    let file = OpenOptions::new().write(true).open(&path).expect("opened");
    file.set_len(5_000).expect("shorter");
    file.set_len(60_000).expect("longer");
    vault_is(&path, 5_000, 60_000);
    drop(file);
    vault.remount();
    vault_is(&path, 5_000, 60_000);
}

#[track_caller]
fn vault_is(path: &Path, data: usize, len: usize) {
    let read = fs::read(path).expect("read");
    assert_eq!(read.len(), len);
    assert_eq!(read[..data], noise(100_000, 3)[..data]);
    assert!(read[data..].iter().all(|byte| *byte == 0));
}

#[test]
fn appends_of_two_writers_do_not_overlap() {
    let vault = Vault::new();
    let path = vault.path("log");
    std::thread::scope(|scope| {
        for writer in [b'a', b'b'] {
            let path = &path;
            scope.spawn(move || {
                let mut file =
                    OpenOptions::new().append(true).create(true).open(path).expect("opened");
                for _ in 0..500 {
                    file.write_all(&[writer; 33]).expect("appended");
                }
            });
        }
    });
    let log = fs::read(&path).expect("read");
    assert_eq!(log.len(), 2 * 500 * 33);
    assert!(log.chunks(33).all(|line| line.iter().all(|byte| *byte == line[0])));
}

#[test]
fn direct_io_and_the_cache_see_one_file() {
    let vault = Vault::new();
    python(
        &vault.root(),
        "import mmap, os
b = mmap.mmap(-1, 65536); b[:] = bytes(range(256)) * 256
f = os.open('f', os.O_CREAT | os.O_RDWR | os.O_DIRECT)
assert os.pwritev(f, [b], 4096) == 65536
assert open('f', 'rb').read() == bytes(4096) + bytes(range(256)) * 256
g = os.open('f', os.O_RDWR); os.pwrite(g, b'cached', 8192)
c = mmap.mmap(-1, 4096); assert os.preadv(f, [c], 8192) == 4096 and c[:6] == b'cached'
b[:4096] = b'D' * 4096; assert os.pwritev(f, [memoryview(b)[:4096]], 8192) == 4096
assert os.pread(g, 6, 8192) == b'DDDDDD'",
    );
}

#[test]
fn an_unlinked_file_lives_while_it_is_open() {
    let vault = Vault::new();
    let path = vault.path("file");
    let mut file =
        OpenOptions::new().read(true).write(true).create_new(true).open(&path).expect("made");
    file.write_all(b"before").expect("written");
    fs::remove_file(&path).expect("unlinked");
    file.write_all(b" after").expect("written");
    file.sync_all().expect("synced");
    let meta = file.metadata().expect("stat");
    assert_eq!((meta.nlink(), meta.len()), (0, 12));
    let mut text = String::new();
    file.seek(SeekFrom::Start(0)).expect("rewound");
    file.read_to_string(&mut text).expect("read");
    assert_eq!(text, "before after");
    // The same name is free for another file.
    fs::write(&path, b"other").expect("made again");
    assert_eq!(file.metadata().expect("stat").len(), 12);
}

#[test]
fn a_removed_folder_that_is_someones_working_folder_is_empty_and_stays_so() {
    let vault = Vault::new();
    shell(
        &vault.root(),
        "mkdir d; cd d; rmdir ../d; test -z \"$(ls -A)\"; if touch x 2>/dev/null; then exit 1; fi; test $(stat -c %h .) = 0",
    );
}

#[test]
fn hard_links_are_one_file() {
    let mut vault = Vault::new();
    let (one, two) = (vault.path("one"), vault.path("two"));
    fs::write(&one, b"text").expect("written");
    fs::hard_link(&one, &two).expect("linked");
    assert_eq!(fs::metadata(&one).expect("stat").nlink(), 2);
    OpenOptions::new()
        .append(true)
        .open(&two)
        .expect("opened")
        .write_all(b" more")
        .expect("written");
    vault.remount();
    assert_eq!(fs::read(&one).expect("read"), b"text more");
    assert_eq!(fs::metadata(&one).expect("stat").ino(), fs::metadata(&two).expect("stat").ino());
    fs::remove_file(&one).expect("unlinked");
    assert_eq!(fs::metadata(&two).expect("stat").nlink(), 1);
    fs::create_dir(vault.path("folder")).expect("made");
    assert_errno(fs::hard_link(vault.path("folder"), vault.path("other")), Errno::EPERM);
}

#[test]
fn renames_replace_exchange_or_refuse() {
    let vault = Vault::new();
    let (a, b) = (vault.path("a"), vault.path("b"));
    fs::write(&a, b"a").expect("written");
    fs::write(&b, b"b").expect("written");
    assert_errno(swap(&a, &b, RenameFlags::RENAME_NOREPLACE), Errno::EEXIST);
    swap(&a, &b, RenameFlags::RENAME_EXCHANGE).expect("exchanged");
    assert_eq!(
        (fs::read(&a).expect("read"), fs::read(&b).expect("read")),
        (b"b".to_vec(), b"a".to_vec())
    );
    fs::create_dir(vault.path("d")).expect("made");
    fs::write(vault.path("d/inside"), b"").expect("written");
    swap(&a, &vault.path("d"), RenameFlags::RENAME_EXCHANGE).expect("a file and a folder");
    assert!(vault.path("a/inside").exists());
    assert_errno(swap(&b, &vault.path("new"), RenameFlags::RENAME_WHITEOUT), Errno::EINVAL);
    fs::rename(vault.path("d"), &b).expect("replaced");
    assert_eq!(fs::read(&b).expect("read"), b"b");
    assert_errno(fs::rename(&a, vault.path("a/inside/x")), Errno::ENOTDIR);
    fs::create_dir(vault.path("a/deep")).expect("made");
    assert_errno(fs::rename(&a, vault.path("a/deep/x")), Errno::EINVAL);
    assert_errno(fs::rename(&b, &a), Errno::EISDIR);
    assert_errno(fs::rename(&a, &b), Errno::ENOTDIR);
}

#[test]
fn a_moved_folder_knows_its_new_parent() {
    let mut vault = Vault::new();
    shell(
        &vault.root(),
        "mkdir -p x/y z; mv x/y z/; test $(stat -c %h x) = 2; test $(stat -c %h z) = 3",
    );
    vault.remount();
    shell(
        &vault.root(),
        "cd z/y; test \"$(ls ..)\" = y; test $(stat -c %i ..) = $(stat -c %i ../../z)",
    );
}

#[test]
fn every_kind_of_file_can_be_made() {
    let mut vault = Vault::new();
    python(
        &vault.root(),
        "import os, socket, stat
os.mkfifo('fifo', 0o640); os.mknod('char', 0o600 | stat.S_IFCHR, os.makedev(1, 3)); os.mknod('block', 0o600 | stat.S_IFBLK, os.makedev(7, 300))
s = socket.socket(socket.AF_UNIX); s.bind('sock'); s.listen()
c = socket.socket(socket.AF_UNIX); c.connect('sock'); c.send(b'x')
r, _ = s.accept(); assert r.recv(1) == b'x'
if os.fork() == 0:
    open('fifo', 'w').write('through'); os._exit(0)
assert open('fifo').read() == 'through'",
    );
    symlink("to/nowhere", vault.path("link")).expect("made");
    vault.remount();
    let list =
        shell(&vault.root(), "stat -c '%n %F %t:%T' block char fifo link sock; readlink link");
    assert_eq!(
        list,
        "block block special file 7:12c\nchar character special file 1:3\nfifo fifo 0:0\nlink symbolic link 0:0\nsock socket 0:0\nto/nowhere\n"
    );
    // Device nodes are kept, and inert: the mount is nodev.
    assert_errno(File::open(vault.path("char")), Errno::EACCES);
}

#[test]
fn times_are_kept_to_the_nanosecond_also_before_1970() {
    let mut vault = Vault::new();
    python(
        &vault.root(),
        "import os
open('f', 'w').close(); os.mkdir('d'); os.symlink('x', 'l')
for n in ('f', 'd', 'l'): os.utime(n, ns=(1234567890123456789, 987654321987654321), follow_symlinks=False)
open('old', 'w').close(); os.utime('old', ns=(-1_500_000_000, -86400 * 10**9 - 1))",
    );
    vault.remount();
    for name in ["f", "d", "l"] {
        let meta = fs::symlink_metadata(vault.path(name)).expect("stat");
        assert_eq!((meta.atime(), meta.atime_nsec()), (1_234_567_890, 123_456_789), "{name}");
        assert_eq!((meta.mtime(), meta.mtime_nsec()), (987_654_321, 987_654_321), "{name}");
    }
    let meta = fs::metadata(vault.path("old")).expect("stat");
    assert_eq!((meta.atime(), meta.atime_nsec()), (-2, 500_000_000));
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (-86_401, 999_999_999));
}

#[test]
fn writing_moves_times_and_reading_follows_relatime() {
    let mut vault = Vault::new();
    python(
        &vault.root(),
        "import os, time
def t(n='f'): s = os.stat(n); return s.st_atime_ns, s.st_mtime_ns, s.st_ctime_ns
open('f', 'w').write('x'); a0, m0, c0 = t(); time.sleep(0.02)
with open('f', 'a') as f: f.write('y')
a1, m1, c1 = t(); assert a1 == a0 and m1 > m0 and c1 > c0, (a0, m0, c0, a1, m1, c1)
time.sleep(0.02); os.chmod('f', 0o600); a2, m2, c2 = t(); assert (a2, m2) == (a1, m1) and c2 > c1
d0 = t('.'); time.sleep(0.02); open('g', 'w').close(); d1 = t('.'); assert d1[1] > d0[1] and d1[2] > d0[2]
time.sleep(0.02); os.rename('g', 'h'); d2 = t('.'); assert d2[1] > d1[1]; h = t('h')
time.sleep(0.02); os.link('h', 'i'); assert t('h')[2] > h[2]; h = t('h'); time.sleep(0.02); os.unlink('i'); assert t('h')[2] > h[2]",
    );
    vault.remount();
    python(
        &vault.root(),
        "import os
before = os.stat('f').st_atime_ns; open('f').read(); after = os.stat('f').st_atime_ns
assert after > before, (before, after)
assert os.stat('f').st_atime_ns > os.stat('f').st_mtime_ns",
    );
}

#[test]
fn times_never_go_back() {
    // The kernel stamps what it caches, the vault everything else: their clocks must be one.
    python(
        &Vault::new().root(),
        "import os
last = 0
def seen(ns):
    global last; assert ns >= last, (last, ns); last = ns
for n in range(300):
    open('f', 'w').close(); seen(os.stat('f').st_mtime_ns)
    with open('f', 'a') as f: f.write('x')
    seen(os.stat('f').st_mtime_ns)
    os.utime('f'); seen(os.stat('f').st_mtime_ns)
    with open('f', 'r+') as f: f.write('y')
    seen(os.stat('f').st_mtime_ns); os.chmod('f', 0o600 + n % 8); seen(os.stat('f').st_ctime_ns)
    os.mkdir('d'); seen(os.stat('d').st_mtime_ns); os.rmdir('d'); seen(os.stat('.').st_mtime_ns); os.unlink('f')",
    );
}

#[test]
fn set_id_bits_fall_when_others_write_truncate_or_own() {
    let vault = Vault::new();
    let path = vault.path("program");
    let arm = || {
        fs::write(&path, b"#!").expect("written");
        chown(&path, Some(ALICE), Some(ALICE)).expect("chown");
        set_mode(&path, 0o6777);
    };
    arm();
    as_user(BOB, || OpenOptions::new().append(true).open(&path).expect("opened").write_all(b"x"))
        .expect("written");
    assert_eq!(mode(&path), 0o777, "write");
    arm();
    as_user(BOB, || OpenOptions::new().write(true).open(&path).expect("opened").set_len(0))
        .expect("truncated");
    assert_eq!(mode(&path), 0o777, "truncate");
    arm();
    as_user(BOB, || File::create(&path)).expect("opened with O_TRUNC");
    assert_eq!(mode(&path), 0o777, "open");
    arm();
    OpenOptions::new().append(true).open(&path).expect("opened").write_all(b"x").expect("written");
    assert_eq!(mode(&path), 0o6777, "root may write");
    chown(&path, Some(BOB), None).expect("chown");
    assert_eq!(mode(&path), 0o777, "chown");
    // Without group execution the bit stands for mandatory locking and stays.
    arm();
    set_mode(&path, 0o2666);
    as_user(BOB, || OpenOptions::new().append(true).open(&path).expect("opened").write_all(b"x"))
        .expect("written");
    assert_eq!(mode(&path), 0o2666);
    let folder = vault.path("folder");
    fs::create_dir(&folder).expect("made");
    set_mode(&folder, 0o6777);
    chown(&folder, Some(ALICE), Some(ALICE)).expect("chown");
    assert_eq!(mode(&folder), 0o6777, "folders keep theirs");
    python(
        &vault.root(),
        "import os, socket, stat
os.mkfifo('fifo'); socket.socket(socket.AF_UNIX).bind('socket')
os.mknod('device', 0o600 | stat.S_IFCHR, os.makedev(1, 3))
for name in ('fifo', 'socket', 'device'):
    os.chmod(name, 0o6775); assert os.lstat(name).st_mode & 0o7777 == 0o6775, name
    os.chown(name, 1, 1); assert os.lstat(name).st_mode & 0o7777 == 0o775, name",
    );
}

#[test]
fn file_capabilities_fall_with_a_change_of_content_or_owner() {
    let vault = Vault::new();
    python(
        &vault.root(),
        "import os
cap = bytes.fromhex('0100000200040000000000000000000000000000')
def arm():
    open('f', 'w').write('x'); os.chmod('f', 0o777); os.setxattr('f', 'security.capability', cap)
def gone():
    return 'security.capability' not in os.listxattr('f')
arm(); assert not gone()
open('f', 'a').write('y'); assert gone(), 'write'
arm(); os.truncate('f', 0); assert gone(), 'truncate'
arm(); os.chown('f', 1, 1); assert gone(), 'chown'
arm(); os.chmod('f', 0o700); assert not gone(), 'chmod keeps it'",
    );
}

#[test]
fn the_sticky_bit_keeps_others_from_removing() {
    let vault = Vault::new();
    let folder = vault.path("tmp");
    fs::create_dir(&folder).expect("made");
    set_mode(&folder, 0o1777);
    let file = folder.join("file");
    as_user(ALICE, || File::create(&file)).expect("made");
    assert_errno(as_user(BOB, || fs::remove_file(&file)), Errno::EPERM);
    assert_errno(as_user(BOB, || fs::rename(&file, folder.join("mine"))), Errno::EPERM);
    as_user(ALICE, || fs::remove_file(&file)).expect("removed by its owner");
}

#[test]
fn new_files_belong_to_their_maker_and_follow_the_folder() {
    let vault = Vault::new();
    let folder = vault.path("team");
    fs::create_dir(&folder).expect("made");
    chown(&folder, Some(ALICE), Some(BOB)).expect("chown");
    set_mode(&folder, 0o2777);
    as_user(ALICE, || {
        File::create(folder.join("file")).expect("made");
        fs::create_dir(folder.join("sub")).expect("made");
    });
    let meta = |name: &str| fs::metadata(folder.join(name)).expect("there");
    assert_eq!((meta("file").uid(), meta("file").gid()), (ALICE, BOB));
    assert_eq!((meta("sub").gid(), meta("sub").mode() & 0o2000), (BOB, 0o2000));
}

#[test]
fn permissions_are_checked_for_every_user() {
    let vault = Vault::new();
    let file = vault.path("private");
    fs::write(&file, b"secret").expect("written");
    set_mode(&file, 0o600);
    chown(&file, Some(ALICE), Some(ALICE)).expect("chown");
    assert_eq!(as_user(ALICE, || fs::read(&file)).expect("the owner"), b"secret");
    assert_errno(as_user(BOB, || fs::read(&file)), Errno::EACCES);
    assert_errno(as_user(BOB, || chown(&file, Some(BOB), None)), Errno::EPERM);
    fs::create_dir(vault.path("closed")).expect("made");
    set_mode(&vault.path("closed"), 0o700);
    assert_errno(as_user(BOB, || fs::read_dir(vault.path("closed")).map(drop)), Errno::EACCES);
    assert_errno(as_user(BOB, || fs::metadata(vault.path("closed/x"))), Errno::EACCES);
    // A file made with mode 0444 can be written by the call that made it.
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o444);
    as_user(BOB, || options.open(vault.path("once")).expect("made").write_all(b"x"))
        .expect("written");
    assert_errno(
        as_user(BOB, || OpenOptions::new().write(true).open(vault.path("once"))),
        Errno::EACCES,
    );
}

#[test]
fn extended_attributes_hold_what_they_are_given() {
    let mut vault = Vault::new();
    python(
        &vault.root(),
        "import errno, os
open('f', 'w').close(); os.mkdir('d'); os.symlink('f', 'l')
big = os.urandom(60000)
for n in ('f', 'd'):
    os.setxattr(n, 'user.empty', b''); os.setxattr(n, 'user.big', big); os.setxattr(n, 'trusted.t', b'root')
    os.setxattr(n, 'user.big', big[:50000], os.XATTR_REPLACE)
os.setxattr('l', 'trusted.l', b'link', follow_symlinks=False)
def fails(e, f, *a, **k):
    try: f(*a, **k)
    except OSError as x: assert x.errno == e, x
    else: raise AssertionError('no error')
fails(errno.EEXIST, os.setxattr, 'f', 'user.big', b'', os.XATTR_CREATE)
fails(errno.ENODATA, os.setxattr, 'f', 'user.none', b'', os.XATTR_REPLACE)
fails(errno.ENODATA, os.getxattr, 'f', 'user.none'); fails(errno.ENODATA, os.removexattr, 'f', 'user.none')
fails(errno.EPERM, os.setxattr, 'l', 'user.x', b'', follow_symlinks=False)
fails(errno.EOPNOTSUPP, os.setxattr, 'f', 'nonsense.x', b'')
for f in (os.getxattr, os.removexattr): fails(errno.EOPNOTSUPP, f, 'f', 'nonsense.x'); fails(errno.EINVAL, f, 'f', 'trusted.')
fails(errno.EINVAL, os.setxattr, 'f', 'trusted.', b'')
os.removexattr('f', 'system.posix_acl_access'); os.removexattr('d', 'system.posix_acl_default')
fails(errno.ERANGE, os.setxattr, 'f', 'user.' + 'x' * 260, b'')
open('big', 'wb').write(big)
for n in range(100): os.setxattr('f', f'user.number-{n}', str(n).encode())
for n in range(0, 100, 2): os.removexattr('f', f'user.number-{n}')",
    );
    vault.remount();
    python(
        &vault.root(),
        "import os
big = open('big', 'rb').read()
for n in ('f', 'd'):
    assert os.getxattr(n, 'user.empty') == b'' and os.getxattr(n, 'user.big') == big[:50000] and os.getxattr(n, 'trusted.t') == b'root'
assert os.getxattr('l', 'trusted.l', follow_symlinks=False) == b'link'
assert sorted(os.listxattr('d')) == ['trusted.t', 'user.big', 'user.empty']
assert len([n for n in os.listxattr('f') if 'number' in n]) == 50
os.chmod('d', 0o777); os.seteuid(65532); assert sorted(os.listxattr('d')) == ['user.big', 'user.empty'], os.listxattr('d')",
    );
    // As in a ghost, where root is root of the ghost alone.
    vault.options.in_user_namespace = true;
    vault.remount();
    python(
        &vault.root(),
        "import os; assert 'trusted.t' not in os.listxattr('d'), os.listxattr('d')",
    );
}

#[test]
fn fallocate_reserves_punches_and_zeroes() {
    let mut vault = Vault::new();
    let path = vault.path("file");
    let data = noise(200_000, 4);
    fs::write(&path, &data).expect("written");
    let file = OpenOptions::new().read(true).write(true).open(&path).expect("opened");
    let call = |flags, offset, len| -> io::Result<()> { Ok(fallocate(&file, flags, offset, len)?) };
    let keep = FallocateFlags::FALLOC_FL_KEEP_SIZE;
    call(FallocateFlags::FALLOC_FL_PUNCH_HOLE | keep, 10_000, 50_000).expect("punched");
    call(FallocateFlags::FALLOC_FL_ZERO_RANGE, 100_001, 7).expect("zeroed");
    call(keep, 200_000, 100_000).expect("reserved");
    assert_eq!(file.metadata().expect("stat").len(), 200_000);
    call(FallocateFlags::empty(), 0, 300_000).expect("extended");
    assert_errno(call(FallocateFlags::FALLOC_FL_COLLAPSE_RANGE, 0, 4096), Errno::EOPNOTSUPP);
    assert_errno(call(FallocateFlags::FALLOC_FL_INSERT_RANGE, 0, 4096), Errno::EOPNOTSUPP);
    let mut expected = data;
    expected.resize(300_000, 0);
    expected[10_000..60_000].fill(0);
    expected[100_001..100_008].fill(0);
    assert!(fs::read(&path).expect("read") == expected);
    drop(file);
    vault.remount();
    assert!(fs::read(&path).expect("read") == expected);
}

#[test]
fn a_folder_of_100_000_files_lists_each_once() {
    let mut vault = Vault::new();
    let script = "import os
os.mkdir('many')
d = os.open('many', os.O_RDONLY)
for n in range(100000): os.close(os.open(f'file-{n:06}', os.O_CREAT | os.O_WRONLY, dir_fd=d))
assert len(os.listdir('many')) == 100000";
    python(&vault.root(), script);
    vault.remount();
    let script = "import os
seen = sorted(os.listdir('many')); assert len(seen) == 100000 and len(set(seen)) == 100000 and seen[5] == 'file-000005'
# Removing while listing shows every file that is there all along.
with os.scandir('many') as entries:
    for entry in entries:
        if entry.name.endswith('7'): os.unlink(entry.path)
left = os.listdir('many'); assert len(left) == 90000, len(left)
for e in os.scandir('many'):
    if not e.name.endswith('3'): os.unlink(e.path)
assert len(os.listdir('many')) == 10000";
    python(&vault.root(), script);
    shell(&vault.root(), "rm -rf many; test -z \"$(ls -A)\"");
}

#[test]
fn names_are_any_bytes_up_to_255() {
    let mut vault = Vault::new();
    python(
        &vault.root(),
        "import os, errno
names = [b'\\xff\\xfe', b'a' * 255, b' ', b'\\n', '\u{fc}'.encode(), '\u{75}\u{308}'.encode(), b'-rf', b'.x', b'..x', b'A', b'a']
for n in names: open(n, 'w').close()
assert sorted(os.listdir(b'.')) == sorted(names)
try: open(b'b' * 256, 'w')
except OSError as e: assert e.errno == errno.ENAMETOOLONG
else: raise AssertionError
try: os.stat(b'b' * 256)
except OSError as e: assert e.errno == errno.ENAMETOOLONG
else: raise AssertionError",
    );
    vault.remount();
    assert_eq!(fs::read_dir(vault.root()).expect("listed").count(), 11);
}

#[test]
fn link_targets_are_kept_up_to_4095_bytes() {
    let mut vault = Vault::new();
    let target = "x/".repeat(2047) + "x";
    symlink(&target, vault.path("long")).expect("made");
    assert_errno(symlink("", vault.path("empty")), Errno::ENOENT);
    vault.remount();
    assert_eq!(fs::read_link(vault.path("long")).expect("read").to_str(), Some(target.as_str()));
}

#[test]
fn copying_within_the_vault_copies() {
    let vault = Vault::new();
    let data = noise(3_000_001, 7);
    fs::write(vault.path("from"), &data).expect("written");
    // std uses copy_file_range; cp looks for holes first.
    assert_eq!(fs::copy(vault.path("from"), vault.path("to")).expect("copied"), 3_000_001);
    shell(&vault.root(), "cp --sparse=auto from third; cmp from third; cmp from to");
}

#[test]
fn a_copy_of_unwritten_data_is_complete() {
    let vault = Vault::new();
    // The data is only in the kernel's cache when the copy looks for holes.
    python(
        &vault.root(),
        "import os
f = os.open('f', os.O_CREAT | os.O_RDWR); os.ftruncate(f, 1 << 20); os.pwrite(f, b'data', 500000)
assert os.lseek(f, 0, os.SEEK_DATA) <= 500000
assert os.lseek(f, 499999, os.SEEK_HOLE) > 500003",
    );
}

#[test]
fn what_is_not_offered_is_refused_and_not_pretended() {
    let vault = Vault::new();
    let temporary = OpenOptions::new().write(true).custom_flags(libc::O_TMPFILE).open(vault.root());
    assert_errno(temporary, Errno::EOPNOTSUPP);
    fs::write(vault.path("f"), b"").expect("written");
    python(
        &vault.root(),
        "import errno, fcntl, os
f = os.open('f', os.O_RDWR)
try: fcntl.ioctl(f, 0x80086601, b'\\0' * 8)
except OSError as e: assert e.errno == errno.ENOTTY, e
else: raise AssertionError",
    );
}

#[test]
fn the_umask_is_applied_once() {
    let vault = Vault::new();
    let script = "umask 027; touch f; mkdir d; mkfifo p; ln -s x l; stat -c %a f d p l";
    assert_eq!(shell(&vault.root(), script), "640\n750\n640\n777\n");
    let _ = Mode::empty();
}
