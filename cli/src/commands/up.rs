//! `tazpod up`: the project's container, made if there is none, and running.

use crate::app::App;
use crate::args::container::UpArgs;
use crate::args::ghost::BackendKind;
use crate::backend::luks::capabilities::capabilities;
use crate::caller::Caller;
use crate::config::Config;
use crate::docker::container::{self, Identity, failed};
use crate::docker::engine::{About, Container, Engine, EngineError, State};
use crate::docker::image::{self as images, Recipe};
use crate::docker::owner::{self, Owner};
use crate::docker::spec::{ContainerSpec, Ghosts, SECCOMP, SETTINGS, Wanted};
use crate::docker::{self, route};
use crate::error::{Error, Kind, Result};
use crate::image;
use crate::machine;
use crate::project::Project;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use vault_core::format::magic::ImageFormat;

/// How long a container that another `up` makes is waited for, and between two looks at it.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(50);

/// Makes what is missing and starts the container.
pub(crate) fn run(app: &App, args: &UpArgs) -> Result<u8> {
    if route::is_inside() {
        return Err(Error::user("this is a container already")
            .hint("'tazpod up' is for the machine outside; here 'tazpod pull' opens the vault"));
    }
    let caller = Caller::detect()?;
    let project = app.project()?;
    let config = app.config(&project)?;
    if !project.config_file().exists() {
        return Err(Error::user(format!(
            "'{}' is not set up for a container",
            project.root().display()
        ))
        .hint("'tazpod init' does that"));
    }
    let engine = docker::connect()?;
    let about = engine.about().map_err(failed("cannot ask the engine about itself"))?;
    let identity = Identity::of(&project, &config);
    let owner = Owner::of(&project, &identity.user, &about);
    let up = Up { app, args, caller, project, config, engine, about, identity, owner };
    up.run()
}

struct Up<'a> {
    app: &'a App,
    args: &'a UpArgs,
    caller: Caller,
    project: Project,
    config: Config,
    engine: Box<dyn Engine>,
    about: About,
    identity: Identity,
    owner: Owner,
}

