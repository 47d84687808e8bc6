//! What every command gets: the terminal, the caller, and the project with its configuration.

use crate::args::Arguments;
use crate::caller::Caller;
use crate::config::Config;
use crate::config::secrets::Secrets;
use crate::error::{Error, Result};
use crate::project::Project;
use crate::sync::vault::OpenVault;
use crate::ui::Ui;
use std::env;
use std::path::PathBuf;

/// Where a ghost says for which project it was made.
pub(crate) const PROJECT: &str = "TAZPOD_PROJECT";

/// The vault of the ghost in which this program runs.
pub(crate) struct GhostVault {
    /// The project that it was made for.
    pub(crate) project: Project,
    /// Its vault.
    pub(crate) vault: OpenVault,
}

/// The context of one run.
pub(crate) struct App {
    /// The terminal.
    pub(crate) ui: Ui,
    folder: Option<PathBuf>,
}

impl App {
    /// Makes the context; nothing is read before a command asks for it.
    pub(crate) fn new(arguments: &Arguments) -> Self {
        let ui = Ui::new(arguments.global.quiet, arguments.command.is_json());
        Self { ui, folder: arguments.global.folder.clone() }
    }

    /// Finds the project upward from the working folder, or from the one given with `-C`.
    pub(crate) fn project(&self) -> Result<Project> {
        let start = match &self.folder {
            Some(folder) => folder.clone(),
            None => env::current_dir().map_err(|cause| {
                Error::environment("cannot tell the working folder")
                    .caused_by(cause)
                    .hint("it may have been removed: go to another one, or name one with -C")
            })?,
        };
        Project::find(&start)
    }

    /// Finds the vault that is open in the ghost in which this program runs; `None` elsewhere. It is
    /// the project's of the working folder, else the one that the ghost was made for.
    pub(crate) fn open_vault(&self) -> Result<Option<GhostVault>> {
        let caller = Caller::detect()?;
        let of = |project: Project| {
            let vault = OpenVault::find(&caller, project.root())?;
            Some(GhostVault { project, vault })
        };
        if let Some(found) = self.project().ok().and_then(of) {
            return Ok(Some(found));
        }
        let named = env::var_os(PROJECT).filter(|_| self.folder.is_none()).map(PathBuf::from);
        Ok(named.and_then(|named| Project::find(&named).ok()).and_then(of))
    }

    /// Reads the project's map from secrets to files and variables.
    #[allow(clippy::unused_self, reason = "a question to the context")]
    pub(crate) fn secrets(&self, project: &Project) -> Result<Secrets> {
        let path = project.secrets_file();
        Secrets::load(&path, &project.shown(&path).to_string())
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
