//! The folder that an image is built from, as a tar that is made while it is sent.
//!
//! The project's vault and the assistant's memories never go along, whatever `.dockerignore` says: an
//! image is handed around, and neither belongs in one.

use super::ignore::Ignore;
use crate::error::{Error, Result};
use crate::units::ByteSize;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tar::{Builder, EntryType, Header};

/// The name that a Dockerfile from outside of the context gets in it.
const OUTSIDER: &str = ".tazpod-dockerfile";

/// The most bytes that a `.dockerignore` may have.
const LARGEST_IGNORE: u64 = 1 << 20;

/// A folder to build from.
#[derive(Debug)]
pub(crate) struct Context {
    root: PathBuf,
    dockerfile: PathBuf,
    name: String,
    ignore: Ignore,
    never: Vec<PathBuf>,
}

impl Context {
    /// Looks at the folder and its Dockerfile. What `never` names stays out in any case.
    pub(crate) fn new(root: &Path, dockerfile: &Path, never: Vec<PathBuf>) -> Result<Self> {
        let real = |path: &Path, what: &str| {
            fs::canonicalize(path).map_err(|cause| {
                Error::config(format!("there is no {what} at '{}'", path.display()))
                    .caused_by(cause)
                    .hint("'build' in .tazpod/config.yaml says where; relative paths count from the project's folder")
            })
        };
        let root = real(root, "folder to build from")?;
        if !root.is_dir() {
            return Err(Error::config(format!("'{}' is no folder to build from", root.display())));
        }
        let dockerfile = real(dockerfile, "Dockerfile")?;
        let name = match dockerfile.strip_prefix(&root).ok().and_then(Path::to_str) {
            Some(inside) => inside.to_owned(),
            None => OUTSIDER.to_owned(),
        };
        let ignore = read_ignore(&dockerfile, &root)?;
        Ok(Self { root, dockerfile, name, ignore, never })
    }

    /// Returns the Dockerfile's name in the tar.
    pub(super) fn dockerfile(&self) -> &str {
        &self.name
    }

    /// Writes the tar.
    pub(super) fn write(&self, to: impl Write) -> io::Result<()> {
        let mut tar = Builder::new(to);
        // The Dockerfile is needed even where it is ignored.
        append(&mut tar, &self.dockerfile, Path::new(&self.name))?;
        self.folder(&mut tar, Path::new(""))?;
        tar.finish()
    }

    fn folder(&self, tar: &mut Builder<impl Write>, below: &Path) -> io::Result<()> {
        let folder = self.root.join(below);
        let mut names: Vec<_> = fs::read_dir(&folder)
            .and_then(|entries| {
                entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()
            })
            .map_err(|cause| about(&folder, &cause))?;
        names.sort_unstable();
        for name in names {
            let inside = below.join(&name);
            let path = self.root.join(&inside);
            if self.never.contains(&path) || inside.as_os_str() == OsStr::new(&self.name) {
                continue;
            }
            let excluded = self.ignore.excludes(&inside.to_string_lossy());
            let is_dir = fs::symlink_metadata(&path).is_ok_and(|facts| facts.is_dir());
            if !excluded {
                append(tar, &path, &inside)?;
            }
            if is_dir && (!excluded || self.ignore.has_exceptions()) {
                self.folder(tar, &inside)?;
            }
        }
        Ok(())
    }
}

/// The ignore file of this Dockerfile alone comes before that of the folder.
fn read_ignore(dockerfile: &Path, root: &Path) -> Result<Ignore> {
    let mut own = dockerfile.as_os_str().to_owned();
    own.push(".dockerignore");
    for path in [PathBuf::from(own), root.join(".dockerignore")] {
        let mut text = String::new();
        let read = File::open(&path)
            .and_then(|file| file.take(LARGEST_IGNORE + 1).read_to_string(&mut text));
        match read {
            Ok(len) if len as u64 > LARGEST_IGNORE => {
                let path = path.display();
                // Its end may be what keeps a secret out of the image.
                return Err(Error::config(format!("'{path}' is too long"))
                    .hint(format!("it may have {}", ByteSize(LARGEST_IGNORE))));
            }
            Ok(_) => {
                return Ignore::parse(&text).map_err(|fault| {
                    let path = path.display();
                    Error::config(format!("{path}:{}: {}", fault.line, fault.what))
                        .hint("a pattern is as for 'docker build': a '\\' before a character takes its meaning away")
                });
            }
            Err(cause) if cause.kind() == ErrorKind::NotFound => {}
            Err(cause) => {
                let path = path.display();
                return Err(Error::config(format!("cannot read '{path}'")).caused_by(cause));
            }
        }
    }
    Ok(Ignore::default())
}

/// Adds one entry with its own permissions and times; owners become root, as docker has it.
fn append(tar: &mut Builder<impl Write>, path: &Path, name: &Path) -> io::Result<()> {
    let failed = |cause: io::Error| about(path, &cause);
    let facts = match fs::symlink_metadata(path) {
        Ok(facts) => facts,
        // It went away while the folder was read.
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(()),
        Err(cause) => return Err(failed(cause)),
    };
    let mut header = Header::new_gnu();
    header.set_mode(facts.mode() & 0o7777);
    header.set_mtime(u64::try_from(facts.mtime()).unwrap_or(0));
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    if facts.is_symlink() {
        header.set_entry_type(EntryType::Symlink);
        let target = fs::read_link(path).map_err(failed)?;
        return tar.append_link(&mut header, name, target).map_err(failed);
    }
    if facts.is_dir() {
        header.set_entry_type(EntryType::Directory);
        return tar.append_data(&mut header, name, io::empty()).map_err(failed);
    }
    if !facts.is_file() {
        // Sockets, pipes and devices: nothing that an image could hold.
        return Ok(());
    }
    append_file(tar, path, name, &facts, &mut header).map_err(failed)
}

