//! Making what a project lacks. Nothing that exists is overwritten; an ignore file that lacks a line
//! gets it at its end, since what it protects must never be committed.

use super::Project;
use crate::args::project::Vertical;
use crate::error::{Error, Result};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use vault_core::ports::{Entropy, SystemEntropy};

/// What must never be committed: images, and the notes and locks beside them.
const IGNORED: [&str; 4] = ["/vault/", "*.img", "*.in-use", "*.lock"];

const SECRETS: &str = include_str!("secrets.yml");

/// Makes everything that `init` promises; returns what was made, as a person would write it.
pub(crate) fn complete(project: &Project, vertical: Vertical) -> Result<Vec<String>> {
    let mut made = protect(project)?;
    let config = config_text(&container_name(project.root())?, vertical);
    let files = [(project.config_file(), config.as_str()), (project.secrets_file(), SECRETS)];
    for (path, content) in files {
        made.extend(file(project, &path, content)?);
    }
    let memories = project.root().join(".gemini");
    made.extend(folder(project, &memories, 0o700)?);
    made.extend(file(project, &memories.join(".gitignore"), "*\n")?);
    Ok(made)
}

/// Makes `.tazpod` and the ignore file in it, which every new vault needs; returns what was made.
pub(crate) fn protect(project: &Project) -> Result<Vec<String>> {
    let mut made = Vec::from_iter(folder(project, &project.folder(), 0o755)?);
    let ignore = project.folder().join(".gitignore");
    let lines = IGNORED.map(|line| format!("{line}\n")).concat();
    match file(project, &ignore, &lines)? {
        Some(path) => made.push(path),
        None => made.extend(complete_ignore(project, &ignore)?),
    }
    Ok(made)
}

/// Makes the folder of a new vault image, readable by its owner alone, with the ignore file that
/// keeps the image out of git.
pub(crate) fn vault_folder(project: &Project, image: &Path) -> Result<()> {
    if image.starts_with(project.folder()) {
        protect(project)?;
    }
    match image.parent() {
        Some(parent) if !parent.is_dir() => folder(project, parent, 0o700).map(drop),
        _ => Ok(()),
    }
}

fn complete_ignore(project: &Project, path: &Path) -> Result<Option<String>> {
    let failed = |cause| cannot("complete", project, path, cause);
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(1 << 20).read_to_string(&mut text))
        .map_err(failed)?;
    let has = |line: &str| text.lines().any(|there| there.trim() == line);
    let mut missing = String::new();
    for line in IGNORED.iter().filter(|line| !has(line)) {
        missing += line;
        missing.push('\n');
    }
    if missing.is_empty() {
        return Ok(None);
    }
    if !text.is_empty() && !text.ends_with('\n') {
        missing.insert(0, '\n');
    }
    let mut file = OpenOptions::new().append(true).open(path).map_err(failed)?;
    file.write_all(missing.as_bytes()).map_err(failed)?;
    Ok(Some(project.shown(path).to_string()))
}

fn folder(project: &Project, path: &Path, mode: u32) -> Result<Option<String>> {
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => Ok(Some(format!("{}/", project.shown(path)))),
        Err(_) if path.is_dir() => Ok(None),
        Err(cause) => Err(cannot("make the folder", project, path, cause)),
    }
}

