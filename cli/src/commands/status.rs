//! `tazpod status`: the project, its vault, and what a ghost promises on this machine.

use super::status_all::{self, ContainerStatus};
use crate::app::App;
use crate::args::ghost::BackendKind;
use crate::args::project::StatusArgs;
use crate::caller::Caller;
use crate::config::Config;
use crate::dates;
use crate::docker::container::Identity;
use crate::docker::{self, route};
use crate::error::{Error, Result};
use crate::ghost::link::{Link, Received};
use crate::ghost::open;
use crate::ghost::protocol::{GhostStatus, ToClient, ToSupervisor};
use crate::image::{self, Image};
use crate::machine::{self, Privilege};
use crate::project::{Project, legacy};
use crate::quoting::in_json;
use crate::units::ByteSize;
use serde::Serialize;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use vault_core::format::magic::ImageFormat;

const NOT_CLOSED: &str = "closed to other users, NOT to other processes of your own uid";

/// Shows the status.
pub(crate) fn run(app: &App, args: &StatusArgs) -> Result<u8> {
    if args.all {
        return status_all::run(app, args.json);
    }
    let caller = Caller::detect()?;
    let _as_caller = caller.act()?;
    let status = Status::gather(app, &caller)?;
    if args.json {
        app.ui.json(&status)?;
    } else {
        app.ui.print(&status.text())?;
    }
    Ok(0)
}

#[derive(Debug, Serialize)]
struct Status {
    #[serde(serialize_with = "in_json")]
    project: PathBuf,
    initialised: bool,
    vault: VaultStatus,
    ghost: Option<OpenGhost>,
    /// The project's container, if there is one.
    container: Option<ContainerStatus>,
    machine: MachineStatus,
}

/// What the open ghost says about itself.
#[derive(Debug, Serialize)]
struct OpenGhost {
    #[serde(serialize_with = "in_json")]
    at: PathBuf,
    since: u64,
    sessions: usize,
    process: i32,
    rootless: bool,
    weaknesses: Vec<String>,
}

#[derive(Debug, Serialize)]
struct VaultStatus {
    #[serde(serialize_with = "in_json")]
    path: PathBuf,
    /// What the file is; absent if there is none.
    is: Option<String>,
    backend: Option<&'static str>,
    id: Option<String>,
    keyslots: Option<usize>,
    size: Option<u64>,
    /// Why its header cannot be read.
    problem: Option<String>,
}

#[derive(Debug, Serialize)]
struct MachineStatus {
    /// Who would make a ghost.
    ghost_by: Privilege,
    /// Whether it would be closed to other processes of the same user.
    protects_from_own_uid: bool,
    fuse: bool,
    landlock: bool,
}

impl Status {
    fn gather(app: &App, caller: &Caller) -> Result<Self> {
        let project = app.project()?;
        let config = app.config(&project)?;
        let path = config.vault_file(&project);
        if let Err(two) = legacy::refuse_two(&project, &path) {
            let hints = two.hints().first().map_or("", String::as_str);
            app.ui.warn(&two.to_string(), hints);
        }
        let ghost = open::find(caller, project.root()).map(OpenGhost::ask).transpose()?;
        Ok(Self {
            ghost,
            container: container(&project, &config),
            project: project.root().to_owned(),
            initialised: project.exists(),
            vault: VaultStatus::of(&project, path, config.backend()),
            machine: MachineStatus::gather(),
        })
    }

    fn text(&self) -> String {
        let state = if self.initialised { "" } else { " (not set up: tazpod init)" };
        let lines = [
            format!("project   {}{state}", self.project.display()),
            self.vault.text(),
            self.ghost.as_ref().map_or_else(|| self.machine.text(), OpenGhost::text),
        ];
        let container = self.container.as_ref().map(|one| format!("container {}", one.text()));
        lines.into_iter().chain(container).collect::<Vec<_>>().join("\n")
    }
}

/// Looks for the project's container; without an engine, or with a stranger of that name, there is
/// none to tell about.
fn container(project: &Project, config: &Config) -> Option<ContainerStatus> {
    if route::is_inside() || config.container_name.is_none() {
        return None;
    }
    let engine = docker::connect().ok()?;
    let found = Identity::of(project, config).find(engine.as_ref()).ok()??;
    Some(ContainerStatus::of(engine.as_ref(), &found))
}

