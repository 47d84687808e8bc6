//! The command line as types. The doc comments are the help; nothing here does anything.

pub(crate) mod access;
pub(crate) mod archive;
pub(crate) mod backup;
pub(crate) mod compare;
pub(crate) mod container;
pub(crate) mod generate;
pub(crate) mod ghost;
pub(crate) mod image;
pub(crate) mod login;
pub(crate) mod migrate;
pub(crate) mod project;
pub(crate) mod vault;

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// A vault for developers whose contents exist only inside your own shell.
///
/// `tazpod pull` opens the project's encrypted vault in a ghost: a shell in a private mount
/// namespace, the only place where ~/secrets has anything in it. When the shell ends, the ghost
/// ends.
#[derive(Debug, Parser)]
#[command(name = "tazpod", version, disable_help_subcommand = true, after_help = EXIT_STATUS)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_STATUS: &str = "\
Exit status: 0 done; 1 and 2 see vault check; 64 wrong usage; 65 the image is damaged or was altered; 66 not an image that \
tazpod reads; 67 not logged in to Infisical; 68 Infisical lacks or refuses what was asked for; 69 \
the machine lacks or refuses something; 70 a mistake of ours; 75 in use; 76 an older image than \
this machine has seen; 77 wrong passphrase; 78 mistake in a configuration file; 130 Ctrl-C. A \
ghost ends with the status of its shell or command.";

/// Options that every command has.
#[derive(Args, Debug)]
pub(crate) struct GlobalArgs {
    /// Work as if started in this folder
    #[arg(short = 'C', value_name = "FOLDER", global = true)]
    pub(crate) work_in: Option<PathBuf>,
    /// Say nothing but results, warnings and errors
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(visible_alias = "sync")]
    Pull(ghost::PullArgs),
    Unlock(ghost::UnlockArgs),
    Lock(ghost::LockArgs),
    Run(ghost::RunArgs),
    Login(login::LoginArgs),
    Logout(login::LogoutArgs),
    Init(project::InitArgs),
    Up(container::UpArgs),
    #[command(visible_alias = "ssh")]
    Enter(container::EnterArgs),
    Down(container::DownArgs),
    Logs(container::LogsArgs),
    Doctor(container::DoctorArgs),
    Status(project::StatusArgs),
    Env(project::EnvArgs),
    Reinit(project::ReinitArgs),
    Vault(vault::VaultArgs),
    Image(image::ImageArgs),
    #[command(hide = true)]
    Generate(generate::GenerateArgs),
    /// The helper that sudo starts
    #[command(hide = true)]
    InternalGhost,
    /// The first program of a session in a ghost
    #[command(hide = true)]
    InternalSession(ghost::SessionArgs),
}

impl Command {
    /// Whether something that takes long answers in JSON, for a program to read.
    pub(crate) fn is_json(&self) -> bool {
        let Self::Vault(vault) = self else { return false };
        match &vault.command {
            vault::VaultCommand::Check(args) => args.json,
            vault::VaultCommand::Migrate(args) => args.json,
            _ => false,
        }
    }
}
