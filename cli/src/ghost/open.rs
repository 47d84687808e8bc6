//! The caller's side of opening a ghost: what is asked for, and the way to it.
//!
//! Step 1 of GHOST.md, and the client's part of joining.

use super::client::{self, Outcome, Watch};
use super::keeper::{self, Keeping};
use super::link::{Link, Received};
use super::place::Place;
use super::protocol::{FromHelper, Raw, Request, SessionRequest, ToSupervisor};
use crate::caller::Caller;
use crate::error::{Error, Kind, Result};
use crate::sys::{process, signals, socket, terminal};
use crate::ui::Ui;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::unistd::Uid;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use zeroize::Zeroizing;

/// How long the helper's first word may take once it runs.
const HELLO: Duration = Duration::from_secs(10);

/// Where sudo may be: a `PATH` of the caller's making decides nothing.
const SUDO: [&str; 3] = ["/usr/bin/sudo", "/bin/sudo", "/usr/local/bin/sudo"];

/// What a person presents that need not be typed.
pub(crate) type Secret = Option<Zeroizing<Vec<u8>>>;

/// Returns the sudo of this machine.
pub(crate) fn sudo() -> Option<PathBuf> {
    SUDO.iter().map(PathBuf::from).find(|path| path.is_file())
}

/// Returns this process's streams; one that is closed is replaced by nothing.
pub(crate) fn streams() -> Result<[OwnedFd; 3]> {
    let failed =
        |cause: io::Error| Error::environment("cannot use the standard streams").caused_by(cause);
    let copy = |stream: io::Result<OwnedFd>| {
        stream.or_else(|_| {
            let nothing = std::fs::File::options().read(true).write(true).open("/dev/null");
            nothing.map(OwnedFd::from)
        })
    };
    Ok([
        copy(process::copy_above_streams(io::stdin())).map_err(failed)?,
        copy(process::copy_above_streams(io::stdout())).map_err(failed)?,
        copy(process::copy_above_streams(io::stderr())).map_err(failed)?,
    ])
}

/// Returns which streams are terminals.
pub(crate) fn terminals(streams: &[OwnedFd; 3]) -> [bool; 3] {
    streams.each_ref().map(terminal::is_terminal)
}

/// Connects to the open ghost of a project, if there is one.
pub(crate) fn find(caller: &Caller, project: &Path) -> Option<Link> {
    let places = [
        Place::of_root(caller.uid, project),
        Place::rootless(caller.uid, &caller.state_folder(), project),
    ];
    places.iter().find_map(|place| {
        let socket = OwnedFd::from(UnixStream::connect(place.socket()).ok()?);
        // Only its maker's supervisor is trusted with a terminal.
        let (uid, _) = socket::peer(&socket).ok()?;
        (uid == place.owner()).then(|| Link::new(socket))
    })
}

/// Joins an open ghost; returns the session's status.
pub(crate) fn join(
    mut link: Link,
    session: SessionRequest,
    credential: super::protocol::CredentialKind,
    slot: Option<u8>,
    secret: &Secret,
    ui: &Ui,
) -> Result<u8> {
    let gone = |cause: io::Error| {
        Error::new(Kind::InUse, "the open ghost does not answer")
            .caused_by(cause)
            .hint("it may be closing: try again in a moment")
    };
    let watch = Watch::begin()?;
    let streams = streams()?;
    let message = ToSupervisor::Join {
        session: Box::new(session),
        has_secret: secret.is_some(),
        terminals: terminals(&streams),
        credential,
        slot,
    };
    let fds: Vec<BorrowedFd<'_>> = streams.iter().map(AsFd::as_fd).collect();
    link.send(&message, &fds).map_err(gone)?;
    if let Some(secret) = secret {
        link.send_secret(secret).map_err(gone)?;
    }
    finished(client::attend(&mut link, &watch, &streams[0], ui))
}

fn finished(outcome: Outcome) -> Result<u8> {
    match outcome {
        Outcome::Exit(status) => Ok(status),
        Outcome::Failed(error) => Err(error),
        Outcome::Lost => Err(client::killed()),
    }
}

/// Makes a ghost with the rights that this process has; returns the first session's status.
pub(crate) fn directly(request: Request, caller: &Caller, secret: Secret, ui: &Ui) -> Result<u8> {
    let keeping = Keeping {
        request,
        uid: caller.uid,
        gid: caller.gid,
        secret,
        streams: streams()?,
        outer: None,
        upstream: None,
    };
    keeper::keep(keeping, ui)
}

