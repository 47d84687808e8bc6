//! The keeper: makes the supervisor, attends the first session, and cleans up if the supervisor is
//! killed.
//!
//! Steps 2 to 4 of GHOST.md. Root where the ghost is root's; for a rootless ghost the caller.

use super::client::{self, Outcome, Watch};
use super::link::Link;
use super::place::{Place, Taken};
use super::protocol::{FromHelper, Request};
use super::supervisor::{self, Making};
use super::{privilege, teardown};
use crate::backend::{self, Backend};
use crate::error::{Error, Kind, Result};
use crate::sys::identity::Identity;
use crate::sys::process;
use crate::ui::Ui;
use nix::unistd::{Gid, Pid, Uid};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// How long what is left of a killed ghost may take to be gone.
const GOING: Duration = Duration::from_secs(10);

/// What a keeper needs to make a ghost.
pub(crate) struct Keeping {
    /// What the caller asks for.
    pub(crate) request: Request,
    /// For whom.
    pub(crate) uid: Uid,
    /// The caller's primary group.
    pub(crate) gid: Gid,
    /// The credential, if it was not to be typed.
    pub(crate) secret: Option<Zeroizing<Vec<u8>>>,
    /// The first session's streams.
    pub(crate) streams: [OwnedFd; 3],
    /// The terminal behind sudo's, if there is one.
    pub(crate) outer: Option<OwnedFd>,
    /// The client behind sudo, if there is one.
    pub(crate) upstream: Option<Link>,
}

/// Makes a ghost and stays until it has ended; returns the first session's status.
pub(crate) fn keep(keeping: Keeping, ui: &Ui) -> Result<u8> {
    let failed =
        |cause: io::Error| Error::environment("cannot start the supervisor").caused_by(cause);
    privilege::harden()?;
    // Whatever outlives the supervisor becomes our child, so that its end can be waited for.
    nix::sys::prctl::set_child_subreaper(true).map_err(|cause| failed(cause.into()))?;
    let identity = privilege::identity_of(keeping.uid, keeping.gid)?;
    let taken = match take(&keeping) {
        Err(error) if error.kind() == Kind::InUse && keeping.upstream.is_some() => {
            return hand_back(keeping.upstream, error);
        }
        taken => taken?,
    };
    let home = keeping.request.home.clone();
    teardown::sweep(&taken, home.path(), &identity)?;
    let watch = Watch::begin()?;
    let (mut link, outside) = Link::pair().map_err(failed)?;
    let stdin = keeping.streams[0].try_clone().map_err(failed)?;
    let place = taken.place().clone();
    let vault = keeping.request.vault.clone();
    let backend = backend::of(&vault, keeping.request.state.path(), &identity);
    let parent = Pid::this();
    let Keeping { request, secret, streams, outer, upstream, .. } = keeping;
    let lock = taken.lock().try_clone().map_err(failed)?;
    let kept_identity = identity.clone();
    let making =
        Making { request, identity, taken, secret, client: outside, streams, outer, upstream };
    let pid = process::fork(|| {
        let mut keep = vec![making.client.as_fd(), making.taken.lock().as_fd()];
        keep.extend([making.taken.folder().as_fd(), making.taken.parent().as_fd()]);
        keep.extend(making.streams.iter().map(AsFd::as_fd));
        keep.extend(making.outer.iter().map(AsFd::as_fd));
        keep.extend(making.upstream.iter().map(AsFd::as_fd));
        if process::close_all_except(&keep).is_err() || nix::unistd::getppid() != parent {
            return 1;
        }
        supervisor::run(making)
    })
    .map_err(failed)?;
    let outcome = client::attend(&mut link, &watch, &stdin, ui);
    drop(link);
    let ended = process::wait(pid).map_err(failed)?;
    match outcome {
        Outcome::Exit(status) => Ok(status),
        Outcome::Failed(error) => Err(error),
        Outcome::Lost => {
            clean_up(&place, lock, backend.as_ref(), home.path(), &kept_identity)?;
            super::note::remove_stale(vault.image.path(), keeping.uid, keeping.gid);
            Err(client::killed().hint(format!("the supervisor ended with status {}", ended.status)))
        }
    }
}

/// Leaves it to the client behind sudo to join the ghost that came first.
fn hand_back(client: Option<Link>, error: Error) -> Result<u8> {
    match client.map(|link| link.send(&FromHelper::Taken, &[])) {
        Some(Ok(())) => Ok(error.exit_status()),
        _ => Err(error),
    }
}

fn take(keeping: &Keeping) -> Result<Taken> {
    let request = &keeping.request;
    let place = if request.rootless {
        Place::rootless(keeping.uid, request.state.path(), request.project.path())
    } else {
        Place::of_root(keeping.uid, request.project.path())
    };
    // One that is closing lets go in a moment; one that has a door can be joined.
    let deadline = Instant::now() + GOING;
    loop {
        match place.take()? {
            Some(taken) => return Ok(taken),
            None if Instant::now() >= deadline || place.has_door() => {
                return Err(taken_by_another());
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Returns the error for a place that another ghost has.
pub(crate) fn taken_by_another() -> Error {
    Error::new(Kind::InUse, "another ghost of this project is opening or closing")
        .hint("try again in a moment")
}

/// Waits until everything of a killed ghost is gone, then sweeps.
fn clean_up(
    place: &Place,
    lock: OwnedFd,
    backend: &dyn Backend,
    home: &Path,
    identity: &Identity,
) -> Result<()> {
    let deadline = Instant::now() + GOING;
    // PDEATHSIG ends init, and the kernel everything below it; all of it is ours to reap.
    while nix::sys::wait::waitpid(None, Some(nix::sys::wait::WaitPidFlag::WNOHANG)).is_ok() {
        if Instant::now() >= deadline {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let swept = backend.close();
    if let Some(taken) = place.adopt(lock)? {
        teardown::remove(&taken, home, identity)?;
    }
    swept
}
