//! Moving a folder that lies in the clear into the vault: copy, verify, remove.
//!
//! Source and target must be on different file systems, and nothing that is mounted within either
//! is entered: so no file is its own copy, by any path, link or bind mount. The target is never an
//! overlay, which would show a file of the source as its own, and from its cache even after that was
//! removed. What could still make two names of one file (a source that is an overlay, a network file
//! system that leads back here) is seen before it does harm: a file is first renamed aside, and only
//! removed if its copy did not move with it.
//! A kill at any moment leaves each file in the source, in the target, or whole in both; the next
//! run goes on from there. Nothing in the target is ever written over.

use crate::sys::folder::{self, EntryKind};
use std::ffi::{OsStr, OsString};
use std::fs::{File, FileTimes, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What a source may have; beyond that it is left as it is.
const DEEPEST: usize = 64;
const MOST_ENTRIES: usize = 100_000;

/// How a file is called for the moment in which it is removed.
const ASIDE: &str = ".tazpod-moving.";

/// The name of a copy that is not whole yet.
const FRESH: &str = ".tazpod-copy";

/// What a migration did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// Files and links that are in the vault now, and nowhere else.
    pub(crate) moved: usize,
    /// Those whose name was taken in the vault by something else: the names that they have there.
    pub(crate) renamed: Vec<PathBuf>,
    /// What stayed where it was, and why.
    pub(crate) left: Vec<(PathBuf, String)>,
}

/// Moves everything in the folder `source` into the folder `target`.
pub(crate) fn run(source: &OwnedFd, target: &OwnedFd) -> io::Result<Report> {
    if folder::facts(source)?.device == folder::facts(target)?.device {
        // The vault itself, seen through some mount: it is where it should be.
        return Ok(Report::default());
    }
    if folder::is_overlay(target)? {
        return Err(io::Error::other("an overlay is mounted where the vault should be"));
    }
    let mut migration = Migration {
        source,
        target,
        report: Report::default(),
        copied: Vec::new(),
        folders: Vec::new(),
        entries: 0,
    };
    folder::remove_file(target, FRESH)?;
    migration.copy_folder(Path::new(""), Path::new(""), 0)?;
    migration.remove_copied();
    Ok(migration.report)
}

struct Migration<'a> {
    source: &'a OwnedFd,
    target: &'a OwnedFd,
    report: Report,
    /// Files and links of the source, each with the place of its copy in the target.
    copied: Vec<(PathBuf, PathBuf)>,
    folders: Vec<PathBuf>,
    entries: usize,
}

