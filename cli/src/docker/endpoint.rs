//! Where the container engine listens: `DOCKER_HOST`, a docker context, else the usual sockets of
//! Docker and Podman, in the order in which the docker client looks.

use crate::error::{Error, Result};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// The most bytes that a file of the docker client's configuration may have.
const LARGEST: u64 = 1 << 20;

/// A Unix socket at which an engine listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    socket: PathBuf,
}

/// What decides where the engine is.
#[derive(Debug, Default)]
struct Surroundings {
    host: Option<String>,
    context: Option<String>,
    config: PathBuf,
    sockets: Vec<PathBuf>,
}

impl Endpoint {
    /// Finds the engine that the docker client would use, and makes sure that it listens.
    pub(crate) fn find() -> Result<Self> {
        Surroundings::of_this_process().find()
    }

    /// The engine at this socket.
    #[cfg(test)]
    pub(super) fn at(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Returns the socket.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Connects to the socket.
    pub(crate) fn dial(&self) -> io::Result<UnixStream> {
        UnixStream::connect(&self.socket)
    }
}

/// Returns the folder of the docker client's configuration.
pub(super) fn configuration() -> PathBuf {
    let home = || env::home_dir().unwrap_or_default().join(".docker");
    env::var_os("DOCKER_CONFIG").filter(|path| !path.is_empty()).map_or_else(home, PathBuf::from)
}

/// Reads a file of the docker client's configuration; `None` if there is none.
pub(super) fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Option<T>> {
    let unreadable = || Error::config(format!("cannot read '{}'", path.display()));
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(LARGEST).read_to_end(&mut bytes)) {
        Ok(_) => serde_json::from_slice(&bytes).map(Some).map_err(|cause| {
            // The file may hold credentials: only the place is told, never the text.
            let (line, column) = (cause.line(), cause.column());
            unreadable().caused_by(format!(
                "not the JSON that docker writes (line {line}, column {column})"
            ))
        }),
        Err(cause) if matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(cause) => Err(unreadable().caused_by(cause)),
    }
}

impl Surroundings {
    fn of_this_process() -> Self {
        let text = |name| env::var(name).ok().filter(|value: &String| !value.is_empty());
        let runtime = env::var_os("XDG_RUNTIME_DIR").filter(|path| Path::new(path).is_absolute());
        Self {
            host: text("DOCKER_HOST"),
            context: text("DOCKER_CONTEXT"),
            config: configuration(),
            sockets: usual_sockets(runtime, env::home_dir()),
        }
    }

    fn find(&self) -> Result<Endpoint> {
        if let Some(host) = &self.host {
            return address(host, "DOCKER_HOST")?.listening();
        }
        if let Some(name) = self.context_name()? {
            let host = self.context_host(&name)?;
            return address(&host, &format!("the docker context '{name}'"))?.listening();
        }
        let mut refused = None;
        for socket in &self.sockets {
            match (Endpoint { socket: socket.clone() }).listening() {
                Ok(endpoint) => return Ok(endpoint),
                Err(error) if socket.exists() => refused = refused.or(Some(error)),
                Err(_) => {}
            }
        }
        Err(refused.unwrap_or_else(|| {
            Error::environment("there is no container engine on this machine")
                .hint("install Docker or Podman and start it, or say by DOCKER_HOST where it is")
        }))
    }

    fn context_name(&self) -> Result<Option<String>> {
        #[derive(Deserialize)]
        struct Client {
            #[serde(rename = "currentContext")]
            current: Option<String>,
        }
        let name = match &self.context {
            Some(name) => Some(name.clone()),
            None => read_json::<Client>(&self.config.join("config.json"))?
                .and_then(|client| client.current),
        };
        Ok(name.filter(|name| !name.is_empty() && name != "default"))
    }

    fn context_host(&self, name: &str) -> Result<String> {
        #[derive(Deserialize)]
        struct Meta {
            #[serde(rename = "Endpoints")]
            endpoints: Endpoints,
        }
        #[derive(Deserialize)]
        struct Endpoints {
            docker: Docker,
        }
        #[derive(Deserialize)]
        struct Docker {
            #[serde(rename = "Host")]
            host: String,
        }
        let folder = super::hexadecimal(&Sha256::digest(name.as_bytes()));
        let path = self.config.join("contexts/meta").join(folder).join("meta.json");
        let meta = read_json::<Meta>(&path)?.ok_or_else(|| {
            Error::config(format!("there is no docker context '{name}'"))
                .hint("'docker context ls' lists them; 'docker context use default' goes back")
        })?;
        Ok(meta.endpoints.docker.host)
    }
}

/// Docker first, as root runs it and as a user does, then Podman.
fn usual_sockets(runtime: Option<OsString>, home: Option<PathBuf>) -> Vec<PathBuf> {
    let mut sockets = vec![PathBuf::from("/var/run/docker.sock")];
    if let Some(runtime) = runtime.map(PathBuf::from) {
        sockets.extend(["docker.sock", "podman/podman.sock"].map(|name| runtime.join(name)));
    }
    sockets.push(PathBuf::from("/run/podman/podman.sock"));
    if cfg!(target_os = "macos")
        && let Some(home) = home
    {
        sockets.push(home.join(".docker/run/docker.sock"));
    }
    sockets
}

