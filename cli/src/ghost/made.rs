//! Folders that ghosts made in a home folder because something is seen there: the last ghost takes them away again.
//!
//! What is made is noted beside the ghosts' folders, in one note for all ghosts of that home, since
//! another one may stand on the same folder when its maker ends. Each holds a share of the note's
//! lock, and of a lock on every such folder, since root's ghosts and rootless ones note in places of
//! their own. Only an empty folder is removed, and only the very one that was made: by device, inode and
//! birth. A folder that anybody has put something into is its own from then on. A kill between making
//! a folder and noting it leaves it there, empty.

use super::place::Taken;
use super::protocol::Raw;
use crate::sys::folder::{self, Facts};
use crate::sys::identity::{FileRights, Identity};
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

/// The longest note that is read.
const LONGEST: u64 = 64 << 10;

/// One folder that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    path: Raw,
    device: u64,
    inode: u64,
    born: Option<(i64, u32)>,
}

/// A ghost's share in the lock of the note of a home folder: while any is held nothing is taken away.
#[derive(Debug)]
pub(crate) struct Share {
    note: OwnedFd,
    folders: Vec<OwnedFd>,
}

impl Share {
    /// Takes a share, before the mount points are looked for.
    pub(crate) fn take(taken: &Taken, home: &Path, identity: &Identity) -> io::Result<Self> {
        let name = name_of(home, identity)?;
        // Whoever takes away holds this; so the note is not removed between the two steps.
        let _order = folder::lock(taken.parent())?;
        let note = folder::open_file(taken.parent(), &name, 0o600)?;
        folder::lock_shared(&note)?;
        Ok(Self { note, folders: Vec::new() })
    }

    /// Keeps every other ghost from taking a folder away. Where it cannot be locked, as on some network
    /// file systems, it is not taken away either.
    pub(crate) fn stand_on(&mut self, folder: &OwnedFd) {
        let locked = folder::reopen(folder).and_then(|opened| {
            folder::share_lock(&opened)?;
            Ok(opened)
        });
        self.folders.extend(locked);
    }

    /// Notes a folder that was just made.
    pub(crate) fn note(&self, path: &Path, made: &OwnedFd) -> io::Result<()> {
        let Facts { device, inode, .. } = folder::facts(made)?;
        let born = folder::birth(made)?;
        let note = Note { path: Raw::from(path), device, inode, born };
        // Another ghost of this home may begin at the same time; its line goes before or after.
        let mut file = File::from(folder::reopen_to_append(&self.note)?);
        file.write_all(&line(&note)?)?;
        Ok(())
    }
}

/// Removes what ghosts made in a home folder, unless one of them lives. The placeholders are gone already.
pub(crate) fn take_away(taken: &Taken, home: &Path, identity: &Identity) -> io::Result<()> {
    let Ok(name) = name_of(home, identity) else { return Ok(()) };
    let _order = folder::lock(taken.parent())?;
    let Some(file) = folder::open_existing(taken.parent(), &name)? else { return Ok(()) };
    if !folder::try_lock(&file)? {
        return Ok(());
    }
    let mut file = File::from(file);
    let mut text = Vec::new();
    (&mut file).take(LONGEST).read_to_end(&mut text)?;
    // A line that a kill cut off names a folder that stays.
    let notes =
        text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
    let left: Vec<Note> = notes.filter(|note| !remove(note, identity)).collect();
    if left.is_empty() {
        return folder::remove_file(taken.parent(), &name);
    }
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    left.iter().try_for_each(|note| file.write_all(&line(note)?))
}

fn line(note: &Note) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(note)?;
    line.push(b'\n');
    Ok(line)
}

/// Names the note of a home folder, however its path is spelled.
fn name_of(home: &Path, identity: &Identity) -> io::Result<String> {
    let rights = FileRights::of(identity.uid, identity.gid)?;
    let opened = folder::open(home);
    drop(rights);
    let Facts { device, inode, .. } = folder::facts(opened?)?;
    Ok(format!("{device:x}-{inode:x}.home"))
}

/// Removes one folder with its owner's rights; false if it is to be tried again.
fn remove(note: &Note, identity: &Identity) -> bool {
    let Ok(_rights) = FileRights::of(identity.uid, identity.gid) else { return false };
    let path = note.path.path();
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return true };
    // Whatever was put there instead is somebody's own.
    let Ok(parent) = folder::open_without_links(parent) else { return true };
    let Ok(Some(found)) = the_made_one(note, &parent, name) else { return true };
    let Ok(alone) = folder::reopen(&found) else { return false };
    if !folder::try_lock(&alone).unwrap_or(false) {
        return false;
    }
    match folder::remove_folder(&parent, name) {
        Ok(()) => true,
        // A mount that is not ours to see, in the way of nothing else.
        Err(cause) => cause.kind() != io::ErrorKind::ResourceBusy,
    }
}

/// Opens the folder of a note, unless another stands there by now.
fn the_made_one(note: &Note, parent: &OwnedFd, name: &OsStr) -> io::Result<Option<OwnedFd>> {
    let found = folder::open_below(parent, Path::new(name))?;
    let facts = folder::facts(&found)?;
    let same = (facts.device, facts.inode) == (note.device, note.inode)
        && folder::birth(&found)? == note.born;
    Ok(same.then_some(found))
}
