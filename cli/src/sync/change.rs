//! What a pull changes, decided before anything is written.

use super::fetch::Answer;
use super::record::{Kept, Record};
use super::variables::Room;
use super::vault::OpenVault;
use crate::config::secrets::{Mapping, Secrets};
use crate::error::{Error, Kind, Result};
use crate::infisical::secret::SecretValue;
use serde::Serialize;
use std::io;
use std::path::{Path, PathBuf};

/// Where values of variables without a file are kept.
pub(super) const VALUES: &str = ".tazpod/values";

/// What happens to one secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Change {
    /// It is new in the vault.
    Added,
    /// The vault has another value.
    Updated,
    /// The vault has the same.
    Unchanged,
    /// The source does not have it.
    Missing,
    /// Whoever is logged in may not read it.
    Hidden,
    /// It is not in `secrets.yml` any more, but still in the vault.
    Unmapped,
    /// It was not in `secrets.yml` any more and is removed.
    Removed,
}

/// One line of a pull's table: names and places, never a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Row {
    /// The secret's name.
    pub(crate) name: String,
    /// Its environment at the source.
    pub(crate) environment: String,
    /// Its folder at the source.
    pub(crate) path: String,
    /// Its file in the vault.
    pub(crate) file: Option<PathBuf>,
    /// Its variable.
    pub(crate) env: Option<String>,
    /// What happens to it.
    pub(crate) change: Change,
    /// Whether it may be missing.
    #[serde(skip)]
    pub(crate) optional: bool,
}

/// A file to be written.
pub(crate) struct Write {
    /// Where.
    pub(super) target: PathBuf,
    /// What.
    pub(super) value: SecretValue,
    /// With which permissions.
    pub(super) permissions: u32,
}

/// Everything that a pull does.
#[derive(Default)]
pub(crate) struct Plan {
    /// The table.
    pub(crate) rows: Vec<Row>,
    /// Files to be written.
    pub(super) writes: Vec<Write>,
    /// Files to be removed.
    pub(super) removals: Vec<PathBuf>,
    /// What is in the vault afterwards.
    pub(super) kept: Vec<Kept>,
}

/// Returns where a secret is kept in the vault; `None` for one that goes nowhere.
pub(crate) fn target(mapping: &Mapping) -> Option<PathBuf> {
    match (&mapping.file, &mapping.variable) {
        (Some(file), _) => Some(file.clone()),
        (None, Some(variable)) => Some(Path::new(VALUES).join(&variable.name)),
        (None, None) => None,
    }
}

/// Compares the answers with the vault. Secrets that are missing and not optional, values that no
/// variable can hold, and files that cannot be placed are errors: then nothing is written.
pub(crate) fn plan(
    vault: &OpenVault,
    secrets: &Secrets,
    answers: Vec<Answer>,
    record: &Record,
    prune: bool,
) -> Result<Plan> {
    let mut plan = Plan::default();
    let mut room = Room::default();
    for (number, (mapping, answer)) in secrets.all().iter().zip(answers).enumerate() {
        let Some(target) = target(mapping) else { continue };
        let change = match answer {
            Answer::Missing => Change::Missing,
            Answer::Hidden => Change::Hidden,
            Answer::Value(value) => {
                judge(secrets, number, mapping, &value, &mut room)?;
                let change = compare(vault, &target, &value, mapping.permissions)
                    .map_err(|what| secrets.refuse(number, "file", &what))?;
                if change != Change::Unchanged {
                    let permissions = mapping.permissions;
                    plan.writes.push(Write { target: target.clone(), value, permissions });
                }
                change
            }
        };
        plan.rows.push(row(mapping, change));
        plan.kept.push(Kept::of(mapping, &target));
    }
    refuse_absent(&plan.rows)?;
    plan_unmapped(vault, record, prune, &mut plan);
    Ok(plan)
}

