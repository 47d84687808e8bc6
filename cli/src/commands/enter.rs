//! `tazpod enter` (and `ssh`): a shell or a command in the project's container.

use crate::app::App;
use crate::args::container::EnterArgs;
use crate::docker::container::Identity;
use crate::docker::{self, lifeline, route, session, spec};
use crate::error::{Error, Result};
use std::io::{self, IsTerminal};

/// Starts the user's own shell: the engine knows none, and an image need not have `getent`.
const SHELL: &str = "\
shell=$(getent passwd \"$(id -u)\" 2>/dev/null | cut -d: -f7)
[ -x \"$shell\" ] || shell=/bin/bash
[ -x \"$shell\" ] || shell=/bin/sh
SHELL=$shell; export SHELL
exec \"$shell\"";

/// Runs it and ends with its status.
pub(crate) fn run(app: &App, args: &EnterArgs) -> Result<u8> {
    if route::is_inside() {
        return Err(Error::user("this is a container already")
            .hint("'tazpod enter' is for the machine outside"));
    }
    let project = app.project()?;
    let config = app.config(&project)?;
    let identity = Identity::of(&project, &config);
    let engine = docker::connect()?;
    let container = identity.running(engine.as_ref())?;
    let command = if args.command.is_empty() {
        ["/bin/sh", "-c", SHELL].map(str::to_owned).to_vec()
    } else if args.command.first().is_some_and(|program| program == "tazpod") {
        lifeline::led(args.command.clone())
    } else {
        args.command.clone()
    };
    let tty = io::stdin().is_terminal() && io::stdout().is_terminal();
    let mut program = identity.program(command, tty);
    if args.root {
        "root".clone_into(&mut program.user);
        program.environment.push(format!("HOME={}", spec::home("root")));
    }
    session::run(engine.as_ref(), &container.id, &program)
}
