//! `tazpod vault mount` and `unmount`: a vault without a ghost, for scripts.
//!
//! Everything that a ghost keeps out may look in: the mount is there for every process that the
//! permissions of its files let in. The server is this program once more, in the background, until the
//! folder is unmounted or it is told to end; either way it commits first.

use crate::app::App;
use crate::args::vault::{MountArgs, UnmountArgs};
use crate::caller::Caller;
use crate::error::{Error, Kind, Result};
use crate::image::{self, Image};
use crate::sys::{folder, mount as mounts, process, signals};
use crate::witness_store::WitnessStore;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::unistd::{Uid, setsid};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use vault_core::device::Access;
use vault_fuse::{Ended, Options, Session};

/// What the server says when the vault is there.
const MOUNTED: &str = "mounted";
/// The name of a mount of ours without a ghost begins so; the server's process follows.
const SOURCE: &str = "tazpod:";
/// How long the last commit may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Mounts a vault at a folder and leaves its server in the background.
pub(crate) fn mount(app: &App, args: &MountArgs) -> Result<u8> {
    require_root("mount")?;
    if args.serve {
        return serve(app, args);
    }
    let failed = |cause: io::Error| Error::environment("cannot start the server").caused_by(cause);
    let mut server = Command::new(std::env::current_exe().map_err(failed)?)
        .args(std::env::args_os().skip(1))
        .arg("--serve")
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut line = String::new();
    if let Some(answers) = server.stdout.take() {
        BufReader::new(answers).read_line(&mut line).map_err(failed)?;
    }
    if line.trim_end() != MOUNTED {
        // It has said why.
        let status = server.wait().map_err(failed)?;
        return Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(70));
    }
    let at = args.folder.display();
    app.ui.warn(
        &format!("{at} is open to every process that the permissions of its files let in"),
        "this is no ghost: root and all your own programs can read it until 'tazpod vault unmount'",
    );
    Ok(0)
}

fn require_root(verb: &str) -> Result<()> {
    if Uid::effective().is_root() {
        return Ok(());
    }
    Err(Error::environment(format!("only root may {verb} without a ghost"))
        .hint(format!("'sudo tazpod vault {verb}', or 'tazpod pull', which needs no root")))
}

fn serve(app: &App, args: &MountArgs) -> Result<u8> {
    let failed = |cause: io::Error| Error::environment("cannot serve the vault").caused_by(cause);
    // Before any thread exists: they all leave these signals to the one that waits for them.
    let ending =
        signals::watch(&[Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]).map_err(failed)?;
    process::set_not_dumpable().map_err(failed)?;
    process::forbid_core_files().map_err(failed)?;
    let target = mount_point(&args.folder)?;
    let caller = Caller::detect()?;
    let (volume, vault, store) = {
        let _as_caller = caller.act()?;
        let (path, shown) = Image::place(app, &args.image)?;
        let image = Image::open(&path, &shown, Access::ReadWrite)?;
        let credential = image::credential(&app.ui, &args.credential, &shown)?;
        let mut vault = image.unlock(&credential, &args.credential)?;
        let volume = Arc::new(image.volume(&app.ui, &vault, false, args.accept_generation)?);
        vault.mend_copies().map_err(|error| image::explain::vault_error(error, &shown))?;
        (volume, vault, WitnessStore::open(&caller.state_folder()).ok())
    };
    let options =
        Options { source: format!("{SOURCE}{}", std::process::id()), ..Options::default() };
    let cannot = |cause| Error::environment("cannot mount the vault").caused_by(cause);
    let session =
        Session::mount(Arc::clone(&volume), &folder::path_of(&target), &options).map_err(cannot)?;
    let (id, keys) = (vault.id(), Arc::clone(vault.subkeys()));
    let remember = move |newest: vault_core::witness::Witness| {
        if let Some(store) = &store {
            let _ = store.write(id, &newest.encode(&keys));
        }
    };
    remember(volume.anchor());
    volume.on_anchor(Box::new(remember));
    // The volume key is not needed any more; the subkeys go on.
    drop(vault);
    app.ui.print(MOUNTED)?;
    leave_the_caller().map_err(failed)?;
    let stop = session.stop_handle();
    std::thread::spawn(move || {
        let mut fds = [PollFd::new(ending.as_fd(), PollFlags::POLLIN)];
        while poll(&mut fds, PollTimeout::NONE).is_err() {}
        stop.stop();
    });
    match session
        .run()
        .map_err(|cause| Error::environment("serving the vault failed").caused_by(cause))?
    {
        Ended::Unmounted => Ok(0),
        Ended::StillInUse => Ok(Kind::InUse.exit_status()),
    }
}

