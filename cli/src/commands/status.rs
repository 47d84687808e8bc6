//! `tazpod status`: the project, its vault, and what a ghost promises on this machine.

use crate::app::App;
use crate::args::project::StatusArgs;
use crate::error::Result;
use serde::Serialize;
use std::path::PathBuf;

/// Shows the status.
pub(crate) fn run(app: &App, args: &StatusArgs) -> Result<u8> {
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
    vault: PathBuf,
    vault_exists: bool,
}

impl Status {
    fn gather(app: &App) -> Result<Self> {
        let project = app.project()?;
        let vault = app.config(&project)?.vault_file(&project);
        Ok(Self {
            project: project.root().to_owned(),
            initialised: project.exists(),
            vault_exists: vault.exists(),
            vault,
        })
    }

    fn text(&self) -> String {
        let project = self.project.display();
        let vault = self.vault.display();
        let state = if self.vault_exists { "" } else { " (none yet)" };
        format!("project  {project}\nvault    {vault}{state}")
    }
}
