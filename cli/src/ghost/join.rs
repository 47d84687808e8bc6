//! The supervisor's door: joining an open ghost, asking about it, and locking it.
//!
//! Section 4 of GHOST.md. Whoever knocks is known by what the kernel says, not by what it says.

use super::clients::{Client, Standing};
use super::link::{Link, Received};
use super::place::Taken;
use super::programs;
use super::protocol::{
    CredentialKind, Failure, FromAgent, ToClient, ToInit, ToServer, ToSupervisor,
};
use super::supervisor::{FIRST, Phase, Supervisor};
use crate::error::{Error, Kind, Result};
use crate::sys::socket;
use nix::sys::signal::Signal;
use std::collections::VecDeque;
use std::fs::Permissions;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// Wrong answers in a row before the door is closed for a while.
const PATIENCE: u32 = 5;

/// For how long.
const PAUSE: Duration = Duration::from_secs(60);

/// Most clients at once.
const CROWD: usize = 32;

/// Where clients knock.
pub(crate) struct Door {
    listener: UnixListener,
    next: u32,
    wrong: u32,
    closed_until: Option<Instant>,
    proving: VecDeque<u32>,
}

/// What a joiner presents.
pub(crate) struct Joining {
    credential: CredentialKind,
    slot: Option<u8>,
    expects_secret: bool,
}

impl Door {
    /// Opens the door in the ghost's folder.
    pub(crate) fn open(taken: &Taken) -> Result<Self> {
        let path = taken.place().socket();
        let failed = |cause: io::Error| {
            Error::environment(format!("cannot listen at '{}'", path.display())).caused_by(cause)
        };
        let listener = UnixListener::bind(&path).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        // Anybody may knock; who is let in is decided by `SO_PEERCRED`.
        std::fs::set_permissions(&path, Permissions::from_mode(0o666)).map_err(failed)?;
        let proving = VecDeque::new();
        Ok(Self { listener, next: FIRST + 1, wrong: 0, closed_until: None, proving })
    }

    /// Whether too many wrong answers came lately.
    fn is_closed(&mut self) -> bool {
        if self.closed_until.is_some_and(|until| Instant::now() >= until) {
            self.closed_until = None;
            self.wrong = 0;
        }
        self.closed_until.is_some()
    }

