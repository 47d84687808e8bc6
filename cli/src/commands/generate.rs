//! `tazpod generate`: completions, man pages and COMMANDS.md, all from the definition of the command line.

use crate::app::App;
use crate::args::Arguments;
use crate::args::generate::Generate;
use crate::error::{Error, Result};
use clap::{Command, CommandFactory};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// Columns of the page, whatever terminal asks.
const WIDTH: usize = 100;

const INTRODUCTION: &str = "# Commands

Every command and option, as `tazpod --help` and `tazpod COMMAND --help` say it. This page is generated from the definition of the command
line by `tazpod generate commands`; a test holds it to that.
";

/// Derives what is asked for.
pub(crate) fn run(app: &App, what: &Generate) -> Result<u8> {
    let mut command = Arguments::command();
    match what {
        Generate::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut command, "tazpod", &mut text);
            app.ui.print_exactly(&text)?;
        }
        Generate::Man { folder } => {
            let pages = man_pages(folder, command).map_err(|cause| {
                Error::environment(format!("cannot write to '{}'", folder.display()))
                    .caused_by(cause)
            })?;
            app.ui.notice(&format!("wrote {pages} pages to {}", folder.display()));
        }
        Generate::Commands => app.ui.print_exactly(commands(command).as_bytes())?,
    }
    Ok(0)
}

/// Writes `tazpod.1`, and `tazpod-COMMAND.1` for each command that is shown.
fn man_pages(folder: &Path, command: Command) -> std::io::Result<usize> {
    fs::create_dir_all(folder)?;
    let mut pages = 0;
    let mut pending = vec![built(command)];
    while let Some(command) = pending.pop() {
        let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
        let below = command.get_subcommands().filter(|below| !below.is_hide_set());
        pending.extend(below.cloned());
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page)?;
        fs::write(folder.join(format!("{name}.1")), page)?;
        pages += 1;
    }
    Ok(pages)
}

fn commands(command: Command) -> String {
    let mut page = INTRODUCTION.to_owned();
    describe(&mut page, built(command), "tazpod");
    page
}

fn built(command: Command) -> Command {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    command
}

fn describe(page: &mut String, command: Command, name: &str) {
    let below: Vec<_> =
        command.get_subcommands().filter(|below| !below.is_hide_set()).cloned().collect();
    let help = command.term_width(WIDTH).render_long_help().to_string();
    let _ = write!(page, "\n## {name}\n\n```text\n");
    for line in help.trim_end().lines() {
        let _ = writeln!(page, "{}", line.trim_end());
    }
    page.push_str("```\n");
    for command in below {
        let name = format!("{name} {}", command.get_name());
        describe(page, command, &name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `tazpod generate commands > cli/COMMANDS.md` mends it.
    #[test]
    fn page_of_commands_is_current() {
        let page = include_str!("../../COMMANDS.md");
        assert!(page == commands(Arguments::command()), "generate cli/COMMANDS.md again");
    }

    #[test]
    fn every_option_is_explained() {
        let mut pending = vec![built(Arguments::command())];
        while let Some(command) = pending.pop() {
            for argument in command.get_arguments() {
                let name = format!("{} {}", command.get_name(), argument.get_id());
                assert!(argument.get_help().is_some() || argument.is_hide_set(), "{name}");
            }
            assert!(
                command.get_about().is_some() || command.is_hide_set(),
                "{}",
                command.get_name()
            );
            pending.extend(command.get_subcommands().cloned());
        }
    }
}
