//! Programs that people use in a vault, doing what they usually do.

mod common;

use common::{Vault, noise, python, shell};
use std::fs;
use std::path::Path;

/// A small source tree outside the vault.
fn source_tree(vault: &Vault) -> std::path::PathBuf {
    let tree = vault.outside("tree");
    for folder in 0..10 {
        let folder = tree.join(format!("folder-{folder}/src"));
        fs::create_dir_all(&folder).expect("made");
        for file in 0..30 {
            let body = noise(1 + file * 997, file as u64);
            fs::write(folder.join(format!("file {file}.rs")), body).expect("written");
        }
    }
    tree
}

const IDENTITY: &str = "export HOME=\"$PWD\" GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
git config --global init.defaultBranch main; git config --global safe.directory '*'";

#[test]
fn git_clones_commits_packs_and_keeps_worktrees() {
    let mut vault = Vault::new();
    let tree = source_tree(&vault);
    shell(
        &vault.root(),
        &format!(
            "{IDENTITY}
cp -a {} origin; cd origin; git init -q; git add .; git commit -qm one; cd ..
git clone -q origin copy; cd copy
git worktree add -q ../side -b side; echo change >> 'folder-1/src/file 1.rs'; git commit -qam two
git -C ../side merge -q main; git gc -q --prune=now; git fsck --strict; git repack -adq
cd ../side; git log --oneline | wc -l | grep -qx 2; cd ../copy; git status --porcelain | wc -l | grep -qx 0",
            tree.display()
        ),
    );
    vault.remount();
    let log = shell(
        &vault.root(),
        &format!(
            "{IDENTITY}\ncd copy; git fsck --strict; git status --porcelain; git log --oneline | wc -l"
        ),
    );
    assert_eq!(log.trim(), "2");
}

#[test]
fn sqlite_survives_two_writers_in_wal_mode() {
    let mut vault = Vault::new();
    let script = "import sqlite3, sys, threading
def work(n):
    db = sqlite3.connect('data.db', timeout=60)
    for i in range(60):
        with db: db.execute('insert into t values (?, ?)', (n, i))
    db.close()
db = sqlite3.connect('data.db'); assert db.execute('pragma journal_mode=wal').fetchone() == ('wal',)
db.execute('create table t (n, i)'); db.commit()
threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
[t.start() for t in threads]; [t.join() for t in threads]
assert db.execute('select count(*) from t').fetchone() == (240,)
assert db.execute('pragma integrity_check').fetchone() == ('ok',)";
    python(&vault.root(), script);
    vault.remount();
    let script = "import sqlite3
db = sqlite3.connect('data.db')
assert db.execute('select count(*) from t').fetchone() == (240,)
assert db.execute('pragma integrity_check').fetchone() == ('ok',)";
    python(&vault.root(), script);
}

