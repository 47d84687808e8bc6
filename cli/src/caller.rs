//! Who we work for: the user who typed the command, also when sudo stands in between.
//!
//! Files below `.tazpod` and in the state folder belong to this user after every operation, and the
//! ghost's shell runs as this user.

use crate::error::{Error, Result};
use nix::unistd::{Gid, Uid, User};
use std::env;
use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The user on whose behalf the program runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The user's id.
    pub(crate) uid: Uid,
    /// The user's primary group.
    pub(crate) gid: Gid,
    /// The user's home folder: `$HOME` if the user owns it, else what the user database says.
    pub(crate) home: PathBuf,
}

impl Caller {
    /// Finds the caller from the process and, for root, from what sudo recorded.
    pub(crate) fn detect() -> Result<Self> {
        let (uid, gid) = sudo_user().unwrap_or((Uid::effective(), Gid::effective()));
        let home = home_of(uid)?;
        Ok(Self { uid, gid, home })
    }

    /// Whether files made now would belong to somebody else than the caller.
    pub(crate) fn needs_chown(&self) -> bool {
        Uid::effective().is_root() && !self.uid.is_root()
    }

    /// Returns the folder for state that must survive outside the project, such as the rollback
    /// witnesses. `$XDG_STATE_HOME` counts only when it is absolute, as its specification says.
    pub(crate) fn state_folder(&self) -> PathBuf {
        let asked =
            env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        asked.unwrap_or_else(|| self.home.join(".local/state")).join("tazpod")
    }
}

/// Returns the user whom sudo recorded. Only root may believe it: anyone can set a variable, but
/// for root it only ever gives privilege up.
fn sudo_user() -> Option<(Uid, Gid)> {
    if !Uid::effective().is_root() {
        return None;
    }
    let number = |name: &str| env::var(name).ok()?.parse::<u32>().ok();
    Some((Uid::from_raw(number("SUDO_UID")?), Gid::from_raw(number("SUDO_GID")?)))
}

fn home_of(uid: Uid) -> Result<PathBuf> {
    if let Some(home) = env::var_os("HOME")
        && owns(uid, &home)
    {
        return Ok(PathBuf::from(home));
    }
    User::from_uid(uid).ok().flatten().map(|user| user.dir).ok_or_else(|| {
        Error::environment(format!("user {uid} has no home folder"))
            .hint("set HOME to a folder that this user owns")
    })
}

fn owns(uid: Uid, home: &OsStr) -> bool {
    let path = Path::new(home);
    path.is_absolute()
        && path.metadata().is_ok_and(|data| data.is_dir() && data.uid() == uid.as_raw())
}
