//! The project's container: its name, whether what has that name is ours, and what it does.

use super::engine::{Container, Engine, EngineError, Program, State};
use super::session;
use super::spec::{self, PROJECT, WORKSPACE};
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::project::Project;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The user of our images.
const USER: &str = "tazpod";

/// A container's name and user as a project decided them.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// The name.
    pub(crate) name: String,
    /// The user.
    pub(crate) user: String,
    project: PathBuf,
}

/// An open ghost in a container, as its own `status` tells.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct OpenGhost {
    /// When it was opened.
    pub(crate) since: u64,
    /// How many shells are in it.
    pub(crate) sessions: usize,
}

/// Turns the engine's answer into an error of ours.
pub(crate) fn failed(what: impl Into<String>) -> impl FnOnce(EngineError) -> Error {
    |cause| Error::environment(what).caused_by(cause)
}

impl Identity {
    /// Returns what the configuration says, and a name of the folder's where it says none.
    pub(crate) fn of(project: &Project, config: &Config) -> Self {
        let name = config.container_name.as_deref().map(str::to_owned);
        let name = name.unwrap_or_else(|| derived_name(project.root()));
        let user = config.user.as_deref().unwrap_or(USER).to_owned();
        Self { name, user, project: project.root().to_owned() }
    }

    /// Finds the project's container; one of that name which is not ours is an error.
    pub(crate) fn find(&self, engine: &dyn Engine) -> Result<Option<Container>> {
        let name = &self.name;
        let found = engine
            .container(name)
            .map_err(failed(format!("cannot ask for the container '{name}'")))?;
        let Some(found) = found else { return Ok(None) };
        let refused = |what: String| {
            Err(Error::user(what).hint("give this project another container_name in .tazpod/config.yaml; TazPod changes nothing that is not its own"))
        };
        match found.labels.get(PROJECT) {
            Some(project) if Path::new(project) == self.project => Ok(Some(found)),
            Some(project) => {
                let away = if Path::new(project).exists() { "" } else { ", a folder that is gone" };
                refused(format!("the container '{name}' belongs to the project in {project}{away}"))
            }
            None => refused(format!("there is a container '{name}' that TazPod did not make")),
        }
    }

    /// Finds the project's container and insists that it runs.
    pub(crate) fn running(&self, engine: &dyn Engine) -> Result<Container> {
        let name = &self.name;
        match self.find(engine)? {
            Some(found) if found.state == State::Running => {
                self.check_folder(engine, &found)?;
                Ok(found)
            }
            Some(found) => Err(not_running(&found)),
            None => Err(Error::environment(format!("this project has no container '{name}' yet"))
                .hint("'tazpod up' makes and starts it")),
        }
    }

    /// Refuses a running container that has not the project's folder but the one that stood there before, moved away or
    /// removed: what is done in it would be done to that one.
    pub(crate) fn check_folder(&self, engine: &dyn Engine, found: &Container) -> Result<()> {
        let now = fs::metadata(&self.project).map(|facts| facts.ino().to_string());
        let (Some(then), Ok(now)) = (found.labels.get(spec::FOLDER), now) else { return Ok(()) };
        if *then == now {
            return Ok(());
        }
        // Started once more it has the new one, and not every file system numbers a folder alike for long.
        let program = Program {
            command: ["stat", "--format=%i", WORKSPACE].map(str::to_owned).to_vec(),
            user: user_of(found),
            folder: "/".to_owned(),
            ..Program::default()
        };
        let (status, answer) = session::ask(engine, &found.id, &program)?;
        if status != 0 || String::from_utf8_lossy(&answer).trim() == now {
            return Ok(());
        }
        Err(Error::environment(format!(
            "the container '{}' has another folder than '{}', which was replaced after it was started",
            found.name,
            self.project.display()
        ))
        .hint("'tazpod up --recreate' makes the container anew, with the folder that is there now"))
    }

    /// Returns the folder in the container that is this one on the host, if it is in the project.
    pub(crate) fn folder_inside(&self, folder: &Path) -> String {
        match folder.strip_prefix(&self.project).ok().and_then(Path::to_str) {
            Some("") | None => WORKSPACE.to_owned(),
            Some(below) => format!("{WORKSPACE}/{below}"),
        }
    }

    /// Returns the path in the container of a file in the project; `None` for one outside of it.
    pub(crate) fn file_inside(&self, file: &Path) -> Option<String> {
        let below = file.strip_prefix(&self.project).ok()?.to_str()?;
        Some(format!("{WORKSPACE}/{below}"))
    }

