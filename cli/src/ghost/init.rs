//! Process 1 of a ghost: makes the private tree, starts the server and the sessions, reaps, and
//! takes everything down again.
//!
//! Steps 6 to 14 of GHOST.md, as far as they happen inside. It is root of the ghost's user
//! namespace and nothing outside. When it ends, the kernel ends every process of the ghost.

use super::bridges::{self, Bridged, Point};
use super::link::{Link, Received};
use super::mountpoint::{Held, MountPoint};
use super::namespace::{self, Prepared};
use super::place::Place;
use super::protocol::{Failure, FromInit, Raw, SessionRequest, ToInit};
use super::session::{self, Streams};
use super::{privilege, shell};
use crate::backend::Served;
use crate::error::{Error, Result};
use crate::sys::identity::{Identity, become_namespace_root};
use crate::sys::{folder, mount, process, signals, terminal};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long programs have to end after SIGTERM.
const GRACE: Duration = Duration::from_millis(500);

/// How often a mount point that nothing holds in place is looked at. Moving it is no change of the
/// table of mounts, and so reports nothing.
const LOOK: Duration = Duration::from_millis(500);

/// How long the server has to commit once the vault is unmounted.
const COMMIT: Duration = Duration::from_secs(60);

/// What init needs to know and hold; made before the fork.
pub(crate) struct Making<'a> {
    pub(crate) link: Link,
    pub(crate) server_link: Option<Link>,
    pub(crate) backend: Option<&'a dyn Served>,
    pub(crate) identity: &'a Identity,
    pub(crate) rootless: bool,
    pub(crate) place: &'a Place,
    pub(crate) mount_point: &'a MountPoint,
    /// How the least held of the mount points is held.
    pub(crate) held: Held,
    pub(crate) points: &'a [Point],
    pub(crate) prepared: &'a [Prepared],
    pub(crate) kept: &'a [PathBuf],
    pub(crate) home: &'a Raw,
}

impl Making<'_> {
    /// Closes every descriptor that is not the ghost's.
    fn close_the_rest(&self) -> io::Result<()> {
        let mut keep = vec![self.link.as_fd()];
        keep.extend(self.server_link.iter().map(AsFd::as_fd));
        keep.extend(self.prepared.iter().filter_map(Prepared::descriptor).map(AsFd::as_fd));
        keep.extend(self.points.iter().map(Point::plain));
        process::close_all_except(&keep)
    }
}

/// Runs init; returns its exit status.
pub(crate) fn run(mut making: Making<'_>) -> i32 {
    // The byte that tells us to begin also tells that the parent still lives: had it died before
    // this took effect, the link would end instead. It ends only once no copy of the parent's end
    // is left, and a fork has copied it to us.
    let bound = process::die_with_parent(Signal::SIGKILL);
    if bound.is_err() || making.close_the_rest().is_err() {
        return 1;
    }
    match making.link.receive::<ToInit>() {
        Ok(Received::Message(ToInit::Begin, _)) => {}
        _ => return 1,
    }
    match Init::make(&mut making) {
        Ok((mut init, weaknesses)) => {
            let ready = FromInit::Ready { weaknesses };
            if making.link.send(&ready, &[]).is_err() {
                return 1;
            }
            init.live(&mut making)
        }
        Err(error) => {
            // If the supervisor is gone, so are we.
            let _ = making.link.send(&FromInit::Failed(Failure::from(error)), &[]);
            1
        }
    }
}

struct Init {
    children: SignalFd,
    mounts: File,
    server: Option<Pid>,
    server_status: Option<u8>,
    sessions: BTreeMap<u32, Pid>,
    device: Option<String>,
    displaced: bool,
    runtime: PathBuf,
}

