//! The supervisor: makes the ghost, serves its clients, and verifies that it is gone.
//!
//! Steps 4 to 14 of GHOST.md, as far as they happen outside; what it is told on the way is in
//! [`super::hearing`]. One process, one loop, no threads; it
//! never waits for anybody whom it does not also watch.

use super::bridges::{self, Point};
use super::clients::{Client, Standing};
use super::held;
use super::join::Door;
use super::link::Link;
use super::made::Share;
use super::mountpoint::{self, Held, MountPoint};
use super::place::Taken;
use super::protocol::{Failure, GhostStatus, Raw, Request, ToClient, ToInit};
use super::served::Witness;
use super::{init, namespace, privilege, teardown};
use crate::backend::{self, Backend, Opening};
use crate::error::{Error, Kind, Result};
use crate::sys::identity::{FileRights, Identity};
use crate::sys::{process, signals};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};
use vault_core::device::holder::HolderNote;
use zeroize::Zeroizing;

/// The session whose end is the ghost's end.
pub(crate) const FIRST: u32 = 0;

/// How often an idle ghost is looked for.
const IDLE_CHECK: Duration = Duration::from_secs(5);

/// How long the inside may take to end before it is killed.
pub(super) const ENDING: Duration = Duration::from_secs(90);

/// What the keeper hands to the supervisor.
pub(crate) struct Making {
    pub(crate) request: Request,
    pub(crate) identity: Identity,
    pub(crate) taken: Taken,
    pub(crate) secret: Option<Zeroizing<Vec<u8>>>,
    pub(crate) client: Link,
    pub(crate) streams: [OwnedFd; 3],
    pub(crate) outer: Option<OwnedFd>,
    pub(crate) upstream: Option<Link>,
}

/// How far the ghost is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Init makes the tree.
    Making,
    /// The server looks at the image.
    Looking,
    /// The credential is asked for or tried.
    Opening,
    /// The vault is open and is made visible.
    Revealing,
    /// Sessions run.
    Open,
    /// Everything inside ends.
    Closing,
}

pub(crate) struct Supervisor {
    pub(crate) request: Request,
    pub(crate) identity: Identity,
    pub(crate) taken: Taken,
    pub(crate) phase: Phase,
    pub(crate) clients: BTreeMap<u32, Client>,
    pub(crate) door: Door,
    pub(crate) weaknesses: Vec<String>,
    pub(crate) since: SystemTime,
    pub(crate) mount_point: MountPoint,
    pub(super) held: Held,
    pub(super) points: Vec<Point>,
    pub(super) share: Option<Share>,
    pub(super) backend: Box<dyn Backend>,
    pub(super) init: Option<(Pid, Link)>,
    pub(crate) server: Option<Link>,
    pub(super) holder: Option<held::Holder>,
    pub(super) events: SignalFd,
    pub(super) upstream: Option<Link>,
    pub(super) secret: Option<Zeroizing<Vec<u8>>>,
    pub(super) waiting: Option<bool>,
    pub(super) attempts: u32,
    pub(super) outcome: Option<std::result::Result<u8, Failure>>,
    pub(super) closed: bool,
    pub(super) deadline: Option<Instant>,
    pub(super) witness: Witness,
    pub(super) note: Option<HolderNote>,
}

/// Runs the supervisor; returns its exit status.
pub(crate) fn run(making: Making) -> i32 {
    let Making { client, .. } = &making;
    let (home, identity) = (making.request.home.clone(), making.identity.clone());
    let early = match prepare() {
        Ok(events) => events,
        Err(error) => {
            let _ = client.send(&ToClient::Failed(error.into()), &[]);
            return 1;
        }
    };
    match Supervisor::begin(making, early) {
        Ok(mut supervisor) => {
            supervisor.live();
            supervisor.finish()
        }
        Err(stillborn) => {
            let (error, client, taken) = *stillborn;
            let swept = teardown::remove(&taken, home.path(), &identity);
            let _ = client.send(&ToClient::Failed(error.into()), &[]);
            i32::from(swept.is_err())
        }
    }
}

