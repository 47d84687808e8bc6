//! `tazpod init`: sets a project up, or completes one.

use crate::app::App;
use crate::args::project::{InitArgs, Vertical};
use crate::caller::Caller;
use crate::error::{Error, Result};
use crate::project::{Project, scaffold, survey};
use clap::ValueEnum;
use std::io::{self, IsTerminal};

/// Sets the project up.
pub(crate) fn run(app: &App, args: &InitArgs) -> Result<u8> {
    let caller = Caller::detect()?;
    let _as_caller = caller.act()?;
    let project = app.project()?;
    let vertical = choose(app, args, &project)?;
    let made = scaffold::complete(&project, vertical)?;
    if made.is_empty() {
        app.ui.print("Nothing was missing, nothing was changed.")?;
        return Ok(0);
    }
    for path in made {
        app.ui.print(&format!("made {path}"))?;
    }
    app.ui.notice("Next: 'tazpod up' makes its container, 'tazpod pull' opens a vault right here.");
    Ok(0)
}

fn choose(app: &App, args: &InitArgs, project: &Project) -> Result<Vertical> {
    if let Some(vertical) = args.vertical {
        let config = project.config_file();
        if config.exists() {
            let shown = project.shown(&config);
            app.ui.notice(&format!("{shown} exists and keeps the image that it names"));
        }
        return Ok(vertical);
    }
    let proposal = survey::propose(project.root());
    // The configuration that is there has decided already.
    if project.config_file().exists() {
        return Ok(proposal.vertical);
    }
    let name = name_of(proposal.vertical);
    app.ui.notice(&format!("Proposed: {name}, since {}.", proposal.reason()));
    if !io::stdin().is_terminal() {
        return Ok(proposal.vertical);
    }
    let answer = app.ui.ask(&format!("base, infisical, k8s or gemini [{name}]: "))?;
    match answer.trim() {
        "" => Ok(proposal.vertical),
        other => Vertical::from_str(other, true)
            .map_err(|_| Error::user(format!("no vertical is called '{other}'"))),
    }
}

fn name_of(vertical: Vertical) -> String {
    vertical.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}
