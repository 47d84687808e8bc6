//! `tazpod pull` (and `sync`, `unlock`): the vault open in a ghost, and a shell or command in it.

use super::internal_session::{self, Output};
use crate::app::{App, PROJECT};
use crate::args::ghost::{OpenArgs, PullArgs, SecretsArgs, SessionArgs};
use crate::backend::luks;
use crate::caller::Caller;
use crate::config::{Config, GhostHome};
use crate::docker::route;
use crate::error::{Error, Kind, Result};
use crate::ghost::plan::{self, Found, VaultPlan, Way};
use crate::ghost::protocol::{
    CredentialKind, NewVault, Raw, Request, SessionRequest, VaultRequest,
};
use crate::ghost::shell::{self, Filtered};
use crate::ghost::{open, protocol};
use crate::image::create::DEFAULT_SIZE;
use crate::image::{self, credential};
use crate::project::{Project, legacy, scaffold};
use crate::sync::vault::MOUNT_POINT;
use crate::sys::process;
use crate::ui::secret::{self, PassphraseSource};
use nix::unistd::Uid;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use vault_core::crypto::secret::Passphrase;
use vault_core::format::magic::ImageFormat;
use zeroize::Zeroizing;

/// How long a ghost that is opening or closing is waited for, and between two looks at it.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);
/// How often a ghost that another pull took away is tried for again.
const ROUNDS: usize = 5;

/// What is to happen in the ghost.
#[derive(Clone, Debug, Default)]
pub(crate) struct What {
    /// What happens to the secrets.
    pub(crate) secrets: SecretsArgs,
    /// Whether they stay as they are.
    pub(crate) keep: bool,
    /// Whether nothing starts without all of them.
    pub(crate) whole: bool,
    /// Whether their values are masked in what the command prints.
    pub(crate) redact: bool,
    /// The command; empty for a shell.
    pub(crate) command: Vec<OsString>,
}

impl What {
    /// A command, or a shell, with secrets pulled before.
    pub(crate) fn of(command: &[OsString]) -> Self {
        Self { command: command.to_vec(), ..Self::default() }
    }

    /// Returns the words for our own program, which runs first in the ghost where the project says
    /// anything about secrets.
    fn through(&self, project: &Project, quiet: bool) -> Vec<Raw> {
        let asked = self.secrets != SecretsArgs::default() || self.redact;
        if !asked && !project.secrets_file().exists() {
            return Vec::new();
        }
        internal_session::words(&self.session(), quiet).into_iter().map(Raw::from).collect()
    }

    fn session(&self) -> SessionArgs {
        SessionArgs {
            secrets: self.secrets.clone(),
            keep: self.keep,
            whole: self.whole,
            shell: self.command.is_empty(),
            redact: self.redact,
            command: self.command.clone(),
        }
    }
}

/// Pulls the secrets: into the vault of this ghost, else of one that is opened or joined.
pub(crate) fn run(app: &App, args: &PullArgs) -> Result<u8> {
    let what = What { secrets: args.secrets.clone(), ..What::of(&args.command) };
    let Some(ghost) = app.open_vault()? else { return open(app, &args.open, &what) };
    if !args.command.is_empty() {
        return internal_session::run(app, &what.session());
    }
    internal_session::protect()?;
    internal_session::pull(app, &ghost, &args.secrets, Output::Results).map(|()| 0)
}

/// Opens the vault in a ghost, or joins the one that is open.
pub(crate) fn open(app: &App, args: &OpenArgs, what: &What) -> Result<u8> {
    if let Some(status) = route::to_container(app, args.place.here)? {
        return Ok(status);
    }
    open_with(app, args, what, Given::default())
}

