//! Verbs about the project's container.

use clap::Args;

/// Where a command about the vault runs.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct PlaceArgs {
    /// Run on this machine even if the project's container runs, where it would run otherwise
    #[arg(long)]
    pub(crate) here: bool,
}

/// Start the project's container, and make it first if there is none
///
/// Run again, it changes nothing: a container that runs is left running, one whose settings have
/// changed since is told about.
#[derive(Args, Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "four flags that a person gives or not")]
pub(crate) struct UpArgs {
    /// Build the image anew, as 'build' in the configuration says
    #[arg(long)]
    pub(crate) build: bool,
    /// Get the image from its registry even if it is here
    #[arg(long, conflicts_with = "build")]
    pub(crate) pull: bool,
    /// Remove this project's container and make it anew; whatever was changed in it is lost, except
    /// in the project's folder
    #[arg(long)]
    pub(crate) recreate: bool,
    /// With --recreate: even if a ghost is open in it; what programs in it have not saved is lost
    #[arg(long, requires = "recreate")]
    pub(crate) force: bool,
}

/// Step into the project's container: a shell there, or one command
///
/// Standard input and output are the command's own. With a terminal on both sides it gets one, with
/// pipes it does not. Ends with the command's exit status.
#[derive(Args, Clone, Debug)]
pub(crate) struct EnterArgs {
    /// Be root there
    #[arg(long)]
    pub(crate) root: bool,
    /// Run this command instead of a shell
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<String>,
}

/// Stop and remove the project's container
///
/// The project's folder and its vault stay; whatever else was changed in the container is lost.
#[derive(Args, Clone, Debug)]
pub(crate) struct DownArgs {
    /// End an open ghost first; what programs in it have not saved is lost
    #[arg(long)]
    pub(crate) force: bool,
}

/// Show what the container's first process said
#[derive(Args, Clone, Debug)]
pub(crate) struct LogsArgs {
    /// Wait for more
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only so many of the last lines
    #[arg(short = 'n', long, value_name = "LINES")]
    pub(crate) tail: Option<u32>,
}

/// Look at everything that TazPod needs, and at what weakens its promise
///
/// Exit status: 0 all is well, 1 something weakens the promise, 69 something is missing. Changes nothing but one
/// thing, and that only if you say so: as root it removes the devices that a killed ghost left of a luks vault,
/// unless somebody uses them.
#[derive(Args, Clone, Debug)]
pub(crate) struct DoctorArgs {
    /// Do not ask before what a killed ghost left is removed
    #[arg(long)]
    pub(crate) yes: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}
