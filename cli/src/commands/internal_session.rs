//! `tazpod internal-session`: the first program of a ghost's session. It brings the secrets into the
//! vault, and becomes the shell or command with them in its environment.
//!
//! Runs as the caller, inside the ghost, like the shell that it becomes.

use super::login_inside;
use crate::app::{App, GhostVault};
use crate::args::ghost::{SecretsArgs, SessionArgs};
use crate::config::secrets::Secrets;
use crate::error::{Error, Kind, Result};
use crate::infisical::choose;
use crate::infisical::settings::{Folders, Settings};
use crate::infisical::source::ProjectRef;
use crate::sync::apply::Turn;
use crate::sync::change::{self, Change, Row};
use crate::sync::fetch;
use crate::sync::record::Record;
use crate::sync::redact::{Patterns, Redactor, SHORTEST};
use crate::sync::variables::{Difference, OURS, Variables};
use crate::sync::vault::OpenVault;
use crate::sys::{allocation, process};
use serde::Serialize;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

/// What a shell reports for a program that is not there, and for one that cannot be executed.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

/// The variable by which the ghost's shells find this program for their hook.
const PROGRAM: &str = "TAZPOD_PROGRAM";

/// Pulls the secrets, then runs the session's program.
pub(crate) fn run(app: &App, args: &SessionArgs) -> Result<u8> {
    protect()?;
    let Some(ghost) = app.open_vault()? else {
        return Err(Error::user("'internal-session' is started by 'tazpod pull' in a ghost")
            .hint("run 'tazpod pull'"));
    };
    let pulled = if args.keep { Ok(()) } else { pull(app, &ghost, &args.secrets, Output::Notices) };
    if args.whole {
        refuse_lacking(&app.secrets(&ghost.project)?, &ghost.vault)?;
    }
    if args.secrets.dry_run {
        return pulled.map(|()| 0);
    }
    match pulled {
        // Without the secrets that it counts on a command does harm; a person at a shell can help.
        Err(error) if !args.shell => Err(error),
        pulled => launch(app, &ghost, args, pulled),
    }
}

/// Keeps what passes through this process out of core files and from other processes.
pub(crate) fn protect() -> Result<()> {
    process::set_not_dumpable()
        .map_err(|cause| Error::environment("cannot protect this process").caused_by(cause))
}

/// Where the table goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// Beside a program's own output.
    Notices,
    /// It is the result.
    Results,
}

/// Brings the secrets in an open vault up to date and shows what changed.
pub(crate) fn pull(
    app: &App,
    ghost: &GhostVault,
    args: &SecretsArgs,
    output: Output,
) -> Result<()> {
    let secrets = app.secrets(&ghost.project)?;
    if args.offline {
        return offline(app, &secrets, &ghost.vault, args, output);
    }
    let names_any = secrets.all().iter().any(|mapping| change::target(mapping).is_some());
    let origin = secrets.origin();
    let project = match (&origin.project, &origin.slug) {
        (Some(id), _) => ProjectRef::Id(id.clone()),
        (None, Some(slug)) => ProjectRef::Slug(slug.clone()),
        (None, None) if names_any => return Err(secrets.refuse_without_project()),
        (None, None) => return Ok(()),
    };
    if !names_any && Record::load(&ghost.vault).is_empty() {
        return Ok(());
    }
    let (settings, folders) = (settings(&secrets, ghost), folders(&ghost.vault));
    let fetch = || -> Result<_> {
        let mut source = choose::choose(&settings, &folders)?;
        let answers = fetch::all(source.as_mut(), &project, &secrets)?;
        Ok((source.name(), answers))
    };
    let (source, answers) = match fetch() {
        Err(error) if login_inside::offer(app, &error, &settings, &folders)? => fetch()?,
        fetched => fetched?,
    };
    // Who only looks takes no turn, and leaves the vault as it is.
    let turn = if args.dry_run { None } else { Some(Turn::take(&ghost.vault)?) };
    // In our turn: another pull may have written meanwhile.
    let record = Record::load(&ghost.vault);
    let plan = change::plan(&ghost.vault, &secrets, answers, &record, args.prune)?;
    if let Some(turn) = turn {
        turn.apply(&ghost.vault, &plan, record, source)?;
    }
    show(app, &plan.rows, args, output, None)
}