/// Makes a ghost through sudo; returns the first session's status.
pub(crate) fn through_sudo(sudo: &Path, request: &Request, secret: &Secret, ui: &Ui) -> Result<u8> {
    let failed = |cause: io::Error| Error::environment("cannot start sudo").caused_by(cause);
    let own = std::env::current_exe().map_err(failed)?;
    let helper = |command: &mut Command| {
        command.arg("--").arg(&own).arg("internal-ghost");
    };
    if asks_for_password(sudo, helper) {
        ui.notice(
            "sudo may ask for your password: root makes the ghost's namespaces, so that other \
             programs of yours cannot see into it ('--rootless' goes without).",
        );
    }
    let watched =
        [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGCHLD];
    let events = signals::watch(&watched).map_err(failed)?;
    let (ours, theirs) = socket::pair().map_err(failed)?;
    let mut command = Command::new(sudo);
    helper(&mut command);
    let child = command.stdin(Stdio::from(theirs)).spawn().map_err(failed)?;
    // The child's end must be its alone, or its death would not be seen.
    drop(command);
    let link = Some(Link::new(ours));
    Errand { child, link, said_hello: false, is_taken: false }.attend(&events, request, secret)
}

/// Whether sudo would ask for a password, or refuse.
fn asks_for_password(sudo: &Path, helper: impl Fn(&mut Command)) -> bool {
    let mut command = Command::new(sudo);
    command.args(["-n", "-l"]);
    helper(&mut command);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    !command.status().is_ok_and(|status| status.success())
}

/// The helper behind sudo, from the caller's side.
struct Errand {
    child: Child,
    link: Option<Link>,
    said_hello: bool,
    is_taken: bool,
}

impl Errand {
    fn attend(
        mut self,
        events: &nix::sys::signalfd::SignalFd,
        request: &Request,
        secret: &Secret,
    ) -> Result<u8> {
        loop {
            self.wait(events)?;
            while let Ok(Some(signal)) = signals::next(events) {
                match signal {
                    // sudo and the helper have them from the terminal.
                    Signal::SIGCHLD | Signal::SIGINT | Signal::SIGQUIT => {}
                    // The helper ends the ghost when nobody is left at this end.
                    _ => self.link = None,
                }
            }
            let ended = self.child.try_wait();
            // What it still said comes first.
            self.talk(request, secret)?;
            if let Ok(Some(status)) = ended {
                return self.ended(status);
            }
        }
    }

    fn wait(&self, events: &nix::sys::signalfd::SignalFd) -> Result<()> {
        let mut fds = vec![PollFd::new(events.as_fd(), PollFlags::POLLIN)];
        fds.extend(self.link.iter().map(|link| PollFd::new(link.as_fd(), PollFlags::POLLIN)));
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(Error::internal("cannot wait for sudo").caused_by(errno)),
        }
    }

    /// Gives the helper its request, once it has said that it is there.
    fn talk(&mut self, request: &Request, secret: &Secret) -> Result<()> {
        let Some(link) = &mut self.link else { return Ok(()) };
        match link.try_receive::<FromHelper>() {
            Ok(None) => Ok(()),
            Ok(Some(Received::Message(FromHelper::Hello, _))) if !self.said_hello => {
                self.said_hello = true;
                let streams = streams()?;
                let fds: Vec<BorrowedFd<'_>> = streams.iter().map(AsFd::as_fd).collect();
                let sent = link.send(request, &fds).and_then(|()| match secret {
                    Some(secret) => link.send_secret(secret),
                    None => Ok(()),
                });
                sent.map_err(|cause| Error::environment("the helper is gone").caused_by(cause))
            }
            Ok(Some(Received::Message(FromHelper::Taken, _))) => {
                self.is_taken = true;
                Ok(())
            }
            _ => {
                self.link = None;
                Ok(())
            }
        }
    }

    fn ended(&self, status: ExitStatus) -> Result<u8> {
        if self.is_taken {
            return Err(keeper::taken_by_another());
        }
        let signalled = status.signal().map(|signal| 128 + signal);
        let code = status.code().or(signalled).unwrap_or(1);
        let code = u8::try_from(code).unwrap_or(u8::MAX);
        match (self.said_hello, signalled) {
            (true, _) => Ok(code),
            (false, Some(_)) => Err(Error::interrupted(libc::SIGINT)),
            (false, None) => Err(Error::environment("sudo did not start the helper").hint(
                "'--rootless' goes without root; it does not protect from other programs of yours",
            )),
        }
    }
}

