//! `tazpod vault check`: reads and verifies everything, and changes nothing.

use super::vault_repair;
use crate::app::App;
use crate::args::vault::CheckArgs;
use crate::caller::Caller;
use crate::error::Result;
use crate::image::{self, Image};
use crate::quoting::{JsonName, on_one_line};
use crate::ui::interrupt::OnInterrupt;
use crate::units::ByteSize;
use serde::Serialize;
use vault_core::check::{Finding, Report};
use vault_core::device::Access;
use vault_core::ids::{InodeNo, UNIT_U64};
use vault_core::vault::CopyState;

/// The exit status when something was wrong and has been mended.
const MENDED: u8 = 1;
/// The exit status when something is wrong and was left as it is.
const DAMAGE_LEFT: u8 = 2;

/// Checks the vault.
pub(crate) fn run(app: &App, args: &CheckArgs) -> Result<u8> {
    let caller = Caller::detect()?;
    let _as_caller = caller.act()?;
    let (path, shown) = Image::place(app, &args.image)?;
    let access = if args.repair { Access::ReadWrite } else { Access::ReadOnly };
    let image = Image::open(&path, &shown, access)?;
    let credential = image::credential(&app.ui, &args.credential, &shown)?;
    let vault = image.unlock(&credential, &args.credential)?;
    let mut progress = app.ui.progress("checking");
    let on_interrupt = OnInterrupt { hint: "nothing was changed", remove: None };
    let report = app.ui.interruptible(&on_interrupt, || {
        image.check(&app.ui, &vault, &mut |done, total| progress.show(done, total))
    })??;
    drop(progress);
    let summary = Summary::of(&report, vault.copy_states());
    if args.json {
        app.ui.json(&summary)?;
    } else {
        app.ui.print(&summary.text(&shown))?;
    }
    if summary.clean && !(args.repair && summary.lagging_header.is_some()) {
        return Ok(0);
    }
    if !args.repair {
        return Ok(DAMAGE_LEFT);
    }
    if report.is_clean() {
        vault_repair::header(app, &image, vault)?;
    } else {
        vault_repair::rebuild(app, &image, vault, &path, args.yes)?;
    }
    Ok(MENDED)
}

#[derive(Debug, Serialize)]
struct Summary {
    clean: bool,
    generation: u64,
    stepped_back_from: Option<u64>,
    files: u64,
    bytes: u64,
    findings: Vec<Line>,
    unlisted: u64,
    torn_slots: Vec<usize>,
    /// The copy of the header that an interrupted change has not come to.
    lagging_header: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct Line {
    /// Whether content or names are lost.
    data: bool,
    path: Option<JsonName>,
    #[serde(skip)]
    raw_path: Option<Vec<u8>>,
    inode: Option<u64>,
    /// The bytes of the file that are concerned.
    offset: Option<u64>,
    length: Option<u64>,
    what: String,
}

impl Summary {
    fn of(report: &Report, copies: [CopyState; 2]) -> Self {
        let mut names = ["A", "B"].into_iter().zip(copies);
        let headers = names.clone().filter_map(|(name, state)| header_finding(name, state));
        let found = report.findings.iter().map(|finding| Line::of(finding, report));
        let findings: Vec<_> = headers.chain(found).collect();
        Self {
            clean: findings.is_empty(),
            generation: report.opened.generation.0,
            stepped_back_from: report.opened.stepped_back.map(|generation| generation.0),
            files: report.inodes,
            bytes: report.used.count().saturating_mul(UNIT_U64),
            findings,
            unlisted: report.unlisted,
            torn_slots: report.torn_slots.clone(),
            lagging_header: names
                .find_map(|(name, state)| (state == CopyState::Older).then_some(name)),
        }
    }