/// The table of what the vault has, without asking anybody.
pub(crate) fn offline(vault: &OpenVault, secrets: &Secrets) -> Vec<Row> {
    let state = |mapping: &Mapping| {
        let there = target(mapping).map(|target| vault.has(&target))?;
        Some(row(mapping, if there { Change::Unchanged } else { Change::Missing }))
    };
    secrets.all().iter().filter_map(state).collect()
}

fn row(mapping: &Mapping, change: Change) -> Row {
    Row {
        name: mapping.name.clone(),
        environment: mapping.environment.clone(),
        path: mapping.folder.clone(),
        file: mapping.file.clone(),
        env: mapping.variable.as_ref().map(|variable| variable.name.clone()),
        change,
        optional: mapping.optional,
    }
}

fn judge(
    secrets: &Secrets,
    number: usize,
    mapping: &Mapping,
    value: &SecretValue,
    room: &mut Room,
) -> Result<()> {
    match &mapping.variable {
        Some(variable) if variable.holds_value => {
            room.take(&variable.name, value.expose().as_bytes()).map_err(|why| {
                let what = format!("the value of '{}' {why}", mapping.name);
                secrets
                    .refuse(number, "env", &what)
                    .hint("put it into a file, and the file's path into the variable")
            })
        }
        _ => Ok(()),
    }
}

fn compare(
    vault: &OpenVault,
    target: &Path,
    value: &SecretValue,
    permissions: u32,
) -> std::result::Result<Change, String> {
    let value = value.expose().as_bytes();
    match vault.read(target, value.len()) {
        Ok(None) => Ok(Change::Added),
        Ok(Some(found)) if found.content[..] == *value && found.permissions == permissions => {
            Ok(Change::Unchanged)
        }
        Ok(Some(_)) => Ok(Change::Updated),
        Err(cause) if cause.raw_os_error() == Some(libc::ELOOP) => {
            Err(format!("file '{}' leads through a symbolic link", target.display()))
        }
        Err(cause) => match cause.kind() {
            // Not readable by its owner: replacing it needs no right to the file itself.
            io::ErrorKind::FileTooLarge | io::ErrorKind::PermissionDenied => Ok(Change::Updated),
            io::ErrorKind::NotADirectory => {
                Err(format!("file '{}' would lie in a file", target.display()))
            }
            io::ErrorKind::CrossesDevices => {
                Err(format!("file '{}' leads out of the vault", target.display()))
            }
            _ => Err(format!("file '{}' cannot be replaced: {cause}", target.display())),
        },
    }
}

/// Names all that are missing at once, so that one run tells everything.
fn refuse_absent(rows: &[Row]) -> Result<()> {
    let absent = |change: Change| {
        rows.iter()
            .filter(|row| row.change == change && !row.optional)
            .map(|row| format!("{} ({} {})", row.name, row.environment, row.path))
            .collect::<Vec<_>>()
    };
    let (missing, hidden) = (absent(Change::Missing), absent(Change::Hidden));
    if missing.is_empty() && hidden.is_empty() {
        return Ok(());
    }
    let mut parts = Vec::new();
    if !missing.is_empty() {
        parts.push(format!("Infisical does not have {}", missing.join(", ")));
    }
    if !hidden.is_empty() {
        parts.push(format!("you may not read {}", hidden.join(", ")));
    }
    Err(Error::new(Kind::Refused, parts.join("; "))
        .hint("the vault keeps what it had; 'optional: true' lets a secret be missing"))
}

/// Finds what an earlier pull wrote and no secret of the file needs any more.
fn plan_unmapped(vault: &OpenVault, record: &Record, prune: bool, plan: &mut Plan) {
    for kept in &record.kept {
        let mapped = plan.kept.iter().any(|now| now.target == kept.target);
        if mapped || !vault.has(&kept.target) {
            continue;
        }
        let change = if prune { Change::Removed } else { Change::Unmapped };
        plan.rows.push(kept.row(change));
        if prune {
            plan.removals.push(kept.target.clone());
        } else {
            plan.kept.push(kept.clone());
        }
    }
}
