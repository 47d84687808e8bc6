//! `tazpod down`: the project's container, stopped and removed.

use crate::app::App;
use crate::args::container::DownArgs;
use crate::docker::container::{self, Identity, failed};
use crate::docker::engine::{Container, Engine, Program, State};
use crate::docker::{self, session, spec};
use crate::error::{Error, Kind, Result};

/// Ends an open ghost if forced to, then removes the container.
pub(crate) fn run(app: &App, args: &DownArgs) -> Result<u8> {
    let project = app.project()?;
    let config = app.config(&project)?;
    let identity = Identity::of(&project, &config);
    let engine = docker::connect()?;
    let name = &identity.name;
    let Some(found) = identity.find(engine.as_ref())? else {
        app.ui.print(&format!("there is no container {name}; nothing was changed"))?;
        return Ok(0);
    };
    close_ghost(app, engine.as_ref(), &found, args.force)?;
    let cannot = |what: &str| failed(format!("cannot {what} the container '{name}'"));
    if found.state == State::Running {
        engine.stop(&found.id).map_err(cannot("stop"))?;
    }
    engine.remove(&found.id).map_err(cannot("remove"))?;
    app.ui.print(&format!("removed {name}; the project and its vault stay"))?;
    Ok(0)
}

/// Makes sure that no ghost is open in a container: refuses, or with `force` has it closed in order, so
/// that what was written is in the vault and nothing stays mapped.
pub(super) fn close_ghost(
    app: &App,
    engine: &dyn Engine,
    container: &Container,
    force: bool,
) -> Result<()> {
    let name = &container.name;
    let user = container::user_of(container);
    let ghost = match container::ghost(engine, container, &user) {
        Ok(ghost) => ghost,
        Err(error) if force => {
            app.ui.warn(&error.to_string(), "--force goes on; the vault keeps what was committed");
            None
        }
        Err(error) => {
            return Err(error
                .hint("--force goes on all the same; what an open ghost has not saved is lost"));
        }
    };
    if ghost.is_none() {
        return Ok(());
    }
    if !force {
        return Err(Error::new(Kind::InUse, format!("a ghost is open in '{name}'"))
            .hint("leave it (exit), or: tazpod lock")
            .hint("--force ends it; what programs in it have not saved is lost"));
    }
    let words = ["tazpod", "--quiet", "lock", "--force"].map(str::to_owned).to_vec();
    let folder = spec::WORKSPACE.to_owned();
    let program = Program { command: words, user, folder, ..Program::default() };
    match session::ask(engine, &container.id, &program) {
        Ok((0, _)) => Ok(()),
        Ok((status, _)) => {
            app.ui.warn(
                &format!("the ghost in '{name}' could not be closed in order (status {status})"),
                "the vault keeps what was committed",
            );
            Ok(())
        }
        Err(error) => {
            app.ui.warn(&error.to_string(), "the vault keeps what was committed");
            Ok(())
        }
    }
}