    fn text(&self, shown: &str) -> String {
        let mut lines: Vec<_> = self.findings.iter().map(Line::text).collect();
        if self.unlisted > 0 {
            lines.push(format!("and {} more", self.unlisted));
        }
        for slot in &self.torn_slots {
            lines.push(format!(
                "note: superblock slot {slot} is torn, as an interrupted commit leaves it; the next \
                 commit replaces it"
            ));
        }
        if let Some(copy) = self.lagging_header {
            lines.push(format!(
                "note: header copy {copy} is older, as an interrupted change leaves it; the next opening mends it"
            ));
        }
        if let Some(torn) = self.stepped_back_from {
            lines.push(format!("commit {torn} was torn; the one before it was checked"));
        }
        let (files, bytes, generation) = (self.files, ByteSize(self.bytes), self.generation);
        let verdict = if self.clean { "clean" } else { "damaged or altered" };
        lines.push(format!(
            "{shown} is {verdict}: {files} inodes, {bytes} in use, generation {generation}"
        ));
        lines.join("\n")
    }
}

impl Line {
    fn of(finding: &Finding, report: &Report) -> Self {
        let path = finding.inode().and_then(|inode| match report.paths.get(&inode)?.as_slice() {
            [] => Some(b"/".to_vec()),
            path => Some(path.to_vec()),
        });
        let (offset, length) = match finding {
            Finding::Content { offset, len, .. } => (Some(*offset), Some(*len)),
            Finding::Incomplete { offset, len, .. } if *len > 0 => (Some(*offset), Some(*len)),
            _ => (None, None),
        };
        Self {
            data: finding.loses_data(),
            path: path.as_deref().map(JsonName::of),
            raw_path: path,
            inode: finding.inode().map(|inode| inode.0),
            offset,
            length,
            what: describe(finding),
        }
    }

    fn text(&self) -> String {
        let loss = if self.data { "lost" } else { "wrong" };
        match &self.raw_path {
            Some(path) => format!("{loss}: {}: {}", on_one_line(path), self.what),
            None => format!("{loss}: {}", self.what),
        }
    }
}

fn header_finding(name: &str, state: CopyState) -> Option<Line> {
    if state != CopyState::Unusable {
        return None;
    }
    Some(Line {
        data: false,
        path: None,
        raw_path: None,
        inode: None,
        offset: None,
        length: None,
        what: format!("header copy {name} cannot be read; the next opening mends it"),
    })
}

/// Names a range by its first and last byte.
fn bytes(offset: u64, len: u64) -> String {
    format!("bytes {offset} to {}", offset.saturating_add(len).saturating_sub(1))
}

fn describe(finding: &Finding) -> String {
    match finding {
        Finding::Node { damage, first: InodeNo(0..=1), last: InodeNo(u64::MAX), .. } => {
            format!("{damage}; everything below it may be missing")
        }
        Finding::Node { damage, first, last, .. } => {
            format!("{damage}; inodes {first} to {last} may be incomplete")
        }
        Finding::Content { damage, offset, len, .. } => {
            format!("{}: {damage}", bytes(*offset, *len))
        }
        Finding::Item { inode, what } => format!("inode {inode}: {what} is missing or malformed"),
        Finding::Dangling { inode, .. } => {
            format!("the name leads to inode {inode}, which does not exist")
        }
        Finding::Gone { .. } => "all of it lay in a damaged block".to_owned(),
        Finding::Incomplete { len: 0, .. } => {
            "a part of it lay in a damaged block: entries or attributes may be missing".to_owned()
        }
        Finding::Incomplete { offset, len, .. } => {
            format!("{}: a damaged block held them, or where they lie", bytes(*offset, *len))
        }
        Finding::Count { inode, what, stored, found } => {
            format!("inode {inode}: {what} is {stored}, found {found}")
        }
        Finding::Unreachable { inode } => format!("inode {inode} cannot be reached by any name"),
        Finding::Shared { block } => format!("block {block} is referred to twice"),
        Finding::MarkedFree { block, units } => {
            format!("{units} units from block {block} are in use and marked as free")
        }
        Finding::Leaked { block, units } => {
            format!("{units} units from block {block} are free and marked as in use")
        }
        Finding::Superblock { what, stored, found } => {
            format!("superblock: {what} is {stored}, found {found}")
        }
        other => format!("{other:?}"),
    }
}
