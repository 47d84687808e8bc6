//! A session: the caller's shell or command in the ghost, with the caller's rights and nothing more.
//!
//! Step 12 of GHOST.md, run by init.

use super::protocol::{Raw, SessionRequest};
use super::shell::Launch;
use crate::bridge::{Bridge, MemoryPlace};
use crate::sys::identity::{Bounding, Identity, become_for_good};
use crate::sys::{process, signals, terminal};
use nix::errno::Errno;
use nix::unistd::Pid;
use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// What a shell reports for a program that is not there, and for one that cannot be executed.
const NOT_FOUND: i32 = 127;
const NOT_EXECUTABLE: i32 = 126;

/// The exit status of a session whose privileges could not be dropped.
const REFUSED: i32 = 70;

/// Where a session's streams lead.
#[derive(Debug)]
pub(crate) struct Streams {
    /// The caller's own streams.
    pub(crate) caller: [OwnedFd; 3],
    /// Which of them are terminals, and so replaced by the session's own.
    pub(crate) terminals: [bool; 3],
    /// The session's own terminal, if it has one.
    pub(crate) own: Option<OwnedFd>,
}

impl Streams {
    fn chosen(&self) -> [BorrowedFd<'_>; 3] {
        let [stdin, stdout, stderr] = &self.caller;
        let pick = |stream: usize, caller| match &self.own {
            Some(own) if self.terminals.get(stream) == Some(&true) => own.as_fd(),
            _ => OwnedFd::as_fd(caller),
        };
        [pick(0, stdin), pick(1, stdout), pick(2, stderr)]
    }
}

/// Starts a session.
pub(crate) fn start(
    launch: &Launch,
    request: &SessionRequest,
    identity: &Identity,
    home: &Raw,
    streams: &Streams,
) -> io::Result<Pid> {
    process::fork(|| {
        let (step, cause) = match become_session(request, identity, home, streams) {
            Ok(()) => match execute(launch) {
                Err(cause) => {
                    let status = if cause == Errno::ENOENT { NOT_FOUND } else { NOT_EXECUTABLE };
                    let name = launch.program.path().display();
                    complain(&format!("cannot run '{name}': {}", cause.desc()));
                    return status;
                }
            },
            Err(failed) => failed,
        };
        complain(&format!("cannot {step} in the ghost: {cause}"));
        REFUSED
    })
}

