//! Running `cryptsetup` and the tools of ext4, and saying what they said.
//!
//! Passphrases and keys go by standard input, never by an argument or a variable. Programs are taken
//! from system folders only, and find nothing in their environment but what is set here.

use crate::error::{Error, Kind, Result};
use crate::sys::program::{self, MoreInput, Outcome};
use std::path::{Path, PathBuf};

/// Where programs may be; a `PATH` of the caller's making decides nothing.
const FOLDERS: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/usr/local/sbin"];

/// Without udev's part in naming devices: nobody waits for a daemon that a container does not have.
const ENVIRONMENT: [(&str, &str); 3] =
    [("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), ("LC_ALL", "C"), ("DM_DISABLE_UDEV", "1")];

/// What `cryptsetup` ends with when no keyslot opened.
const NO_KEY: u8 = 2;

/// What it ends with when memory did not suffice, and when a device is in use.
const NO_MEMORY: u8 = 3;
const BUSY: u8 = 5;

/// Finds a program of the system.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    FOLDERS.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file())
}

/// Runs a program of the system to its end.
pub(super) fn run(name: &str, arguments: &[&str], input: &[u8]) -> Result<Outcome> {
    run_with(name, arguments, input, None)
}

fn run_with(
    name: &str,
    arguments: &[&str],
    input: &[u8],
    more: Option<&MoreInput>,
) -> Result<Outcome> {
    let program = find(name).ok_or_else(|| missing(name))?;
    program::run(&program, arguments, &ENVIRONMENT, input, more).map_err(|cause| {
        Error::environment(format!("cannot run '{}'", program.display())).caused_by(cause)
    })
}

/// Runs `cryptsetup`; what it complains about becomes an error about the vault `shown`.
pub(super) fn cryptsetup(arguments: &[&str], input: &[u8], shown: &str) -> Result<Vec<u8>> {
    cryptsetup_with(arguments, input, None, shown)
}

/// The same with a second secret.
pub(super) fn cryptsetup_with(
    arguments: &[&str],
    input: &[u8],
    more: Option<&MoreInput>,
    shown: &str,
) -> Result<Vec<u8>> {
    let outcome = run_with("cryptsetup", arguments, input, more)?;
    if outcome.status == 0 {
        return Ok(outcome.output);
    }
    let error = match outcome.status {
        NO_KEY => Error::new(
            Kind::WrongPassphrase,
            format!("no keyslot of '{shown}' opened with what was given"),
        )
        .hint("check the keyboard layout; 'tazpod vault info' shows which slots exist"),
        NO_MEMORY => Error::environment(format!("there is not enough memory to open '{shown}'"))
            .hint("close programs, or raise the container's memory limit"),
        BUSY => Error::new(Kind::InUse, format!("'{shown}' is in use"))
            .hint("'tazpod pull' joins a ghost that is open here, 'tazpod lock' ends it"),
        _ => Error::environment(format!("cryptsetup failed on '{shown}'"))
            .hint("'--backend fuse' makes vaults that need no cryptsetup"),
    };
    Err(said(error, &outcome))
}

/// Puts what a program said beneath an error.
pub(super) fn said(error: Error, outcome: &Outcome) -> Error {
    let words = if outcome.complaint.is_empty() {
        format!("it ended with status {}", outcome.status)
    } else {
        outcome.complaint.lines().map(str::trim).collect::<Vec<_>>().join("; ")
    };
    error.caused_by(std::io::Error::other(words))
}

fn missing(name: &str) -> Error {
    let package = if name == "cryptsetup" { "cryptsetup-bin" } else { "e2fsprogs" };
    Error::environment(format!("there is no '{name}' on this machine"))
        .hint(format!("install it (Debian: {package}), or use '--backend fuse' for a new vault"))
}
