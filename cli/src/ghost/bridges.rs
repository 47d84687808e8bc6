//! The bridges of a ghost: folders of the vault, seen in the home folder.
//!
//! Section 9 of GHOST.md. The supervisor finds and holds the places, init binds the folders. What
//! is read, made, moved or removed on the way is so by a child with the caller's rights alone.

use super::link::{Link, Received};
use super::made::Share;
use super::mountpoint::{self, Held, MountPoint};
use super::namespace;
use super::place::Taken;
use super::protocol::{Failure, Request};
use crate::bridge::{Bridge, MemoryPlace, legacy, migrate};
use crate::error::{Error, Result};
use crate::sys::folder::{self, EntryKind, Facts};
use crate::sys::identity::{Bounding, Identity, become_for_good};
use crate::sys::mount::{self, MountLine};
use crate::sys::process;
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// What one bridge's folder may hold before its ownership is not looked after any more.
const MOST_ENTRIES: usize = 100_000;
const DEEPEST: usize = 64;

/// A place in the home folder that a ghost covers with a folder of the vault.
#[derive(Debug)]
pub(crate) struct Point {
    bridge: Bridge,
    place: MountPoint,
    /// The folder as it was before anything covered it: what lies in it is in the clear.
    plain: OwnedFd,
    held: Held,
}

impl Point {
    /// Returns the folder beneath, which init must keep open.
    pub(crate) fn plain(&self) -> BorrowedFd<'_> {
        self.plain.as_fd()
    }
}

/// What was moved into the vault, and what could not be.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bridged {
    /// One sentence each.
    pub(crate) notices: Vec<String>,
    /// One sentence each, with what to do.
    pub(crate) warnings: Vec<(String, String)>,
}

/// Finds the places with the caller's rights, makes those that are missing for as long as ghosts live,
/// and holds them.
pub(crate) fn find(
    request: &Request,
    identity: &Identity,
    taken: &Taken,
    share: &mut Share,
) -> Result<Vec<Point>> {
    let hold = |bridge: Bridge| {
        let home = request.home.path();
        let (place, plain) = mountpoint::find(home, bridge.in_home(), identity.uid, identity.gid)?;
        if place.made {
            share
                .note(&place.path, &plain)
                .map_err(|cause| Error::environment("cannot note a folder").caused_by(cause))?;
        }
        share.stand_on(&plain);
        let held = place.hold(&plain, taken, request.rootless)?;
        Ok(Point { bridge, place, plain, held })
    };
    Bridge::all(request.memory).into_iter().map(hold).collect()
}

/// Returns how the least held of the mount points is held.
pub(crate) fn weakest(held: Held, points: &[Point]) -> Held {
    let all = || points.iter().map(|point| point.held).chain([held]);
    let weak = [Held::No, Held::Already];
    weak.into_iter().find(|kind| all().any(|held| held == *kind)).unwrap_or(Held::Placeholder)
}

/// Whether the mount point and every bridge show the file system with this device number.
pub(crate) fn all_shown(
    table: &[MountLine],
    mount_point: &MountPoint,
    points: &[Point],
    device: &str,
) -> bool {
    points
        .iter()
        .map(|point| &point.place)
        .chain([mount_point])
        .all(|point| namespace::shows(table, &point.path, device))
}

/// Moves what lies in the clear into the vault, and binds the vault's folders over the places.
/// Called by init, with the vault mounted at `vault`.
pub(crate) fn build(points: &[Point], vault: &Path, identity: &Identity) -> Result<Bridged> {
    let failed = |cause: io::Error| Error::environment("cannot build the bridges").caused_by(cause);
    let root = mount::open_mounted(vault).map_err(failed)?;
    let bridged = move_in(points, &root, identity)?;
    for point in points {
        bind(point, &root, identity).map_err(|cause| {
            let path = point.place.path.display();
            Error::environment(format!("cannot show a folder of the vault at '{path}'"))
                .caused_by(cause)
        })?;
    }
    Ok(bridged)
}

/// Binds one folder, and proves that it is the vault's folder that is seen.
fn bind(point: &Point, root: &OwnedFd, identity: &Identity) -> io::Result<()> {
    let vault = folder::facts(root)?;
    let source = folder::open_folder_within(root, Path::new(point.bridge.in_vault()))?;
    let facts = folder::facts(&source)?;
    if (facts.device, facts.uid) != (vault.device, identity.uid.as_raw()) {
        return Err(io::Error::other("the vault's folder is not the caller's"));
    }
    let target = point.place.reopen()?;
    mount::bind(&folder::path_of(&source), &target)?;
    let shown = folder::facts(mount::open_mounted(&point.place.path)?)?;
    if (shown.device, shown.inode) == (facts.device, facts.inode) {
        return Ok(());
    }
    Err(io::Error::other("something else is mounted there"))
}

