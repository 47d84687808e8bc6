//! The engine, the project's container and its vault.

use super::Finding;
use crate::caller::Caller;
use crate::config::Config;
use crate::config::secrets::Secrets;
use crate::docker::container::{self, Identity};
use crate::docker::endpoint::Endpoint;
use crate::docker::engine::{About, Container, Engine, Program, State};
use crate::docker::owner::{self, Owner};
use crate::docker::spec::WORKSPACE;
use crate::docker::{self, session};
use crate::error::{Error, Result};
use crate::image::{self, Image};
use crate::project::Project;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::{AccessFlags, faccessat};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

/// Looks at the engine and the container.
pub(crate) fn engine(project: &Project, config: &Config) -> Vec<Finding> {
    let connected = Endpoint::find().and_then(|endpoint| {
        let engine = docker::open(&endpoint)?;
        let about =
            engine.about().map_err(container::failed("cannot ask the engine about itself"))?;
        Ok((endpoint, engine, about))
    });
    let (endpoint, engine, about) = match connected {
        Ok(connected) => connected,
        Err(error) if config.container_name.is_some() => {
            return vec![Finding::from_error("engine", "engine", &error)];
        }
        Err(error) => {
            return vec![Finding::note(
                "engine",
                "engine",
                format!("{error}; only 'up' and 'enter' need one"),
            )];
        }
    };
    let by = if about.rootless { ", without root" } else { "" };
    let socket = endpoint.socket().display();
    let found = format!("{} {} at {socket}{by}", about.product, about.version);
    let mut findings = vec![Finding::ok("engine", "engine", found)];
    if !about.rootless {
        findings.push(Finding::note(
            "engine",
            "access",
            "whoever may use its socket is root on this machine",
        ));
    }
    let identity = Identity::of(project, config);
    findings.extend(in_container(engine.as_ref(), project, config, &identity, &about));
    findings
}

fn in_container(
    engine: &dyn Engine,
    project: &Project,
    config: &Config,
    identity: &Identity,
    about: &About,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    match identity.find(engine) {
        Err(error) => findings.push(Finding::from_error("container", "container", &error)),
        Ok(None) => {
            findings.push(Finding::note(
                "container",
                "container",
                format!("there is no {} yet: tazpod up", identity.name),
            ));
            findings.extend(
                config.image.as_deref().map(|image| image_of(engine, config, project, image)),
            );
        }
        Ok(Some(found)) => {
            let is_running = found.state == State::Running;
            match if is_running { identity.check_folder(engine, &found) } else { Ok(()) } {
                Ok(()) => findings.extend(container(engine, &found)),
                // What is in it says nothing about this project then.
                Err(error) => {
                    findings.push(Finding::from_error("container", "folder", &error));
                }
            }
        }
    }
    if Owner::of(project, &identity.user, about) == Owner::Root {
        findings.push(Finding::missing(
            "container",
            "owner",
            format!("the project belongs to root as the container sees it, and the user '{}' there cannot work with it", identity.user),
            owner::BE_ROOT,
        ));
    }
    findings.extend(display(config.x11(), std::env::var("DISPLAY").ok().as_deref()));
    findings
}

/// Any client of a display can read every key and type into every window.
fn display(shared: bool, display: Option<&str>) -> Option<Finding> {
    let display = display.filter(|display| shared && !display.is_empty())?;
    Some(Finding::weak(
        "container",
        "x11",
        format!(
            "the container shares display {display}: programs in it can read your keys and type into your terminals"
        ),
        "'container.x11: false' in .tazpod/config.yaml, then tazpod up --recreate",
    ))
}

fn image_of(engine: &dyn Engine, config: &Config, project: &Project, image: &str) -> Finding {
    match engine.image(image) {
        Ok(Some(_)) => Finding::ok("container", "image", format!("{image} is here")),
        Ok(None) if config.build(project).is_some() => {
            Finding::note("container", "image", format!("'tazpod up' will build {image}"))
        }
        Ok(None) => match image.strip_prefix("tazpod:") {
            Some(vertical) => Finding::missing(
                "container",
                "image",
                format!("{image} is not on this machine"),
                &format!("tazpod image build {vertical}"),
            ),
            None => Finding::note("container", "image", format!("'tazpod up' will pull {image}")),
        },
        Err(error) => {
            Finding::missing("container", "image", error.to_string(), "is the engine well?")
        }
    }
}

fn container(engine: &dyn Engine, found: &Container) -> Vec<Finding> {
    if found.state != State::Running {
        let fix = "tazpod up";
        return vec![Finding::missing(
            "container",
            "container",
            format!("{} does not run", found.name),
            fix,
        )];
    }
    let mut findings = vec![Finding::ok(
        "container",
        "container",
        format!("{} runs, made from {}", found.name, found.image),
    )];
    match inside(engine, found) {
        Ok(more) => findings.extend(more),
        Err(error) => findings.push(Finding::from_error("container", "tazpod", &error)),
    }
    findings
}