fn append_file(
    tar: &mut Builder<impl Write>,
    path: &Path,
    name: &Path,
    facts: &Metadata,
    header: &mut Header,
) -> io::Result<()> {
    header.set_entry_type(EntryType::Regular);
    header.set_size(facts.len());
    let mut counted = Counted { file: File::open(path)?.take(facts.len()), count: 0 };
    tar.append_data(header, name, &mut counted)?;
    if counted.count == facts.len() {
        return Ok(());
    }
    // The header has promised more: what follows would be read as its content.
    Err(io::Error::other("it became shorter while it was read"))
}

struct Counted {
    file: io::Take<File>,
    count: u64,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.count += count as u64;
        Ok(count)
    }
}

fn about(path: &Path, cause: &io::Error) -> io::Error {
    io::Error::new(cause.kind(), format!("'{}' cannot go into the build: {cause}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::BTreeMap;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn sent(context: &Context) -> BTreeMap<String, (u32, Vec<u8>)> {
        let mut bytes = Vec::new();
        context.write(&mut bytes).unwrap();
        let mut archive = tar::Archive::new(&bytes[..]);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let mode = entry.header().mode().unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            if let Some(target) = entry.link_name().unwrap() {
                content = target.display().to_string().into_bytes();
            }
            (name, (mode, content))
        });
        entries.collect()
    }

    fn project() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in [
            ("Dockerfile", "FROM x"),
            (".dockerignore", "*.log\nDockerfile\nsecret\n!secret/public\n"),
            ("a.log", "no"),
            ("src/run", "yes"),
            ("secret/key", "no"),
            ("secret/public", "yes"),
            (".tazpod/vault/vault.img", "no"),
            (".tazpod/config.yaml", "yes"),
        ] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        fs::set_permissions(dir.path().join("src/run"), fs::Permissions::from_mode(0o750)).unwrap();
        symlink("../nowhere", dir.path().join("link")).unwrap();
        dir
    }

    #[test]
    fn what_is_ignored_stays_out_and_the_vault_in_any_case() {
        let dir = project();
        let root = fs::canonicalize(dir.path()).unwrap();
        let never = vec![root.join(".tazpod/vault")];
        let context = Context::new(&root, &root.join("Dockerfile"), never).unwrap();
        let sent = sent(&context);
        let names: Vec<_> = sent.keys().map(|name| name.trim_end_matches('/')).collect();
        assert_eq!(
            names,
            [
                ".dockerignore",
                ".tazpod",
                ".tazpod/config.yaml",
                "Dockerfile",
                "link",
                "secret/public",
                "src",
                "src/run"
            ]
        );
        assert_eq!(sent.get("src/run").unwrap(), &(0o750, b"yes".to_vec()));
        assert_eq!(sent.get("link").unwrap().1, b"../nowhere");
        assert_eq!(context.dockerfile(), "Dockerfile");
    }

    #[test]
    fn a_dockerfile_from_elsewhere_and_long_names_go_along() {
        let dir = project();
        let elsewhere = tempfile::tempdir().unwrap();
        let dockerfile = elsewhere.path().join("File");
        fs::write(&dockerfile, "FROM y").unwrap();
        fs::write(elsewhere.path().join("File.dockerignore"), "*\n!src\n").unwrap();
        let long = format!("src/{}", "n".repeat(200));
        fs::write(dir.path().join(&long), "long").unwrap();
        let context = Context::new(dir.path(), &dockerfile, Vec::new()).unwrap();
        let sent = sent(&context);
        assert_eq!(sent.get(OUTSIDER).unwrap().1, b"FROM y");
        assert_eq!(sent.get(&long).unwrap().1, b"long");
        assert_eq!(sent.len(), 4, "{:?}", sent.keys());
    }

    #[test]
    fn what_is_missing_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error =
            Context::new(dir.path(), &dir.path().join("Dockerfile"), Vec::new()).unwrap_err();
        assert!(error.to_string().contains("no Dockerfile at"), "{error}");
        let error = Context::new(&dir.path().join("x"), dir.path(), Vec::new()).unwrap_err();
        assert!(error.to_string().contains("no folder to build from at"), "{error}");
    }

    #[test]
    fn an_ignore_file_that_is_not_read_whole_is_refused() {
        let dir = project();
        let patterns = |count: u64| "x\n".repeat(usize::try_from(count / 2).unwrap());
        for (len, accepted) in [(LARGEST_IGNORE, true), (LARGEST_IGNORE + 2, false)] {
            fs::write(dir.path().join(".dockerignore"), patterns(len)).unwrap();
            let read = read_ignore(&dir.path().join("Dockerfile"), dir.path());
            assert_eq!(read.is_ok(), accepted, "{len} bytes");
        }
        fs::write(dir.path().join(".dockerignore"), "*.log\nsecret[\n").unwrap();
        let error = read_ignore(&dir.path().join("Dockerfile"), dir.path()).unwrap_err();
        assert!(error.to_string().contains(".dockerignore:2: a '[' begins a set"), "{error}");
    }
}
