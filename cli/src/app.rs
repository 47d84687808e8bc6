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
use std::path::{Path, PathBuf};

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
    /// Whether the folder to work in was named.
    is_placed: bool,
}

impl App {
    /// Makes the context; nothing is read before a command asks for it.
    pub(crate) fn new(arguments: &Arguments) -> Self {
        let ui = Ui::new(arguments.global.quiet, arguments.command.is_json());
        Self { ui, is_placed: arguments.global.work_in.is_some() }
    }

    /// Goes to the folder given with `-C`, where the caller may: every path that follows counts from there.
    pub(crate) fn work_in(folder: &Path) -> Result<()> {
        let caller = Caller::detect()?;
        let _as_caller = caller.act()?;
        env::set_current_dir(folder).map_err(|cause| {
            Error::user(format!("cannot open the folder '{}'", folder.display())).caused_by(cause)
        })
    }

    /// Finds the project upward from the working folder.
    #[allow(clippy::unused_self, reason = "a question to the context")]
    pub(crate) fn project(&self) -> Result<Project> {
        let start = env::current_dir().map_err(|cause| {
            Error::environment("cannot tell the working folder")
                .caused_by(cause)
                .hint("it may have been removed: go to another one, or name one with -C")
        })?;
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
        let named = env::var_os(PROJECT).filter(|_| !self.is_placed).map(PathBuf::from);
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
