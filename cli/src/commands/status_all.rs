//! `tazpod status --all`: every container that TazPod made on this machine's engine.

use crate::app::App;
use crate::dates;
use crate::docker;
use crate::docker::container::{self, OpenGhost, failed};
use crate::docker::engine::{Container, Engine, State};
use crate::docker::spec::{BACKEND, PROJECT};
use crate::error::Result;
use serde::Serialize;
use std::fmt::Write as _;
use std::path::Path;

/// Shows them all, or one JSON array.
pub(crate) fn run(app: &App, json: bool) -> Result<u8> {
    let engine = docker::connect()?;
    let all = gather(engine.as_ref())?;
    if json {
        app.ui.json(&all)?;
    } else if all.is_empty() {
        app.ui.notice("TazPod has made no container on this engine.");
    } else {
        app.ui.print(&all.iter().map(ContainerStatus::text).collect::<Vec<_>>().join("\n"))?;
    }
    Ok(0)
}

/// One container of ours.
#[derive(Debug, Serialize)]
pub(super) struct ContainerStatus {
    name: String,
    project: String,
    /// Whether there is no such folder here.
    project_gone: bool,
    image: String,
    state: State,
    backend: String,
    /// When it was started, if it runs.
    since: Option<String>,
    ghost: Option<OpenGhost>,
    /// Why it cannot be told whether a ghost is open.
    problem: Option<String>,
}

fn gather(engine: &dyn Engine) -> Result<Vec<ContainerStatus>> {
    let mut names = engine.labelled(PROJECT).map_err(failed("cannot list the containers"))?;
    names.sort_unstable();
    let mut all = Vec::new();
    for name in names {
        // One that was removed a moment ago is none.
        let found = engine
            .container(&name)
            .map_err(failed(format!("cannot ask for the container '{name}'")))?;
        all.extend(found.map(|found| ContainerStatus::of(engine, &found)));
    }
    Ok(all)
}

impl ContainerStatus {
    pub(super) fn of(engine: &dyn Engine, found: &Container) -> Self {
        let label = |name: &str| found.labels.get(name).cloned().unwrap_or_default();
        let ghost = container::ghost(engine, found, &container::user_of(found));
        let (ghost, problem) = match ghost {
            Ok(ghost) => (ghost, None),
            Err(error) => (None, Some(error.to_string())),
        };
        Self {
            name: found.name.clone(),
            project: label(PROJECT),
            // One that may not be looked at is not gone.
            project_gone: matches!(Path::new(&label(PROJECT)).try_exists(), Ok(false)),
            image: found.image.clone(),
            state: found.state,
            backend: label(BACKEND),
            since: found.started.clone(),
            ghost,
            problem,
        }
    }

    pub(super) fn text(&self) -> String {
        let state = match self.state {
            State::Created => "made, not started",
            State::Running => "running",
            State::Paused => "paused",
            State::Stopped => "stopped",
            State::Unsettled => "in between",
        };
        // To the second is enough for people.
        let since = self.since.as_deref().map(|since| since.split('.').next().unwrap_or(since));
        let since = since
            .map_or_else(String::new, |since| format!(" since {}Z", since.trim_end_matches('Z')));
        let gone = if self.project_gone {
            format!(" (is not there; if it is gone for good: docker rm --force {})", self.name)
        } else {
            String::new()
        };
        let mut text = format!(
            "{}\n          {}{gone}\n          {state}{since}, {}, {}",
            self.name, self.project, self.image, self.backend
        );
        let ghost = match (&self.ghost, &self.problem) {
            (Some(ghost), _) => {
                let since = dates::utc(i64::try_from(ghost.since).unwrap_or(i64::MAX));
                format!("a ghost is open since {since}, sessions: {}", ghost.sessions)
            }
            (None, Some(problem)) => problem.clone(),
            (None, None) => "no ghost is open".to_owned(),
        };
        let _ = write!(text, "\n          {ghost}");
        text
    }
}