impl Migration<'_> {
    fn copy_folder(&mut self, from: &Path, to: &Path, depth: usize) -> io::Result<()> {
        if depth > DEEPEST {
            return Err(io::Error::other(format!("folders lie more than {DEEPEST} deep")));
        }
        let folder = match folder::open_folder_within(self.source, from) {
            Ok(folder) => folder,
            Err(cause) if depth > 0 => {
                self.leave(from, &cause);
                return Ok(());
            }
            Err(cause) => return Err(cause),
        };
        let target = folder::open_folder_within(self.target, to)?;
        for name in folder::names(&folder, MOST_ENTRIES - self.entries)? {
            self.entries += 1;
            let inner = from.join(&name);
            match folder::kind_of(&folder, &name)? {
                Some(EntryKind::Folder) => {
                    let place = to.join(make_folder(&target, &name)?);
                    self.copy_folder(&inner, &place, depth + 1)?;
                    self.folders.push(inner);
                }
                Some(EntryKind::Special) => {
                    self.leave(&inner, &io::Error::other("not a file, folder or link"));
                }
                Some(kind) => match self.copy(&folder, &target, &name, kind) {
                    Ok(placed) => {
                        if placed != without_mark(&name) {
                            self.report.renamed.push(to.join(&placed));
                        }
                        self.copied.push((inner, to.join(placed)));
                    }
                    // What cannot be read stays; a full vault ends the migration.
                    Err(Failed::Reading(cause)) => self.leave(&inner, &cause),
                    Err(Failed::Writing(cause)) => return Err(cause),
                },
                None => {}
            }
        }
        folder::sync(&target)
    }

    fn leave(&mut self, path: &Path, cause: &io::Error) {
        self.report.left.push((path.to_owned(), cause.to_string()));
    }

    /// Copies a file or link under the first name that is free or has the same content already.
    fn copy(
        &self,
        from: &OwnedFd,
        to: &OwnedFd,
        name: &OsStr,
        kind: EntryKind,
    ) -> Result<OsString, Failed> {
        let mut fresh = None;
        for candidate in candidates(without_mark(name)) {
            match folder::kind_of(to, &candidate).map_err(Failed::Writing)? {
                None => {}
                Some(there) if there == kind && is_same(from, name, to, &candidate, kind)? => {
                    return Ok(candidate);
                }
                Some(_) => continue,
            }
            if fresh.is_none() {
                self.make_copy(from, name, kind)?;
                fresh = Some(());
            }
            match folder::rename_new(self.target, OsStr::new(FRESH), to, &candidate) {
                Ok(()) => return Ok(candidate),
                Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {}
                Err(cause) => return Err(Failed::Writing(cause)),
            }
        }
        Err(Failed::Writing(io::ErrorKind::AlreadyExists.into()))
    }

    /// Makes a whole, durable copy under the name that no reader looks for.
    fn make_copy(&self, from: &OwnedFd, name: &OsStr, kind: EntryKind) -> Result<(), Failed> {
        folder::remove_file(self.target, FRESH).map_err(Failed::Writing)?;
        if kind == EntryKind::Link {
            let leads = folder::read_link(from, name).map_err(Failed::Reading)?;
            return folder::make_link(self.target, OsStr::new(FRESH), &leads)
                .map_err(Failed::Writing);
        }
        let mut file = folder::open_file_within(from, Path::new(name)).map_err(Failed::Reading)?;
        let about = file.metadata().map_err(Failed::Reading)?;
        let mut copy =
            folder::create_file(self.target, OsStr::new(FRESH), 0o600).map_err(Failed::Writing)?;
        pour(&mut file, &mut copy)?;
        let times = about.modified().map(|time| FileTimes::new().set_modified(time));
        times
            .and_then(|times| copy.set_times(times))
            .and_then(|()| {
                copy.set_permissions(Permissions::from_mode(about.permissions().mode() & 0o777))
            })
            .and_then(|()| copy.sync_all())
            .map_err(Failed::Writing)?;
        if is_same(from, name, self.target, OsStr::new(FRESH), kind)? {
            return Ok(());
        }
        let _ = folder::remove_file(self.target, FRESH);
        Err(Failed::Reading(io::Error::other("it changed while it was copied")))
    }

    /// Removes from the source what is in the target, now that all of that is durable.
    fn remove_copied(&mut self) {
        for (from, to) in std::mem::take(&mut self.copied) {
            match self.remove_one(&from, &to) {
                Ok(()) => self.report.moved += 1,
                Err(cause) => self.leave(&from, &cause),
            }
        }
        for path in std::mem::take(&mut self.folders) {
            // Those with something left in them stay.
            let _ = self.remove_folder(&path);
        }
    }

    fn remove_one(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (parent, name) = parted(self.source, from)?;
        let (copy_parent, copy_name) = parted(self.target, to)?;
        let marked = [OsStr::new(ASIDE), without_mark(name)].concat_os();
        let kind = folder::kind_of(&parent, name)?.ok_or(io::ErrorKind::NotFound)?;
        if name != marked {
            folder::rename_new(&parent, name, &parent, &marked)?;
        }
        let unharmed = folder::kind_of(&copy_parent, copy_name)? == Some(kind)
            && is_same(&parent, &marked, &copy_parent, copy_name, kind).unwrap_or(false);
        if !unharmed {
            folder::rename_new(&parent, &marked, &parent, without_mark(name))?;
            return Err(io::Error::other("it changed meanwhile"));
        }
        folder::remove_file(&parent, &marked)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        let (parent, name) = parted(self.source, path)?;
        folder::remove_folder(&parent, name)
    }
}

