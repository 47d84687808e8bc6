//! A file that appears under its name when it is whole, or not at all.

use super::create::{beside, put_in_place};
use super::explain::storage;
use crate::error::{Error, Result};
use crate::ui::interrupt::NoReturn;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Refuses `-` where a result has to be a file: nobody means one of that name.
pub(crate) fn must_be_file(path: &Path) -> Result<()> {
    if path != Path::new("-") {
        return Ok(());
    }
    Err(Error::user("this cannot be written to standard output").hint("name a file"))
}

/// A file in the making, under another name beside its own. Dropped before its end, it is removed.
pub(crate) struct FreshFile {
    path: PathBuf,
    beside: PathBuf,
    file: File,
    whole: bool,
}

impl FreshFile {
    /// Begins the file; one that exists is never replaced.
    pub(crate) fn begin(path: &Path) -> Result<Self> {
        if path.symlink_metadata().is_ok() {
            return Err(exists(path));
        }
        let beside = beside(path);
        // What an interrupted attempt left.
        let _ = fs::remove_file(&beside);
        let file =
            OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&beside);
        let file = file.map_err(|cause| failed(path, cause))?;
        Ok(Self { path: path.to_owned(), beside, file, whole: false })
    }

    /// Returns the name that the file `path` has until it is whole.
    pub(crate) fn name(path: &Path) -> PathBuf {
        beside(path)
    }

    /// Returns the file itself.
    pub(crate) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Gives the file its name once all of it is on the disk, which nothing interrupts.
    pub(crate) fn finish(mut self, point: &NoReturn) -> Result<()> {
        self.file.sync_all().map_err(|cause| failed(&self.path, cause))?;
        point.pass();
        put_in_place(&self.beside, &self.path).map_err(|cause| match cause.kind() {
            io::ErrorKind::AlreadyExists => exists(&self.path),
            _ => failed(&self.path, cause),
        })?;
        self.whole = true;
        Ok(())
    }
}

impl Drop for FreshFile {
    fn drop(&mut self) {
        if !self.whole {
            let _ = fs::remove_file(&self.beside);
        }
    }
}

fn exists(path: &Path) -> Error {
    Error::user(format!("'{}' exists already", path.display()))
        .hint("nothing is replaced: choose another name, or remove it first")
}

fn failed(path: &Path, cause: io::Error) -> Error {
    storage(cause, &format!("cannot write '{}'", path.display()))
}
