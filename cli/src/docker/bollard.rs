//! The engine's API through the `bollard` crate; nothing else imports it.
//!
//! Calls block: a runtime of one thread turns while an answer is waited for. The API's version is the
//! newest that both sides know.

use super::attach;
use super::context::Context;
use super::credentials::{Login, Proof};
use super::endpoint::Endpoint;
use super::engine::{
    About, Answer, Container, Engine, EngineError, Layer, LogsWanted, Program, State, Stream,
};
use super::greeting::{self, Greeting};
use super::spec::{ContainerSpec, SECCOMP};
use crate::error::{Error, Result};
use bollard::auth::DockerCredentials;
use bollard::container::LogOutput;
use bollard::errors::Error as ApiError;
use bollard::exec::{CreateExecOptions, ResizeExecOptions};
use bollard::models::{
    BuildInfo, ContainerCreateBody, ContainerInspectResponse, ContainerStateStatusEnum,
    CreateImageInfo, DeviceMapping, HostConfig, Mount, MountType, ResourcesUlimits,
};
use bollard::query_parameters::{
    BuildImageOptionsBuilder, CreateContainerOptionsBuilder, CreateImageOptionsBuilder,
    ListContainersOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder,
    StopContainerOptionsBuilder,
};
use bollard::{API_DEFAULT_VERSION, ClientVersion, Docker};
use bytes::Bytes;
use futures_util::{Stream as AsyncStream, StreamExt, stream};
use std::collections::HashMap;
use std::future::Future;
use std::io::{self, BufWriter, Write};
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{self, Sender};

/// How long an answer may take, in seconds; a busy disk makes an engine slow.
const PATIENCE: u64 = 120;

/// How long a build or a pull may take until it says its first word.
const LONG: Duration = Duration::from_secs(3600);

/// Keys that would detach the person's terminal. The engine always wants some, and holds the first of
/// them back until it sees the next key: one that is hardly ever typed, and never in this order.
const DETACH_KEYS: &str = "ctrl-\\,ctrl-@,ctrl-_,ctrl-],ctrl-\\,ctrl-@";

/// Bytes of a build's tar in one message, and messages on their way.
const CHUNK: usize = 64 << 10;
const CHUNKS: usize = 16;

/// An engine behind a Unix socket.
pub(super) struct Bollard {
    runtime: Runtime,
    docker: Docker,
    endpoint: Endpoint,
    greeting: Greeting,
}

impl Bollard {
    /// Connects and agrees on the API's version.
    pub(super) fn connect(endpoint: &Endpoint) -> Result<Self> {
        let failed = |cause: EngineError| {
            let socket = endpoint.socket().display();
            Error::environment(format!("cannot talk to the container engine at {socket}"))
                .caused_by(cause)
        };
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(|cause| Error::internal("cannot start to talk").caused_by(cause))?;
        let greeting = greeting::greet(endpoint).map_err(failed)?;
        let newest = (API_DEFAULT_VERSION.major_version, API_DEFAULT_VERSION.minor_version);
        let (major_version, minor_version) = newest.min(greeting.api);
        let version = ClientVersion { major_version, minor_version };
        let path = endpoint.socket().to_string_lossy();
        let docker = {
            let _inside = runtime.enter();
            Docker::connect_with_unix(&path, PATIENCE, &version)
                .map_err(|cause| failed(cause.into()))?
        };
        Ok(Self { runtime, docker, endpoint: endpoint.clone(), greeting })
    }

    fn ask<T>(&self, answer: impl Future<Output = std::result::Result<T, ApiError>>) -> Answer<T> {
        Ok(self.runtime.block_on(answer)?)
    }

    /// Takes what a stream brings, until it ends or `take` wants no more.
    fn each<T>(
        &self,
        stream: impl AsyncStream<Item = std::result::Result<T, ApiError>>,
        mut take: impl FnMut(T) -> Answer<bool>,
    ) -> Answer<()> {
        self.runtime.block_on(async {
            let mut stream = pin!(stream);
            while let Some(item) = stream.next().await {
                if !take(item?)? {
                    break;
                }
            }
            Ok(())
        })
    }

