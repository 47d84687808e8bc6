//! What TazPod's own images are made of: the files of `images/`, which the program carries along.
//!
//! A build needs nothing but this program and a container engine. Each vertical is a layer on the one before; a folder to
//! build it from is laid out with the Dockerfile, what it copies, this program, and those pinned tools that lie in a local
//! folder under their SHA-256. Whatever lies there is verified again where it is installed.

use crate::args::project::Vertical;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// A file of `images/`: its path there, its content, and whether it is a program.
struct Piece {
    path: &'static str,
    content: &'static str,
    is_program: bool,
}

macro_rules! piece {
    ($path:literal, $is_program:literal) => {
        Piece {
            path: $path,
            content: include_str!(concat!("../../../images/", $path)),
            is_program: $is_program,
        }
    };
}

const PIECES: &[Piece] = &[
    piece!("base/Dockerfile", false),
    piece!("base/bashrc", false),
    piece!("base/home.bashrc", false),
    piece!("base/nvim.lua", false),
    piece!("base/starship.toml", false),
    piece!("base/tmux.conf", false),
    piece!("common/install-tool", true),
    piece!("gemini/Dockerfile", false),
    piece!("gemini/gemini", true),
    piece!("gemini/package-lock.json", false),
    piece!("gemini/package.json", false),
    piece!("infisical/Dockerfile", false),
    piece!("k8s/Dockerfile", false),
];

/// What is no distribution package, with its pins.
const LOCK: &str = include_str!("../../../images/tools.lock");

/// The name that a file of `artifacts/` may have: a SHA-256.
const SUM: usize = 64;

/// The verticals up to this one, in the order in which they are built.
pub(crate) fn layers(vertical: Vertical) -> Vec<Vertical> {
    let all = [Vertical::Base, Vertical::Infisical, Vertical::K8s, Vertical::Gemini];
    let last = all.iter().position(|one| *one == vertical).unwrap_or_default();
    all.into_iter().take(last.saturating_add(1)).collect()
}

/// A vertical's name, as people type it.
pub(crate) fn name(vertical: Vertical) -> &'static str {
    match vertical {
        Vertical::Base => "base",
        Vertical::Infisical => "infisical",
        Vertical::K8s => "k8s",
        Vertical::Gemini => "gemini",
    }
}

/// The image that a vertical becomes.
pub(crate) fn tag(vertical: Vertical) -> String {
    format!("tazpod:{}", name(vertical))
}

/// What a build is laid out from, beside the files that are carried along.
#[derive(Debug)]
pub(crate) struct Supplies<'a> {
    /// The program for the image.
    pub(crate) program: &'a Path,
    /// A folder of files named by their SHA-256.
    pub(crate) artifacts: Option<&'a Path>,
    /// Whether an image may go without a tool that cannot be had.
    pub(crate) allow_missing: bool,
    /// What stands below the base, if it is not what its Dockerfile says.
    pub(crate) base: Option<&'a str>,
}

/// Lays a folder out for the builds; each vertical's Dockerfile is `NAME/Dockerfile` in it.
pub(crate) fn lay_out(folder: &Path, supplies: &Supplies<'_>) -> io::Result<()> {
    for piece in PIECES {
        let path = folder.join(piece.path);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        let content = match supplies.base {
            Some(base) if piece.path == "base/Dockerfile" => on_base(piece.content, base),
            _ => piece.content.to_owned(),
        };
        write(&path, content.as_bytes(), piece.is_program)?;
    }
    let tools = folder.join("tools");
    let artifacts = tools.join("artifacts");
    fs::create_dir_all(&artifacts)?;
    write(&tools.join("tools.lock"), LOCK.as_bytes(), false)?;
    if supplies.allow_missing {
        write(&tools.join("allow-missing"), b"", false)?;
    }
    for sum in sums(LOCK) {
        let Some(from) = supplies.artifacts.map(|folder| folder.join(sum)) else { continue };
        if from.is_file() {
            fs::copy(from, artifacts.join(sum))?;
        }
    }
    let mut program = File::open(supplies.program)?;
    let mut copy =
        File::options().write(true).create_new(true).mode(0o755).open(folder.join("tazpod"))?;
    io::copy(&mut program, &mut copy)?;
    Ok(())
}

/// Writes a file whose mode does not depend on the umask: the mode goes into the image.
fn write(path: &Path, content: &[u8], is_program: bool) -> io::Result<()> {
    fs::write(path, content)?;
    fs::set_permissions(path, fs::Permissions::from_mode(if is_program { 0o755 } else { 0o644 }))
}