impl Init {
    fn make(making: &mut Making<'_>) -> Result<(Self, Vec<String>)> {
        let step = |what: &'static str| {
            move |cause: io::Error| Error::environment(format!("cannot {what}")).caused_by(cause)
        };
        enter(making).map_err(step("enter the ghost's namespaces"))?;
        let weaknesses = namespace::make_tree(making.identity, making.prepared, making.kept)?;
        let runtime = runtime_folder(making.identity).map_err(step("make a runtime folder"))?;
        let server = start_server(making)?;
        let children = signals::watch(&[Signal::SIGCHLD]).map_err(step("watch its processes"))?;
        let mounts = File::open("/proc/self/mountinfo").map_err(step("watch its mounts"))?;
        let init = Self {
            children,
            mounts,
            server,
            server_status: None,
            sessions: BTreeMap::new(),
            device: None,
            displaced: false,
            runtime,
        };
        Ok((init, weaknesses))
    }

    /// Serves the supervisor until the ghost is closed.
    fn live(&mut self, making: &mut Making<'_>) -> i32 {
        loop {
            let Ok(ready) = self.wait(making) else { return 1 };
            if ready.children && self.reap(&making.link).is_err() {
                return 1;
            }
            if ready.mounts
                && self.is_displaced(making)
                && making.link.send(&FromInit::Displaced, &[]).is_err()
            {
                return 1;
            }
            if ready.link
                && let Some(status) = self.hear(making)
            {
                return status;
            }
        }
    }

    /// Does what the supervisor says; returns a status when it is time to end.
    fn hear(&mut self, making: &mut Making<'_>) -> Option<i32> {
        loop {
            match making.link.try_receive::<ToInit>() {
                Ok(None) => return None,
                Ok(Some(Received::Message(ToInit::Close, _))) => return Some(self.close(making)),
                Ok(Some(Received::Message(message, fds))) => {
                    if self.obey(message, fds, making).is_err() {
                        return Some(1);
                    }
                }
                _ => return Some(1),
            }
        }
    }

    fn wait(&self, making: &Making<'_>) -> io::Result<Ready> {
        let link = &making.link;
        // What was mounted there before may be taken away by whoever mounted it.
        let loose = making.held != Held::Placeholder && self.device.is_some();
        let limit = if loose { PollTimeout::try_from(LOOK).ok() } else { None };
        // The table of mounts reports a change as an exceptional condition.
        let mut fds = [
            PollFd::new(link.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.children.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.mounts.as_fd(), PollFlags::POLLPRI),
        ];
        match poll(&mut fds, limit.unwrap_or(PollTimeout::NONE)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let [link, children, mounts] =
            fds.map(|fd| fd.revents().is_some_and(|flags| !flags.is_empty()));
        Ok(Ready { link, children, mounts: mounts || loose })
    }

    fn obey(&mut self, message: ToInit, fds: Vec<OwnedFd>, making: &Making<'_>) -> io::Result<()> {
        match message {
            ToInit::Begin | ToInit::Close => Err(io::Error::other("out of order")),
            ToInit::Reveal => {
                let shown = self.reveal(making, fds.first()).map_err(|cause| {
                    Error::environment("cannot show the vault at the mount point").caused_by(cause)
                });
                let answer = match shown.and_then(|()| {
                    bridges::build(making.points, &making.place.vault(), making.identity)
                }) {
                    Ok(Bridged { notices, warnings }) => FromInit::Revealed { notices, warnings },
                    Err(error) => FromInit::Failed(error.into()),
                };
                making.link.send(&answer, &[])
            }
            ToInit::Start { session, request, terminal, terminals } => {
                let caller = <[OwnedFd; 3]>::try_from(fds)
                    .map_err(|_| io::Error::other("a session has three streams"))?;
                match self.start(&request, making, caller, terminals, terminal) {
                    Ok((pid, master)) => {
                        self.sessions.insert(session, pid);
                        let masters: Vec<BorrowedFd<'_>> = master.iter().map(AsFd::as_fd).collect();
                        making.link.send(&FromInit::Started { session }, &masters)
                    }
                    Err(cause) => {
                        let failure = Error::environment("cannot start a session in the ghost")
                            .caused_by(cause);
                        let failure = Some(failure.into());
                        making.link.send(&FromInit::Ended { session, status: 69, failure }, &[])
                    }
                }
            }
            ToInit::Signal { session, signal } => {
                let target = self.sessions.get(&session);
                if let (Some(pid), Ok(signal)) = (target, Signal::try_from(signal)) {
                    // The whole group, as a terminal does it.
                    let _ = nix::sys::signal::killpg(*pid, signal);
                }
                Ok(())
            }
            ToInit::End { session } => {
                if let Some(pid) = self.sessions.get(&session) {
                    let _ = nix::sys::signal::killpg(*pid, Signal::SIGHUP);
                    signals::send(*pid, Signal::SIGCONT)?;
                    signals::send(*pid, Signal::SIGHUP)?;
                }
                Ok(())
            }
        }
    }

    /// Attaches the vault if it came as a mount, binds it over the mount point, and proves that it is the vault that is seen there.
    fn reveal(&mut self, making: &Making<'_>, mount: Option<&OwnedFd>) -> io::Result<()> {
        let vault = making.place.vault();
        if let Some(mount) = mount {
            mount::attach(mount, &folder::open_without_links(&vault)?)?;
        }
        let target = making.mount_point.reopen()?;
        mount::bind(&vault, &target)?;
        let shown = mount::open_mounted(&making.mount_point.path)?;
        let real = mount::open_mounted(&vault)?;
        if folder::facts(&shown)?.device != folder::facts(&real)?.device {
            return Err(io::Error::other("something else is mounted there"));
        }
        self.device = namespace::device_at(&mount::table()?, &vault);
        if let (Some(device), Some(backend)) = (&self.device, making.backend) {
            backend.tune(device);
        }
        Ok(())
    }

    /// Whether a mount point stopped showing the vault.
    fn is_displaced(&mut self, making: &Making<'_>) -> bool {
        let Some(device) = self.device.as_ref().filter(|_| !self.displaced) else { return false };
        let shown = mount::table().is_ok_and(|table| {
            bridges::all_shown(&table, making.mount_point, making.points, device)
        });
        // Said once.
        self.displaced = !shown;
        !shown
    }

    fn start(
        &self,
        request: &SessionRequest,
        making: &Making<'_>,
        caller: [OwnedFd; 3],
        terminals: [bool; 3],
        terminal: bool,
    ) -> io::Result<(Pid, Option<OwnedFd>)> {
        let (master, own) = if terminal {
            let (master, own) = terminal::open_pair()?;
            nix::unistd::fchown(&own, Some(making.identity.uid), None)?;
            if let Some(size) = caller.first().and_then(|stdin| terminal::size(stdin).ok()) {
                terminal::set_size(&master, size)?;
            }
            (Some(master), Some(own))
        } else {
            (None, None)
        };
        let launch = shell::launch(request, making.place, &self.runtime);
        let streams = Streams { caller, terminals, own };
        let pid = session::start(&launch, request, making.identity, making.home, &streams)?;
        Ok((pid, master))
    }

    /// Collects ended processes; most are orphans that nobody waits for.
    fn reap(&mut self, link: &Link) -> io::Result<()> {
        while signals::next(&self.children)?.is_some() {}
        while let Some(ended) = process::reap()? {
            if Some(ended.pid) == self.server {
                self.server = None;
                self.server_status = Some(ended.status);
                link.send(&FromInit::ServerEnded { status: ended.status }, &[])?;
            }
            let session = self.sessions.iter().find(|(_, pid)| **pid == ended.pid);
            if let Some(session) = session.map(|(session, _)| *session) {
                self.sessions.remove(&session);
                let status = ended.status;
                link.send(&FromInit::Ended { session, status, failure: None }, &[])?;
            }
        }
        Ok(())
    }

    /// Ends every process but the server, unmounts, and waits for the server's last commit.
    fn close(&mut self, making: &Making<'_>) -> i32 {
        let device = self.device.take();
        self.end_programs();
        let vault = making.place.vault();
        if let Some(device) = &device {
            detach_others(device, &vault);
        }
        if device.is_none()
            && let Some(server) = self.server
        {
            // Nothing of the caller's was written; the vault is as its last commit left it.
            let _ = signals::send(server, Signal::SIGKILL);
        }
        if mount::unmount(&vault).is_err() {
            let _ = mount::detach(&vault);
        }
        let deadline = Instant::now() + COMMIT;
        while self.server.is_some() && Instant::now() < deadline {
            if self.reap_for(&making.link, Duration::from_millis(200)).is_err() {
                return 1;
            }
        }
        i32::from(making.link.send(&FromInit::Unmounted, &[]).is_err())
    }

    fn end_programs(&mut self) {
        for signal in [Signal::SIGHUP, Signal::SIGTERM, Signal::SIGCONT] {
            // The server blocks the first two.
            let _ = signals::send_to_all(signal);
        }
        let deadline = Instant::now() + GRACE;
        while Instant::now() < deadline && self.count_programs() > 0 {
            self.drop_ended(Duration::from_millis(20));
        }
        // Forks may outrun one sweep over the list, not many.
        for _ in 0..1000 {
            if self.count_programs() == 0 {
                return;
            }
            for pid in self.programs() {
                let _ = signals::send(pid, Signal::SIGKILL);
            }
            self.drop_ended(Duration::from_millis(5));
        }
    }

    fn count_programs(&self) -> usize {
        self.programs().len()
    }

    /// Lists the ghost's processes but this one and the server, by their numbers in the ghost.
    fn programs(&self) -> Vec<Pid> {
        let own = Pid::this();
        processes().into_iter().filter(|pid| *pid != own && Some(*pid) != self.server).collect()
    }

    fn drop_ended(&mut self, limit: Duration) {
        self.wait_for_child(limit);
        while let Ok(Some(ended)) = process::reap() {
            if Some(ended.pid) == self.server {
                self.server = None;
            }
        }
    }

    fn reap_for(&mut self, link: &Link, limit: Duration) -> io::Result<()> {
        self.wait_for_child(limit);
        self.reap(link)
    }

    fn wait_for_child(&self, limit: Duration) {
        let mut fds = [PollFd::new(self.children.as_fd(), PollFlags::POLLIN)];
        let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::ZERO);
        let _ = poll(&mut fds, limit);
        while let Ok(Some(_)) = signals::next(&self.children) {}
    }
}