    /// Returns a program that runs as the project's user in its folder, with what a person's
    /// programs expect to know about the terminal.
    pub(crate) fn program(&self, command: Vec<String>, tty: bool) -> Program {
        let passed = ["TERM", "COLORTERM", "NO_COLOR", "DISPLAY"];
        let known = passed.iter().filter(|name| tty || **name != "TERM");
        let environment = known
            .filter_map(|name| Some(format!("{name}={}", std::env::var(name).ok()?)))
            .collect();
        let here = std::env::current_dir().and_then(|folder| folder.canonicalize());
        let folder = here.map_or_else(|_| WORKSPACE.to_owned(), |here| self.folder_inside(&here));
        Program { command, user: self.user.clone(), folder, environment, tty, input: true }
    }
}

/// Says why a container that is there cannot be used, and how it can.
pub(crate) fn not_running(found: &Container) -> Error {
    let name = &found.name;
    match found.state {
        State::Paused => Error::environment(format!("the container '{name}' is paused"))
            .hint(format!("go on with it by: docker unpause {name}")),
        State::Unsettled => Error::new(
            Kind::InUse,
            format!("the container '{name}' is neither running nor stopped"),
        )
        .hint("another command may be at work on it; if it stays so: tazpod down"),
        _ => Error::environment(format!("the container '{name}' does not run"))
            .hint("'tazpod up' starts it"),
    }
}

/// Asks a running container whether a ghost is open in it. An image without `tazpod` has none.
pub(crate) fn ghost(
    engine: &dyn Engine,
    container: &Container,
    user: &str,
) -> Result<Option<OpenGhost>> {
    #[derive(Deserialize)]
    struct Status {
        ghost: Option<OpenGhost>,
    }
    if container.state != State::Running {
        return Ok(None);
    }
    let words = ["tazpod", "status", "--json"].map(str::to_owned).to_vec();
    let program = Program {
        command: words,
        user: user.to_owned(),
        folder: WORKSPACE.to_owned(),
        ..Program::default()
    };
    let (status, answer) = session::ask(engine, &container.id, &program)?;
    match status {
        0 => {
            serde_json::from_slice::<Status>(&answer).map(|status| status.ghost).map_err(|cause| {
                Error::environment(format!(
                    "'tazpod status' in '{}' answers strangely",
                    container.name
                ))
                .caused_by(cause)
            })
        }
        // What the engine and shells say for a program that is not there.
        126 | 127 => Ok(None),
        status => Err(Error::environment(format!(
            "cannot tell whether a ghost is open in '{}': 'tazpod status' there ended with {status}",
            container.name
        ))),
    }
}

/// Returns the user that a container was made for.
pub(crate) fn user_of(container: &Container) -> String {
    #[derive(Deserialize)]
    struct Settings {
        user: String,
    }
    let settings = container.labels.get(spec::SETTINGS);
    let settings = settings.and_then(|text| serde_json::from_str::<Settings>(text).ok());
    settings.map_or_else(|| USER.to_owned(), |settings| settings.user)
}

/// A name that is the same each time, for a configuration that gives none.
fn derived_name(root: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let digest = Sha256::digest(root.as_os_str().as_bytes());
    let number = digest.iter().take(4).fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
    crate::project::scaffold::named(root, number)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_folder_of_the_project_is_entered_where_it_is_and_any_other_at_the_root() {
        let identity =
            Identity { name: String::new(), user: String::new(), project: PathBuf::from("/p/lab") };
        for (folder, inside) in [
            ("/p/lab", "/workspace"),
            ("/p/lab/a/b", "/workspace/a/b"),
            ("/p/labour", "/workspace"),
            ("/", "/workspace"),
        ] {
            assert_eq!(identity.folder_inside(Path::new(folder)), inside);
        }
        assert_eq!(identity.file_inside(Path::new("/p/lab/k")).as_deref(), Some("/workspace/k"));
        assert_eq!(identity.file_inside(Path::new("/p/k")), None);
    }

    #[test]
    fn a_derived_name_stays_the_same() {
        let name = derived_name(Path::new("/p/Lab"));
        assert_eq!(name, derived_name(Path::new("/p/Lab")));
        assert_ne!(name, derived_name(Path::new("/q/Lab")));
        assert!(name.starts_with("tazpod-lab-") && name.len() == "tazpod-lab-".len() + 7, "{name}");
    }
}
