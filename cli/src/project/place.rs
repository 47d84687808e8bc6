//! Where the project is.
//!
//! It is found upward from the working folder, as git finds its own, so that a subfolder never
//! gets a second vault by accident. Without a `.tazpod` anywhere, the root of the git working tree
//! is taken, else the working folder itself.

use crate::error::{Error, Result};
use nix::unistd::Uid;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A project folder; its `.tazpod` may not exist yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Project {
    root: PathBuf,
}

impl Project {
    /// Finds the project that `start` belongs to.
    pub(crate) fn find(start: &Path) -> Result<Self> {
        let start = fs::canonicalize(start).map_err(|cause| {
            Error::user(format!("cannot open the folder '{}'", start.display())).caused_by(cause)
        })?;
        let with = |name: &str| start.ancestors().find(|folder| folder.join(name).exists());
        match with(".tazpod") {
            Some(root) => {
                refuse_stranger(&root.join(".tazpod"))?;
                Ok(Self { root: root.to_owned() })
            }
            None => Ok(Self { root: with(".git").unwrap_or(&start).to_owned() }),
        }
    }

    /// Returns the project's folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the project's own folder of ours, `.tazpod`.
    pub(crate) fn folder(&self) -> PathBuf {
        self.root.join(".tazpod")
    }

    /// Returns the configuration's place.
    pub(crate) fn config_file(&self) -> PathBuf {
        self.folder().join("config.yaml")
    }

    /// Returns the place of the map from secrets to files and variables.
    pub(crate) fn secrets_file(&self) -> PathBuf {
        self.root.join("secrets.yml")
    }

    /// Whether `.tazpod` is there.
    pub(crate) fn exists(&self) -> bool {
        self.folder().is_dir()
    }

    /// Returns a path as the person would write it: relative to the project where it lies within.
    pub(crate) fn shown<'a>(&self, path: &'a Path) -> std::path::Display<'a> {
        path.strip_prefix(&self.root).unwrap_or(path).display()
    }
}

/// Refuses a `.tazpod` of somebody else: in a shared folder above, such as /tmp, anyone could put
/// one and so decide what a stranger's `pull` opens and asks a passphrase for.
fn refuse_stranger(folder: &Path) -> Result<()> {
    let owner = fs::symlink_metadata(folder)
        .map_err(|cause| {
            Error::environment(format!("cannot look at '{}'", folder.display())).caused_by(cause)
        })?
        .uid();
    let me = Uid::effective();
    if me.is_root() || owner == me.as_raw() || owner == 0 {
        return Ok(());
    }
    Err(Error::user(format!("'{}' belongs to another user (uid {owner})", folder.display()))
        .hint("a project is only used by its owner; work in a copy of your own"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn project_is_found_upward_and_git_root_is_the_fallback() {
        let dir = tempfile::tempdir().unwrap();
        let top = fs::canonicalize(dir.path()).unwrap();
        let deep = top.join("repo/a/b");
        fs::create_dir_all(&deep).unwrap();
        fs::create_dir(top.join("repo/.git")).unwrap();
        assert_eq!(Project::find(&deep).unwrap().root(), top.join("repo"));
        fs::create_dir(top.join(".tazpod")).unwrap();
        assert_eq!(Project::find(&deep).unwrap().root(), top);
        fs::create_dir(deep.join(".tazpod")).unwrap();
        assert_eq!(Project::find(&deep).unwrap().root(), deep);
    }
}
