//! What the supervisor hears of signals, init and the keeper's client, and what follows from it.
//!
//! Steps 11 to 13 of GHOST.md, as far as they happen outside: the ghost goes from one phase to the
//! next, and its sessions begin and end. What the server says is heard in [`super::served`], what
//! comes in at the door in [`super::join`].

use super::clients::Standing;
use super::link::Received;
use super::protocol::{Failure, FromInit, ToClient, ToInit};
use super::shell;
use super::supervisor::{FIRST, Phase, Supervisor};
use crate::error::Error;
use crate::sys::{process, signals};
use nix::sys::signal::Signal;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

impl Supervisor {
    pub(super) fn hear_signals(&mut self) {
        while let Ok(Some(signal)) = signals::next(&self.events) {
            match signal {
                Signal::SIGCHLD => self.reap(),
                signal => self.end(Err(Error::interrupted(signal as i32).into())),
            }
        }
    }

    fn reap(&mut self) {
        while let Ok(Some(ended)) = process::reap() {
            if self.init.as_ref().is_some_and(|(pid, _)| *pid == ended.pid) {
                // What it and the server still said comes first.
                self.hear_init();
                self.hear_server();
                self.init = None;
                if self.holder.is_none() {
                    self.server = None;
                }
                let unexpected = Error::internal("the ghost was killed from outside")
                    .hint("its vault opens at the last commit");
                self.end(Err(unexpected.into()));
            }
            let agent =
                self.clients.iter().find(|(_, client)| client.agent_pid() == Some(ended.pid));
            if let Some(session) = agent.map(|(session, _)| *session) {
                self.agent_ended(session);
            }
            self.holder_ended(ended.pid);
            self.settle();
        }
    }

    pub(super) fn hear_init(&mut self) {
        while let Some((_, link)) = &mut self.init {
            match link.try_receive::<FromInit>() {
                Ok(Some(Received::Message(message, fds))) => self.obey_init(message, fds),
                // Nothing more for now, or its end as a process follows.
                _ => return,
            }
        }
    }

    fn obey_init(&mut self, message: FromInit, fds: Vec<OwnedFd>) {
        match message {
            FromInit::Ready { weaknesses } => {
                self.weaknesses.extend(weaknesses);
                // A ghost that is ending already has no use for its vault.
                if self.phase != Phase::Making {
                    return;
                }
                self.phase = Phase::Looking;
                if let Some(exists) = self.waiting.take() {
                    self.ready_to_open(exists);
                }
            }
            FromInit::Revealed { notices, warnings } => self.revealed(&notices, &warnings),
            FromInit::Started { session } => self.session_started(session, fds.into_iter().next()),
            FromInit::Ended { session, status, failure } => {
                self.session_ended(session, failure.map_or(Ok(status), Err));
            }
            FromInit::ServerEnded { .. } if self.phase == Phase::Closing => {}
            FromInit::ServerEnded { status } => {
                self.hear_server();
                let error =
                    Error::internal(format!("the vault's server ended early, status {status}"))
                        .hint("the vault opens at its last commit");
                self.fail(error);
            }
            FromInit::Displaced => self.fail(
                Error::environment("a mount point was moved or removed from outside")
                    .hint("the ghost was ended so that nothing is written beside the vault"),
            ),
            FromInit::Unmounted => {}
            FromInit::Failed(failure) => self.end(Err(failure)),
        }
    }

    pub(super) fn vault_is_open(&mut self, mount: Option<&OwnedFd>) {
        match (mount, &self.holder) {
            (Some(mount), Some(_)) => self.hand_over(mount),
            (None, None) => {
                self.phase = Phase::Revealing;
                self.tell_init(&ToInit::Reveal, &[]);
            }
            _ => self.fail(Error::internal("the vault's server talks out of order")),
        }
    }

    fn revealed(&mut self, notices: &[String], warnings: &[(String, String)]) {
        if self.phase != Phase::Revealing {
            return;
        }
        self.phase = Phase::Open;
        if let Err(cause) = shell::write_rc_files(self.taken.folder()) {
            self.warn(
                &format!("the shell's prompt stays as it is: {cause}"),
                "the ghost works all the same",
            );
        }
        self.greet();
        for sentence in notices {
            self.notice(sentence);
        }
        for (text, hint) in warnings {
            self.warn(text, hint);
        }
        // A session's output must not come before what is said about it.
        if let Some(first) = self.clients.get_mut(&FIRST) {
            first.standing = Standing::Told;
            first.say(&ToClient::ShowAll);
        }
    }

    fn greet(&self) {
        let path = self.mount_point.path.display();
        self.notice(&format!("The vault is open at {path}, in this ghost and nowhere else."));
        for sentence in self.weaknesses.iter().chain(&self.request.notices) {
            self.notice(sentence);
        }
    }

    pub(crate) fn start_session(&mut self, session: u32) {
        let Some(client) = self.clients.get_mut(&session) else { return };
        client.standing = Standing::Starting;
        let message = ToInit::Start {
            session,
            request: Box::new(client.request.clone()),
            terminal: client.has_terminal(),
            terminals: client.terminals,
        };
        let streams = client.stream_copies();
        match streams {
            Ok(streams) => {
                let fds: Vec<BorrowedFd<'_>> = streams.iter().map(AsFd::as_fd).collect();
                self.tell_init(&message, &fds);
            }
            Err(cause) => {
                let error = Error::environment("cannot hand the terminal over").caused_by(cause);
                self.dismiss(session, Err(error.into()));
            }
        }
    }

    fn session_started(&mut self, session: u32, master: Option<OwnedFd>) {
        let identity = self.identity.clone();
        let Some(client) = self.clients.get_mut(&session) else { return };
        client.standing = Standing::Running;
        if let Some(master) = master
            && let Err(error) = client.relay(master, &identity)
        {
            self.dismiss(session, Err(error.into()));
        }
    }

    fn session_ended(&mut self, session: u32, how: std::result::Result<u8, Failure>) {
        let Some(client) = self.clients.get_mut(&session) else { return };
        client.standing = Standing::Ended(how);
        // The agent shows what is left in the pty first; its end is the session's.
        client.release_agent();
        if client.agent_pid().is_none() {
            self.session_over(session);
        }
    }

    pub(crate) fn session_over(&mut self, session: u32) {
        let Some(client) = self.clients.get(&session) else { return };
        let Standing::Ended(how) = &client.standing else { return };
        let how = how.clone();
        match session {
            FIRST => self.end(how),
            _ => self.dismiss(session, how),
        }
    }

    pub(crate) fn tell_init(&mut self, message: &ToInit, fds: &[BorrowedFd<'_>]) {
        if let Some((_, link)) = &self.init {
            // A dead init is seen by its end as a process.
            let _ = link.send(message, fds);
        }
    }

    pub(super) fn hear_upstream(&mut self) {
        if let Some(link) = &mut self.upstream
            && !matches!(link.try_receive::<()>(), Ok(None))
        {
            self.upstream = None;
            self.end(Err(Error::interrupted(libc::SIGHUP).into()));
        }
    }
}
