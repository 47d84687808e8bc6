//! The supervisor's side of a client: its terminal, its agent, and how far its session is.

use super::link::Link;
use super::protocol::{Failure, SessionRequest, ToAgent, ToClient};
use super::terminal as agent;
use crate::error::{Error, Result};
use crate::sys::identity::Identity;
use crate::sys::{folder, process, signals, terminal};
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Pid, Uid};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long an agent may take to show what is left in a pty.
const DRAIN: Duration = Duration::from_secs(2);

/// How long a client may take to read a message.
const DEAF: Duration = Duration::from_secs(2);

/// How far a session is.
#[derive(Clone, Debug)]
pub(crate) enum Standing {
    /// Its first process is not started yet.
    Waiting,
    /// The person is asked for the passphrase.
    Asked,
    /// The server tries what was answered.
    Proving,
    /// It starts once the client has shown what was said to it before.
    Told,
    /// Init was told to start it.
    Starting,
    /// It runs.
    Running,
    /// Its first process has ended.
    Ended(std::result::Result<u8, Failure>),
}

impl PartialEq for Standing {
    fn eq(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

/// A client and its session.
pub(crate) struct Client {
    pub(crate) link: Link,
    pub(crate) standing: Standing,
    pub(crate) request: SessionRequest,
    pub(crate) terminals: [bool; 3],
    pub(crate) deadline: Option<Instant>,
    pub(crate) join: Option<super::join::Joining>,
    streams: Option<[OwnedFd; 3]>,
    outer: Option<OwnedFd>,
    agent: Option<Agent>,
    master: Option<OwnedFd>,
}

struct Agent {
    pid: Pid,
    link: Option<Link>,
    before: Option<terminal::Modes>,
    owner: Option<folder::Facts>,
}

impl Client {
    /// The client for whom the ghost is made.
    pub(crate) fn first(
        link: Link,
        streams: [OwnedFd; 3],
        terminals: [bool; 3],
        outer: Option<OwnedFd>,
        request: &SessionRequest,
    ) -> Self {
        let client = Self::new(link);
        Self { request: request.clone(), terminals, outer, streams: Some(streams), ..client }
    }

    /// Somebody who knocked and has not said yet what for.
    pub(crate) fn new(link: Link) -> Self {
        // Without it a client that does not read could stall everybody.
        let _ = link.limit_sending(DEAF);
        Self {
            link,
            standing: Standing::Waiting,
            request: SessionRequest::default(),
            terminals: [false; 3],
            deadline: None,
            join: None,
            streams: None,
            outer: None,
            agent: None,
            master: None,
        }
    }

    /// Takes a joiner's streams.
    pub(crate) fn set_streams(&mut self, streams: [OwnedFd; 3], terminals: [bool; 3]) {
        self.terminals = terminals;
        self.streams = Some(streams);
    }

    /// Whether the session gets a terminal of its own.
    pub(crate) fn has_terminal(&self) -> bool {
        let [stdin, ..] = self.terminals;
        stdin && self.stdin().is_some_and(terminal::is_terminal)
    }

    fn stdin(&self) -> Option<&OwnedFd> {
        self.streams.as_ref().and_then(|streams| streams.first())
    }

    /// Returns what the supervisor waits on for this client.
    pub(crate) fn sources(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let agent = self.agent.as_ref().and_then(|agent| agent.link.as_ref());
        std::iter::once(self.link.as_fd()).chain(agent.map(AsFd::as_fd))
    }

    /// Says something; a client that is gone is noticed elsewhere.
    pub(crate) fn say(&self, message: &ToClient) {
        let _ = self.link.send(message, &[]);
    }

    /// Says how its session ended.
    pub(crate) fn say_end(&self, how: std::result::Result<u8, Failure>) {
        self.say(&match how {
            Ok(status) => ToClient::Exit(status),
            Err(failure) => ToClient::Failed(failure),
        });
    }

    /// Returns how its session ended, if the ghost ended under it too.
    pub(crate) fn outcome(&self) -> std::result::Result<u8, Failure> {
        match &self.standing {
            Standing::Ended(how) => how.clone(),
            _ => Err(Error::interrupted(libc::SIGHUP).into()),
        }
    }

    /// Asks the person for a secret on the client's terminal.
    pub(crate) fn ask(&mut self, question: &str, repeat: bool, identity: &Identity) -> Result<()> {
        if !self.has_terminal() {
            return Err(Error::user("no terminal to ask for the passphrase on")
                .hint("give it with --passphrase-file, --passphrase-fd or on standard input"));
        }
        self.standing = Standing::Asked;
        let question = question.to_owned();
        self.tell_agent(&ToAgent::Ask { question, repeat }, &[], identity)
    }

    /// Begins to relay between the client's terminal and the session's.
    pub(crate) fn relay(&mut self, master: OwnedFd, identity: &Identity) -> Result<()> {
        let told = self.tell_agent(&ToAgent::Relay, &[master.as_fd()], identity);
        self.master = Some(master);
        told
    }

    fn tell_agent(
        &mut self,
        message: &ToAgent,
        fds: &[BorrowedFd<'_>],
        identity: &Identity,
    ) -> Result<()> {
        let failed = |cause: io::Error| {
            Error::environment("cannot use the client's terminal").caused_by(cause)
        };
        if self.agent.is_none() {
            self.agent = Some(self.start_agent(identity).map_err(failed)?);
        }
        let link = self.agent.as_ref().and_then(|agent| agent.link.as_ref());
        let link = link.ok_or_else(|| failed(io::ErrorKind::BrokenPipe.into()))?;
        link.send(message, fds).map_err(failed)
    }

    fn start_agent(&self, identity: &Identity) -> io::Result<Agent> {
        let stdin = self.stdin().ok_or(io::ErrorKind::BrokenPipe)?;
        let terminal = File::from(stdin.try_clone()?);
        // Only a terminal of the caller is made root's for the prompt: the descriptors are the
        // client's choice.
        let is_callers = |fd: &OwnedFd| {
            folder::facts(fd)
                .is_ok_and(|facts| facts.uid == identity.uid.as_raw() && terminal::is_terminal(fd))
        };
        let outer = self.outer.as_ref().filter(|fd| is_callers(fd));
        let outer = outer.map(|fd| fd.try_clone().map(File::from)).transpose()?;
        let (outside, inside) = Link::pair()?;
        let before = terminal::modes(&terminal).ok();
        let owner = folder::facts(&terminal).ok();
        let pid = process::fork(|| {
            let followed = agent::follow_parent();
            let mut keep = vec![inside.as_fd(), terminal.as_fd()];
            keep.extend(outer.iter().map(AsFd::as_fd));
            let closed = process::close_all_except(&keep);
            if followed.is_err() || closed.is_err() || signals::reset().is_err() {
                return 1;
            }
            agent::run(inside, &terminal, outer.as_ref())
        })?;
        Ok(Agent { pid, link: Some(outside), before, owner })
    }

    /// Returns the link to the agent.
    pub(crate) fn agent_link(&mut self) -> Option<&mut Link> {
        self.agent.as_mut().and_then(|agent| agent.link.as_mut())
    }

    /// Returns the agent's process.
    pub(crate) fn agent_pid(&self) -> Option<Pid> {
        self.agent.as_ref().map(|agent| agent.pid)
    }

    /// Lets the agent end, after it has shown what is left.
    pub(crate) fn release_agent(&mut self) {
        if let Some(agent) = &mut self.agent {
            // One that asks does not look at its link. One that relays, or is about to, ends by its
            // link alone: a signal could come before it is ready for it and lose a short command's
            // whole output.
            if agent.link.take().is_some() && self.master.is_none() {
                let _ = signals::send(agent.pid, Signal::SIGTERM);
            }
            self.deadline = Some(Instant::now() + DRAIN);
        }
    }

    /// Ends an agent that does not end by itself.
    pub(crate) fn kill_agent(&mut self) {
        self.deadline = None;
        if let Some(agent) = &self.agent {
            let _ = signals::send(agent.pid, Signal::SIGKILL);
        }
    }

    /// The agent has ended, perhaps without putting the terminal back.
    pub(crate) fn agent_is_gone(&mut self) {
        self.deadline = None;
        let Some(agent) = self.agent.take() else { return };
        let Some(terminal) = self.stdin() else { return };
        let changed =
            agent.owner.zip(folder::facts(terminal).ok()).filter(|(before, now)| before != now);
        if let Some((before, _)) = changed {
            let _ = nix::unistd::fchown(
                terminal,
                Some(Uid::from_raw(before.uid)),
                Some(Gid::from_raw(before.gid)),
            );
            let mode = rustix::fs::Mode::from_raw_mode(before.permissions);
            let _ = rustix::fs::fchmod(terminal, mode);
            let _ = terminal::set_exclusive(terminal, false);
        }
        if let Some(before) = &agent.before {
            let _ = terminal::set_modes(terminal, before);
        }
    }

    /// Waits for the agent's end, and ends it at the deadline.
    pub(crate) fn wait_for_agent(&mut self, deadline: Instant) {
        while let Some(pid) = self.agent_pid() {
            match process::try_wait(pid) {
                Ok(None) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Ok(None) => {
                    let _ = signals::send(pid, Signal::SIGKILL);
                    let _ = process::wait(pid);
                    self.agent_is_gone();
                }
                _ => self.agent_is_gone(),
            }
        }
    }

    /// Returns for how long nobody typed and nothing was shown; `None` without a terminal. The
    /// kernel keeps these times with the terminal, to 8 seconds.
    pub(crate) fn still_for(&self) -> Option<Duration> {
        let terminal = self.stdin().filter(|_| self.has_terminal())?;
        let last = folder::last_used(terminal).ok()?;
        Some(std::time::SystemTime::now().duration_since(last).unwrap_or_default())
    }

    /// Gives the session's terminal the size of the client's.
    pub(crate) fn resize(&self) {
        if let (Some(stdin), Some(master)) = (self.stdin(), &self.master)
            && let Ok(size) = terminal::size(stdin)
        {
            let _ = terminal::set_size(master, size);
        }
    }

    /// Returns the streams for init.
    pub(crate) fn stream_copies(&self) -> io::Result<Vec<OwnedFd>> {
        let streams = self.streams.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        streams.iter().map(OwnedFd::try_clone).collect()
    }
}
