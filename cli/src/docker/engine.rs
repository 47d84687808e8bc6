//! What we ask of a container engine, in our own words.

use super::context::Context;
use super::credentials::Login;
use super::spec::ContainerSpec;
use serde::Serialize;
use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;

/// What an engine answers.
pub(crate) type Answer<T> = std::result::Result<T, EngineError>;

/// Why an engine did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum EngineError {
    /// What was named does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The state of things forbids it.
    #[error("{0}")]
    Conflict(String),
    /// Another refusal.
    #[error("{message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The engine's own words.
        message: String,
    },
    /// It began and failed.
    #[error("{0}")]
    Failed(String),
    /// No answer came in time.
    #[error("the engine does not answer")]
    Silent,
    /// The connection failed.
    #[error("the connection to the engine failed: {0}")]
    Connection(String),
}

/// A container engine.
pub(crate) trait Engine {
    /// What the engine says about itself.
    fn about(&self) -> Answer<About>;
    /// A container by name or id; `None` if there is none.
    fn container(&self, name: &str) -> Answer<Option<Container>>;
    /// Names of all containers, running or not, that carry a label.
    fn labelled(&self, label: &str) -> Answer<Vec<String>>;
    /// The id of an image; `None` if the engine does not have it.
    fn image(&self, reference: &str) -> Answer<Option<String>>;
    /// Gets an image from its registry, and tells how each layer comes along.
    fn pull(
        &self,
        reference: &str,
        login: Option<Login>,
        tell: &mut dyn FnMut(Layer),
    ) -> Answer<()>;
    /// Builds an image, and tells what the build says.
    fn build(&self, tag: &str, context: Context, tell: &mut dyn FnMut(&str)) -> Answer<()>;
    /// Makes a container that does not run yet; returns its id.
    fn create(&self, spec: &ContainerSpec) -> Answer<String>;
    /// Starts a container; one that runs is no error.
    fn start(&self, container: &str) -> Answer<()>;
    /// Stops a container; one that does not run is no error.
    fn stop(&self, container: &str) -> Answer<()>;
    /// Removes a container by its id, running or not.
    fn remove(&self, id: &str) -> Answer<()>;
    /// What the container's first process said; follows it if asked to.
    fn logs(
        &self,
        container: &str,
        wanted: LogsWanted,
        tell: &mut dyn FnMut(Stream, &[u8]) -> bool,
    ) -> Answer<()>;
    /// Prepares a program in a running container; returns the execution's id.
    fn prepare(&self, container: &str, program: &Program) -> Answer<String>;
    /// Starts what was prepared; its streams come over the socket as [`super::attach`] reads them.
    fn run(&self, execution: &str, tty: bool) -> Answer<UnixStream>;
    /// The exit status of what was started; `None` while it runs.
    fn outcome(&self, execution: &str) -> Answer<Option<i64>>;
    /// Tells an execution the size of its terminal.
    fn resize(&self, execution: &str, rows: u16, columns: u16) -> Answer<()>;
}

/// An engine's own description.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct About {
    /// Docker or Podman.
    pub(crate) product: String,
    /// Its version.
    pub(crate) version: String,
    /// Whether `AppArmor` confines containers.
    pub(crate) apparmor: bool,
    /// Whether `SELinux` confines containers.
    pub(crate) selinux: bool,
    /// Whether the engine itself runs without root.
    pub(crate) rootless: bool,
    /// The kernel under its containers.
    pub(crate) kernel: String,
}

/// What state a container is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// Made, never started.
    Created,
    /// Running.
    Running,
    /// Held up by the engine.
    Paused,
    /// Ended.
    Stopped,
    /// On its way from one of these to another, or beyond repair.
    Unsettled,
}

/// A container as the engine describes it.
#[derive(Clone, Debug)]
pub(crate) struct Container {
    /// Its id.
    pub(crate) id: String,
    /// Its name.
    pub(crate) name: String,
    /// Its labels.
    pub(crate) labels: BTreeMap<String, String>,
    /// The image that it was made from, as it was named.
    pub(crate) image: String,
    /// The id of that image.
    pub(crate) image_id: String,
    /// Its state.
    pub(crate) state: State,
    /// When it was started, as RFC 3339.
    pub(crate) started: Option<String>,
}

/// How far one layer of an image has come.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    /// The layer.
    pub(crate) id: String,
    /// What happens to it.
    pub(crate) what: String,
    /// Bytes done, and all of them.
    pub(crate) bytes: Option<(u64, u64)>,
}

/// Which part of a container's log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogsWanted {
    /// Whether to wait for more.
    pub(crate) follow: bool,
    /// At most so many of the last lines.
    pub(crate) last: Option<u32>,
}

/// An output stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

/// A program to run in a container.
#[derive(Clone, Debug, Default)]
pub(crate) struct Program {
    /// The command line.
    pub(crate) command: Vec<String>,
    /// Who runs it.
    pub(crate) user: String,
    /// Where it starts.
    pub(crate) folder: String,
    /// Variables to add.
    pub(crate) environment: Vec<String>,
    /// Whether it gets a terminal.
    pub(crate) tty: bool,
    /// Whether standard input is handed in.
    pub(crate) input: bool,
}
