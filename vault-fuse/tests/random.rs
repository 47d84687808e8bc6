//! Random operations on the vault and on a plain folder beside it; both must look the same after each.

mod common;

use common::{Vault, noise};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// One operation; names are drawn from a few, so that operations meet.
#[derive(Clone, Debug)]
enum Step {
    Create(u8),
    MakeDir(u8),
    Symlink(u8, u8),
    Link(u8, u8),
    Unlink(u8),
    RemoveDir(u8),
    Rename(u8, u8),
    Write(u8, u32, u32),
    Append(u8, u32),
    Truncate(u8, u32),
    Punch(u8, u32, u32),
    Mode(u8, u32),
    Sync(u8),
    Remount,
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0..12_u8;
    let offset = prop_oneof![0..5_000_u32, 0..300_000_u32];
    let length = prop_oneof![1..100_u32, 1..70_000_u32];
    prop_oneof![
        4 => name.clone().prop_map(Step::Create),
        2 => name.clone().prop_map(Step::MakeDir),
        1 => (name.clone(), name.clone()).prop_map(|(a, b)| Step::Symlink(a, b)),
        2 => (name.clone(), name.clone()).prop_map(|(a, b)| Step::Link(a, b)),
        2 => name.clone().prop_map(Step::Unlink),
        1 => name.clone().prop_map(Step::RemoveDir),
        4 => (name.clone(), name.clone()).prop_map(|(a, b)| Step::Rename(a, b)),
        8 => (name.clone(), offset.clone(), length.clone()).prop_map(|(n, o, l)| Step::Write(n, o, l)),
        3 => (name.clone(), length.clone()).prop_map(|(n, l)| Step::Append(n, l)),
        4 => (name.clone(), offset.clone()).prop_map(|(n, o)| Step::Truncate(n, o)),
        3 => (name.clone(), offset, length).prop_map(|(n, o, l)| Step::Punch(n, o, l)),
        1 => (name.clone(), 0..0o1000_u32).prop_map(|(n, m)| Step::Mode(n, m)),
        1 => name.prop_map(Step::Sync),
        1 => Just(Step::Remount),
    ]
}

/// A path three levels deep at most: the first names are folders of the others, if they exist as such.
fn path(name: u8) -> PathBuf {
    match name {
        0..4 => PathBuf::from(format!("n{name}")),
        4..8 => PathBuf::from(format!("n0/n{name}")),
        _ => PathBuf::from(format!("n0/n4/n{name}")),
    }
}

fn apply(root: &Path, step: &Step, seed: u64) -> io::Result<()> {
    let at = |name: &u8| root.join(path(*name));
    let writing = |name| OpenOptions::new().write(true).open(at(name));
    match step {
        Step::Create(name) => File::create_new(at(name)).map(drop),
        Step::MakeDir(name) => fs::create_dir(at(name)),
        Step::Symlink(target, name) => symlink(path(*target), at(name)),
        Step::Link(from, to) => fs::hard_link(at(from), at(to)),
        Step::Unlink(name) => fs::remove_file(at(name)),
        Step::RemoveDir(name) => fs::remove_dir(at(name)),
        Step::Rename(from, to) => fs::rename(at(from), at(to)),
        Step::Write(name, offset, length) => {
            writing(name)?.write_all_at(&noise(*length as usize, seed), u64::from(*offset))
        }
        Step::Append(name, length) => {
            let mut file = OpenOptions::new().append(true).open(at(name))?;
            io::Write::write_all(&mut file, &noise(*length as usize, seed))
        }
        Step::Truncate(name, length) => writing(name)?.set_len(u64::from(*length)),
        Step::Punch(name, offset, length) => {
            let flags = nix::fcntl::FallocateFlags::FALLOC_FL_PUNCH_HOLE
                | nix::fcntl::FallocateFlags::FALLOC_FL_KEEP_SIZE;
            let file = writing(name)?;
            Ok(nix::fcntl::fallocate(&file, flags, i64::from(*offset), i64::from(*length))?)
        }
        Step::Mode(name, mode) => fs::set_permissions(at(name), fs::Permissions::from_mode(*mode)),
        Step::Sync(name) => File::open(at(name))?.sync_all(),
        Step::Remount => Ok(()),
    }
}

/// What a tree looks like: kind, permissions, links, size and content of everything in it.
fn picture(root: &Path) -> BTreeMap<PathBuf, (u32, u64, Vec<u8>)> {
    let mut seen = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("listed") {
            let path = entry.expect("an entry").path();
            let meta = fs::symlink_metadata(&path).expect("stat");
            let content = if meta.is_symlink() {
                fs::read_link(&path).expect("a link").into_os_string().into_encoded_bytes()
            } else if meta.is_dir() {
                folders.push(path.clone());
                Vec::new()
            } else {
                fs::read(&path).expect("read")
            };
            let links = if meta.is_dir() { 0 } else { meta.nlink() };
            let name = path.strip_prefix(root).expect("below the root").to_owned();
            seen.insert(name, (meta.mode(), links, content));
        }
    }
    seen
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_vault_behaves_like_a_folder(steps in prop::collection::vec(step(), 1..120)) {
        let mut vault = Vault::new();
        let plain = vault.outside("plain");
        for (seed, step) in (1..).zip(&steps) {
            if matches!(step, Step::Remount) {
                vault.remount();
            }
            let (here, there) = (apply(&vault.root(), step, seed), apply(&plain, step, seed));
            let code = |result: &io::Result<()>| result.as_ref().err().and_then(io::Error::raw_os_error);
            prop_assert_eq!(code(&here), code(&there), "{:?}", step);
        }
        prop_assert!(picture(&vault.root()) == picture(&plain));
        vault.remount();
        prop_assert!(picture(&vault.root()) == picture(&plain), "after mounting again");
    }
}