type Step = (&'static str, io::Error);

fn become_session(
    request: &SessionRequest,
    identity: &Identity,
    home: &Raw,
    streams: &Streams,
) -> Result<(), Step> {
    let step = |what: &'static str| move |cause: io::Error| (what, cause);
    nix::unistd::setsid().map_err(|cause| ("start a session", cause.into()))?;
    if let Some(own) = &streams.own {
        terminal::set_controlling(own).map_err(step("get a terminal"))?;
    }
    process::set_streams(streams.chosen()).map_err(step("set the streams"))?;
    process::close_all_except(&[]).map_err(step("close what is not the session's"))?;
    signals::reset().map_err(step("reset signals"))?;
    process::set_umask(request.umask & 0o777);
    become_for_good(identity, Bounding::Keep).map_err(step("drop privileges"))?;
    if let Some(private) = &request.private_home {
        make_home(private.path(), home.path()).map_err(step("make the private home folder"))?;
    }
    // A working folder that is hidden by the ghost's private ones is no reason to fail.
    let folders = [request.folder.path(), home.path(), std::path::Path::new("/")];
    folders
        .iter()
        .any(|folder| nix::unistd::chdir(*folder).is_ok())
        .then_some(())
        .ok_or_else(|| ("find a working folder", io::Error::from(io::ErrorKind::NotFound)))
}

/// Makes a home folder in the vault, in which `~/secrets` leads to the vault too, and the bridges'
/// names to their folders.
fn make_home(private: &Path, home: &Path) -> io::Result<()> {
    match std::fs::DirBuilder::new().mode(0o700).create(private) {
        Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists => return Err(cause),
        _ => {}
    }
    let bridged = Bridge::all(MemoryPlace::Vault)
        .into_iter()
        .filter(|bridge| home.join("secrets").join(bridge.in_vault()).is_dir())
        .map(|bridge| (bridge.in_home(), Path::new("..").join(bridge.in_vault())));
    for (name, leads) in bridged.chain([("secrets", home.join("secrets"))]) {
        match std::os::unix::fs::symlink(leads, private.join(name)) {
            Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists => return Err(cause),
            _ => {}
        }
    }
    Ok(())
}

/// Replaces this process by the program, looked for in the session's own `PATH`.
fn execute(launch: &Launch) -> Result<Infallible, Errno> {
    let text = |raw: &Raw| CString::new(raw.bytes()).map_err(|_| Errno::EINVAL);
    let arguments = launch.arguments.iter().map(text).collect::<Result<Vec<_>, _>>()?;
    let environment = launch
        .environment
        .iter()
        .map(|(name, value)| {
            let joined = [name.bytes(), b"=", value.bytes()].concat();
            CString::new(joined).map_err(|_| Errno::EINVAL)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let mut failure = Errno::ENOENT;
    for path in candidates(launch) {
        let path = CString::new(path).map_err(|_| Errno::EINVAL)?;
        match nix::unistd::execve(&path, &arguments, &environment) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            // A script without a first line that names its interpreter: the shell's, as always.
            Err(Errno::ENOEXEC) => {
                let shell = [c"/bin/sh".to_owned(), path].into_iter();
                let words: Vec<CString> = shell.chain(arguments.into_iter().skip(1)).collect();
                return nix::unistd::execve(c"/bin/sh", &words, &environment);
            }
            Err(errno) => failure = errno,
            Ok(never) => match never {},
        }
    }
    Err(failure)
}

/// Returns the paths at which the program may be.
fn candidates(launch: &Launch) -> Vec<Vec<u8>> {
    let name = launch.program.bytes();
    if name.contains(&b'/') {
        return vec![name.to_vec()];
    }
    let path = launch.environment.iter().find(|(name, _)| name.bytes() == b"PATH");
    let path = path.map_or(&b"/usr/local/bin:/usr/bin:/bin"[..], |(_, value)| value.bytes());
    path.split(|byte| *byte == b':')
        .filter(|folder| !folder.is_empty())
        .map(|folder| [folder, b"/", name].concat())
        .collect()
}

/// Says why the session does not run, on its own standard error.
fn complain(text: &str) {
    let line = format!("tazpod: {text}\n");
    // Nobody is left to be told that standard error is gone.
    let _ = nix::unistd::write(std::io::stderr(), line.as_bytes());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sys::process::wait;
    use std::fs::File;

    fn run(command: &[&str], path: &str) -> u8 {
        let environment = vec![("PATH".into(), path.into())];
        let words: Vec<Raw> = command.iter().map(|word| Raw::from(*word)).collect();
        let request = SessionRequest {
            command: words.clone(),
            shell: "/bin/sh".into(),
            environment: environment.clone(),
            folder: "/nowhere".into(),
            umask: 0o022,
            private_home: None,
            through: Vec::new(),
        };
        let launch = Launch { program: words[0].clone(), arguments: words, environment };
        let null =
            || OwnedFd::from(File::options().read(true).write(true).open("/dev/null").unwrap());
        let streams =
            Streams { caller: [null(), null(), null()], terminals: [false; 3], own: None };
        let uid = nix::unistd::Uid::effective();
        let identity =
            crate::ghost::privilege::identity_of(uid, nix::unistd::Gid::effective()).unwrap();
        let pid = start(&launch, &request, &identity, &"/nowhere".into(), &streams).unwrap();
        wait(pid).unwrap().status
    }

    #[test]
    fn programs_are_found_in_the_sessions_path_and_their_status_handed_on() {
        assert_eq!(run(&["sh", "-c", "exit 7"], "/nowhere:/bin"), 7);
        assert_eq!(run(&["sh", "-c", "kill -TERM $$"], "/bin"), 143);
        assert_eq!(run(&["no-such-program"], "/bin"), 127);
        assert_eq!(run(&["/etc/passwd"], "/bin"), 126);
    }
}