impl OpenGhost {
    fn ask(mut link: Link) -> Result<Self> {
        let silent = || Error::environment("the open ghost does not answer");
        link.send(&ToSupervisor::Status, &[]).map_err(|cause| silent().caused_by(cause))?;
        loop {
            match link.receive::<ToClient>().map_err(|cause| silent().caused_by(cause))? {
                Received::Message(ToClient::Status(ghost), _) => return Ok(Self::of(ghost)),
                Received::Message(..) => {}
                Received::Secret(_) | Received::End => return Err(silent()),
            }
        }
    }

    fn of(ghost: GhostStatus) -> Self {
        Self {
            at: ghost.mount_point.path().to_owned(),
            since: ghost.since,
            sessions: ghost.sessions,
            process: ghost.supervisor,
            rootless: ghost.rootless,
            weaknesses: ghost.weaknesses,
        }
    }

    fn text(&self) -> String {
        let since = dates::utc(i64::try_from(self.since).unwrap_or(i64::MAX));
        let sessions = if self.sessions == 1 { "session" } else { "sessions" };
        let closed =
            if self.rootless { NOT_CLOSED } else { "closed to your own other processes too" };
        let mut text = format!(
            "ghost     open since {since}, {} {sessions}, supervised by process {}\n          \
             the vault is at {}, {closed}",
            self.sessions,
            self.process,
            self.at.display()
        );
        for weakness in &self.weaknesses {
            let _ = write!(text, "\n          {weakness}");
        }
        text
    }
}

impl VaultStatus {
    fn of(project: &Project, path: PathBuf, wanted: Option<BackendKind>) -> Self {
        let format = image::recognise(&path);
        let backend = match format {
            Some(ImageFormat::Vault | ImageFormat::OtherVault { .. }) => Some("fuse"),
            Some(ImageFormat::Luks { .. }) => Some("luks"),
            _ => wanted.map(|backend| match backend {
                BackendKind::Fuse => "fuse",
                BackendKind::Luks => "luks",
            }),
        };
        let mut status = Self {
            is: what_is_there(&path, format),
            backend,
            id: None,
            keyslots: None,
            size: None,
            problem: None,
            path,
        };
        let shown = project.shown(&status.path).to_string();
        match Image::peek(&status.path, &shown) {
            Ok(image) => {
                status.id = Some(image.vault().id().to_string());
                status.keyslots = Some(image.vault().slots().count());
                status.size = Some(image.len);
            }
            Err(error) if status.is.is_some() => status.problem = Some(error.to_string()),
            Err(_) => {}
        }
        status
    }

    fn text(&self) -> String {
        let path = self.path.display();
        let Some(is) = &self.is else {
            return format!("vault     {path} (none yet: tazpod pull)");
        };
        let mut text = format!("vault     {path}\n          {is}");
        if let (Some(id), Some(keyslots), Some(size)) = (&self.id, self.keyslots, self.size) {
            let slots = if keyslots == 1 { "keyslot" } else { "keyslots" };
            let size = ByteSize(size);
            let _ = write!(text, "\n          {id}, {keyslots} {slots}, {size}");
        }
        if let Some(problem) = &self.problem {
            let _ = write!(text, "\n          {problem}");
        }
        text
    }
}

fn what_is_there(path: &Path, format: Option<ImageFormat>) -> Option<String> {
    match format {
        Some(format) => Some(format.to_string()),
        None => match path.symlink_metadata() {
            Ok(_) => Some("not a regular file that can be read".to_owned()),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => None,
            Err(cause) => Some(format!("cannot be seen: {cause}")),
        },
    }
}

impl MachineStatus {
    fn gather() -> Self {
        let ghost_by = machine::privilege();
        Self {
            ghost_by,
            protects_from_own_uid: ghost_by != Privilege::Rootless,
            fuse: Path::new("/dev/fuse").exists(),
            landlock: machine::has_landlock(),
        }
    }

    fn text(&self) -> String {
        let by = match self.ghost_by {
            Privilege::Root => "made by root: closed to your own other processes too",
            Privilege::Sudo => "made through sudo: closed to your own other processes too",
            Privilege::Rootless => &format!("rootless: {NOT_CLOSED}"),
        };
        let fuse = if self.fuse { "" } else { "\nfuse      there is no /dev/fuse: modprobe fuse" };
        let server = if self.landlock {
            "sandboxed by Landlock and seccomp"
        } else {
            "sandboxed by seccomp alone: this kernel has no Landlock"
        };
        format!("ghost     {by}\nserver    {server}{fuse}")
    }
}
