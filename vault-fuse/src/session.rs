//! A mount and its service, from the first request to the last commit.

use crate::adapter::Adapter;
use crate::mounted::{MountError, Mounted};
use crate::options::Options;
use crate::service::{Phase, Service, TroubleListener};
use fuser::{Config, SessionACL};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use thiserror::Error;
use vault_core::error::FsError;
use vault_core::fs::Volume;

/// How long the end of a session waits for programs that still use files of the vault.
const GRACE: Duration = Duration::from_secs(5);

/// A session could not begin, or did not end well.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SessionError {
    /// There is no mount.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// The kernel and we do not agree on a protocol.
    #[error("the kernel did not begin to talk FUSE")]
    Handshake(#[source] io::Error),
    /// A thread could not be started.
    #[error("cannot start a thread to serve the vault")]
    Thread(#[source] io::Error),
    /// The kernel's requests could not be read any more.
    #[error("serving the vault failed")]
    Serve(#[source] io::Error),
    /// A bug was met; the vault is as the last commit left it.
    #[error("the vault met a bug while it was served; what was not committed by then is lost")]
    Halted,
    /// What was written since the last commit could not be made durable.
    #[error("the last commit failed")]
    Commit(#[source] FsError),
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The vault was unmounted; the kernel holds nothing of it.
    Unmounted,
    /// Everything is committed, but programs still use files of the vault, or the mount is another process's to
    /// remove. This process must exit now: later writes would not be committed.
    StillInUse,
}

/// A vault that is mounted and about to be served.
///
/// Between making it and [`Session::run`] no thread of it runs: that is the moment to give up privileges.
pub struct Session {
    inner: fuser::Session<Adapter>,
    service: Arc<Service>,
    mounted: Option<Mounted>,
}

impl Session {
    /// Mounts `volume` at `mount_point`, which may be given as `/proc/self/fd/N`.
    pub fn mount(
        volume: Arc<Volume>,
        mount_point: &Path,
        options: &Options,
    ) -> Result<Session, SessionError> {
        let (fd, mounted) = Mounted::new(mount_point, options)?;
        match Self::begin(volume, fd, options) {
            Ok(session) => {
                // The handshake sets these values, so raising them comes after it.
                mounted.tune();
                Ok(Session { mounted: Some(mounted), ..session })
            }
            Err(error) => {
                // The first error says more than one from cleaning up.
                let _ = mounted.detach();
                Err(error)
            }
        }
    }

    /// Serves `volume` on a descriptor of `/dev/fuse` that another process has mounted; unmounting is its task too.
    pub fn from_fd(
        volume: Arc<Volume>,
        fd: OwnedFd,
        options: &Options,
    ) -> Result<Session, SessionError> {
        Self::begin(volume, fd, options)
    }

    fn begin(volume: Arc<Volume>, fd: OwnedFd, options: &Options) -> Result<Session, SessionError> {
        let service = Arc::new(Service::new(volume));
        let adapter = Adapter::new(Arc::clone(&service), options);
        let notifier = adapter.notifier();
        let mut config = Config::default();
        config.n_threads = Some(options.threads.max(1));
        // Under writeback the kernel sends times as root, so a session for the owner alone would refuse them.
        config.acl = SessionACL::All;
        let inner = fuser::Session::from_fd(adapter, fd, SessionACL::All, config)
            .map_err(SessionError::Handshake)?;
        // It is set here alone.
        let _ = notifier.set(inner.notifier());
        Ok(Session { inner, service, mounted: None })
    }

    /// Returns a handle that ends the session from another thread.
    pub fn stop_handle(&self) -> StopHandle {
        StopHandle { service: Arc::clone(&self.service) }
    }

    /// Sets who hears of failures that programs only see as an errno; the first listener stays.
    pub fn on_trouble(&self, listener: TroubleListener) {
        self.service.on_trouble(listener);
    }

    /// Serves until the vault is unmounted or [`StopHandle::stop`] is called, and commits before it returns.
    pub fn run(self) -> Result<Ended, SessionError> {
        let Session { inner, service, mounted } = self;
        let timer = spawn("vault-timer", {
            let service = Arc::clone(&service);
            move || service.keep_committed()
        })?;
        let server = spawn("vault-server", {
            let service = Arc::clone(&service);
            move || {
                let result = inner.run();
                service.advance(Phase::Over);
                result
            }
        })?;
        if service.wait_for_end() == Phase::Stopping {
            leave(&service, mounted.as_ref());
        }
        let over = service.wait_until_over(Duration::ZERO);
        let served = if over { server.join().unwrap_or(Ok(())) } else { Ok(()) };
        service.advance(Phase::Over);
        // It cannot have panicked: the volume's panics are caught.
        let _ = timer.join();
        if let Some(mounted) = mounted {
            let _ = mounted.detach();
        }
        if service.is_halted() {
            return Err(SessionError::Halted);
        }
        service.finish().map_err(SessionError::Commit)?;
        served.map_err(SessionError::Serve)?;
        Ok(if over { Ended::Unmounted } else { Ended::StillInUse })
    }
}

/// Writes back what the kernel caches, detaches the mount and waits for the last program to let go.
fn leave(service: &Service, mounted: Option<&Mounted>) {
    let Some(mounted) = mounted else {
        return;
    };
    if let Err(error) = mounted.write_back() {
        log::warn!("what programs wrote last may not have reached the vault: {error}");
    }
    if let Err(error) = mounted.detach() {
        log::warn!("the vault stays mounted until this process ends: {error}");
    }
    service.wait_until_over(GRACE);
}

fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<thread::JoinHandle<T>, SessionError> {
    thread::Builder::new().name(name.to_owned()).spawn(body).map_err(SessionError::Thread)
}

/// Ends a session. It may be used from any thread, such as one that waits for signals.
#[derive(Clone)]
pub struct StopHandle {
    service: Arc<Service>,
}

impl StopHandle {
    /// Asks [`Session::run`] to write back, unmount, commit and return. Returns at once.
    pub fn stop(&self) {
        self.service.advance(Phase::Stopping);
    }
}
