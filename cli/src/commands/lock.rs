//! `tazpod lock`: the end of the open ghost, seen through.

use crate::app::App;
use crate::args::ghost::LockArgs;
use crate::caller::Caller;
use crate::docker::route;
use crate::error::{Error, Kind, Result};
use crate::ghost::link::{Link, Received};
use crate::ghost::open;
use crate::ghost::protocol::{Program, ToClient, ToSupervisor};
use std::io::IsTerminal;

/// Ends the ghost; programs that would lose something are named first.
pub(crate) fn run(app: &App, args: &LockArgs) -> Result<u8> {
    if let Some(status) = route::to_container(app, args.place.here)? {
        return Ok(status);
    }
    let project = app.project()?;
    let Some(mut link) = open::find(&Caller::detect()?, project.root()) else {
        app.ui.notice("No ghost of this project is open.");
        return Ok(0);
    };
    match request(&mut link, args.force)? {
        Answer::Closed => {}
        Answer::Busy(programs) => {
            if !may_end(app, &programs)? {
                let (count, names) = (programs.len(), list(&programs));
                return Err(Error::new(
                    Kind::InUse,
                    format!("the ghost stays open: {count} programs still use it ({names})"),
                )
                .hint("close them, or use --force; what they have not saved is lost"));
            }
            match request(&mut link, true)? {
                Answer::Closed => {}
                Answer::Busy(_) => return Err(Error::internal("the ghost refused to be ended")),
            }
        }
    }
    app.ui.notice("The ghost has ended, the vault is closed.");
    Ok(0)
}

/// Asks whether programs that still run may be ended; without a terminal they may not.
fn may_end(app: &App, programs: &[Program]) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    let names = list(programs);
    app.ui.confirm(&format!("Programs still run in the ghost: {names}. End them?"))
}

enum Answer {
    Closed,
    Busy(Vec<Program>),
}

fn request(link: &mut Link, force: bool) -> Result<Answer> {
    let failed = |cause: std::io::Error| {
        Error::environment("the open ghost does not answer").caused_by(cause)
    };
    link.send(&ToSupervisor::Lock { force }, &[]).map_err(failed)?;
    loop {
        match link.receive::<ToClient>().map_err(failed)? {
            Received::Message(ToClient::Busy(programs), _) => return Ok(Answer::Busy(programs)),
            Received::Message(ToClient::Exit(_), _) => return Ok(Answer::Closed),
            Received::Message(ToClient::Failed(failure), _) => return Err(failure.into()),
            Received::Message(..) => {}
            Received::Secret(_) | Received::End => {
                return Err(Error::environment("the ghost ended without saying that it is closed")
                    .hint("the next 'tazpod pull' cleans up what it left"));
            }
        }
    }
}

fn list(programs: &[Program]) -> String {
    let names: Vec<String> =
        programs.iter().map(|program| format!("{} {}", program.name, program.pid)).collect();
    names.join(", ")
}
