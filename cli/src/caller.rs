//! Who we work for: the user who typed the command, also when sudo stands in between.
//!
//! Files below `.tazpod` and in the state folder belong to this user after every operation, and the
//! ghost's shell runs as this user.

use crate::error::{Error, Result};
use nix::errno::Errno;
use nix::unistd::{Gid, Uid, User, getgroups, setegid, seteuid, setgroups};
use std::env;
use std::ffi::{OsStr, OsString};
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

    /// Acts as the caller until the guard is dropped: files that are made belong to the caller, and
    /// a link that the caller planted leads nowhere that the caller could not go. Changes nothing
    /// unless root works on behalf of somebody else.
    pub(crate) fn act(&self) -> Result<ActingAs> {
        let guard = ActingAs { groups: None };
        if !Uid::effective().is_root() || self.uid.is_root() {
            return Ok(guard);
        }
        let failed = |cause: Errno| {
            Error::environment(format!("cannot act as user {}", self.uid)).caused_by(cause)
        };
        let guard = ActingAs { groups: Some(getgroups().map_err(failed)?) };
        setgroups(&[self.gid]).map_err(failed)?;
        setegid(self.gid).map_err(failed)?;
        seteuid(self.uid).map_err(failed)?;
        Ok(guard)
    }

    /// Returns the variables that tell programs who the caller is, where the environment may tell it
    /// wrong: sudo names root, and a `HOME` that cannot be used is not where the vault opens.
    pub(crate) fn variables(&self) -> Vec<(&'static str, OsString)> {
        let mut variables = vec![("HOME", self.home.clone().into_os_string())];
        let behind_sudo = Uid::effective().is_root() && !self.uid.is_root();
        if behind_sudo && let Ok(Some(user)) = User::from_uid(self.uid) {
            variables.extend(["USER", "LOGNAME"].map(|name| (name, user.name.clone().into())));
        }
        variables
    }

    /// Returns the folder for state that must survive outside the project, such as the rollback
    /// witnesses. `$XDG_STATE_HOME` counts only when it is absolute, as its specification says.
    pub(crate) fn state_folder(&self) -> PathBuf {
        let asked =
            env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        asked.unwrap_or_else(|| self.home.join(".local/state")).join("tazpod")
    }
}

/// Root acts as somebody else while this lives.
#[must_use]
pub(crate) struct ActingAs {
    groups: Option<Vec<Gid>>,
}

impl Drop for ActingAs {
    fn drop(&mut self) {
        if let Some(groups) = &self.groups {
            let restored = seteuid(Uid::from_raw(0))
                .and_then(|()| setegid(Gid::from_raw(0)))
                .and_then(|()| setgroups(groups));
            // The saved ids are still root's; if going back fails all the same, the program stays
            // what it is now, with less privilege than it had.
            let _ = restored;
        }
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