/// Becomes a process of its own: the terminal's signals are the client's business.
fn prepare() -> Result<SignalFd> {
    let failed =
        |cause: io::Error| Error::environment("cannot start the supervisor").caused_by(cause);
    process::die_with_parent(Signal::SIGTERM).map_err(failed)?;
    nix::unistd::setsid().map_err(|cause| failed(cause.into()))?;
    process::rebuild_environment().map_err(failed)?;
    privilege::harden()?;
    // As far as the limit allows: a supervisor that is not root has 8 MiB.
    let _ = process::lock_memory();
    signals::ignore(Signal::SIGPIPE).map_err(failed)?;
    let watched =
        [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT];
    signals::watch(&watched).map_err(failed)
}

type Stillborn = Box<(Error, Link, Taken)>;

impl Supervisor {
    fn begin(making: Making, events: SignalFd) -> std::result::Result<Self, Stillborn> {
        let Making { request, identity, taken, secret, client, streams, outer, upstream } = making;
        let found = mount_points(&request, &identity, &taken)
            .map(|held| (held, backend::of(&request.vault, request.state.path(), &identity)))
            .and_then(|made| Ok((made, Door::open(&taken)?)));
        let (((held, mount_point, points, share), backend), door) = match found {
            Ok(found) => found,
            Err(error) => return Err(Box::new((error, client, taken))),
        };
        let first = Client::first(client, streams, request.terminals, outer, &request.session);
        let mut supervisor = Self {
            phase: Phase::Making,
            clients: BTreeMap::from([(FIRST, first)]),
            door,
            weaknesses: weaknesses(bridges::weakest(held, &points), request.rootless),
            since: SystemTime::now(),
            mount_point,
            held,
            points,
            share: Some(share),
            backend,
            init: None,
            server: None,
            holder: None,
            events,
            upstream,
            secret,
            waiting: None,
            attempts: 0,
            outcome: None,
            closed: false,
            deadline: None,
            witness: Witness { store: None, vault: None, pending: None, next: Instant::now() },
            note: None,
            request,
            identity,
            taken,
        };
        if let Err(error) = supervisor.spawn_init() {
            supervisor.fail(error);
        }
        Ok(supervisor)
    }

    /// Forks init into its namespaces, maps its ids, and tells it to begin.
    fn spawn_init(&mut self) -> Result<()> {
        let failed = |cause: io::Error| {
            Error::environment("cannot create the ghost's namespaces").caused_by(cause)
        };
        folder_for_vault(&self.taken).map_err(failed)?;
        let prepared = namespace::prepare(&self.identity);
        let kept: Vec<PathBuf> =
            self.request.kept.iter().map(|raw| raw.path().to_owned()).collect();
        let (link, inside) = Link::pair().map_err(failed)?;
        let (served, server_link, server_inside) = match self.backend.opening() {
            Opening::Served(served) => {
                let (outside, inside) = Link::pair().map_err(failed)?;
                (Some(served), Some(outside), Some(inside))
            }
            Opening::Mounted(_) => (None, None, None),
        };
        let making = init::Making {
            link: inside,
            server_link: server_inside,
            backend: served,
            identity: &self.identity,
            rootless: self.request.rootless,
            place: self.taken.place(),
            mount_point: &self.mount_point,
            held: bridges::weakest(self.held, &self.points),
            points: &self.points,
            prepared: &prepared,
            kept: &kept,
            home: &self.request.home,
        };
        // The kernel lets a plain user write only the maps of a process that is dumpable. Init is
        // not for longer than that, and a rootless ghost does not claim to hide from this user.
        process::set_dumpable(self.request.rootless).map_err(failed)?;
        let pid = process::fork_into_namespaces(|| init::run(making)).map_err(|cause| {
            failed(cause).hint("in a container see 'What a container needs' in README.md").hint(
                "on a host, user namespaces may be restricted (sysctl user.max_user_namespaces)",
            )
        })?;
        self.init = Some((pid, link));
        self.server = server_link;
        process::set_not_dumpable().map_err(failed)?;
        namespace::write_maps(pid, !self.request.rootless)?;
        self.tell_init(&ToInit::Begin, &[]);
        self.start_holder()
    }

