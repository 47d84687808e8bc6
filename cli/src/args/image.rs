//! Verbs about the container's image.

use super::project::Vertical;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Build the images of the verticals
#[derive(Args, Clone, Debug)]
pub(crate) struct ImageArgs {
    #[command(subcommand)]
    pub(crate) command: ImageCommand,
}

/// What to do with an image.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum ImageCommand {
    Build(BuildArgs),
}

/// Build the image of a vertical, and of those below it
///
/// The files that it is made of are part of this program; packages come from the distribution, a
/// few tools from their release pages, each pinned by its SHA-256.
#[derive(Args, Clone, Debug)]
pub(crate) struct BuildArgs {
    /// Which one
    #[arg(value_enum)]
    pub(crate) vertical: Vertical,
    /// Stand on this image instead of debian:trixie-slim
    #[arg(long, value_name = "IMAGE")]
    pub(crate) base: Option<String>,
    /// Take pinned tools from this folder, each a file named by its SHA-256, before fetching them
    /// [default: ~/.cache/tazpod/artifacts]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) artifacts: Option<PathBuf>,
    /// Go without tools that cannot be had; /etc/tazpod/missing in the image names them
    #[arg(long)]
    pub(crate) allow_missing: bool,
    /// Put this tazpod into the image [default: this program]
    #[arg(long, value_name = "FILE")]
    pub(crate) binary: Option<PathBuf>,
}
