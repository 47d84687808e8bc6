//! `tazpod doctor`: everything that TazPod needs, and what weakens its promise.

use crate::app::App;
use crate::args::container::DoctorArgs;
use crate::args::ghost::BackendKind;
use crate::backend::luks;
use crate::caller::Caller;
use crate::docker::route;
use crate::doctor::{self, Finding, Verdict, host, memory, project};
use crate::error::Result;
use crate::ghost::privilege::identity_of;
use crate::image;
use nix::unistd::getuid;
use serde::Serialize;
use std::path::Path;
use vault_core::format::magic::ImageFormat;

#[derive(Serialize)]
struct Report {
    worst: Verdict,
    findings: Vec<Finding>,
}

/// Looks, tells, and ends with what it means.
pub(crate) fn run(app: &App, args: &DoctorArgs) -> Result<u8> {
    let caller = Caller::detect()?;
    let as_caller = caller.act()?;
    let project = app.project()?;
    let config = app.config(&project)?;
    let backend = match image::recognise(&config.vault_file(&project)) {
        Some(ImageFormat::Luks { .. }) => Some(BackendKind::Luks),
        Some(ImageFormat::Vault | ImageFormat::OtherVault { .. }) => Some(BackendKind::Fuse),
        _ => config.backend(),
    };
    let outside = !route::is_inside();
    let mut findings = host::findings(backend, outside && config.container_name.is_some());
    findings.extend(memory::findings());
    if outside {
        findings.extend(project::engine(&project, &config));
    }
    findings.extend(project::vault(&caller, &project, &config));
    if backend == Some(BackendKind::Luks) && getuid().is_root() {
        let path = config.vault_file(&project);
        let shown = project.shown(&path).to_string();
        drop(as_caller);
        findings.extend(leftovers(app, args, &caller, (&path, &shown)));
    }
    let status = doctor::status(&findings);
    if args.json {
        let worst = findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Ok);
        app.ui.json(&Report { worst, findings })?;
    } else {
        app.ui.print(&doctor::text(&findings))?;
    }
    Ok(status)
}

/// Looks for what a killed ghost left of a luks vault, and removes it if the person says so.
fn leftovers(
    app: &App,
    args: &DoctorArgs,
    caller: &Caller,
    (path, shown): (&Path, &str),
) -> Option<Finding> {
    let subject = "leftovers";
    let swept = identity_of(caller.uid, caller.gid).and_then(|identity| {
        let found = luks::leftovers(path, &identity)?;
        if found.is_empty() {
            return Ok(None);
        }
        let names = found.join(", ");
        let question =
            format!("A killed ghost left {names} of {shown}, and nobody uses it. Remove it?");
        if !args.yes && (args.json || !app.ui.confirm(&question)?) {
            return Ok(Some(Finding::weak(
                "vault",
                subject,
                format!(
                    "a killed ghost left {names}: the vault's content can be read there by root"
                ),
                "tazpod doctor --yes, or the next pull",
            )));
        }
        luks::sweep(path, shown, &identity)?;
        Ok(Some(Finding::ok(
            "vault",
            subject,
            format!("removed {names}, which a killed ghost had left"),
        )))
    });
    swept.unwrap_or_else(|error| Some(Finding::from_error("vault", subject, &error)))
}