/// The same on this machine, with a credential that may have been read already.
pub(crate) fn open_with(app: &App, args: &OpenArgs, what: &What, secret: Given) -> Result<u8> {
    // A credential from a file or a pipe passes through this process, which stays outside.
    process::set_not_dumpable()
        .map_err(|cause| Error::environment("cannot protect this process").caused_by(cause))?;
    let caller = Caller::detect()?;
    let project = app.project()?;
    let config = app.config(&project)?;
    let environment = shell::filter(std::env::vars_os(), config.ghost_pass(), shell::is_socket);
    let mut inside = environment.kept.clone();
    for (name, value) in caller.variables() {
        inside.retain(|(known, _)| known.bytes() != name.as_bytes());
        inside.push((name.into(), value.into()));
    }
    inside.push((PROJECT.into(), project.root().into()));
    let home = caller.home.canonicalize().unwrap_or_else(|_| caller.home.clone());
    inside.push((MOUNT_POINT.into(), home.join("secrets").into()));
    let mut session = open::session(&what.command, inside, caller.uid);
    session.through = what.through(&project, app.ui.is_quiet());
    if config.ghost_home() == GhostHome::Private {
        session.private_home = Some(caller.home.join("secrets/.home").into());
    }
    let mut pull = Pull { app, args, caller, project, config, environment, session, secret };
    // Another pull may be quicker, or its ghost may end between two looks at it.
    for _ in 1..ROUNDS {
        match pull.join_or_make() {
            Err(error) if error.kind() == Kind::InUse => std::thread::sleep(PAUSE),
            outcome => return outcome,
        }
    }
    pull.join_or_make()
}

/// What one pull is about.
struct Pull<'a> {
    app: &'a App,
    args: &'a OpenArgs,
    caller: Caller,
    project: Project,
    config: Config,
    environment: Filtered,
    session: SessionRequest,
    secret: Given,
}

impl Pull<'_> {
    fn join_or_make(&mut self) -> Result<u8> {
        match self.join()? {
            Some(status) => Ok(status),
            None => self.make(),
        }
    }

    /// Joins the project's ghost; `None` if there is none. One that is opening is waited for.
    fn join(&mut self) -> Result<Option<u8>> {
        let deadline = Instant::now() + PATIENCE;
        while let Some(link) = open::find(&self.caller, self.project.root()) {
            let secret = self.secret.read(self.app, self.args)?;
            let (kind, slot) = (kind(self.args), self.args.credential.slot);
            match open::join(link, self.session.clone(), kind, slot, &secret, &self.app.ui) {
                Err(error) if error.kind() == Kind::InUse && Instant::now() < deadline => {
                    std::thread::sleep(PAUSE);
                }
                outcome => return outcome.map(Some),
            }
        }
        Ok(None)
    }

    /// Makes a ghost, and a vault if there is none.
    fn make(&mut self) -> Result<u8> {
        let ui = &self.app.ui;
        let way = plan::way(Uid::effective().is_root(), self.args.rootless, open::sudo());
        let vault = self.vault(!matches!(way, Way::Rootless(_)))?;
        let secret = self.secret.read(self.app, self.args)?;
        let request = Request {
            project: self.project.root().into(),
            home: self.caller.home.as_path().into(),
            state: self.caller.state_folder().into(),
            kept: kept(&self.project, &self.caller, vault.image.path(), &self.environment),
            notices: notices(&self.environment),
            vault,
            session: self.session.clone(),
            rootless: matches!(way, Way::Rootless(_)),
            has_secret: secret.is_some(),
            terminals: open::terminals(&open::streams()?),
            quiet: ui.is_quiet(),
            lock_after: self.config.lock_after().map(|limit| limit.as_secs()),
            memory: self.config.memory(),
        };
        match way {
            Way::Root => open::directly(request, &self.caller, secret, ui),
            Way::Rootless(why) => {
                if let Some(why) = why {
                    ui.notice(why);
                }
                open::directly(request, &self.caller, secret, ui)
            }
            Way::Sudo(sudo) => open::through_sudo(&sudo, &request, &secret, ui),
        }
    }

    /// Finds the image; one of the older program's is moved to the place of today first.
    fn image(&self) -> Result<PathBuf> {
        let image = self.config.vault_file(&self.project);
        legacy::refuse_two(&self.project, &image)?;
        if self.config.names_vault_file() {
            return Ok(image);
        }
        let taken = legacy::take_over(&self.project, &self.caller, image)?;
        taken.notice.iter().for_each(|notice| self.app.ui.notice(notice));
        if let Some(warning) = &taken.warning {
            self.app.ui.warn(warning, "it is used where it lies; its folder may belong to root");
        }
        Ok(taken.image)
    }

    /// Decides which vault is opened or made, and how.
    fn vault(&self, may_be_root: bool) -> Result<VaultRequest> {
        let image = self.image()?;
        let shown = self.project.shown(&image).to_string();
        let found = look(&image, &shown)?;
        let lacking = luks::capabilities::capabilities(may_be_root).lacking();
        let (asked, configured) = (self.args.backend, self.config.backend());
        let plan = plan::vault(asked, configured, found, &shown, &lacking)?;
        if let Some(notice) = &plan.notice {
            self.app.ui.notice(notice);
        }
        if plan.create {
            let _rights = self.caller.act()?;
            scaffold::vault_folder(&self.project, &image)?;
        }
        Ok(vault_request(self.args, &self.config, &plan, &image, shown))
    }
}