/// Opens the folder where the vault shall appear; nothing may be mounted or lie there.
fn mount_point(path: &Path) -> Result<std::os::fd::OwnedFd> {
    let shown = path.display();
    let unusable = |cause: io::Error| {
        Error::user(format!("cannot mount at '{shown}'"))
            .caused_by(cause)
            .hint("name an empty folder, without links on the way")
    };
    let absolute = std::path::absolute(path).map_err(unusable)?;
    let target = folder::open_without_links(&absolute).map_err(unusable)?;
    if mounts::is_mount_root(&target).map_err(unusable)? {
        return Err(Error::user(format!("something is mounted at '{shown}' already")));
    }
    if fs::read_dir(&absolute).map_err(unusable)?.next().is_some() {
        return Err(Error::user(format!("'{shown}' is not empty"))
            .hint("what lies there would be hidden while the vault is mounted"));
    }
    Ok(target)
}

/// Lets go of the caller's terminal and streams.
fn leave_the_caller() -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    process::set_streams([null.as_fd(); 3])?;
    std::env::set_current_dir("/")?;
    setsid()?;
    Ok(())
}

/// Unmounts a folder and waits for the last commit.
pub(crate) fn unmount(app: &App, args: &UnmountArgs) -> Result<u8> {
    require_root("unmount")?;
    let shown = args.folder.display();
    let failed =
        |cause: io::Error| Error::environment(format!("cannot unmount '{shown}'")).caused_by(cause);
    let path = args.folder.canonicalize().map_err(failed)?;
    let server = server_of(&path).map_err(failed)?.ok_or_else(|| {
        Error::user(format!("no vault is mounted at '{shown}'"))
            .hint("'tazpod lock' ends a ghost; this is for 'tazpod vault mount'")
    })?;
    // What failed to be stored is told here and not lost with the server.
    File::open(&path).and_then(|root| root.sync_all()).map_err(failed)?;
    mounts::unmount(&path).map_err(|cause| {
        let users = programs_below(&path, server);
        if cause.kind() != io::ErrorKind::ResourceBusy || users.is_empty() {
            return failed(cause);
        }
        Error::new(Kind::InUse, format!("'{shown}' is still used by {}", users.join(", ")))
            .hint("close them, or leave the folder; nothing was changed")
    })?;
    let end = Instant::now() + PATIENCE;
    while is_alive(server) {
        if Instant::now() > end {
            return Err(Error::environment(format!("the server of '{shown}' does not end"))
                .hint(format!("it is process {server}; the image is in use until it has ended")));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    app.ui.notice(&format!("{shown} is unmounted, the vault is closed."));
    Ok(0)
}

/// Returns the process that serves a mount of ours.
fn server_of(path: &Path) -> io::Result<Option<i32>> {
    let table = mounts::table()?;
    let top = table.iter().rev().find(|line| line.mount_point == path);
    let ours = top.filter(|line| line.kind == "fuse.tazpod");
    Ok(ours.and_then(|line| line.source.strip_prefix(SOURCE)?.parse().ok()))
}

fn is_alive(process: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name stands in parentheses and may hold anything.
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// Names the programs that have something open below a folder, or stand in it.
fn programs_below(path: &Path, server: i32) -> Vec<String> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let uses = |process: &i32| {
        let base = PathBuf::from(format!("/proc/{process}"));
        let open = fs::read_dir(base.join("fd")).into_iter().flatten().flatten();
        let links = open.map(|entry| entry.path());
        links
            .chain(["cwd", "root", "exe"].map(|name| base.join(name)))
            .any(|link| fs::read_link(link).is_ok_and(|target| target.starts_with(path)))
    };
    numbers
        .filter(|process| *process != server)
        .filter(uses)
        .map(|process| {
            let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
            format!("{} {process}", name.trim())
        })
        .collect()
}
