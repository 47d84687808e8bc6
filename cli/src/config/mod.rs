//! `.tazpod/config.yaml`: what a person decided about the project, once.
//!
//! Every key is optional. An unknown key or a value of the wrong type is an error that names the
//! file, the line, the column and what was expected; files of the older Go program keep working,
//! with the keys that have lost their meaning named in a notice. The file is bounded in size, and
//! the parser bounds nesting and the expansion of aliases.

pub(crate) mod deciding;
mod locate;
mod names;
mod parse;
pub(crate) mod secrets;

use crate::args::ghost::BackendKind;
use crate::bridge::MemoryPlace;
use crate::error::Result;
use crate::project::{Project, legacy};
use crate::units::ByteSize;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::path::{Path, PathBuf};

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "keys and values")]
pub(crate) struct Config {
    #[allow(dead_code, reason = "judged while it is read; only one version exists")]
    version: Option<parse::Version>,
    /// The container's image.
    pub(crate) image: Option<names::ImageName>,
    /// The container's name.
    pub(crate) container_name: Option<names::ContainerName>,
    /// The user inside the container.
    pub(crate) user: Option<names::UserName>,
    features: Option<Features>,
    build: Option<Build>,
    container: Option<Container>,
    vault: Option<Vault>,
    ghost: Option<Ghost>,
    gemini: Option<MemoryPlace>,
    mode: Option<IgnoredAny>,
    ghost_mode: Option<IgnoredAny>,
    aws_sso: Option<IgnoredAny>,
    providers: Option<IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "keys and values")]
struct Features {
    ghost_mode: Option<bool>,
    debug: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "keys and values")]
struct Build {
    dockerfile: Option<PathBuf>,
    context: Option<PathBuf>,
}

/// What the container may do.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "keys and values")]
struct Container {
    privileged: Option<bool>,
    x11: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "keys and values")]
struct Vault {
    backend: Option<BackendKind>,
    size: Option<ByteSize>,
    path: Option<PathBuf>,
    lock_after: Option<parse::Span>,
    retention: Option<IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "keys and values")]
struct Ghost {
    home: Option<GhostHome>,
    pass: Option<Vec<String>>,
}

/// Which home folder the ghost's shell sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum GhostHome {
    /// The caller's own.
    #[default]
    Shared,
    /// One in the vault, so that dotfiles edited outside do not run inside.
    Private,
}

impl Config {
    /// Reads the file; one that does not exist is a file without keys.
    pub(crate) fn load(path: &Path, shown: &str) -> Result<Self> {
        parse::file(path, shown).map(Option::unwrap_or_default)
    }

    /// Returns the vault's backend, if one was decided.
    pub(crate) fn backend(&self) -> Option<BackendKind> {
        self.vault.as_ref()?.backend
    }

    /// Returns the size that a new vault may grow to, if one was decided.
    pub(crate) fn vault_size(&self) -> Option<ByteSize> {
        self.vault.as_ref()?.size
    }

    /// Returns the image's place; a relative one counts from the project's folder.
    pub(crate) fn vault_file(&self, project: &Project) -> PathBuf {
        match self.vault.as_ref().and_then(|vault| vault.path.as_deref()) {
            Some(path) => project.root().join(path),
            None => legacy::place(project),
        }
    }

    /// Whether the image's place was decided.
    pub(crate) fn names_vault_file(&self) -> bool {
        self.vault.as_ref().is_some_and(|vault| vault.path.is_some())
    }

    /// Returns the idle time after which an open ghost locks itself.
    pub(crate) fn lock_after(&self) -> Option<std::time::Duration> {
        self.vault.as_ref()?.lock_after.map(|span| span.0)
    }

    /// Returns which home folder the ghost's shell sees.
    pub(crate) fn ghost_home(&self) -> GhostHome {
        self.ghost.as_ref().and_then(|ghost| ghost.home).unwrap_or_default()
    }

    /// Returns where the assistant's memory lives.
    pub(crate) fn memory(&self) -> MemoryPlace {
        self.gemini.unwrap_or_default()
    }

    /// Returns the environment variables whose sockets and files the ghost may see.
    pub(crate) fn ghost_pass(&self) -> &[String] {
        self.ghost.as_ref().and_then(|ghost| ghost.pass.as_deref()).unwrap_or_default()
    }

    /// Whether the container is to be one in which ghosts can be made.
    pub(crate) fn wants_ghosts(&self) -> bool {
        self.features.as_ref().and_then(|features| features.ghost_mode).unwrap_or(true)
    }

    /// Whether to show what is asked of the container engine.
    pub(crate) fn debug(&self) -> bool {
        self.features.as_ref().and_then(|features| features.debug).unwrap_or(false)
    }

    /// Whether a luks container shall be privileged; one for fuse never is.
    pub(crate) fn privileged(&self) -> bool {
        self.container.as_ref().and_then(|container| container.privileged).unwrap_or(true)
    }

    /// Whether programs in the container may use the person's X11 display.
    pub(crate) fn x11(&self) -> bool {
        self.container.as_ref().and_then(|container| container.x11).unwrap_or(true)
    }

    /// Returns the Dockerfile and the folder that is sent with it, if the image is built here;
    /// relative paths count from the project's folder.
    pub(crate) fn build(&self, project: &Project) -> Option<(PathBuf, PathBuf)> {
        let build = self.build.as_ref()?;
        if build.dockerfile.is_none() && build.context.is_none() {
            return None;
        }
        let context = project.root().join(build.context.as_deref().unwrap_or(Path::new(".")));
        let dockerfile = match &build.dockerfile {
            Some(path) => project.root().join(path),
            None => context.join("Dockerfile"),
        };
        Some((dockerfile, context))
    }

    /// Returns the keys of the older program that are accepted and mean nothing here.
    pub(crate) fn meaningless(&self) -> Vec<&'static str> {
        let retention = self.vault.as_ref().is_some_and(|vault| vault.retention.is_some());
        let keys = [
            ("mode", self.mode.is_some()),
            ("ghost_mode", self.ghost_mode.is_some()),
            ("aws_sso", self.aws_sso.is_some()),
            ("providers", self.providers.is_some()),
            ("vault.retention", retention),
        ];
        keys.into_iter().filter(|(_, present)| *present).map(|(key, _)| key).collect()
    }
}

#[cfg(test)]
mod tests;