/// Looks at what stands at the image's path.
fn look(image: &Path, shown: &str) -> Result<Found> {
    let refused = |what: &str| {
        Err(Error::new(Kind::Format, format!("'{shown}' is {what}, not a vault image")))
    };
    match image.symlink_metadata() {
        Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(Found::Absent),
        Err(cause) => Err(Error::environment(format!("cannot look at '{shown}'"))
            .caused_by_file_of_project(cause)),
        Ok(about) if about.is_dir() => refused("a folder"),
        Ok(about) if about.is_symlink() => refused("a symbolic link"),
        Ok(about) if !about.is_file() => refused("a special file"),
        Ok(_) => Ok(Found::File(image::recognise(image).unwrap_or(ImageFormat::Vault))),
    }
}

fn vault_request(
    args: &OpenArgs,
    config: &Config,
    plan: &VaultPlan,
    image: &Path,
    shown: String,
) -> VaultRequest {
    let cost = credential::new_slot_cost(&args.kdf);
    let capacity = args.size.or(config.vault_size()).unwrap_or(DEFAULT_SIZE);
    let create = plan.create.then_some(NewVault {
        capacity: capacity.0,
        kdf_memory_kib: cost.memory_kib,
        kdf_passes: cost.passes,
    });
    VaultRequest {
        image: image.into(),
        shown,
        backend: plan.backend,
        create,
        credential: kind(args),
        slot: args.credential.slot,
        allow_kdf_cost: args.credential.allow_kdf_cost,
        accept_generation: args.accept_generation,
        discard: !args.no_discard,
    }
}

fn kind(args: &OpenArgs) -> CredentialKind {
    match (&args.credential.key_file, args.credential.recovery) {
        (Some(_), _) => CredentialKind::KeyFile,
        (None, true) => CredentialKind::RecoveryKey,
        (None, false) => CredentialKind::Passphrase,
    }
}

/// The credential that was given, read once: a pipe has it only once.
#[derive(Default)]
pub(crate) struct Given(Option<open::Secret>);

impl Given {
    /// Takes a credential that was read by somebody else.
    pub(crate) fn of(secret: &Passphrase) -> Self {
        Self(Some(Some(Zeroizing::new(secret.expose().to_vec()))))
    }

    /// Reads the credential unless it is to be typed: then the ghost asks, when it knows that the
    /// answer will be of use.
    pub(crate) fn read(&mut self, app: &App, args: &OpenArgs) -> Result<open::Secret> {
        if let Some(secret) = &self.0 {
            return Ok(secret.clone());
        }
        let keep = |bytes: &[u8]| Some(Zeroizing::new(bytes.to_vec()));
        let secret = match &args.credential.key_file {
            Some(path) => keep(secret::key_file(&app.ui, path)?.expose()),
            None => match PassphraseSource::from_args(&args.credential.passphrase) {
                PassphraseSource::Terminal => None,
                source => keep(source.read(&app.ui, "")?.expose()),
            },
        };
        Ok(self.0.insert(secret).clone())
    }
}

/// Returns the caller's folders that must be seen in the ghost wherever they lie.
fn kept(project: &Project, caller: &Caller, image: &Path, environment: &Filtered) -> Vec<Raw> {
    let working = std::env::current_dir().ok();
    let folders = [Some(project.root()), Some(&caller.home), working.as_deref(), image.parent()];
    let files = environment.files.iter().map(std::path::PathBuf::as_path);
    folders
        .into_iter()
        .flatten()
        .chain(files)
        .filter_map(|path| path.canonicalize().ok())
        .map(protocol::Raw::from)
        .collect()
}

fn notices(environment: &Filtered) -> Vec<String> {
    if environment.left.is_empty() {
        return Vec::new();
    }
    let names = environment.left.join(", ");
    vec![format!("Left outside: {names} ('ghost.pass' in the configuration hands them in).")]
}