    /// Serves everybody until the ghost has ended.
    fn live(&mut self) {
        while !(self.phase == Phase::Closing && self.init.is_none() && self.holder.is_none()) {
            if self.wait().is_err() {
                self.fail(Error::internal("the supervisor cannot wait for events"));
                break;
            }
            self.hear_signals();
            self.hear_init();
            self.hear_server();
            self.hear_upstream();
            self.hear_door();
            self.hear_clients();
            self.hear_agents();
            self.keep_time();
        }
    }

    fn wait(&self) -> io::Result<()> {
        let mut sources: Vec<BorrowedFd<'_>> = vec![self.events.as_fd(), self.door.as_fd()];
        sources.extend(self.init.iter().map(|(_, link)| link.as_fd()));
        sources.extend(self.server.iter().map(AsFd::as_fd));
        sources.extend(self.upstream.iter().map(AsFd::as_fd));
        sources.extend(self.clients.values().flat_map(Client::sources));
        let mut fds: Vec<PollFd<'_>> =
            sources.into_iter().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        match poll(&mut fds, self.patience()) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn patience(&self) -> PollTimeout {
        let witness = self.witness.pending.as_ref().map(|_| self.witness.next);
        let agents = self.clients.values().filter_map(|client| client.deadline);
        let idle = self.request.lock_after.map(|_| Instant::now() + IDLE_CHECK);
        let soonest = [witness, self.deadline, idle].into_iter().flatten().chain(agents).min();
        soonest.map_or(PollTimeout::NONE, |at| {
            let left = at.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        })
    }

    pub(super) fn as_caller<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let rights = FileRights::of(self.identity.uid, self.identity.gid)?;
        let done = work();
        drop(rights);
        // Lost with the change of rights.
        process::die_with_parent(Signal::SIGTERM)?;
        done
    }

    fn keep_time(&mut self) {
        let now = Instant::now();
        if now >= self.witness.next {
            self.write_witness();
        }
        self.lock_if_idle();
        let late: Vec<u32> = self
            .clients
            .iter()
            .filter(|(_, client)| client.deadline.is_some_and(|at| now >= at))
            .map(|(session, _)| *session)
            .collect();
        for session in late {
            if let Some(client) = self.clients.get_mut(&session) {
                client.kill_agent();
            }
        }
        if self.deadline.is_some_and(|at| now >= at) {
            self.deadline = None;
            match &self.init {
                Some((pid, _)) => {
                    let _ = signals::send(*pid, Signal::SIGKILL);
                }
                None => self.end_holder(),
            }
        }
    }

    /// Ends a ghost whose terminals have been still for as long as the configuration allows. One
    /// whose sessions have no terminal works on its own and is never idle.
    fn lock_if_idle(&mut self) {
        let Some(limit) = self.request.lock_after.filter(|_| self.phase == Phase::Open) else {
            return;
        };
        let running = self.clients.values().filter(|client| client.standing == Standing::Running);
        let still = running.map(Client::still_for).min().flatten();
        if still.is_some_and(|still| still >= Duration::from_secs(limit)) {
            self.notice("The ghost was idle and has been locked ('vault.lock_after').");
            self.end(Err(Error::interrupted(libc::SIGHUP).into()));
        }
    }

    pub(super) fn fail(&mut self, error: Error) {
        self.end(Err(error.into()));
    }

    /// Begins the end, or adds nothing to one that has begun.
    pub(crate) fn end(&mut self, outcome: std::result::Result<u8, Failure>) {
        if self.outcome.is_none() {
            self.outcome = Some(outcome);
        }
        if self.phase == Phase::Closing {
            return;
        }
        self.phase = Phase::Closing;
        self.deadline = Some(Instant::now() + ENDING);
        for client in self.clients.values_mut() {
            client.release_agent();
        }
        self.tell_init(&ToInit::Close, &[]);
        self.settle();
    }