#[test]
fn sqlite_works_with_a_rollback_journal_between_processes() {
    let vault = Vault::new();
    shell(
        &vault.root(),
        "python3 -c \"import sqlite3; sqlite3.connect('d').execute('create table t (n)')\"
for n in 1 2 3; do python3 -c \"
import sqlite3
for i in range(30):
    db = sqlite3.connect('d', timeout=60, isolation_level=None)
    db.execute('begin immediate'); db.execute('insert into t values ($n)'); db.execute('commit'); db.close()
\" & done; wait
test $(python3 -c \"import sqlite3; print(sqlite3.connect('d').execute('select count(*) from t').fetchone()[0])\") = 90",
    );
}

#[test]
fn tar_brings_a_tree_in_and_out_unchanged() {
    let mut vault = Vault::new();
    let tree = source_tree(&vault);
    let tree = tree.display();
    shell(
        &vault.root(),
        &format!(
            "cd {tree}; ln -s 'file 1.rs' folder-1/src/link; ln folder-1/src/link folder-2/hard; ln 'folder-3/src/file 3.rs' folder-3/same
mkfifo folder-4/pipe; chmod 4750 'folder-1/src/file 2.rs'; chown 12:34 'folder-1/src/file 2.rs'; chmod 1777 folder-5
touch -d '1999-12-31 23:59:59.123456789' folder-6; touch -d '1969-06-01 00:00:00.5 UTC' folder-7; touch -h -d '2001-01-01 UTC' folder-1/src/link"
        ),
    );
    shell(
        &vault.root(),
        &format!("tar -C {tree} --format=posix -cpf - . | (mkdir in; tar -C in -xpf -)"),
    );
    vault.remount();
    let list = "find . -printf '%p %y %m %U %G %s %n %T@ %l\\n' | sed 's/^\\(\\S* d .*\\) [0-9]* \\([0-9]* [0-9.-]* \\)$/\\1 \\2/' | sort";
    // A folder's own size is each file system's business.
    let list = format!("{list} | awk '$2==\"d\"{{$6=\"-\"; $7=\"-\"}} {{print}}'");
    shell(
        Path::new("/"),
        &format!(
            "(cd {tree}; {list}) > {tree}.there; (cd {}; {list}) > {tree}.here; diff {tree}.there {tree}.here",
            vault.path("in").display()
        ),
    );
    shell(&vault.root(), &format!("diff -r --no-dereference -x pipe in {tree}"));
}

#[test]
fn rsync_finds_nothing_left_to_do() {
    let mut vault = Vault::new();
    let tree = source_tree(&vault);
    let tree = tree.display();
    shell(
        &vault.root(),
        &format!(
            "cd {tree}; setfattr -n user.colour -v green 'folder-1/src/file 1.rs'; setfacl -m u:12:rw,g:34:r 'folder-1/src/file 1.rs'
setfacl -d -m u:12:rwx folder-2; ln 'folder-3/src/file 3.rs' folder-3/same; truncate -s 3M sparse; mkfifo pipe"
        ),
    );
    shell(&vault.root(), &format!("rsync -aHAXS {tree}/ in/"));
    vault.remount();
    let again = shell(
        &vault.root(),
        &format!("rsync -aHAXSnic --delete {tree}/ in/; rsync -aHAXnic in/ {tree}/"),
    );
    assert_eq!(again, "");
}

#[test]
fn editors_save_by_rename() {
    let vault = Vault::new();
    python(
        &vault.root(),
        "import os
for n in range(200):
    with open('.new', 'w') as f:
        f.write(str(n) * 100); f.flush(); os.fsync(f.fileno())
    os.rename('.new', 'file')
    d = os.open('.', os.O_RDONLY); os.fsync(d); os.close(d)
    with open('file') as f: assert f.read() == str(n) * 100
assert os.listdir('.') == ['file']",
    );
}

#[test]
fn file_locks_keep_processes_apart() {
    let vault = Vault::new();
    // Four processes count in one file, once under flock and once under record locks.
    for lock in ["fcntl.flock(f, fcntl.LOCK_EX)", "fcntl.lockf(f, fcntl.LOCK_EX)"] {
        python(
            &vault.root(),
            &format!(
                "import fcntl, os
open('count', 'w').write('0')
pids = []
for _ in range(4):
    pid = os.fork()
    if pid == 0:
        for _ in range(100):
            with open('count', 'r+') as f:
                {lock}
                n = int(f.read()); f.seek(0); f.write(str(n + 1)); f.flush()
        os._exit(0)
    pids.append(pid)
for pid in pids: assert os.waitpid(pid, 0)[1] == 0
assert open('count').read() == '400', open('count').read()"
            ),
        );
    }
}

#[test]
fn memory_maps_see_what_is_written_and_the_other_way_round() {
    let mut vault = Vault::new();
    python(
        &vault.root(),
        "import mmap, os
f = os.open('f', os.O_CREAT | os.O_RDWR); os.pwrite(f, b'a' * 20000, 0)
m = mmap.mmap(f, 20000); n = mmap.mmap(f, 20000, prot=mmap.PROT_READ)
m[5000:5004] = b'MMAP'; assert n[5000:5004] == b'MMAP' and os.pread(f, 4, 5000) == b'MMAP'
os.pwrite(f, b'WRITE', 9000); assert m[9000:9005] == b'WRITE'
p = mmap.mmap(f, 20000, flags=mmap.MAP_PRIVATE); p[0:4] = b'MINE'; assert os.pread(f, 4, 0) == b'aaaa'
m.flush()",
    );
    vault.remount();
    let data = fs::read(vault.path("f")).expect("read");
    assert_eq!((&data[5000..5004], &data[9000..9005]), (&b"MMAP"[..], &b"WRITE"[..]));
}

#[test]
fn a_program_in_the_vault_can_be_run_and_not_overwritten_meanwhile() {
    let vault = Vault::new();
    shell(
        &vault.root(),
        "cp /bin/sleep .; ./sleep 1 & sleep 0.3; if (echo x >> sleep) 2>/dev/null; then exit 1; fi; wait; ./sleep 0
printf '#!/bin/sh\\necho ran\\n' > script; chmod +x script; test \"$(./script)\" = ran",
    );
}

#[test]
fn access_control_lists_are_kept_inherited_and_obeyed() {
    let mut vault = Vault::new();
    let script = "umask 022
mkdir shared; setfacl -m u:65533:rwx,d:u:65533:rw-,d:g::r-x,d:o::--- shared
touch shared/file; mkdir shared/sub
getfacl -cEn shared/file; getfacl -cEn shared/sub; stat -c %a shared/file shared/sub
chmod 600 shared/file; getfacl -cEn shared/file
setfacl -b shared/file; stat -c %a shared/file";
    let expected = "user::rw-\nuser:65533:rw-\ngroup::r-x\nmask::rw-\nother::---\n\n\
user::rwx\nuser:65533:rw-\ngroup::r-x\nmask::rwx\nother::---\ndefault:user::rwx\ndefault:user:65533:rw-\ndefault:group::r-x\ndefault:mask::rwx\ndefault:other::---\n\n\
660\n770\nuser::rw-\nuser:65533:rw-\ngroup::r-x\nmask::---\nother::---\n\n600\n";
    assert_eq!(shell(&vault.root(), script), expected);
    assert_eq!(shell(&vault.outside("ext4"), script), expected, "what ext4 does");
    shell(&vault.root(), "echo secret > acl; chmod 600 acl; setfacl -m u:65533:r acl");
    vault.remount();
    let path = vault.path("acl");
    assert_eq!(common::as_user(common::ALICE, || fs::read(&path)).expect("allowed"), b"secret\n");
    common::assert_errno(
        common::as_user(common::ALICE, || fs::write(&path, b"")),
        nix::errno::Errno::EACCES,
    );
    common::assert_errno(
        common::as_user(common::BOB, || fs::read(&path)),
        nix::errno::Errno::EACCES,
    );
}
