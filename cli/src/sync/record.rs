//! What the last pull did: when, and which files are its own. Names only.

use super::change::{Change, Row};
use super::vault::OpenVault;
use crate::config::secrets::Mapping;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Where it is kept in the vault.
pub(super) const FILE: &str = ".tazpod/pulled.json";

/// More than this was not written by us.
const LARGEST: usize = 4 << 20;

/// The record.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Seconds since 1970.
    pub(crate) at: Option<u64>,
    /// The server.
    pub(crate) from: Option<String>,
    /// What was written.
    #[serde(default)]
    pub(super) kept: Vec<Kept>,
}

/// A secret in the vault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    name: String,
    environment: String,
    path: String,
    pub(super) target: PathBuf,
    variable: Option<String>,
}

impl Kept {
    pub(super) fn of(mapping: &Mapping, target: &Path) -> Self {
        Self {
            name: mapping.name.clone(),
            environment: mapping.environment.clone(),
            path: mapping.folder.clone(),
            target: target.to_owned(),
            variable: mapping.variable.as_ref().map(|variable| variable.name.clone()),
        }
    }

    pub(super) fn row(&self, change: Change) -> Row {
        let is_file = !self.target.starts_with(super::change::VALUES);
        Row {
            name: self.name.clone(),
            environment: self.environment.clone(),
            path: self.path.clone(),
            file: is_file.then(|| self.target.clone()),
            env: self.variable.clone(),
            change,
            optional: true,
        }
    }
}

impl Record {
    /// Reads the record. One that cannot be read is none: it is advice about old files, and what it
    /// names is judged again before anything is removed.
    pub(crate) fn load(vault: &OpenVault) -> Self {
        let read = vault.read(Path::new(FILE), LARGEST).ok().flatten();
        let mut record: Self =
            read.and_then(|found| serde_json::from_slice(&found.content).ok()).unwrap_or_default();
        let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
        record.kept.retain(|kept| kept.target.components().all(plain));
        record
    }

    /// Makes the record of a pull that happens now.
    pub(super) fn new(from: &str, kept: Vec<Kept>) -> Self {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs());
        Self { at, from: Some(from.to_owned()), kept }
    }

    /// Whether no pull has ever written anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.at.is_none() && self.kept.is_empty()
    }

    /// Names these secrets too; true if one of them was not named yet.
    pub(super) fn add(&mut self, more: &[Kept]) -> bool {
        let before = self.kept.len();
        let known: BTreeSet<PathBuf> = self.kept.iter().map(|kept| kept.target.clone()).collect();
        self.kept.extend(more.iter().filter(|kept| !known.contains(&kept.target)).cloned());
        self.kept.len() > before
    }

    pub(super) fn encode(&self) -> io::Result<Vec<u8>> {
        Ok(serde_json::to_vec_pretty(self)?)
    }

    /// Says how long ago the last pull was; `None` if there was none.
    pub(crate) fn age(&self) -> Option<String> {
        let at = UNIX_EPOCH.checked_add(std::time::Duration::from_secs(self.at?))?;
        let seconds = SystemTime::now().duration_since(at).unwrap_or_default().as_secs();
        let units = [(86_400, "day"), (3_600, "hour"), (60, "minute")];
        let found = units.iter().find(|(length, _)| seconds >= *length);
        Some(match found {
            Some((length, name)) => {
                let count = seconds / length;
                format!("{count} {name}{} ago", if count == 1 { "" } else { "s" })
            }
            None => "less than a minute ago".to_owned(),
        })
    }
}