/// Fills the vault's folders, in a child that is the caller for good.
fn move_in(points: &[Point], root: &OwnedFd, identity: &Identity) -> Result<Bridged> {
    let failed =
        |cause: io::Error| Error::environment("cannot prepare the bridges").caused_by(cause);
    give_to_caller(root, identity).map_err(failed)?;
    let (mut link, inside) = Link::pair().map_err(failed)?;
    let child = process::fork(|| {
        if become_for_good(identity, Bounding::Keep).is_err() {
            return 1;
        }
        let answer = fill(points, root).map_err(|error| Failure::from(&error));
        i32::from(inside.send(&answer, &[]).is_err())
    })
    .map_err(failed)?;
    drop(inside);
    let answer = link.receive::<std::result::Result<Bridged, Failure>>();
    process::wait(child).map_err(failed)?;
    match answer.map_err(failed)? {
        Received::Message(answer, _) => Ok(answer?),
        Received::Secret(_) | Received::End => {
            Err(failed(io::Error::other("the child ended without an answer")))
        }
    }
}

fn fill(points: &[Point], root: &OwnedFd) -> Result<Bridged> {
    let mut bridged = Bridged::default();
    let failed = |what: &str, cause: io::Error| {
        Error::environment(format!("cannot {what} in the vault")).caused_by(cause)
    };
    let old =
        legacy::run(root).map_err(|cause| failed("rename what the older program kept", cause))?;
    if !old.is_empty() {
        bridged.notices.push(format!("Took over the Infisical session from {}.", old.join(", ")));
    }
    for point in points {
        let name = point.bridge.in_vault();
        let target = folder::make(root, name, 0o700)
            .and_then(|()| folder::open_folder_within(root, Path::new(name)))
            .map_err(|cause| failed(&format!("make '{name}'"), cause))?;
        let shown = point.place.path.display().to_string();
        match migrate::run(&point.plain, &target) {
            Ok(report) => say(&report, &shown, name, &mut bridged),
            Err(cause) => bridged.warnings.push((
                format!("what lies in '{shown}' stays there, in the clear: {cause}"),
                "the next pull tries again; until then move it by hand".to_owned(),
            )),
        }
    }
    Ok(bridged)
}

/// As many as a person reads; the others are counted.
const MOST_SAID: usize = 20;

fn say(report: &migrate::Report, shown: &str, name: &str, bridged: &mut Bridged) {
    if report.moved > 0 {
        let files = if report.moved == 1 { "file" } else { "files" };
        let moved = report.moved;
        bridged.notices.push(format!("Moved {moved} {files} from {shown} into the vault."));
    }
    for renamed in report.renamed.iter().take(MOST_SAID) {
        bridged.warnings.push((
            format!("the vault has another '{}' already", renamed.with_extension("").display()),
            format!("the one from outside is '{name}/{}' in the vault", renamed.display()),
        ));
    }
    for (left, why) in report.left.iter().take(MOST_SAID) {
        bridged.warnings.push((
            format!("'{shown}/{}' stays outside, in the clear: {why}", left.display()),
            "move it by hand, or remove it".to_owned(),
        ));
    }
    let unsaid = |count: usize| count.saturating_sub(MOST_SAID);
    let more = unsaid(report.renamed.len()) + unsaid(report.left.len());
    if more > 0 {
        bridged.warnings.push((format!("{more} more in '{shown}' are alike"), "look there".into()));
    }
}

/// Makes everything in the bridges' folders the caller's: older programs left files of root there.
fn give_to_caller(root: &OwnedFd, identity: &Identity) -> io::Result<()> {
    for bridge in Bridge::all(MemoryPlace::Vault) {
        let name = OsStr::new(bridge.in_vault());
        if folder::kind_of(root, name)? == Some(EntryKind::Folder) {
            give(root, name, identity, &mut MOST_ENTRIES.clone(), 0)?;
        }
    }
    Ok(())
}

fn give(
    parent: &OwnedFd,
    name: &OsStr,
    identity: &Identity,
    left: &mut usize,
    depth: usize,
) -> io::Result<()> {
    let Some(fewer) = left.checked_sub(1).filter(|_| depth <= DEEPEST) else { return Ok(()) };
    *left = fewer;
    let entry = folder::open_entry(parent, name)?;
    let Facts { uid, is_folder, .. } = folder::facts(&entry)?;
    if uid != identity.uid.as_raw() {
        folder::give(&entry, identity.uid.as_raw(), identity.gid.as_raw())?;
    }
    if is_folder {
        let opened = folder::open_folder_within(parent, Path::new(name))?;
        for inner in folder::names(&opened, MOST_ENTRIES)? {
            give(&opened, &inner, identity, left, depth + 1)?;
        }
    }
    Ok(())
}