fn offline(
    app: &App,
    secrets: &Secrets,
    vault: &OpenVault,
    args: &SecretsArgs,
    output: Output,
) -> Result<()> {
    let age = Record::load(vault).age();
    match &age {
        Some(age) => app.ui.notice(&format!("Offline: the secrets were pulled {age}.")),
        None if secrets.all().is_empty() => return Ok(()),
        None => app.ui.notice("Offline: no secrets were pulled into this vault yet."),
    }
    if args.json {
        show(app, &change::offline(vault, secrets), args, output, age)?;
    }
    refuse_lacking(secrets, vault)
}

/// Refuses to go on while the vault lacks what no pull may have left out.
fn refuse_lacking(secrets: &Secrets, vault: &OpenVault) -> Result<()> {
    let rows = change::offline(vault, secrets);
    let lacking = rows.iter().filter(|row| row.change == Change::Missing && !row.optional);
    let names: Vec<&str> = lacking.map(|row| row.name.as_str()).collect();
    if names.is_empty() {
        return Ok(());
    }
    Err(Error::new(Kind::Refused, format!("the vault does not have {}", names.join(", ")))
        .hint("'tazpod pull' fetches what secrets.yml names"))
}

/// Returns what secrets.yml says about the source.
pub(super) fn settings(secrets: &Secrets, ghost: &GhostVault) -> Settings {
    let origin = secrets.origin();
    Settings {
        source: origin.source,
        url: origin.url.clone(),
        // A relative path counts from the file that says it.
        ca_file: origin.ca_file.as_ref().map(|path| ghost.project.root().join(path)),
        proxy: origin.proxy.clone(),
        allow_http: origin.allow_http,
        ..Settings::default()
    }
}

/// Returns the bridge's folders.
pub(super) fn folders(vault: &OpenVault) -> Folders {
    let root = vault.path(Path::new(""));
    Folders::of(root.parent().unwrap_or(&root))
}

#[derive(Serialize)]
struct Report<'a> {
    dry_run: bool,
    offline: bool,
    pulled: Option<String>,
    secrets: &'a [Row],
}

fn show(
    app: &App,
    rows: &[Row],
    args: &SecretsArgs,
    output: Output,
    pulled: Option<String>,
) -> Result<()> {
    if args.json {
        let (dry_run, offline) = (args.dry_run, args.offline);
        return app.ui.json(&Report { dry_run, offline, pulled, secrets: rows });
    }
    let text = table(rows, args.dry_run);
    match output {
        Output::Results => app.ui.print(&text),
        Output::Notices => {
            app.ui.notice(&text);
            Ok(())
        }
    }
}

/// Lists what changed; what did not is counted.
fn table(rows: &[Row], dry_run: bool) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut lines = Vec::new();
    for row in rows {
        let word = word(row.change);
        *counts.entry(word).or_default() += 1;
        if row.change == Change::Unchanged {
            continue;
        }
        let mut places = Vec::new();
        places.extend(row.file.as_ref().map(|file| file.display().to_string()));
        places.extend(row.env.as_ref().map(|name| format!("${name}")));
        lines.push(format!("{word:<10} {}  {}", row.name, places.join("  ")));
    }
    if rows.iter().any(|row| row.change == Change::Unmapped) {
        lines.push("'tazpod pull --prune' removes what is unmapped.".to_owned());
    }
    let counts: Vec<String> =
        counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
    let what = if dry_run { "Secrets, if they were pulled" } else { "Secrets" };
    let counts = if counts.is_empty() { "none".to_owned() } else { counts.join(", ") };
    lines.push(format!("{what}: {counts}."));
    lines.join("\n")
}

fn word(change: Change) -> &'static str {
    match change {
        Change::Added => "added",
        Change::Updated => "updated",
        Change::Unchanged => "unchanged",
        Change::Missing => "missing",
        Change::Hidden => "hidden",
        Change::Unmapped => "unmapped",
        Change::Removed => "removed",
    }
}

/// Becomes the program, or stays to hand on its status where there is something to say afterwards.
fn launch(app: &App, ghost: &GhostVault, args: &SessionArgs, pulled: Result<()>) -> Result<u8> {
    let [program, arguments @ ..] = &args.command[..] else {
        return Err(Error::internal("a session without a program"));
    };
    let mut command = Command::new(program);
    command.args(arguments);
    // A file with a mistake was told about by the pull already.
    let secrets = match app.secrets(&ghost.project) {
        Ok(secrets) => secrets,
        Err(error) if pulled.is_ok() && !args.shell => return Err(error),
        Err(_) => Secrets::default(),
    };
    let variables = Variables::of(&secrets, &ghost.vault);
    put_into(&mut command, &variables);
    if args.redact {
        return redacted(app, command, program, &secrets, &ghost.vault);
    }
    match pulled {
        Ok(()) => {
            let failure = command.exec();
            Ok(cannot_run(app, program, &failure))
        }
        Err(error) => {
            app.ui.report(&error);
            app.ui.warn(
                "the secrets are as the last pull left them",
                "'tazpod pull' in this ghost tries again",
            );
            // The shell has its own group and its own signals; what ends it is its business.
            let _ = crate::sys::signals::ignore(nix::sys::signal::Signal::SIGINT);
            let _ = crate::sys::signals::ignore(nix::sys::signal::Signal::SIGQUIT);
            let status = match command.status() {
                Ok(status) => code(status),
                Err(failure) => cannot_run(app, program, &failure),
            };
            Ok(if status == 0 { error.exit_status() } else { status })
        }
    }
}

