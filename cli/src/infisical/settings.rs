//! What is decided about a source before it is used.

use super::keyring::Kept;
use super::transport::Limits;
use crate::bridge::Bridge;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// What stands in place of a proxy's address where none is to be used.
pub(crate) const NO_PROXY: &str = "none";

/// What a configuration says about the source.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    /// Which source.
    pub(crate) source: Option<SourceKind>,
    /// The server.
    pub(crate) url: Option<String>,
    /// Certificates that are trusted beside the platform's.
    pub(crate) ca_file: Option<PathBuf>,
    /// The proxy, instead of the environment's.
    pub(crate) proxy: Option<String>,
    /// Whether plain HTTP is accepted for other machines too.
    pub(crate) allow_http: bool,
    /// How long and how much.
    pub(crate) limits: Limits,
}

/// The sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SourceKind {
    /// Our own client.
    Native,
    /// The `infisical` program.
    Cli,
}

/// The bridge's folders, below the vault's mount point.
#[derive(Clone, Debug)]
pub(crate) struct Folders {
    /// The home folder over which the bridge lies, where the `infisical` program looks for it.
    pub(crate) home: PathBuf,
    /// `.infisical-vault`.
    pub(crate) infisical: PathBuf,
    /// `.infisical-keyring`.
    pub(crate) keyring: PathBuf,
}

impl Folders {
    /// Names the folders in a ghost.
    pub(crate) fn of(home: &Path) -> Self {
        // A private home folder lies in the vault and leads to it; the bridge is over the real one.
        let vault = home.join("secrets");
        let vault = vault.canonicalize().unwrap_or(vault);
        Self {
            home: vault.parent().unwrap_or(home).to_owned(),
            infisical: vault.join(Bridge::Session.in_vault()),
            keyring: vault.join(Bridge::Keyring.in_vault()),
        }
    }

    /// Returns what the `infisical` program keeps there.
    pub(crate) fn kept(&self) -> Kept {
        Kept { infisical: self.infisical.clone(), keyring: self.keyring.clone() }
    }
}