/// Has the program in the container look around there.
fn inside(engine: &dyn Engine, found: &Container) -> Result<Vec<Finding>> {
    #[derive(serde::Deserialize)]
    struct Report {
        findings: Vec<Finding>,
    }
    let program = Program {
        command: ["tazpod", "doctor", "--json"].map(str::to_owned).to_vec(),
        user: container::user_of(found),
        folder: WORKSPACE.to_owned(),
        ..Program::default()
    };
    let (status, answer) = session::ask(engine, &found.id, &program)?;
    if matches!(status, 126 | 127) {
        return Err(Error::environment("there is no program 'tazpod' in it")
            .hint("use an image that has it, or copy it in by your Dockerfile"));
    }
    let report: Report = serde_json::from_slice(&answer).map_err(|cause| {
        Error::environment(format!("'tazpod doctor' in it ended with {status} and told nothing"))
            .caused_by(cause)
            .hint("see what it says: tazpod enter -- tazpod doctor")
    })?;
    // Its memory is the host's, and its vault was looked at from here.
    let about_ghosts = report.findings.into_iter().filter(|finding| {
        ["namespaces", "privilege", "landlock", "fuse", "luks"].contains(&finding.subject.as_str())
    });
    Ok(about_ghosts.map(|finding| Finding { area: "container".to_owned(), ..finding }).collect())
}

/// Looks at the vault, what names its secrets, and where rollback is remembered.
pub(crate) fn vault(caller: &Caller, project: &Project, config: &Config) -> Vec<Finding> {
    let path = config.vault_file(project);
    let shown = project.shown(&path).to_string();
    let mut findings = Vec::new();
    match (image::recognise(&path), path.exists()) {
        (None, false) => findings.push(Finding::note(
            "vault",
            "image",
            format!("{shown}: none yet, 'tazpod pull' makes it"),
        )),
        (None, true) => findings.push(Finding::missing(
            "vault",
            "image",
            format!("{shown} is not a regular file that can be read"),
            "what stands there? 'vault.path' names another place",
        )),
        (Some(format), _) => {
            findings.push(match Image::peek(&path, &shown) {
                Ok(image) => {
                    let slots = image.vault().slots().count();
                    Finding::ok("vault", "image", format!("{shown}: {format}, keyslots: {slots}"))
                }
                Err(_) if !matches!(format, vault_core::format::magic::ImageFormat::Vault) => {
                    Finding::ok("vault", "image", format!("{shown}: {format}"))
                }
                Err(error) => Finding::from_error("vault", "image", &error),
            });
            findings.extend(readable_by_others(&path));
            findings.extend(tracked(project, &path));
        }
    }
    let secrets = project.secrets_file();
    findings.push(match Secrets::load(&secrets, &project.shown(&secrets).to_string()) {
        Ok(secrets) => {
            Finding::ok("vault", "secrets.yml", format!("names {} secrets", secrets.all().len()))
        }
        Err(error) => Finding::from_error("vault", "secrets.yml", &error),
    });
    findings.push(witnesses(caller));
    findings
}

fn readable_by_others(path: &std::path::Path) -> Option<Finding> {
    let mode = fs::metadata(path).ok()?.mode() & 0o077;
    (mode != 0).then(|| {
        Finding::weak(
            "vault",
            "permissions",
            "other users of this machine may read the image, or write to it",
            "chmod 600 on it",
        )
    })
}

/// An image in git is an old copy in everybody's hands, for ever.
fn tracked(project: &Project, path: &std::path::Path) -> Option<Finding> {
    let git = Command::new("git")
        .arg("-C")
        .arg(project.root())
        .args(["ls-files", "--error-unmatch", "--"])
        .arg(path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .ok()?;
    git.success().then(|| {
        Finding::weak(
            "vault",
            "git",
            "the image is under version control: every old state of it stays readable with the passphrase it had",
            "git rm --cached on it; .tazpod/.gitignore keeps it out from then on",
        )
    })
}

fn witnesses(caller: &Caller) -> Finding {
    let state = caller.state_folder();
    let opened = crate::witness_store::WitnessStore::open(&state).and_then(|_| {
        let may = AccessFlags::W_OK | AccessFlags::X_OK;
        Ok(faccessat(AT_FDCWD, &state.join("witnesses"), may, AtFlags::AT_EACCESS)?)
    });
    match opened {
        Ok(()) => Finding::ok("vault", "witnesses", "an older image put back would be noticed"),
        Err(cause) => Finding::missing(
            "vault",
            "witnesses",
            format!("'{}' cannot be used: {cause}", state.join("witnesses").display()),
            "the folder must be yours and writable: an older image put back would not be noticed",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_display_weakens_only_when_it_is_shared() {
        assert!(display(true, Some(":0")).is_some());
        assert!(display(false, Some(":0")).is_none());
        assert!(display(true, Some("")).is_none());
        assert!(display(true, None).is_none());
    }
}
