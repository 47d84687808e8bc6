//! `tazpod status`: the project, its vault, and what a ghost promises on this machine.

use crate::app::App;
use crate::args::ghost::BackendKind;
use crate::args::project::StatusArgs;
use crate::caller::Caller;
use crate::error::Result;
use crate::image::{self, Image};
use crate::machine::{self, Privilege};
use crate::project::Project;
use crate::units::ByteSize;
use serde::Serialize;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use vault_core::format::magic::ImageFormat;

/// Shows the status.
pub(crate) fn run(app: &App, args: &StatusArgs) -> Result<u8> {
    let caller = Caller::detect()?;
    let _as_caller = caller.act()?;
    let status = Status::gather(app)?;
    if args.json {
        app.ui.json(&status)?;
    } else {
        app.ui.print(&status.text())?;
    }
    Ok(0)
}

#[derive(Debug, Serialize)]
struct Status {
    project: PathBuf,
    initialised: bool,
    vault: VaultStatus,
    machine: MachineStatus,
}

#[derive(Debug, Serialize)]
struct VaultStatus {
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
    fn gather(app: &App) -> Result<Self> {
        let project = app.project()?;
        let config = app.config(&project)?;
        let path = config.vault_file(&project);
        Ok(Self {
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
            self.machine.text(),
        ];
        lines.join("\n")
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
        None => {
            path.symlink_metadata().ok().map(|_| "not a regular file that can be read".to_owned())
        }
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
            Privilege::Rootless => {
                "rootless: closed to other users, NOT to other processes of your own uid"
            }
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
