//! `tazpod logs`: what the container's first process said.

use crate::app::App;
use crate::args::container::LogsArgs;
use crate::docker;
use crate::docker::container::{Identity, failed};
use crate::docker::engine::{LogsWanted, Stream};
use crate::error::{Error, Result};

/// Shows the log.
pub(crate) fn run(app: &App, args: &LogsArgs) -> Result<u8> {
    let project = app.project()?;
    let config = app.config(&project)?;
    let identity = Identity::of(&project, &config);
    let engine = docker::connect()?;
    let name = &identity.name;
    let found = identity.find(engine.as_ref())?.ok_or_else(|| {
        Error::environment(format!("this project has no container '{name}' yet"))
            .hint("'tazpod up' makes and starts it")
    })?;
    let mut shown = Ok(());
    let wanted = LogsWanted { follow: args.follow, last: args.tail };
    engine
        .logs(&found.id, wanted, &mut |stream, bytes| {
            match stream {
                Stream::Output => shown = app.ui.print_exactly(bytes),
                Stream::Error => app.ui.say_anyway(String::from_utf8_lossy(bytes).trim_end()),
            }
            shown.is_ok()
        })
        .map_err(failed(format!("cannot read the log of '{name}'")))?;
    shown.map(|()| 0)
}