struct Ready {
    link: bool,
    children: bool,
    mounts: bool,
}

/// Becomes root of the new user namespace, hardened and bound to the supervisor once more.
fn enter(making: &Making<'_>) -> io::Result<()> {
    if making.rootless {
        // The caller's own ids are the only ones here; the capabilities are there from the start.
        let identity = making.identity;
        become_namespace_root(identity.uid, identity.gid, false)?;
    } else {
        become_namespace_root(0.into(), 0.into(), true)?;
    }
    privilege::harden_again(Signal::SIGKILL)
}

/// Returns the caller's private runtime folder, and makes it where the machine has no place for it.
fn runtime_folder(identity: &Identity) -> io::Result<PathBuf> {
    let usual = namespace::runtime_folder(identity.uid);
    if usual.is_dir() {
        return Ok(usual);
    }
    let tmp = folder::open_without_links(Path::new("/tmp"))?;
    let name = format!("runtime-{}", identity.uid);
    folder::make(&tmp, &name, 0o700)?;
    let path = Path::new("/tmp").join(name);
    std::os::unix::fs::chown(&path, Some(identity.uid.as_raw()), Some(identity.gid.as_raw()))?;
    Ok(path)
}

/// Mounts the vault and starts its server; a vault that the kernel reads itself comes when it is open.
fn start_server(making: &mut Making<'_>) -> Result<Option<Pid>> {
    let failed = |cause: io::Error| Error::environment("cannot mount the vault").caused_by(cause);
    let path = making.place.vault();
    let target = folder::open_without_links(&path).map_err(failed)?;
    let (Some(backend), Some(link)) = (making.backend, making.server_link.take()) else {
        return Ok(None);
    };
    let kernel = backend.mount(&target)?;
    let identity = making.identity;
    let pid = process::fork(|| backend.serve(kernel, link, identity))
        .map_err(|cause| Error::environment("cannot start the server").caused_by(cause))?;
    Ok(Some(pid))
}