fn put_into(command: &mut Command, variables: &Variables) {
    let difference = Difference::from(variables, |name| std::env::var_os(name));
    for name in &difference.unset {
        command.env_remove(name);
    }
    for (name, value) in &difference.set {
        command.env(name, OsStr::from_bytes(value));
    }
    command.env(OURS, variables.names());
    let own = std::env::current_exe().ok().filter(|path| path.is_file());
    if let Some(own) = own {
        command.env(PROGRAM, own);
    }
}

fn cannot_run(app: &App, program: &OsStr, failure: &std::io::Error) -> u8 {
    let name = Path::new(program).display();
    app.ui.say_failure(&format!("cannot run '{name}': {failure}"));
    if failure.kind() == ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE }
}

fn code(status: ExitStatus) -> u8 {
    let signalled = status.signal().map(|signal| 128 + signal);
    u8::try_from(status.code().or(signalled).unwrap_or(1)).unwrap_or(u8::MAX)
}

/// Runs the program with its output passed on through a redactor.
fn redacted(
    app: &App,
    mut command: Command,
    program: &OsStr,
    secrets: &Secrets,
    vault: &OpenVault,
) -> Result<u8> {
    allocation::wipe_what_is_freed();
    let mut values = Vec::new();
    for mapping in secrets.all() {
        let Some(target) = change::target(mapping) else { continue };
        let read = vault.read(&target, usize::MAX - 1).map_err(|cause| {
            Error::environment(format!("cannot read '{}'", target.display())).caused_by(cause)
        })?;
        let Some(found) = read else { continue };
        if (1..SHORTEST).contains(&found.content.len()) {
            app.ui.warn(
                &format!("the value of '{}' is too short to be masked", mapping.name),
                "longer values are",
            );
        }
        values.push(found.content);
    }
    let patterns = Patterns::of(values.iter().map(|value| value.as_slice()));
    drop(values);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(failure) => return Ok(cannot_run(app, program, &failure)),
    };
    let _ = crate::sys::signals::ignore(nix::sys::signal::Signal::SIGINT);
    let _ = crate::sys::signals::ignore(nix::sys::signal::Signal::SIGQUIT);
    let outputs = (child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        if let Some(stdout) = outputs.0 {
            scope.spawn(|| relay(stdout, std::io::stdout(), Redactor::new(&patterns)));
        }
        if let Some(stderr) = outputs.1 {
            relay(stderr, std::io::stderr(), Redactor::new(&patterns));
        }
    });
    let ended = child.wait();
    ended.map(code).map_err(|cause| Error::internal("cannot wait for the command").caused_by(cause))
}

fn relay(mut from: impl Read, mut to: impl Write, mut redactor: Redactor<'_>) {
    let mut buffer = zeroize::Zeroizing::new([0_u8; 16 << 10]);
    loop {
        let count = match from.read(&mut *buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(cause) if cause.kind() == ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        let shown = redactor.push(buffer.get(..count).unwrap_or_default());
        // A reader that went away is the command's business: it gets a broken pipe when we end.
        if to.write_all(&shown).and_then(|()| to.flush()).is_err() {
            return;
        }
    }
    let _ = to.write_all(&redactor.finish()).and_then(|()| to.flush());
}

/// Returns the words that make a session of a ghost begin with this program.
pub(crate) fn words(args: &SessionArgs, quiet: bool) -> Vec<&'static str> {
    let options = [
        ("--quiet", quiet),
        ("--offline", args.secrets.offline),
        ("--dry-run", args.secrets.dry_run),
        ("--prune", args.secrets.prune),
        ("--json", args.secrets.json),
        ("--keep", args.keep),
        ("--whole", args.whole),
        ("--shell", args.shell),
        ("--redact", args.redact),
    ];
    let given = options.into_iter().filter(|(_, given)| *given).map(|(word, _)| word);
    std::iter::once("internal-session").chain(given).collect()
}