    /// Verifies that nothing is left, says so to everybody, and returns the exit status.
    fn finish(&mut self) -> i32 {
        self.write_witness();
        let note = self.note.take();
        let _ = self.as_caller(|| {
            drop(note);
            Ok(())
        });
        self.wait_for_agents();
        let swept = self.backend.close();
        // Interrupted before the new vault had a name. A device that is left is found by the file that it stands on.
        if self.request.vault.create.is_some() && swept.is_ok() {
            let _ = self.as_caller(|| backend::image::drop_new(self.request.vault.image.path()));
        }
        self.share = None;
        // Whatever becomes of the vault's devices, the mount point is given back.
        let cleaned = teardown::remove(&self.taken, self.request.home.path(), &self.identity)
            .and(swept)
            .and_then(|()| self.backend.verify_closed());
        let outcome = self.outcome.take().unwrap_or(Ok(0));
        let outcome = match (outcome, cleaned) {
            (Ok(_), Err(error)) => Err(error.into()),
            (Ok(_), Ok(())) if !self.closed => {
                Err(Error::new(Kind::Internal, "the vault was not closed in order")
                    .hint("it opens at its last commit")
                    .into())
            }
            (outcome, _) => outcome,
        };
        for (session, client) in std::mem::take(&mut self.clients) {
            let how = if session == FIRST { outcome.clone() } else { client.outcome() };
            client.say_end(how);
        }
        0
    }

    fn wait_for_agents(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(3);
        for client in self.clients.values_mut() {
            client.wait_for_agent(deadline);
        }
    }

    pub(crate) fn notice(&self, text: &str) {
        if let Some(first) = self.clients.get(&FIRST)
            && !self.request.quiet
        {
            first.say(&ToClient::Notice(text.to_owned()));
        }
    }

    pub(super) fn warn(&self, text: &str, hint: &str) {
        if let Some(first) = self.clients.get(&FIRST) {
            first.say(&ToClient::Warning(text.to_owned(), hint.to_owned()));
        }
    }

    /// Returns what the ghost says about itself.
    pub(crate) fn status(&self) -> GhostStatus {
        let since = self.since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let sessions = self.clients.values().filter(|client| client.standing == Standing::Running);
        GhostStatus {
            project: self.request.project.clone(),
            image: self.request.vault.image.clone(),
            mount_point: Raw::from(self.mount_point.path.as_path()),
            backend: self.request.vault.backend,
            since: since.as_secs(),
            supervisor: Pid::this().as_raw(),
            sessions: sessions.count(),
            rootless: self.request.rootless,
            weaknesses: self.weaknesses.clone(),
        }
    }

    /// Returns init's process, while it lives.
    pub(crate) fn init_pid(&self) -> Option<Pid> {
        self.init.as_ref().map(|(pid, _)| *pid)
    }
}

/// Finds the places in the home folder that the ghost covers, and holds them where they are.
fn mount_points(
    request: &Request,
    identity: &Identity,
    taken: &Taken,
) -> Result<(Held, MountPoint, Vec<Point>, Share)> {
    let home = request.home.path();
    let mut share = Share::take(taken, home, identity).map_err(|cause| {
        Error::environment("cannot note what stands in the home").caused_by(cause)
    })?;
    let (point, opened) = mountpoint::find(home, mountpoint::SECRETS, identity.uid, identity.gid)?;
    let held = point.hold(&opened, taken, request.rootless)?;
    let points = bridges::find(request, identity, taken, &mut share)?;
    Ok((held, point, points, share))
}

/// What is weaker than usual about how the ghost is made, one sentence each.
fn weaknesses(held: Held, rootless: bool) -> Vec<String> {
    let mut sentences = Vec::new();
    if rootless {
        sentences.push(
            "This ghost is rootless: other users cannot see into it, but every program that runs \
             as you can."
                .to_owned(),
        );
    } else if held == Held::No {
        sentences.push(
            "The mount points could not be held in place: if another program moves or removes one, \
             the ghost ends."
                .to_owned(),
        );
    }
    sentences
}

fn folder_for_vault(taken: &Taken) -> io::Result<()> {
    crate::sys::folder::make(taken.folder(), super::place::VAULT, 0o700)
}
