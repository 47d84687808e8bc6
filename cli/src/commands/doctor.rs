//! `tazpod doctor`: everything that TazPod needs, and what weakens its promise.

use crate::app::App;
use crate::args::container::DoctorArgs;
use crate::args::ghost::BackendKind;
use crate::caller::Caller;
use crate::docker::route;
use crate::doctor::{self, Finding, Verdict, host, memory, project};
use crate::error::Result;
use crate::image;
use serde::Serialize;
use vault_core::format::magic::ImageFormat;

#[derive(Serialize)]
struct Report {
    worst: Verdict,
    findings: Vec<Finding>,
}

/// Looks, tells, and ends with what it means.
pub(crate) fn run(app: &App, args: &DoctorArgs) -> Result<u8> {
    let caller = Caller::detect()?;
    let _as_caller = caller.act()?;
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
    let status = doctor::status(&findings);
    if args.json {
        let worst = findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Ok);
        app.ui.json(&Report { worst, findings })?;
    } else {
        app.ui.print(&doctor::text(&findings))?;
    }
    Ok(status)
}