/// Takes every mount of the vault away but the one at `vault`, wherever it was moved to. Detached,
/// since a process that the kernel cannot end yet may hold a folder of it.
fn detach_others(device: &str, vault: &Path) {
    let lines = mount::table().unwrap_or_default();
    for line in lines.iter().rev().filter(|line| line.device == device) {
        if line.mount_point != vault {
            let _ = mount::detach(&line.mount_point);
        }
    }
}

/// Lists every process of this PID namespace by its number in it. `/proc` may be the outer one,
/// where a process is known by another number and tells ours in its status.
fn processes() -> Vec<Pid> {
    let Ok(own) = std::fs::read_link("/proc/self/ns/pid") else { return Vec::new() };
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| std::fs::read_link(path.join("ns/pid")).is_ok_and(|other| other == own))
        .filter_map(|path| number_inside(&std::fs::read_to_string(path.join("status")).ok()?))
        .collect()
}

/// Returns a process's number in its own PID namespace; `None` for one that has ended and only
/// waits to be reaped.
fn number_inside(status: &str) -> Option<Pid> {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    if field("State:")?.trim_start().starts_with(['Z', 'X']) {
        return None;
    }
    field("NSpid:")?.split_whitespace().last()?.parse().ok().map(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn own_number_is_the_last_and_ended_processes_do_not_count() {
        let status = |state: &str| format!("Name:\tsh\nState:\t{state}\nNSpid:\t4711\t12\n");
        assert_eq!(number_inside(&status("S (sleeping)")), Some(Pid::from_raw(12)));
        assert_eq!(number_inside(&status("Z (zombie)")), None);
        assert_eq!(number_inside("Name:\tsh\n"), None);
    }

    #[test]
    fn own_process_is_listed() {
        assert!(processes().contains(&Pid::this()));
    }
}