/// The helper behind sudo: takes the caller's request and makes the ghost.
pub(crate) fn helper(ui: &Ui) -> Result<u8> {
    let (uid, gid) = super::privilege::sudo_user()?;
    let unusable = || {
        Error::user("'internal-ghost' is started by 'tazpod pull' through sudo")
            .hint("run 'tazpod pull'")
            .hint("a sudo that logs input ('log_input') cannot start ghosts")
    };
    let stdin = process::copy_above_streams(io::stdin()).map_err(|_| unusable())?;
    if !socket::is_unix_stream(&stdin) {
        return Err(unusable());
    }
    socket::set_receive_timeout(&stdin, Some(HELLO)).map_err(|_| unusable())?;
    process::rebuild_environment()
        .map_err(|cause| Error::environment("cannot rebuild the environment").caused_by(cause))?;
    super::privilege::harden()?;
    let mut link = Link::new(stdin);
    link.send(&FromHelper::Hello, &[]).map_err(|_| unusable())?;
    let bad = |cause: io::Error| Error::user("the request cannot be read").caused_by(cause);
    let Received::Message(request, fds) = link.receive::<Request>().map_err(bad)? else {
        return Err(unusable());
    };
    let secret = if request.has_secret {
        let Received::Secret(secret) = link.receive::<Request>().map_err(bad)? else {
            return Err(unusable());
        };
        Some(secret)
    } else {
        None
    };
    let callers = <[OwnedFd; 3]>::try_from(fds).map_err(|_| unusable())?;
    let (streams, outer) = behind_sudo(callers, request.terminals)
        .map_err(|cause| Error::environment("cannot use the terminal").caused_by(cause))?;
    let request = Request { rootless: false, ..request };
    keeper::keep(Keeping { request, uid, gid, secret, streams, outer, upstream: Some(link) }, ui)
}

/// Picks the streams of a ghost made through sudo. Where sudo has put a pty of its own in between,
/// that one is used, since sudo reads from the person's; the person's comes along to be guarded.
fn behind_sudo(
    callers: [OwnedFd; 3],
    terminals: [bool; 3],
) -> io::Result<([OwnedFd; 3], Option<OwnedFd>)> {
    let ours =
        [process::copy_above_streams(io::stdout())?, process::copy_above_streams(io::stderr())?];
    let own = ours.iter().find(|fd| terminal::is_terminal(fd));
    let Some(own) = own else { return Ok((callers, None)) };
    // Seeing a standard input that is no terminal, sudo starts us in the background of its pty and
    // passes no keys on. Setting modes from there stops us until sudo has put us in the foreground,
    // as it does for every program that wants its terminal.
    terminal::set_modes(own, &terminal::modes(own)?)?;
    let same = |one: &OwnedFd, other: &OwnedFd| -> io::Result<bool> {
        let [one, other] = [one, other].map(crate::sys::folder::facts);
        Ok(one?.special == other?.special)
    };
    let mut chosen = Vec::new();
    let mut outer = None;
    for (caller, is_terminal) in callers.into_iter().zip(terminals) {
        if !is_terminal || same(&caller, own)? {
            chosen.push(caller);
            continue;
        }
        chosen.push(own.try_clone()?);
        outer = outer.or(Some(caller));
    }
    let chosen = chosen.try_into().map_err(|_| io::Error::other("three streams"))?;
    Ok((chosen, outer))
}

/// Returns what runs in the session: the caller's command or shell, environment and folder.
pub(crate) fn session(
    command: &[std::ffi::OsString],
    environment: Vec<(Raw, Raw)>,
    uid: Uid,
) -> SessionRequest {
    let mask = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    nix::sys::stat::umask(mask);
    SessionRequest {
        command: command.iter().map(|word| Raw::from(word.clone())).collect(),
        shell: shell(uid),
        environment,
        folder: std::env::current_dir().unwrap_or_else(|_| "/".into()).into(),
        umask: mask.bits(),
        private_home: None,
        through: Vec::new(),
    }
}

fn shell(uid: Uid) -> Raw {
    let named = std::env::var_os("SHELL").map(PathBuf::from).filter(|path| path.is_absolute());
    let listed = || nix::unistd::User::from_uid(uid).ok().flatten().map(|user| user.shell);
    named.or_else(listed).unwrap_or_else(|| "/bin/sh".into()).into()
}