/// Writes a file beside its place and links it there, so that it appears whole or not at all and
/// never in the place of another.
fn file(project: &Project, path: &Path, content: &str) -> Result<Option<String>> {
    if path.symlink_metadata().is_ok() {
        return Ok(None);
    }
    let fresh = beside(path);
    let placed = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(&fresh)
        .and_then(|mut file| file.write_all(content.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| fs::hard_link(&fresh, path).or_else(|_| place_by_rename(&fresh, path)));
    let _ = fs::remove_file(&fresh);
    match placed {
        Ok(()) => Ok(Some(project.shown(path).to_string())),
        Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => Ok(None),
        Err(cause) => Err(cannot("write", project, path, cause)),
    }
}

/// For file systems without hard links.
fn place_by_rename(fresh: &Path, path: &Path) -> io::Result<()> {
    if path.symlink_metadata().is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    fs::rename(fresh, path)
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    name.into()
}

fn cannot(what: &str, project: &Project, path: &Path, cause: io::Error) -> Error {
    let error = Error::environment(format!("cannot {what} '{}'", project.shown(path)));
    let hint = match cause.kind() {
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            "the project's folder must be writable by you"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "the disk is full",
        _ => return error.caused_by(cause),
    };
    error.caused_by(cause).hint(hint)
}

/// Returns a name that no other project of the engine has.
fn container_name(root: &Path) -> Result<String> {
    let mut bytes = [0; 8];
    SystemEntropy
        .fill(&mut bytes)
        .map_err(|cause| Error::environment("cannot make up a name").caused_by(cause))?;
    Ok(named(root, u64::from_le_bytes(bytes)))
}

/// Returns `tazpod-<folder>-<7 digits>`: unique enough for one engine, and a name that it takes.
pub(crate) fn named(root: &Path, number: u64) -> String {
    let folder = root.file_name().map(|name| name.to_string_lossy().to_lowercase());
    let legal = |c: char| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '-' };
    let folder: String = folder.unwrap_or_default().chars().map(legal).take(40).collect();
    let folder = folder.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let folder = if folder.is_empty() { "project" } else { folder };
    format!("tazpod-{folder}-{:07}", number % 10_000_000)
}

fn config_text(name: &str, vertical: Vertical) -> String {
    let vertical = match vertical {
        Vertical::Base => "base",
        Vertical::Infisical => "infisical",
        Vertical::K8s => "k8s",
        Vertical::Gemini => "gemini",
    };
    include_str!("config.yaml").replace("{name}", name).replace("{vertical}", vertical)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::Config;

    fn project() -> (tempfile::TempDir, Project) {
        let dir = tempfile::tempdir().unwrap();
        let project = Project::find(dir.path()).unwrap();
        (dir, project)
    }

    #[test]
    fn what_is_made_can_be_read_back() {
        let (_dir, project) = project();
        complete(&project, Vertical::K8s).unwrap();
        let config = Config::load(&project.config_file(), "config.yaml").unwrap();
        assert_eq!(config.image.as_deref(), Some("tazpod:k8s"));
        crate::config::secrets::Secrets::load(&project.secrets_file(), "secrets.yml").unwrap();
    }

    #[test]
    fn a_second_time_completes_and_overwrites_nothing() {
        let (_dir, project) = project();
        complete(&project, Vertical::Base).unwrap();
        let config = fs::read_to_string(project.config_file()).unwrap();
        fs::write(project.secrets_file(), "mine").unwrap();
        fs::write(project.folder().join(".gitignore"), "mine\n/vault/").unwrap();
        fs::remove_dir_all(project.root().join(".gemini")).unwrap();
        let made = complete(&project, Vertical::Gemini).unwrap();
        assert_eq!(made, [".tazpod/.gitignore", ".gemini/", ".gemini/.gitignore"]);
        assert_eq!(fs::read_to_string(project.config_file()).unwrap(), config);
        assert_eq!(fs::read_to_string(project.secrets_file()).unwrap(), "mine");
        let ignore = fs::read_to_string(project.folder().join(".gitignore")).unwrap();
        assert_eq!(ignore, "mine\n/vault/\n*.img\n*.in-use\n*.lock\n");
        assert_eq!(complete(&project, Vertical::Base).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn container_names_are_unique_and_legal() {
        for (folder, start) in [
            ("/a/Web App!", "tazpod-web-app-"),
            ("/", "tazpod-project-"),
            ("/x/...", "tazpod-project-"),
            ("/x/été", "tazpod-t-"),
        ] {
            let name = container_name(Path::new(folder)).unwrap();
            let digits = name.strip_prefix(start).unwrap_or_else(|| panic!("{name}"));
            assert!(digits.len() == 7 && digits.bytes().all(|b| b.is_ascii_digit()), "{name}");
            assert_ne!(name, container_name(Path::new(folder)).unwrap());
        }
    }
}
