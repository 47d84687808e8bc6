//! `secrets.yml`: which secret goes to which file below `~/secrets` and which variable names it.

use super::parse;
use crate::error::{Error, Result};
use serde::Deserialize;
use std::path::{Component, Path};

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "keys and values")]
#[allow(dead_code, reason = "where secrets come from is judged here and used by the pull")]
pub(crate) struct Secrets {
    config: Option<Source>,
    secrets: Option<Vec<Secret>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "keys and values")]
#[allow(dead_code, reason = "as above")]
struct Source {
    infisical_project_id: Option<String>,
}

/// One secret and where it goes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "keys and values")]
pub(crate) struct Secret {
    /// Its name at the source.
    pub(crate) name: String,
    /// Its file below `~/secrets`.
    pub(crate) file: Option<String>,
    /// The variable that holds the file's path.
    pub(crate) env: Option<String>,
}

impl Secrets {
    /// Reads the file and judges it; one that does not exist names no secrets.
    pub(crate) fn load(path: &Path, shown: &str) -> Result<Self> {
        let secrets: Self = parse::file(path, shown)?.unwrap_or_default();
        for secret in secrets.all() {
            secret.judge().map_err(|what| {
                Error::config(format!("{shown}: secret '{}': {what}", secret.name))
            })?;
        }
        Ok(secrets)
    }

    /// Returns the secrets in the file's order.
    pub(crate) fn all(&self) -> &[Secret] {
        self.secrets.as_deref().unwrap_or_default()
    }
}

impl Secret {
    /// Finds what would write outside `~/secrets` or make an export that a shell cannot read.
    fn judge(&self) -> std::result::Result<(), String> {
        if let Some(file) = &self.file {
            let plain = |part| matches!(part, Component::Normal(_));
            if file.is_empty() || file.contains('\0') || !Path::new(file).components().all(plain) {
                return Err(format!("file '{file}' must be a path below ~/secrets"));
            }
        }
        match &self.env {
            Some(name) if !is_variable(name) => {
                Err(format!("env '{name}' must be letters, digits and underscores"))
            }
            _ => Ok(()),
        }
    }
}

fn is_variable(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.starts_with(|c: char| legal(c) && !c.is_ascii_digit()) && name.chars().all(legal)
}
