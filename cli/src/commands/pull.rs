//! `tazpod pull` (and `sync`, `unlock`): the vault open in a ghost, and a shell or command in it.

use crate::app::App;
use crate::args::ghost::PullArgs;
use crate::caller::Caller;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::ghost::plan::{self, Found, VaultPlan, Way};
use crate::ghost::protocol::{CredentialKind, NewVault, Raw, Request, VaultRequest};
use crate::ghost::shell::{self, Filtered};
use crate::ghost::{open, protocol};
use crate::image::create::DEFAULT_SIZE;
use crate::image::{self, credential};
use crate::project::{Project, scaffold};
use crate::ui::secret::{self, PassphraseSource};
use nix::unistd::Uid;
use std::io::ErrorKind;
use std::path::Path;
use vault_core::format::magic::ImageFormat;
use zeroize::Zeroizing;

/// Opens the vault in a ghost, or joins the one that is open.
pub(crate) fn run(app: &App, args: &PullArgs) -> Result<u8> {
    let caller = Caller::detect()?;
    let project = app.project()?;
    let config = app.config(&project)?;
    let environment = shell::filter(std::env::vars_os(), config.ghost_pass(), shell::is_socket);
    let session = open::session(&args.command, environment.kept.clone(), caller.uid);
    if let Some(link) = open::find(&caller, project.root()) {
        let secret = given(app, args)?;
        return open::join(link, session, kind(args), args.credential.slot, &secret, &app.ui);
    }
    let image = config.vault_file(&project);
    let shown = project.shown(&image).to_string();
    let plan = plan::vault(args.backend, config.backend(), look(&image, &shown)?, &shown)?;
    if let Some(notice) = plan.notice {
        app.ui.notice(notice);
    }
    if plan.create {
        let _rights = caller.act()?;
        scaffold::vault_folder(&project, &image)?;
    }
    let vault = vault_request(args, &config, &plan, &image, shown);
    let way = plan::way(Uid::effective().is_root(), args.rootless, open::sudo());
    let secret = given(app, args)?;
    let terminals = open::terminals(&open::streams()?);
    let request = Request {
        project: project.root().into(),
        home: caller.home.as_path().into(),
        state: caller.state_folder().into(),
        kept: kept(&project, &caller, &image, &environment),
        notices: notices(&environment),
        vault,
        session,
        rootless: matches!(way, Way::Rootless(_)),
        has_secret: secret.is_some(),
        terminals,
        quiet: app.ui.is_quiet(),
    };
    match way {
        Way::Root => open::directly(request, &caller, secret, &app.ui),
        Way::Rootless(why) => {
            if let Some(why) = why {
                app.ui.notice(why);
            }
            open::directly(request, &caller, secret, &app.ui)
        }
        Way::Sudo(sudo) => open::through_sudo(&sudo, &request, &secret, &app.ui),
    }
}

/// Looks at what stands at the image's path.
fn look(image: &Path, shown: &str) -> Result<Found> {
    let refused = |what: &str| {
        Err(Error::new(
            crate::error::Kind::Format,
            format!("'{shown}' is {what}, not a vault image"),
        ))
    };
    match image.symlink_metadata() {
        Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(Found::Absent),
        Err(cause) => Err(Error::environment(format!("cannot look at '{shown}'")).caused_by(cause)),
        Ok(about) if about.is_dir() => refused("a folder"),
        Ok(about) if about.is_symlink() => refused("a symbolic link"),
        Ok(about) if !about.is_file() => refused("a special file"),
        Ok(_) => Ok(Found::File(image::recognise(image).unwrap_or(ImageFormat::Vault))),
    }
}

fn vault_request(
    args: &PullArgs,
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

fn kind(args: &PullArgs) -> CredentialKind {
    match (&args.credential.key_file, args.credential.recovery) {
        (Some(_), _) => CredentialKind::KeyFile,
        (None, true) => CredentialKind::RecoveryKey,
        (None, false) => CredentialKind::Passphrase,
    }
}

/// Reads the credential unless it is to be typed: then the ghost asks, when it knows that the
/// answer will be of use.
fn given(app: &App, args: &PullArgs) -> Result<open::Secret> {
    let keep = |bytes: &[u8]| Some(Zeroizing::new(bytes.to_vec()));
    if let Some(path) = &args.credential.key_file {
        return Ok(keep(secret::key_file(&app.ui, path)?.expose()));
    }
    match PassphraseSource::from_args(&args.credential.passphrase) {
        PassphraseSource::Terminal => Ok(None),
        source => Ok(keep(source.read(&app.ui, "")?.expose())),
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