/// Reads an engine's address. Only a local one is of use: an engine elsewhere cannot see this
/// machine's folders, and TazPod is about one of them.
fn address(host: &str, from: &str) -> Result<Endpoint> {
    if let Some(path) = host.strip_prefix("unix://").filter(|path| path.starts_with('/')) {
        return Ok(Endpoint { socket: PathBuf::from(path) });
    }
    if ["ssh://", "tcp://", "http://", "https://"].iter().any(|start| host.starts_with(start)) {
        return Err(Error::environment(format!(
            "the container engine is not on this machine: {from} says {}",
            without_password(host)
        ))
        .hint("it cannot see this project's folder, so a container there would have nothing in /workspace")
        .hint("work on that machine itself (by ssh, with the project there), or use a local engine: unset DOCKER_HOST, docker context use default"));
    }
    Err(Error::config(format!(
        "{from} says '{}', which is no engine's address",
        without_password(host)
    ))
    .hint("a local engine is unix:///path/to/its.sock"))
}

fn without_password(host: &str) -> String {
    match host.split_once("://") {
        Some((scheme, rest)) => match rest.rsplit_once('@') {
            Some((user, place)) if user.contains(':') => format!("{scheme}://…@{place}"),
            _ => host.to_owned(),
        },
        None => host.to_owned(),
    }
}

impl Endpoint {
    fn listening(self) -> Result<Self> {
        let shown = self.socket.display().to_string();
        match self.dial() {
            Ok(_) => Ok(self),
            Err(cause) if cause.kind() == ErrorKind::PermissionDenied => Err(Error::environment(
                format!("you may not use the container engine at {shown}"),
            )
            .caused_by(cause)
            .hint(
                "members of its group may, usually 'docker': that makes them root on this machine",
            )
            .hint("Podman or rootless Docker run without root: their socket is your own")),
            Err(cause) => Err(Error::environment(format!(
                "the container engine does not listen at {shown}"
            ))
            .caused_by(cause)
            .hint("start it (systemctl start docker, or: systemctl --user start podman.socket)")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;
    use std::os::unix::net::UnixListener;

    fn context(config: &Path, name: &str, host: &str) {
        let folder = crate::docker::hexadecimal(&Sha256::digest(name.as_bytes()));
        let folder = config.join("contexts/meta").join(folder);
        fs::create_dir_all(&folder).unwrap();
        let meta = format!(
            r#"{{"Name":"{name}","Metadata":{{}},"Endpoints":{{"docker":{{"Host":"{host}","SkipTLSVerify":false}}}}}}"#
        );
        fs::write(folder.join("meta.json"), meta).unwrap();
    }

    #[test]
    fn host_counts_before_a_context_and_a_context_before_the_usual_sockets() {
        let dir = tempfile::tempdir().unwrap();
        let socket = |name: &str| dir.path().join(name);
        let _listening =
            ["host", "context", "usual"].map(|name| UnixListener::bind(socket(name)).unwrap());
        let unix = |name: &str| format!("unix://{}", socket(name).display());
        let config = dir.path().join("config");
        context(&config, "mine", &unix("context"));
        fs::write(config.join("config.json"), r#"{"currentContext":"mine"}"#).unwrap();
        let mut place = Surroundings {
            host: Some(unix("host")),
            context: None,
            config: config.clone(),
            sockets: vec![socket("absent"), socket("usual")],
        };
        assert_eq!(place.find().unwrap().socket(), socket("host"));
        place.host = None;
        assert_eq!(place.find().unwrap().socket(), socket("context"));
        place.context = Some("default".to_owned());
        assert_eq!(place.find().unwrap().socket(), socket("usual"));
        place.context = Some("other".to_owned());
        assert!(place.find().unwrap_err().to_string().contains("no docker context 'other'"));
        place.context = None;
        fs::write(config.join("config.json"), r#"{"auths":{"r":{"auth":"c2VjcmV0"}}, }"#).unwrap();
        let error = place.find().unwrap_err();
        assert!(!format!("{error:?}").contains("c2VjcmV0"), "{error:?}");
    }

    #[test]
    fn an_engine_elsewhere_is_refused_at_once_with_the_way_out() {
        for host in ["ssh://me@server", "tcp://10.0.0.1:2376", "https://x", "tcp://user:secret@x:1"]
        {
            let error = address(host, "DOCKER_HOST").unwrap_err();
            assert!(error.to_string().contains("is not on this machine"), "{error}");
            assert!(!error.to_string().contains("secret"), "{error}");
            assert_eq!(error.hints().len(), 2);
        }
        for host in ["unix://relative", "fd://", "/var/run/docker.sock", "x"] {
            assert!(address(host, "DOCKER_HOST").is_err(), "{host}");
        }
    }

    #[test]
    fn a_socket_without_a_listener_is_not_an_engine() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        drop(UnixListener::bind(&socket).unwrap());
        let place = Surroundings { sockets: vec![socket.clone()], ..Surroundings::default() };
        assert!(place.find().unwrap_err().to_string().contains("does not listen"));
        fs::remove_file(&socket).unwrap();
        assert!(place.find().unwrap_err().to_string().contains("no container engine"));
    }
}