/// Makes a folder, or finds the one that is there; returns its name.
fn make_folder(target: &OwnedFd, name: &OsStr) -> io::Result<OsString> {
    for candidate in candidates(name) {
        match folder::kind_of(target, &candidate)? {
            None => folder::make(target, &candidate, 0o700)?,
            Some(EntryKind::Folder) => {}
            Some(_) => continue,
        }
        return Ok(candidate);
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Opens the folder that holds an entry, and returns it with the entry's name.
fn parted<'p>(root: &OwnedFd, path: &'p Path) -> io::Result<(OwnedFd, &'p OsStr)> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let parent = path.parent().unwrap_or(Path::new(""));
    Ok((folder::open_folder_within(root, parent)?, name))
}

/// Which side failed.
enum Failed {
    /// The source: the file stays where it is.
    Reading(io::Error),
    /// The vault: nothing more can be moved.
    Writing(io::Error),
}

/// Returns the names under which something may be put: its own, then ones that say where it was.
pub(super) fn candidates(name: &OsStr) -> impl Iterator<Item = OsString> + '_ {
    let numbered = (1..1000).map(|number| match number {
        1 => ".outside".to_owned(),
        more => format!(".outside-{more}"),
    });
    std::iter::once(String::new())
        .chain(numbered)
        .map(move |suffix| [name, OsStr::new(&suffix)].concat_os())
}

/// Returns a file's name without the mark of an interrupted removal.
fn without_mark(name: &OsStr) -> &OsStr {
    use std::os::unix::ffi::OsStrExt;
    let bare = name.as_bytes().strip_prefix(ASIDE.as_bytes()).filter(|rest| !rest.is_empty());
    bare.map_or(name, OsStr::from_bytes)
}

/// Joins parts of a name.
pub(super) trait Concat {
    fn concat_os(&self) -> OsString;
}

impl Concat for [&OsStr; 2] {
    fn concat_os(&self) -> OsString {
        let mut joined = self[0].to_owned();
        joined.push(self[1]);
        joined
    }
}

fn pour(from: &mut File, to: &mut File) -> Result<(), Failed> {
    let mut buffer = zeroize::Zeroizing::new(vec![0; 64 << 10]);
    loop {
        let count = from.read(&mut buffer).map_err(Failed::Reading)?;
        let Some(part) = buffer.get(..count).filter(|part| !part.is_empty()) else { return Ok(()) };
        to.write_all(part).map_err(Failed::Writing)?;
    }
}

/// Whether two entries of the same kind have the same content.
fn is_same(
    one: &OwnedFd,
    name: &OsStr,
    other: &OwnedFd,
    other_name: &OsStr,
    kind: EntryKind,
) -> Result<bool, Failed> {
    if kind == EntryKind::Link {
        let leads = folder::read_link(one, name).map_err(Failed::Reading)?;
        let copy = folder::read_link(other, other_name).map_err(Failed::Writing)?;
        return Ok(leads == copy);
    }
    let file = folder::open_file_within(one, Path::new(name)).map_err(Failed::Reading)?;
    let copy = folder::open_file_within(other, Path::new(other_name)).map_err(Failed::Writing)?;
    same_content(file, copy).map_err(Failed::Reading)
}

/// Whether two files have the same bytes from where they stand to their ends.
pub(super) fn same_content(mut one: File, mut other: File) -> io::Result<bool> {
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let mut buffers = [(); 2].map(|()| zeroize::Zeroizing::new(Vec::with_capacity(64 << 10)));
    loop {
        let [left, right] = &mut buffers;
        left.clear();
        right.clear();
        (&mut one).take(64 << 10).read_to_end(left)?;
        (&mut other).take(64 << 10).read_to_end(right)?;
        if left[..] != right[..] {
            return Ok(false);
        }
        if left.is_empty() {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests;