    fn count(&mut self, proved: bool) {
        self.wrong = if proved { 0 } else { self.wrong + 1 };
        if self.wrong >= PATIENCE {
            self.closed_until = Some(Instant::now() + PAUSE);
        }
    }
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Supervisor {
    /// Lets in who may come in.
    pub(crate) fn hear_door(&mut self) {
        while let Ok((stream, _)) = self.door.listener.accept() {
            let socket = OwnedFd::from(stream);
            let Ok((uid, _)) = socket::peer(&socket) else { continue };
            let welcome = uid == self.identity.uid || uid.is_root();
            if !welcome || self.clients.len() >= CROWD {
                continue;
            }
            let link = Link::new(socket);
            self.clients.insert(self.door.next, Client::new(link));
            self.door.next = self.door.next.checked_add(1).unwrap_or(FIRST + 1);
        }
    }

    /// Hears what clients say.
    pub(crate) fn hear_clients(&mut self) {
        let sessions: Vec<u32> = self.clients.keys().copied().collect();
        for session in sessions {
            while let Some(client) = self.clients.get_mut(&session) {
                match client.link.try_receive::<ToSupervisor>() {
                    Ok(None) => break,
                    Ok(Some(Received::Message(message, fds))) => self.obey(session, message, fds),
                    Ok(Some(Received::Secret(secret))) => self.presented(session, &secret),
                    Ok(Some(Received::End)) | Err(_) => {
                        self.lost(session);
                        break;
                    }
                }
            }
        }
    }

    fn obey(&mut self, session: u32, message: ToSupervisor, fds: Vec<OwnedFd>) {
        let Some(client) = self.clients.get_mut(&session) else { return };
        match message {
            ToSupervisor::Shown if client.standing == Standing::Told => self.start_session(session),
            ToSupervisor::Shown => {}
            ToSupervisor::Resized => client.resize(),
            ToSupervisor::Signal(signal) => self.signalled(session, signal),
            ToSupervisor::Status => {
                let status = self.status();
                if let Some(client) = self.clients.get(&session) {
                    client.say(&ToClient::Status(status));
                }
            }
            ToSupervisor::Lock { force } => self.lock(session, force),
            ToSupervisor::Join { session: request, has_secret, terminals, credential, slot } => {
                let fresh = session != FIRST && client.join.is_none();
                let Ok(streams) = <[OwnedFd; 3]>::try_from(fds) else { return self.lost(session) };
                if !fresh {
                    return self.lost(session);
                }
                client.request = *request;
                client.set_streams(streams, terminals);
                client.join = Some(Joining { credential, slot, expects_secret: has_secret });
                self.admit(session, has_secret);
            }
        }
    }

    /// Asks a joiner for the passphrase unless it follows.
    fn admit(&mut self, session: u32, has_secret: bool) {
        if self.phase != Phase::Open {
            let failure = Error::new(Kind::InUse, "the ghost is not open yet, or not any more")
                .hint("try again in a moment");
            return self.dismiss(session, Err(failure.into()));
        }
        if self.door.is_closed() {
            let failure = Error::new(Kind::WrongPassphrase, "too many wrong passphrases")
                .hint("wait a minute, or use the terminal in which the ghost was opened");
            return self.dismiss(session, Err(failure.into()));
        }
        if has_secret {
            return;
        }
        let question =
            format!("The ghost is open; to join it, passphrase of {}: ", self.request.vault.shown);
        let identity = self.identity.clone();
        let asked =
            self.clients.get_mut(&session).map(|client| client.ask(&question, false, &identity));
        if let Some(Err(error)) = asked {
            self.dismiss(session, Err(error.into()));
        }
    }

    fn presented(&mut self, session: u32, secret: &Zeroizing<Vec<u8>>) {
        let joining = self.clients.get_mut(&session).and_then(|client| client.join.as_mut());
        match joining {
            Some(joining) if joining.expects_secret => {
                joining.expects_secret = false;
                self.prove(session, secret);
            }
            _ => self.lost(session),
        }
    }

    /// Has the server try a joiner's secret; answers come in the order of the questions.
    pub(crate) fn prove(&mut self, session: u32, secret: &[u8]) {
        let Some(client) = self.clients.get_mut(&session) else { return };
        let (Some(joining), Some(server)) = (&client.join, &self.server) else { return };
        let question = ToServer::Prove { credential: joining.credential, slot: joining.slot };
        if server.send(&question, &[]).and_then(|()| server.send_secret(secret)).is_ok() {
            client.standing = Standing::Proving;
            self.door.proving.push_back(session);
        }
    }

    /// The server has tried a joiner's secret.
    pub(crate) fn proved(&mut self, proved: bool) {
        self.door.count(proved);
        let Some(session) = self.door.proving.pop_front() else { return };
        let waits =
            self.clients.get(&session).is_some_and(|client| client.standing == Standing::Proving);
        match (waits, proved) {
            (false, _) => {}
            (true, true) => self.start_session(session),
            (true, false) => {
                let shown = &self.request.vault.shown;
                let failure = Error::new(
                    Kind::WrongPassphrase,
                    format!("no keyslot of '{shown}' opened with what was given"),
                )
                .hint("the ghost goes on; check the keyboard layout and try again");
                self.dismiss(session, Err(failure.into()));
            }
        }
    }

    /// Hears what terminal agents say.
    pub(crate) fn hear_agents(&mut self) {
        let sessions: Vec<u32> = self.clients.keys().copied().collect();
        for session in sessions {
            loop {
                let link = self.clients.get_mut(&session).and_then(Client::agent_link);
                match link.map(Link::try_receive::<FromAgent>) {
                    Some(Ok(Some(Received::Secret(secret)))) => self.answered(session, Ok(&secret)),
                    Some(Ok(Some(Received::Message(FromAgent::Failed(failure), _)))) => {
                        self.answered(session, Err(failure));
                    }
                    // Its end as a process follows.
                    _ => break,
                }
            }
        }
    }

    /// A session's terminal agent has ended.
    pub(crate) fn agent_ended(&mut self, session: u32) {
        let Some(client) = self.clients.get_mut(&session) else { return };
        client.agent_is_gone();
        if matches!(client.standing, Standing::Ended(_)) {
            self.session_over(session);
        } else if self.phase != Phase::Closing {
            // Its terminal hung up, or it was killed.
            self.lost(session);
        }
    }

    fn signalled(&mut self, session: u32, signal: i32) {
        let ending = [Signal::SIGTERM, Signal::SIGHUP].map(|signal| signal as i32);
        let running =
            self.clients.get(&session).is_some_and(|client| client.standing == Standing::Running);
        let failure = Failure::from(Error::interrupted(signal));
        match (running, session) {
            (true, _) if !ending.contains(&signal) => {
                self.tell_init(&ToInit::Signal { session, signal }, &[]);
            }
            (_, FIRST) => self.end(Err(failure)),
            _ => self.dismiss(session, Err(failure)),
        }
    }

    /// A client is gone: its session ends, and with the first one the ghost.
    fn lost(&mut self, session: u32) {
        let failure = Failure::from(Error::interrupted(libc::SIGHUP));
        match session {
            FIRST => self.end(Err(failure)),
            _ => self.dismiss(session, Err(failure)),
        }
    }

    /// Ends a joiner's part.
    pub(crate) fn dismiss(&mut self, session: u32, how: std::result::Result<u8, Failure>) {
        if session == FIRST {
            return self.end(how);
        }
        if let Some(mut client) = self.clients.remove(&session) {
            client.release_agent();
            client.wait_for_agent(Instant::now() + Duration::from_secs(1));
            client.say_end(how);
            self.tell_init(&ToInit::End { session }, &[]);
        }
    }

    fn lock(&mut self, session: u32, force: bool) {
        let programs = self.init_pid().map(programs::of_ghost).unwrap_or_default();
        if !programs.is_empty()
            && !force
            && let Some(client) = self.clients.get(&session)
        {
            return client.say(&ToClient::Busy(programs));
        }
        // Whoever locked hears of the end when it is verified.
        if let Some(client) = self.clients.get_mut(&session) {
            client.standing = Standing::Ended(Ok(0));
        }
        if session != FIRST {
            self.notice("The ghost was locked from another terminal.");
        }
        let locked = Error::interrupted(libc::SIGHUP);
        self.end(Err(locked.into()));
    }
}
