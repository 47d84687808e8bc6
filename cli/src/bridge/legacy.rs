//! Sessions that the older Go program kept under other names in the vault.
//!
//! Within one file system a rename moves everything at once and is safe at any moment. What has the
//! same name in both places and another content is kept beside the newer program's.

use super::Bridge;
use super::migrate::{candidates, same_content};
use crate::sys::folder::{self, EntryKind};
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// The names that the older program gave to what is now the session's folder.
const NAMES: [&str; 3] = [".infisical-storage", ".infisical-auth", ".auth-infisical"];

const DEEPEST: usize = 64;
const MOST_ENTRIES: usize = 100_000;

/// Moves what lies under an old name in the vault; returns the names that were found.
pub(crate) fn run(vault: &OwnedFd) -> io::Result<Vec<&'static str>> {
    let mut found = Vec::new();
    let new = OsStr::new(Bridge::Session.in_vault());
    for old in NAMES {
        if folder::kind_of(vault, OsStr::new(old))? != Some(EntryKind::Folder) {
            continue;
        }
        merge(vault, OsStr::new(old), vault, new, 0)?;
        folder::sync(folder::open_folder_within(vault, Path::new(""))?)?;
        found.push(old);
    }
    Ok(found)
}

/// Moves an entry to a place that may be taken: folders are joined, equal files become one, and
/// anything else gets a name of its own.
fn merge(
    from: impl AsFd,
    name: &OsStr,
    to: impl AsFd,
    wanted: &OsStr,
    depth: usize,
) -> io::Result<()> {
    if depth > DEEPEST {
        return Err(io::Error::other(format!("folders lie more than {DEEPEST} deep")));
    }
    let (from, to) = (from.as_fd(), to.as_fd());
    for candidate in candidates(wanted) {
        match folder::rename_new(from, name, to, &candidate) {
            Ok(()) => return Ok(()),
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {}
            Err(cause) => return Err(cause),
        }
        let kinds = (folder::kind_of(from, name)?, folder::kind_of(to, &candidate)?);
        match kinds {
            (Some(EntryKind::Folder), Some(EntryKind::Folder)) => {
                let inner = folder::open_folder_within(from, Path::new(name))?;
                let place = folder::open_folder_within(to, Path::new(&candidate))?;
                for entry in folder::names(&inner, MOST_ENTRIES)? {
                    merge(&inner, &entry, &place, &entry, depth + 1)?;
                }
                folder::sync(&place)?;
                return folder::remove_folder(from, name);
            }
            (Some(EntryKind::File), Some(EntryKind::File)) => {
                let old = folder::open_file_within(from, Path::new(name))?;
                let new = folder::open_file_within(to, Path::new(&candidate))?;
                if same_content(old, new)? {
                    return folder::remove_file(from, name);
                }
            }
            _ => {}
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;

    fn vault() -> (tempfile::TempDir, OwnedFd) {
        let dir = tempfile::tempdir().unwrap();
        let opened = folder::open(dir.path()).unwrap();
        (dir, opened)
    }

    #[test]
    fn old_names_become_the_new_one_and_nothing_is_written_over() {
        let (dir, opened) = vault();
        let at = |name: &str| dir.path().join(name);
        for (old, content) in [(NAMES[0], "one"), (NAMES[1], "two"), (NAMES[2], "one")] {
            fs::create_dir_all(at(old).join("deep")).unwrap();
            fs::write(at(old).join("infisical-config.json"), content).unwrap();
            fs::write(at(old).join("deep").join(old), old).unwrap();
        }
        assert_eq!(run(&opened).unwrap(), NAMES);
        let new = at(".infisical-vault");
        let read = |name: &str| fs::read_to_string(new.join(name)).unwrap();
        assert_eq!(read("infisical-config.json"), "one");
        assert_eq!(read("infisical-config.json.outside"), "two");
        for old in NAMES {
            assert!(!at(old).exists());
            assert_eq!(read(&format!("deep/{old}")), old);
        }
        assert_eq!(run(&opened).unwrap(), [""; 0]);
    }

    #[test]
    fn a_link_under_an_old_name_is_left_alone() {
        let (dir, opened) = vault();
        std::os::unix::fs::symlink("/etc", dir.path().join(NAMES[0])).unwrap();
        assert_eq!(run(&opened).unwrap(), [""; 0]);
        assert!(dir.path().join(NAMES[0]).is_symlink());
    }
}