    /// A client for what may take long to begin.
    fn patient(&self) -> Docker {
        self.docker.clone().with_timeout(LONG)
    }
}

impl Engine for Bollard {
    fn about(&self) -> Answer<About> {
        let info = self.ask(self.docker.info())?;
        let security = info.security_options.unwrap_or_default();
        let has = |name: &str| {
            let name = format!("name={name}");
            security.iter().any(|option| option.split(',').any(|part| part == name))
        };
        Ok(About {
            product: if self.greeting.is_podman { "Podman" } else { "Docker" }.to_owned(),
            version: info.server_version.unwrap_or_default(),
            apparmor: has("apparmor"),
            selinux: has("selinux"),
            rootless: has("rootless"),
            kernel: info.kernel_version.unwrap_or_default(),
        })
    }

    fn container(&self, name: &str) -> Answer<Option<Container>> {
        match self.ask(self.docker.inspect_container(name, None)) {
            Ok(found) => Ok(Some(described(found))),
            Err(EngineError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn labelled(&self, label: &str) -> Answer<Vec<String>> {
        let filters = HashMap::from([("label", vec![label])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let found = self.ask(self.docker.list_containers(Some(options)))?;
        let names = found.into_iter().filter_map(|one| one.names?.into_iter().next());
        Ok(names.map(|name| name.trim_start_matches('/').to_owned()).collect())
    }

    fn image(&self, reference: &str) -> Answer<Option<String>> {
        match self.ask(self.docker.inspect_image(reference)) {
            Ok(found) => Ok(found.id),
            Err(EngineError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn pull(
        &self,
        reference: &str,
        login: Option<Login>,
        tell: &mut dyn FnMut(Layer),
    ) -> Answer<()> {
        let (name, tag) = name_and_tag(reference);
        let options = CreateImageOptionsBuilder::new().from_image(name).tag(tag).build();
        let docker = self.patient();
        let progress = docker.create_image(Some(options), None, login.map(credentials));
        self.each(progress, |info| {
            if let Some(layer) = layer(info) {
                tell(layer);
            }
            Ok(true)
        })
    }

    fn build(&self, tag: &str, context: Context, tell: &mut dyn FnMut(&str)) -> Answer<()> {
        let options = BuildImageOptionsBuilder::new()
            .dockerfile(context.dockerfile())
            .t(tag)
            .rm(true)
            .forcerm(true)
            .networkmode("host")
            .build();
        let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(CHUNKS);
        let sending = std::thread::spawn(move || send(&context, &sender));
        let body = stream::unfold(receiver, |mut receiver| async {
            receiver.recv().await.map(|chunk| (chunk, receiver))
        });
        let docker = self.patient();
        let said = docker.build_image(options, None, Some(bollard::body_try_stream(body)));
        let outcome = self.each(said, |info: BuildInfo| {
            if let Some(text) = info.stream.or(info.status) {
                tell(&text);
            }
            match info.error_detail.and_then(|detail| detail.message) {
                Some(message) => Err(EngineError::Failed(message)),
                None => Ok(true),
            }
        });
        // Why the context could not be sent says more than that the engine did not get it.
        match sending.join() {
            Ok(Err(cause)) if cause.kind() != io::ErrorKind::BrokenPipe => {
                Err(EngineError::Failed(cause.to_string()))
            }
            _ => outcome,
        }
    }

    fn create(&self, spec: &ContainerSpec) -> Answer<String> {
        let options = CreateContainerOptionsBuilder::new().name(&spec.name).build();
        Ok(self.ask(self.docker.create_container(Some(options), body(spec)))?.id)
    }

    fn start(&self, container: &str) -> Answer<()> {
        // That it runs already is an answer like any other.
        self.ask(self.docker.start_container(container, None))
    }

    fn stop(&self, container: &str) -> Answer<()> {
        let options = StopContainerOptionsBuilder::new().t(10).build();
        self.ask(self.docker.stop_container(container, Some(options)))
    }

    fn remove(&self, id: &str) -> Answer<()> {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        match self.ask(self.docker.remove_container(id, Some(options))) {
            Err(EngineError::NotFound(_)) => Ok(()),
            outcome => outcome,
        }
    }

    fn logs(
        &self,
        container: &str,
        wanted: LogsWanted,
        tell: &mut dyn FnMut(Stream, &[u8]) -> bool,
    ) -> Answer<()> {
        let last = wanted.last.map_or_else(|| "all".to_owned(), |lines| lines.to_string());
        let options = LogsOptionsBuilder::new()
            .stdout(true)
            .stderr(true)
            .follow(wanted.follow)
            .tail(&last)
            .build();
        self.each(self.docker.logs(container, Some(options)), |output| {
            Ok(match output {
                LogOutput::StdErr { message } => tell(Stream::Error, &message),
                LogOutput::StdOut { message } | LogOutput::Console { message } => {
                    tell(Stream::Output, &message)
                }
                LogOutput::StdIn { .. } => true,
            })
        })
    }

    fn prepare(&self, container: &str, program: &Program) -> Answer<String> {
        let options = CreateExecOptions {
            attach_stdin: Some(program.input),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(program.tty),
            detach_keys: program.tty.then(|| DETACH_KEYS.to_owned()),
            env: Some(program.environment.clone()),
            cmd: Some(program.command.clone()),
            user: Some(program.user.clone()),
            working_dir: Some(program.folder.clone()),
            ..CreateExecOptions::default()
        };
        Ok(self.ask(self.docker.create_exec(container, options))?.id)
    }

    fn run(&self, execution: &str, tty: bool) -> Answer<UnixStream> {
        let version = self.docker.client_version();
        let version = format!("{}.{}", version.major_version, version.minor_version);
        attach::start(&self.endpoint, &version, execution, tty)
    }

    fn outcome(&self, execution: &str) -> Answer<Option<i64>> {
        let state = self.ask(self.docker.inspect_exec(execution))?;
        Ok(if state.running == Some(true) { None } else { state.exit_code })
    }

    fn resize(&self, execution: &str, rows: u16, columns: u16) -> Answer<()> {
        let size = ResizeExecOptions { height: rows, width: columns };
        self.ask(self.docker.resize_exec(execution, size))
    }
}

impl From<ApiError> for EngineError {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::DockerResponseServerError { status_code, message } => match status_code {
                404 => Self::NotFound(message),
                409 => Self::Conflict(message),
                status => Self::Refused { status, message },
            },
            ApiError::DockerStreamError { error } => Self::Failed(error),
            ApiError::RequestTimeoutError => Self::Silent,
            other => {
                let mut text = other.to_string();
                let mut cause = std::error::Error::source(&other);
                while let Some(below) = cause {
                    text = format!("{text}: {below}");
                    cause = below.source();
                }
                Self::Connection(text)
            }
        }
    }
}

fn described(found: ContainerInspectResponse) -> Container {
    let state = found.state.unwrap_or_default();
    let config = found.config.unwrap_or_default();
    Container {
        id: found.id.unwrap_or_default(),
        name: found.name.unwrap_or_default().trim_start_matches('/').to_owned(),
        labels: config.labels.unwrap_or_default().into_iter().collect(),
        image: config.image.unwrap_or_default(),
        image_id: found.image.unwrap_or_default(),
        state: match state.status {
            Some(ContainerStateStatusEnum::CREATED) => State::Created,
            Some(ContainerStateStatusEnum::RUNNING) => State::Running,
            Some(ContainerStateStatusEnum::PAUSED) => State::Paused,
            Some(ContainerStateStatusEnum::EXITED) => State::Stopped,
            _ => State::Unsettled,
        },
        started: state.started_at.filter(|_| state.running == Some(true)),
    }
}

/// The engine takes the tag apart from the name; without one it would pull every tag there is.
fn name_and_tag(reference: &str) -> (&str, &str) {
    if let Some((name, digest)) = reference.split_once('@') {
        return (name, digest);
    }
    match reference.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (reference, "latest"),
    }
}

fn credentials(login: Login) -> DockerCredentials {
    let mut credentials =
        DockerCredentials { serveraddress: Some(login.registry), ..DockerCredentials::default() };
    match login.proof {
        Proof::Password { user, password } => {
            credentials.username = Some(user);
            credentials.password = Some(password.as_str().to_owned());
        }
        Proof::Token(token) => credentials.identitytoken = Some(token.as_str().to_owned()),
    }
    credentials
}

fn layer(info: CreateImageInfo) -> Option<Layer> {
    let count = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok());
    let detail = info.progress_detail;
    let bytes = detail.and_then(|detail| count(detail.current).zip(count(detail.total)));
    Some(Layer { id: info.id?, what: info.status?, bytes })
}

fn send(context: &Context, to: &Sender<io::Result<Bytes>>) -> io::Result<()> {
    struct Chunks<'a>(&'a Sender<io::Result<Bytes>>);
    impl Write for Chunks<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let chunk = Ok(Bytes::copy_from_slice(bytes));
            self.0.blocking_send(chunk).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut out = BufWriter::with_capacity(CHUNK, Chunks(to));
    let outcome = context.write(&mut out).and_then(|()| out.flush());
    if let Err(cause) = &outcome {
        // The engine must not take what it has for the whole.
        let _ = to.blocking_send(Err(io::Error::new(cause.kind(), cause.to_string())));
    }
    outcome
}

fn body(spec: &ContainerSpec) -> ContainerCreateBody {
    let device = |path: &String| DeviceMapping {
        path_on_host: Some(path.clone()),
        path_in_container: Some(path.clone()),
        cgroup_permissions: Some("rwm".to_owned()),
    };
    // A mount, not a bind of the older kind: for that the engine would make a folder, owned by root,
    // in place of one that is missing.
    let mounts = spec.binds.iter().map(|bind| Mount {
        typ: Some(MountType::BIND),
        source: Some(bind.source.display().to_string()),
        target: Some(bind.target.clone()),
        ..Mount::default()
    });
    let host = HostConfig {
        init: Some(true),
        network_mode: Some("host".to_owned()),
        mounts: Some(mounts.collect()),
        tmpfs: Some(spec.tmpfs.clone().into_iter().collect()),
        privileged: Some(spec.privileged),
        cap_add: Some(spec.capabilities.clone()),
        devices: Some(spec.devices.iter().map(device).collect()),
        device_cgroup_rules: Some(spec.device_rules.clone()),
        security_opt: Some(spec.security.clone()),
        masked_paths: spec.unmasked.then(Vec::new),
        readonly_paths: spec.unmasked.then(Vec::new),
        userns_mode: spec.user_namespace.clone(),
        ulimits: Some(vec![ResourcesUlimits {
            name: Some("core".to_owned()),
            soft: Some(1),
            hard: Some(1),
        }]),
        ..HostConfig::default()
    };
    ContainerCreateBody {
        image: Some(spec.image.clone()),
        user: Some(spec.user.clone()),
        // Whatever the image would start, this container idles.
        entrypoint: Some(spec.command.clone()),
        cmd: Some(Vec::new()),
        working_dir: Some(super::spec::WORKSPACE.to_owned()),
        env: Some(spec.environment.clone()),
        labels: Some(spec.labels.clone().into_iter().collect()),
        host_config: Some(host),
        ..ContainerCreateBody::default()
    }
}

/// Shows what is asked of the engine, with the long profile by its name.
pub(super) fn request_text(spec: &ContainerSpec) -> String {
    let mut spec = spec.clone();
    for option in &mut spec.security {
        *option = option.replace(SECCOMP, "TAZPOD-PROFILE");
    }
    serde_json::to_string_pretty(&body(&spec)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_image_without_a_tag_means_one_and_not_all() {
        for (reference, expected) in [
            ("debian", ("debian", "latest")),
            ("r:5000/a/b", ("r:5000/a/b", "latest")),
            ("r:5000/a/b:1", ("r:5000/a/b", "1")),
            ("a@sha256:00", ("a", "sha256:00")),
        ] {
            assert_eq!(name_and_tag(reference), expected);
        }
    }
}
