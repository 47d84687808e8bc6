//! Verbs about the project itself.

use clap::{Args, ValueEnum};

/// Show the project, its vault, and what a ghost promises on this machine
#[derive(Args, Clone, Debug)]
pub(crate) struct StatusArgs {
    /// Show every container that TazPod made on this machine instead
    #[arg(long)]
    pub(crate) all: bool,
    /// Print one JSON object; a path that is no UTF-8 is {"base64": "..."} in it
    #[arg(long)]
    pub(crate) json: bool,
}

/// Set the project up: .tazpod/, secrets.yml and .gemini/
///
/// Run again, it completes what is missing and overwrites nothing.
#[derive(Args, Clone, Debug)]
pub(crate) struct InitArgs {
    /// What the container should bring; without it the folder is looked at and one is proposed
    #[arg(value_enum)]
    pub(crate) vertical: Option<Vertical>,
}

/// What the project's container brings, each on top of the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Vertical {
    /// Shell, editor and search tools
    Base,
    /// base and the Infisical client
    Infisical,
    /// infisical and the Kubernetes tools
    #[value(alias = "talos")]
    K8s,
    /// k8s and the Gemini assistant
    Gemini,
}

/// Print what brings a shell's environment up to date: eval "$(tazpod env)"
///
/// Sets and unsets exactly what changed. A shell of a ghost has it from the start, and follows it.
#[derive(Args, Clone, Debug)]
pub(crate) struct EnvArgs {
    /// Print a hook that does this before each prompt: eval "$(tazpod env --hook)"
    #[arg(long)]
    pub(crate) hook: bool,
    /// Write for this shell [default: the one that $SHELL names]
    #[arg(long, value_enum)]
    pub(crate) shell: Option<Shell>,
}

/// A shell that `env` can write for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Delete the project's vault so that the next pull makes a new one
///
/// Names what is lost and asks first.
#[derive(Args, Clone, Debug)]
pub(crate) struct ReinitArgs {
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}
