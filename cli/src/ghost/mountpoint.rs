//! `~/secrets` and the bridges, where folders of the vault are seen: found without following links,
//! and held in place outside.

use super::place::{PLACEHOLDER, Taken};
use crate::error::{Error, Result};
use crate::sys::folder::{self, Facts};
use crate::sys::identity::FileRights;
use crate::sys::mount::{self, MountLine};
use nix::unistd::{Gid, Uid};
use rustix::mount::MountFlags;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Where the whole vault is seen, in the home folder.
pub(crate) const SECRETS: &str = "secrets";

/// The mount point as it was found; found again later, it must be the same folder.
#[derive(Clone, Debug)]
pub(crate) struct MountPoint {
    /// Its path, free of links.
    pub(crate) path: PathBuf,
    /// Whether it was missing, and was made to be one.
    pub(crate) made: bool,
    facts: Facts,
}

/// How the mount point is kept from being moved or removed by the caller's other processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// By a mount of ours outside.
    Placeholder,
    /// By a mount that was there before, as containers are set up.
    Already,
    /// Not at all.
    No,
}

/// Finds the folder `name` in the home folder with the caller's rights, makes it if it is missing, and
/// opens it.
pub(crate) fn find(home: &Path, name: &str, uid: Uid, gid: Gid) -> Result<(MountPoint, OwnedFd)> {
    let shown = home.join(name);
    let failed = |cause: io::Error| {
        Error::environment(format!("cannot use the mount point '{}'", shown.display()))
            .caused_by(cause)
            .hint("it must be a folder of yours in your home, not a link")
    };
    let rights = FileRights::of(uid, gid).map_err(failed)?;
    let home = std::fs::canonicalize(home).map_err(failed)?;
    let parent = folder::open_without_links(&home).map_err(failed)?;
    let made = folder::make_missing(&parent, name, 0o700).map_err(failed)?;
    let opened = folder::open_below(&parent, Path::new(name)).map_err(failed)?;
    drop(rights);
    let facts = folder::facts(&opened).map_err(failed)?;
    // What root mounted there cannot be changed by anybody else either.
    let roots = facts.uid == 0 && mount::is_mount_root(&opened).map_err(failed)?;
    if facts.uid != uid.as_raw() && !roots {
        return Err(failed(io::Error::other("it belongs to another user")));
    }
    Ok((MountPoint { path: home.join(name), made, facts }, opened))
}

impl MountPoint {
    /// Opens the mount point again, in whichever namespace this process is in now.
    pub(crate) fn reopen(&self) -> io::Result<OwnedFd> {
        let opened = folder::open_without_links(&self.path)?;
        let now = folder::facts(&opened)?;
        if (now.device, now.inode) == (self.facts.device, self.facts.inode) {
            return Ok(opened);
        }
        Err(io::Error::other("it was replaced meanwhile"))
    }

    /// Keeps the mount point in place outside for the ghost's life: as a mount point it can be
    /// neither moved nor removed, and it reads as it was but takes no writes.
    pub(crate) fn hold(&self, opened: &OwnedFd, taken: &Taken, rootless: bool) -> Result<Held> {
        let failed = |cause: io::Error| {
            Error::environment(format!("cannot hold the mount point '{}'", self.path.display()))
                .caused_by(cause)
        };
        if mount::is_mount_root(opened).map_err(failed)? {
            return Ok(Held::Already);
        }
        if rootless {
            return Ok(Held::No);
        }
        // Noted first: whoever sweeps after a kill between the two lines must know.
        note(taken, &self.path).map_err(failed)?;
        match mount::bind(&folder::path_of(opened), opened) {
            Ok(()) => {}
            // A container without CAP_SYS_ADMIN outside of U.
            // The note of a placeholder that is not there harms nobody.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(Held::No),
            Err(error) => return Err(failed(error)),
        }
        let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
        let placeholder = self.reopen().map_err(failed)?;
        mount::set_bind_flags(&placeholder, flags).map_err(failed)?;
        Ok(Held::Placeholder)
    }
}

/// Adds a path to the note; each ends with a zero byte, which no path contains.
fn note(taken: &Taken, path: &Path) -> io::Result<()> {
    use std::io::{Seek, SeekFrom, Write};
    let mut file = std::fs::File::from(folder::open_file(taken.folder(), PLACEHOLDER, 0o600)?);
    file.seek(SeekFrom::End(0))?;
    file.write_all(&[path.as_os_str().as_bytes(), b"\0"].concat())
}

/// Removes the placeholders that this or an earlier ghost put there. Only a mount of a noted folder
/// over itself is one; anything else is left alone.
pub(crate) fn release(taken: &Taken) -> io::Result<()> {
    let file = folder::open_file(taken.folder(), PLACEHOLDER, 0o600)?;
    let mut noted = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(std::fs::File::from(file), 64 << 10), &mut noted)?;
    for path in noted.split(|byte| *byte == 0).filter(|path| !path.is_empty()) {
        release_one(&PathBuf::from(std::ffi::OsString::from_vec(path.to_vec())))?;
    }
    folder::remove_file(taken.folder(), PLACEHOLDER)
}

fn release_one(path: &Path) -> io::Result<()> {
    // Not until the first line that is no placeholder: kills at bad moments may have left two.
    while let Some(line) = mount::table()?.into_iter().rev().find(|line| line.mount_point == path) {
        if !covers_itself(&line, &mount::table()?) {
            break;
        }
        mount::detach(&line.mount_point)?;
    }
    Ok(())
}

/// Whether a mount shows the very folder that it hides.
fn covers_itself(line: &MountLine, table: &[MountLine]) -> bool {
    let Some(parent) = table.iter().find(|parent| parent.id == line.parent) else { return false };
    let Ok(below) = line.mount_point.strip_prefix(&parent.mount_point) else { return false };
    let hidden =
        if below.as_os_str().is_empty() { parent.root.clone() } else { parent.root.join(below) };
    parent.device == line.device && line.root == hidden
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_a_folder_over_itself_counts_as_placeholder() {
        let table = mount::parse_table(
            b"1 0 8:1 / / rw - ext4 a rw\n\
              2 1 8:1 /home/u/secrets /home/u/secrets ro - ext4 a rw\n\
              3 1 8:1 /etc /home/v/secrets ro - ext4 a rw\n\
              4 1 0:9 / /home/w/secrets ro - tmpfs a rw\n\
              5 2 8:1 /home/u/secrets /home/u/secrets ro - ext4 a rw\n",
        )
        .unwrap();
        let verdicts: Vec<bool> = table.iter().map(|line| covers_itself(line, &table)).collect();
        assert_eq!(verdicts, [false, true, false, false, true]);
    }

    #[test]
    fn link_as_mount_point_is_refused() {
        let home = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc", home.path().join(SECRETS)).unwrap();
        assert!(find(home.path(), SECRETS, Uid::effective(), Gid::effective()).is_err());
    }

    #[test]
    fn missing_mount_point_is_made_and_a_replaced_one_noticed() {
        let home = tempfile::tempdir().unwrap();
        let (point, _) = find(home.path(), SECRETS, Uid::effective(), Gid::effective()).unwrap();
        assert!(point.reopen().is_ok());
        std::fs::rename(&point.path, home.path().join("moved")).unwrap();
        std::fs::create_dir(&point.path).unwrap();
        assert!(point.reopen().is_err());
    }
}