/// The Dockerfile with another image below it.
fn on_base(dockerfile: &str, base: &str) -> String {
    let argument = format!("ARG BASE={base}");
    let lines = dockerfile.lines();
    let changed: Vec<&str> =
        lines.map(|line| if line.starts_with("ARG BASE=") { &argument } else { line }).collect();
    changed.join("\n") + "\n"
}

/// Whether a word can be an image's name; anything else could be taken for another instruction of a Dockerfile.
pub(crate) fn is_reference(word: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:@".contains(&byte);
    !word.is_empty() && word.len() <= 512 && word.bytes().all(allowed)
}

/// The SHA-256 sums of a lock file.
fn sums(lock: &str) -> BTreeSet<&str> {
    let fields = lock.lines().filter(|line| !line.starts_with('#'));
    fields
        .filter_map(|line| line.split_whitespace().nth(3))
        .filter(|sum| sum.len() == SUM && sum.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_line_of_the_lock_is_whole_and_names_its_architecture() {
        for line in LOCK.lines().filter(|line| !line.starts_with('#')) {
            let fields: Vec<&str> = line.split(' ').collect();
            let [name, version, arch, sum, _member, url] = fields[..] else {
                panic!("not six fields: {line}")
            };
            assert!(["amd64", "arm64"].contains(&arch), "{line}");
            assert_eq!(sums(line).into_iter().collect::<Vec<_>>(), [sum]);
            assert!(url.starts_with("https://") && url.contains(version), "{line}");
            assert!(PIECES.iter().any(|piece| piece.path.ends_with("Dockerfile")
                && piece.content.contains("install-tool /tmp/tools")
                && piece.content.contains(name)));
        }
    }

    #[test]
    fn every_file_that_a_dockerfile_copies_is_carried_along() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        fs::write(&program, "").unwrap();
        let to = folder.path().join("context");
        let supplies =
            Supplies { program: &program, artifacts: None, allow_missing: true, base: None };
        lay_out(&to, &supplies).unwrap();
        for vertical in layers(Vertical::Gemini) {
            let text = fs::read_to_string(to.join(name(vertical)).join("Dockerfile")).unwrap();
            for line in text.lines().filter(|line| line.starts_with("COPY ")) {
                let words: Vec<&str> = line.split(' ').collect();
                if words[1].starts_with("--from") {
                    continue;
                }
                for source in &words[1..words.len() - 1] {
                    assert!(to.join(source).exists(), "{source} of {}", name(vertical));
                }
            }
        }
    }

    #[test]
    fn layers_stand_on_each_other() {
        for pair in layers(Vertical::Gemini).windows(2) {
            let path = format!("{}/Dockerfile", name(pair[1]));
            let piece = PIECES.iter().find(|piece| piece.path == path).unwrap();
            assert!(piece.content.contains(&format!("\nARG BASE={}\n", tag(pair[0]))), "{path}");
        }
        assert_eq!(layers(Vertical::Base), [Vertical::Base]);
    }

    #[test]
    fn what_lies_ready_goes_along_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let artifacts = folder.path().join("artifacts");
        fs::create_dir(&artifacts).unwrap();
        let sum = *sums(LOCK).first().unwrap();
        fs::write(artifacts.join(sum), "a tool").unwrap();
        fs::write(artifacts.join("passwords"), "private").unwrap();
        let program = folder.path().join("program");
        fs::write(&program, "").unwrap();
        let to = folder.path().join("context");
        let supplies = Supplies {
            program: &program,
            artifacts: Some(&artifacts),
            allow_missing: false,
            base: Some("registry.example/debian:trixie"),
        };
        lay_out(&to, &supplies).unwrap();
        let names: Vec<_> = fs::read_dir(to.join("tools/artifacts"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(names, [sum]);
        let dockerfile = fs::read_to_string(to.join("base/Dockerfile")).unwrap();
        assert!(dockerfile.contains("\nARG BASE=registry.example/debian:trixie\n"));
        assert!(!to.join("tools/allow-missing").exists());
    }

    #[test]
    fn a_base_cannot_smuggle_instructions_in() {
        assert!(is_reference("registry.example:5000/a/debian:trixie-slim"));
        for word in ["", "a b", "a\nRUN x", "$(x)"] {
            assert!(!is_reference(word), "{word:?}");
        }
    }
}
