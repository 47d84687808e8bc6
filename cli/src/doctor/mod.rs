//! What TazPod needs and what weakens its promise, looked at one by one.
//!
//! Each look ends in a [`Finding`]: what was found, and how to mend it. Nothing is changed.

pub(crate) mod host;
pub(crate) mod memory;
pub(crate) mod project;

use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// How a finding bears on what the person wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// As it should be.
    Ok,
    /// Good to know, and no fault.
    Note,
    /// It works, and promises less.
    Weak,
    /// Something does not work without it.
    Missing,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Finding {
    /// Where: host, engine, container or vault.
    pub(crate) area: String,
    /// What.
    pub(crate) subject: String,
    /// What it means.
    pub(crate) verdict: Verdict,
    /// What was found.
    pub(crate) found: String,
    /// How to mend it.
    pub(crate) fix: Option<String>,
}

impl Finding {
    /// Something that is as it should be.
    pub(crate) fn ok(area: &str, subject: &str, found: impl Into<String>) -> Self {
        Self::of(area, subject, Verdict::Ok, found.into(), None)
    }

    /// Something good to know.
    pub(crate) fn note(area: &str, subject: &str, found: impl Into<String>) -> Self {
        Self::of(area, subject, Verdict::Note, found.into(), None)
    }

    /// Something that weakens the promise.
    pub(crate) fn weak(area: &str, subject: &str, found: impl Into<String>, fix: &str) -> Self {
        Self::of(area, subject, Verdict::Weak, found.into(), Some(fix.to_owned()))
    }

    /// Something that is missing.
    pub(crate) fn missing(area: &str, subject: &str, found: impl Into<String>, fix: &str) -> Self {
        Self::of(area, subject, Verdict::Missing, found.into(), Some(fix.to_owned()))
    }

    /// An error of ours as something that is missing.
    pub(crate) fn from_error(area: &str, subject: &str, error: &crate::error::Error) -> Self {
        let found = error.in_one_line();
        let fix = error.hints().join("; ");
        let fix = (!fix.is_empty()).then_some(fix);
        Self::of(area, subject, Verdict::Missing, found, fix)
    }

    fn of(area: &str, subject: &str, verdict: Verdict, found: String, fix: Option<String>) -> Self {
        Self { area: area.to_owned(), subject: subject.to_owned(), verdict, found, fix }
    }
}

/// Writes findings for people, each area under its name.
pub(crate) fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    let mut area = "";
    for finding in findings {
        if finding.area != area {
            area = &finding.area;
            let _ = writeln!(text, "{area}");
        }
        let word = match finding.verdict {
            Verdict::Ok => "ok",
            Verdict::Note => "note",
            Verdict::Weak => "WEAK",
            Verdict::Missing => "MISSING",
        };
        let _ = writeln!(text, "  {word:<8} {:<12} {}", finding.subject, finding.found);
        if let Some(fix) = &finding.fix {
            let _ = writeln!(text, "{:24}fix: {fix}", "");
        }
    }
    let count = |verdict| findings.iter().filter(|one| one.verdict == verdict).count();
    let (weak, missing) = (count(Verdict::Weak), count(Verdict::Missing));
    let summary = match (missing, weak) {
        (0, 0) => "all is well".to_owned(),
        _ => format!("{missing} missing, {weak} weakening the promise"),
    };
    let _ = write!(text, "{summary}");
    text
}

/// Returns the exit status that tells the worst finding.
pub(crate) fn status(findings: &[Finding]) -> u8 {
    match findings.iter().map(|finding| finding.verdict).max() {
        Some(Verdict::Missing) => crate::error::Kind::Environment.exit_status(),
        Some(Verdict::Weak) => 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_decides_the_status() {
        let ok = Finding::ok("host", "a", "x");
        let weak = Finding::weak("host", "b", "y", "mend it");
        let missing = Finding::missing("vault", "c", "z", "get it");
        assert_eq!(status(&[]), 0);
        assert_eq!(status(&[ok.clone(), Finding::note("host", "n", "")]), 0);
        assert_eq!(status(&[weak.clone(), ok.clone()]), 1);
        assert_eq!(status(&[missing.clone(), weak.clone()]), 69);
        assert_eq!(
            text(&[ok, weak, missing]),
            "host\n  ok       a            x\n  WEAK     b            y\n                        fix: mend it\n\
             vault\n  MISSING  c            z\n                        fix: get it\n1 missing, 1 weakening the promise"
        );
    }
}
