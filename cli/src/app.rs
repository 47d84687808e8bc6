//! What every command gets: the terminal, the caller, and the project with its configuration.

use crate::args::GlobalArgs;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::project::Project;
use crate::ui::Ui;
use std::env;
use std::path::PathBuf;

/// The context of one run.
pub(crate) struct App {
    /// The terminal.
    pub(crate) ui: Ui,
    folder: Option<PathBuf>,
}

impl App {
    /// Makes the context; nothing is read before a command asks for it.
    pub(crate) fn new(global: &GlobalArgs) -> Self {
        Self { ui: Ui::new(global.quiet), folder: global.folder.clone() }
    }

    /// Finds the project upward from the working folder, or from the one given with `-C`.
    pub(crate) fn project(&self) -> Result<Project> {
        let start = match &self.folder {
            Some(folder) => folder.clone(),
            None => env::current_dir().map_err(|cause| {
                Error::environment("cannot tell the working folder").caused_by(cause)
            })?,
        };
        Project::find(&start)
    }

    /// Reads the project's configuration; a project without one has the defaults.
    pub(crate) fn config(&self, project: &Project) -> Result<Config> {
        let path = project.config_file();
        let config = Config::load(&path, &project.shown(&path).to_string())?;
        let meaningless = config.meaningless();
        if !meaningless.is_empty() {
            let keys = meaningless.join(", ");
            self.ui.notice(&format!("{}: no longer used: {keys}", project.shown(&path)));
        }
        Ok(config)
    }
}
