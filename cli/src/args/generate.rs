//! What is derived from this command line: for shells, for `man`, for the documentation.

use clap::{Args, Subcommand};
use clap_complete::Shell;
use std::path::PathBuf;

/// Print shell completions, write man pages
#[derive(Args, Clone, Debug)]
pub(crate) struct GenerateArgs {
    #[command(subcommand)]
    pub(crate) what: Generate,
}

/// What to derive.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Generate {
    /// Print the completions for a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
    /// Write a man page for each command
    Man {
        /// The folder to write them to
        folder: PathBuf,
    },
    /// Print the page that describes every command
    Commands,
}
