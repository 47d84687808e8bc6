//! Commands typed on the host that belong into the project's container.
//!
//! `pull`, `unlock` and `lock` run in the container if the configuration names one and it runs, and
//! here otherwise: on a bare machine nothing changes. One that is there and stopped is started after
//! asking. `--here` keeps a command on the host. The command line is handed on as it was typed, except
//! for the files that it names, which must lie in the project since the container sees no others.

use super::container::{self, Identity};
use super::endpoint::Endpoint;
use super::engine::{Engine, State};
use super::lifeline;
use super::session;
use super::spec::WORKSPACE;
use crate::app::App;
use crate::error::{Error, Result};
use std::env;
use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::path::Path;

/// Options whose value is a file to read.
const FILES: [&str; 2] = ["--passphrase-file", "--key-file"];

/// Whether this process is in a project's container: in one of the engine's, with the workspace that
/// we mount. The engine's mark alone says little, since whole machines are made from images too.
pub(crate) fn is_inside() -> bool {
    let marked = ["/.dockerenv", "/run/.containerenv"].iter().any(|path| Path::new(path).exists());
    marked && has_workspace(&std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
}

fn has_workspace(mountinfo: &str) -> bool {
    mountinfo.lines().any(|line| line.split(' ').nth(4) == Some(WORKSPACE))
}

/// Runs the command that this process was started with in the project's container, if it belongs
/// there; returns its status.
pub(crate) fn to_container(app: &App, here: bool) -> Result<Option<u8>> {
    if here || is_inside() {
        return Ok(None);
    }
    let project = app.project()?;
    let config = app.config(&project)?;
    if config.container_name.is_none() {
        return Ok(None);
    }
    // Without an engine there is no container either, and no reason to speak of it.
    let Ok(endpoint) = Endpoint::find() else { return Ok(None) };
    let engine = super::open(&endpoint)?;
    let identity = Identity::of(&project, &config);
    let Some(found) = identity.find(engine.as_ref())? else { return Ok(None) };
    match found.state {
        State::Running => identity.check_folder(engine.as_ref(), &found)?,
        State::Stopped | State::Created if wants_start(app, &identity.name)? => {
            engine.start(&found.id).map_err(container::failed(format!(
                "cannot start the container '{}'",
                identity.name
            )))?;
        }
        _ => return Ok(None),
    }
    let words = words(&identity, env::args_os().skip(1))?;
    app.ui.notice(&format!("In the container {}:", identity.name));
    run(engine.as_ref(), &identity, &found.id, words).map(Some)
}

fn wants_start(app: &App, name: &str) -> Result<bool> {
    if !io::stdin().is_terminal() {
        return Ok(false);
    }
    app.ui.confirm(&format!("The project's container {name} is stopped. Start it and go on there?"))
}

fn run(
    engine: &dyn Engine,
    identity: &Identity,
    container: &str,
    words: Vec<String>,
) -> Result<u8> {
    let tty = io::stdin().is_terminal() && io::stdout().is_terminal();
    let mut command = vec!["tazpod".to_owned()];
    command.extend(words);
    session::run(engine, container, &identity.program(lifeline::led(command), tty))
}

/// Returns the words of the command as they make sense in the container.
fn words(identity: &Identity, typed: impl Iterator<Item = OsString>) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut typed = typed.map(|word| {
        word.into_string().map_err(|word| {
            let word = word.to_string_lossy().into_owned();
            Error::user(format!("'{word}' is not UTF-8, which a container cannot be told"))
        })
    });
    while let Some(word) = typed.next() {
        let word = word?;
        let (name, value) = match word.split_once('=') {
            Some((name, value)) if word.starts_with("--") => (name, Some(value.to_owned())),
            _ => (word.as_str(), None),
        };
        if word == "--" {
            words.push(word);
            for rest in typed {
                words.push(rest?);
            }
            break;
        }
        if word == "-C" {
            // The project was found by it; the container has one only.
            let _ = typed.next();
        } else if word.starts_with("-C") || word == "--here" {
        } else if FILES.contains(&name) {
            let value = match value {
                Some(value) => value,
                None => typed.next().transpose()?.unwrap_or_default(),
            };
            words.push(format!("{name}={}", inside(identity, name, &value)?));
        } else if name == "--passphrase-fd" {
            return Err(Error::user(
                "--passphrase-fd names a descriptor that the container does not have",
            )
            .hint("give the passphrase by standard input, or use --here to stay on this machine"));
        } else {
            words.push(word);
        }
    }
    Ok(words)
}

fn inside(identity: &Identity, option: &str, file: &str) -> Result<String> {
    let path = Path::new(file)
        .canonicalize()
        .map_err(|cause| Error::user(format!("{option}: cannot open '{file}'")).caused_by(cause))?;
    identity.file_inside(&path).ok_or_else(|| {
        Error::user(format!(
            "{option}: '{file}' is not in the project, and the container sees nothing else"
        ))
        .hint("give it by standard input, or use --here to stay on this machine")
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::Config;
    use crate::project::Project;
    use std::fs;

    fn translated(identity: &Identity, words_typed: &[&str]) -> Result<Vec<String>> {
        words(identity, words_typed.iter().map(OsString::from))
    }

    #[test]
    fn the_workspace_is_told_by_its_mount() {
        let line = |place| format!("36 35 98:0 /p {place} rw,noatime - ext3 /dev/root rw\n");
        assert!(has_workspace(&(line("/") + &line("/workspace"))));
        assert!(!has_workspace(&line("/workspace/below")));
        assert!(!has_workspace(&line("/").replace("/p", "/workspace")));
    }

    #[test]
    fn a_command_line_is_handed_on_with_its_files_where_the_container_has_them() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(".tazpod")).unwrap();
        let project = Project::find(dir.path()).unwrap();
        let key = project.root().join("key");
        fs::write(&key, "k").unwrap();
        let key = key.display().to_string();
        let identity = Identity::of(&project, &Config::default());
        let typed = [
            "-q",
            "-C",
            "/x",
            "pull",
            "--slot",
            "3",
            "--key-file",
            &key,
            "--",
            "-C",
            "--key-file",
            "y",
        ];
        assert_eq!(
            translated(&identity, &typed).unwrap(),
            [
                "-q",
                "pull",
                "--slot",
                "3",
                "--key-file=/workspace/key",
                "--",
                "-C",
                "--key-file",
                "y"
            ]
        );
        let joined = format!("--passphrase-file={key}");
        assert_eq!(
            translated(&identity, &["pull", "-C/x", &joined]).unwrap(),
            ["pull", "--passphrase-file=/workspace/key"]
        );
        for (typed, complaint) in [
            (["--key-file", "/etc/passwd"], "is not in the project"),
            (["--key-file", "/no/such/file"], "cannot open"),
            (["--passphrase-fd", "3"], "descriptor"),
        ] {
            let error = translated(&identity, &typed).unwrap_err();
            assert!(error.to_string().contains(complaint), "{error}");
        }
    }
}