impl Up<'_> {
    fn run(&self) -> Result<u8> {
        let mut found = self.settled()?;
        let ghosts = self.ghosts();
        let spec = self.spec(ghosts)?;
        if self.config.debug() {
            self.app.ui.notice(&docker::request_text(&spec));
        }
        if let Some(old) = found.take_if(|_| self.args.recreate) {
            self.remove(&old)?;
        }
        let image = self.image(&spec.image, found.is_some())?;
        let name = &spec.name;
        match found {
            Some(there) => self.keep(&there, &spec, image.as_deref()),
            None if self.make(&spec)? => {
                let grants = ghosts.grants();
                self.app
                    .ui
                    .print(&format!("made and started {name} from {} ({grants})", spec.image))?;
                Ok(0)
            }
            // Another `up` was quicker.
            None => {
                let there = self.wait_for_the_other()?;
                self.keep(&there, &spec, image.as_deref())
            }
        }
    }

    /// Finds the container; one that another command is removing is waited for, since it was interrupted perhaps and the
    /// engine goes on.
    fn settled(&self) -> Result<Option<Container>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.identity.find(self.engine.as_ref())? {
                Some(there) if there.state == State::Unsettled && Instant::now() < deadline => {
                    std::thread::sleep(PAUSE);
                }
                found => return Ok(found),
            }
        }
    }

    /// Waits until a container of this name, which somebody is making, can be seen.
    fn wait_for_the_other(&self) -> Result<Container> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(there) = self.identity.find(self.engine.as_ref())? {
                return Ok(there);
            }
            if Instant::now() > deadline {
                let name = &self.identity.name;
                return Err(Error::new(
                    Kind::InUse,
                    format!("the name '{name}' is taken by a container that cannot be seen"),
                )
                .hint("another command may be at work on it; try again"));
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Starts what is there, and says what has changed since it was made.
    fn keep(&self, there: &Container, spec: &ContainerSpec, image: Option<&str>) -> Result<u8> {
        let name = &there.name;
        let word = match there.state {
            State::Running => {
                self.identity.check_folder(self.engine.as_ref(), there)?;
                "running already"
            }
            State::Created | State::Stopped => {
                self.engine
                    .start(&there.id)
                    .map_err(failed(format!("cannot start the container '{name}'")))?;
                "started"
            }
            State::Paused | State::Unsettled => return Err(container::not_running(there)),
        };
        let mut changes = spec.changes_since(there.labels.get(SETTINGS).map(String::as_str));
        if changes.is_empty() {
            // Whoever made it may have been interrupted before that.
            self.adopt(&there.id, spec);
        }
        if changes.is_empty() && image.is_some_and(|image| image != there.image_id) {
            changes.push(format!("{} is newer", spec.image));
        }
        if !changes.is_empty() {
            let changes = changes.join("; ");
            self.app.ui.warn(
                &format!("{name} was made by other settings: {changes}"),
                "tazpod up --recreate makes it anew; whatever was changed in it outside of the project's folder is lost",
            );
        }
        self.app.ui.print(&format!("{word}: {name} from {}", there.image))?;
        Ok(0)
    }

    /// Makes and starts the container; false if somebody made one of that name meanwhile.
    fn make(&self, spec: &ContainerSpec) -> Result<bool> {
        let name = &spec.name;
        let id = match self.engine.create(spec) {
            Ok(id) => id,
            // The name is taken a moment before its container can be seen.
            Err(EngineError::Conflict(_)) => return Ok(false),
            Err(cause) => {
                return Err(self.explained(format!("cannot make the container '{name}'"), cause));
            }
        };
        match self.engine.start(&id) {
            Ok(()) => {
                self.adopt(&id, spec);
                Ok(true)
            }
            Err(cause) => {
                // Made by us a moment ago, and of no use to anyone.
                let _ = self.engine.remove(&id);
                Err(self.explained(format!("cannot start the container '{name}'"), cause))
            }
        }
    }

    fn explained(&self, what: String, cause: EngineError) -> Error {
        let text = cause.to_string();
        let hint = [
            ("unable to find user", format!("the image has no user '{}': 'user' in .tazpod/config.yaml names one that it has", self.identity.user)),
            ("container-init binary not found", "Podman needs a small init for it: install the package catatonit".to_owned()),
            ("/dev/fuse", "the machine has no /dev/fuse: modprobe fuse".to_owned()),
            ("no space left on device", "the engine's disk is full: 'docker system df' shows what takes the room".to_owned()),
            ("unable to apply caps", "this machine cannot give a container every capability: 'vault.backend: fuse' needs none".to_owned()),
            ("bind source path does not exist", "the engine does not see this machine's folders; is it in a virtual machine?".to_owned()),
            ("\"sleep\"", "the image has no program 'sleep' to idle with".to_owned()),
        ]
        .into_iter()
        .find_map(|(sign, hint)| text.contains(sign).then_some(hint));
        let error = Error::environment(what).caused_by(cause);
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }

    /// Removes the project's own container, unless a ghost is open in it.
    fn remove(&self, old: &Container) -> Result<()> {
        super::down::close_ghost(self.app, self.engine.as_ref(), old, self.args.force)?;
        self.engine
            .remove(&old.id)
            .map_err(failed(format!("cannot remove the container '{}'", old.name)))
    }

    /// Builds or pulls the image as asked, or because it is missing; returns its id.
    fn image(&self, reference: &str, has_container: bool) -> Result<Option<String>> {
        let engine = self.engine.as_ref();
        let recipe = self.config.build(&self.project).map(|(dockerfile, context)| Recipe {
            dockerfile,
            context,
            never: images::private(self.project.root(), &self.config.vault_file(&self.project)),
        });
        let look = || {
            engine
                .image(reference)
                .map_err(failed(format!("cannot look for the image {reference}")))
        };
        if self.args.build && recipe.is_none() {
            return Err(Error::config(".tazpod/config.yaml does not say how to build the image")
                .hint("'build.dockerfile' names a Dockerfile; 'build.context' the folder that goes with it"));
        }
        if self.args.pull {
            images::pull(&self.app.ui, engine, reference)?;
            return look();
        }
        if let Some(recipe) = recipe {
            let found = look()?;
            if self.args.build || (found.is_none() && !has_container) {
                images::build(&self.app.ui, engine, reference, recipe)?;
                return look();
            }
            return Ok(found);
        }
        if has_container {
            return look();
        }
        if let Some(id) = images::require(engine, reference)? {
            return Ok(Some(id));
        }
        images::pull(&self.app.ui, engine, reference)?;
        look()
    }

    fn spec(&self, ghosts: Ghosts) -> Result<ContainerSpec> {
        let _as_caller = self.caller.act()?;
        let built = self.config.build(&self.project).is_some();
        let image = match self.config.image.as_deref() {
            Some(image) => image.to_owned(),
            None if built => format!("{}:latest", self.identity.name.to_lowercase()),
            None => "tazpod:base".to_owned(),
        };
        let state = self.caller.state_folder();
        let witnesses = state.join("witnesses");
        make_folder(&witnesses)?;
        let profile =
            if self.about.product == "Podman" { Some(write_profile(&state)?) } else { None };
        let memories = Some(self.project.root().join(".gemini")).filter(|path| path.is_dir());
        let display = std::env::var("DISPLAY").ok();
        let shows = Path::new("/tmp/.X11-unix").is_dir();
        let wanted = Wanted {
            name: &self.identity.name,
            project: self.project.root(),
            folder: fs::metadata(self.project.root()).map_or(0, |facts| facts.ino()),
            image: &image,
            user: &self.identity.user,
            ids: self.owner.ids(&self.identity.user),
            ghosts,
            witnesses: &witnesses,
            memories,
            x11: self.config.x11(),
            display: display.filter(|display| shows && !display.is_empty()),
            profile,
            engine: &self.about,
        };
        Ok(wanted.spec())
    }

    /// Decides which ghosts the container is for: what the vault is, what was decided, else what this
    /// machine can do.
    fn ghosts(&self) -> Ghosts {
        if !self.config.wants_ghosts() {
            return Ghosts::None;
        }
        let vault = self.config.vault_file(&self.project);
        let backend = match image::recognise(&vault) {
            Some(ImageFormat::Luks { .. }) => Some(BackendKind::Luks),
            Some(ImageFormat::Vault | ImageFormat::OtherVault { .. }) => Some(BackendKind::Fuse),
            _ => self.config.backend(),
        };
        let major = machine::device_mapper_major();
        // The image brings the programs; the kernel is this machine's.
        let kernel = capabilities(true);
        let has_luks = kernel.device_mapper && kernel.loop_devices;
        match backend {
            Some(BackendKind::Fuse) => Ghosts::Fuse,
            None if !has_luks => {
                self.app.ui.notice("LUKS cannot work with this kernel (no device mapper or loop devices): the container is for fuse.");
                Ghosts::Fuse
            }
            Some(BackendKind::Luks) | None if self.config.privileged() => Ghosts::Luks,
            Some(BackendKind::Luks) | None => Ghosts::LuksByName(major),
        }
    }

    /// Makes the user in a container that runs who the project's owner is, or says that this cannot be.
    fn adopt(&self, container: &str, spec: &ContainerSpec) {
        let ui = &self.app.ui;
        let user = &spec.user;
        match self.owner {
            Owner::Same => {}
            Owner::Root => ui.warn(
                &format!("the project belongs to root as the container sees it, and the user '{user}' there cannot work with it"),
                owner::BE_ROOT,
            ),
            Owner::Adopted(ids) => match owner::adopt(self.engine.as_ref(), container, spec, ids) {
                Ok(true) => ui.notice(&format!("The user '{user}' in it has the uid {} of the project's owner.", ids.uid)),
                Ok(false) => {}
                Err(error) => ui.warn(&error.in_one_line(), &error.hints().join("; ")),
            },
        }
    }
}

fn make_folder(path: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|cause| {
        Error::environment(format!("cannot make the folder '{}'", path.display())).caused_by(cause)
    })
}

/// Podman reads a profile from a file only.
fn write_profile(state: &Path) -> Result<PathBuf> {
    let path = state.join("seccomp.json");
    if fs::read_to_string(&path).is_ok_and(|there| there == SECCOMP) {
        return Ok(path);
    }
    let fresh = state.join(format!("seccomp.json.new-{}", std::process::id()));
    fs::write(&fresh, SECCOMP).and_then(|()| fs::rename(&fresh, &path)).map_err(|cause| {
        Error::new(Kind::Environment, format!("cannot write '{}'", path.display())).caused_by(cause)
    })?;
    Ok(path)
}
