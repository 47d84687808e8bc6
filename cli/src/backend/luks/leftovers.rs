//! What a killed holder leaves: recognised by the image that it stands on, removed if nobody uses it.
//!
//! Nothing is ever found by a name alone. A device counts when the kernel says that it stands on
//! this very file (device and inode); a mapping is removed when name and uuid are a holder's too, and
//! the kernel refuses to remove one that is in use. Whatever else uses the image is somebody's, and
//! named to the person.

use super::device::{self, Mapping};
use super::image::{self, Suspect};
use super::workshop::{self, Workshop};
use crate::error::{Error, Kind, Result};
use crate::ghost::protocol::VaultRequest;
use crate::image::create::beside;
use crate::sys::block::Removal;
use crate::sys::folder::Facts;
use crate::sys::identity::Identity;
use crate::sys::process;
use nix::sys::signal::Signal;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the kernel may take to let go of a vault whose last user has ended.
const GOING: Duration = Duration::from_secs(20);

/// How long somebody may look at a new device, as udev does.
const GLANCE: Duration = Duration::from_secs(1);

/// Removes what holders of this vault left, finished or not.
pub(super) fn sweep(request: &VaultRequest, identity: &Identity) -> Result<()> {
    sweep_image(request.image.path(), &request.shown, identity)
}

/// Names what dead holders of this vault left; nothing while one lives, and nothing that is somebody else's.
pub(super) fn look(path: &Path, identity: &Identity) -> Result<Vec<String>> {
    workshop::apart(|| {
        let suspects = suspects(&[path.to_owned(), beside(path)], identity)?;
        let workshop = Workshop::enter()?;
        let mut found = Vec::new();
        for suspect in &suspects {
            let users = users(&workshop, suspect).map_err(cannot_look)?;
            let ours = users.iter().filter(|user| user.is_ours(suspect));
            found.extend(ours.map(|user| user.name().to_owned()));
        }
        Ok(found)
    })
}

/// Removes what `look` has named.
pub(super) fn sweep_image(path: &Path, shown: &str, identity: &Identity) -> Result<()> {
    each(path, identity, |workshop, suspect| clear(workshop, suspect, shown))
}

/// Fails if the kernel still has the image open.
pub(super) fn verify(request: &VaultRequest, identity: &Identity) -> Result<()> {
    each(request.image.path(), identity, |workshop, suspect| {
        match users(workshop, suspect).map_err(cannot_look)?.first() {
            None => Ok(()),
            Some(user) => Err(Error::environment(format!(
                "'{}' is still open as '{}' after the ghost has ended",
                request.shown,
                user.name()
            ))),
        }
    })
}

/// Does `work` for the image and for the unfinished one beside it, if no holder lives.
fn each(
    path: &Path,
    identity: &Identity,
    work: impl Fn(&Workshop, &Suspect) -> Result<()>,
) -> Result<()> {
    workshop::apart(|| {
        let suspects = suspects(&[path.to_owned(), beside(path)], identity)?;
        let workshop = Workshop::enter()?;
        suspects.iter().try_for_each(|suspect| work(&workshop, suspect))
    })
}

/// Returns those of the images whose holders are dead, which they remain for as long as these are kept. They
/// are looked for before a workshop hides what lies below `/dev` and `/run`.
pub(super) fn suspects(images: &[PathBuf], identity: &Identity) -> Result<Vec<Suspect>> {
    let found = images.iter().filter_map(|path| image::suspect(path, identity));
    // Whoever holds one is alive and cleans up.
    let found = found.filter(|suspect| suspect.lock.is_some()).collect();
    // Lost with the change of rights.
    process::die_with_parent(Signal::SIGKILL).map_err(cannot_look)?;
    Ok(found)
}

/// Removes what a dead holder left of an image whose holder's lock is ours, and waits until the kernel
/// has let go of it.
pub(super) fn clear(workshop: &Workshop, suspect: &Suspect, shown: &str) -> Result<()> {
    let begun = Instant::now();
    loop {
        let users = users(workshop, suspect).map_err(cannot_look)?;
        let Some(first) = users.first() else { return Ok(()) };
        let mut patience = GOING;
        if let Some(stranger) = users.iter().find(|user| !user.is_ours(suspect)) {
            return Err(in_use(stranger, shown));
        }
        for user in &users {
            if let User::Mapping(mapping) = user {
                match mapping.remove(workshop, Removal::Now) {
                    Ok(()) => {}
                    Err(cause) if cause.raw_os_error() == Some(libc::EBUSY) => {
                        if !mapping.is_going(workshop).map_err(cannot_look)? {
                            patience = GLANCE;
                        }
                    }
                    Err(cause) => return Err(cannot_look(cause)),
                }
            }
        }
        if begun.elapsed() >= patience {
            return Err(in_use(first, shown));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until the kernel has let go of an image whose mount is gone.
pub(super) fn wait_until_gone(workshop: &Workshop, image: &Facts, shown: &str) -> Result<()> {
    let suspect = Suspect { facts: *image, uuid: None, lock: None };
    let deadline = Instant::now() + GOING;
    loop {
        let users = users(workshop, &suspect).map_err(cannot_look)?;
        match users.first() {
            None => return Ok(()),
            Some(user) if Instant::now() >= deadline => return Err(in_use(user, shown)),
            Some(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// A device that stands on the image.
enum User {
    Loop { device: String, autoclear: bool },
    Mapping(Mapping),
}

impl User {
    fn name(&self) -> &str {
        match self {
            User::Loop { device, .. } => device,
            User::Mapping(mapping) => &mapping.name,
        }
    }

    fn is_ours(&self, suspect: &Suspect) -> bool {
        match self {
            // One of ours goes by itself with the mapping above it.
            User::Loop { autoclear, .. } => *autoclear,
            User::Mapping(mapping) => mapping.is_ours(&suspect.facts, suspect.uuid.as_ref()),
        }
    }
}

/// Lists the mappings for the image, then the loop devices below them.
fn users(workshop: &Workshop, suspect: &Suspect) -> io::Result<Vec<User>> {
    let loops = device::loops_over(workshop, &suspect.facts)?;
    let over = |mapping: &Mapping| {
        mapping.below.iter().any(|name| loops.iter().any(|(device, _)| device == name))
    };
    let mut mappings = match &suspect.uuid {
        Some(uuid) => Mapping::unfinished(workshop, &suspect.facts, uuid)?,
        None => Vec::new(),
    };
    if !loops.is_empty() {
        mappings.extend(device::mappings()?.into_iter().filter(over));
    }
    let mut users: Vec<User> = mappings.into_iter().map(User::Mapping).collect();
    users.extend(
        loops.iter().map(|(device, autoclear)| User::Loop {
            device: device.clone(),
            autoclear: *autoclear,
        }),
    );
    Ok(users)
}

fn in_use(user: &User, shown: &str) -> Error {
    let (name, hint) = match user {
        User::Loop { device, .. } => (
            format!("/dev/{device}"),
            format!("whoever set it up can end it: 'losetup --detach /dev/{device}'"),
        ),
        User::Mapping(mapping) => (
            format!("/dev/mapper/{}", mapping.name),
            format!("unmount it where it is mounted, then 'cryptsetup close {}'", mapping.name),
        ),
    };
    Error::new(Kind::InUse, format!("'{shown}' is in use as '{name}'")).hint(hint)
}

fn cannot_look(cause: io::Error) -> Error {
    Error::environment("cannot tell which devices stand on the vault").caused_by(cause)
}
