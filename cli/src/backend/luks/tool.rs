//! Running `cryptsetup` and the tools of ext4, and saying what they said.
//!
//! Passphrases and keys go by standard input, never by an argument or a variable. Programs are taken
//! from system folders only, and find nothing in their environment but what is set here.

use crate::error::{Error, Kind, Result};
use crate::sys::keyring;
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
    let arguments = with_keyring(arguments, keyring::is_usable());
    let outcome = run_with("cryptsetup", &arguments, input, more)?;
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

/// Has the volume key go to the kernel along with the mapping where it cannot go by a keyring.
///
/// cryptsetup only asks whether the kernel knows keyrings. A filter that refuses them answers like one
/// that does, and opening would fail in the middle.
fn with_keyring<'a>(arguments: &[&'a str], usable: bool) -> Vec<&'a str> {
    let more = if usable { None } else { Some("--disable-keyring") };
    more.into_iter().chain(arguments.iter().copied()).collect()
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keyring_is_left_alone_where_it_is_refused_and_every_verb_understands_that() {
        assert_eq!(with_keyring(&["open", "file"], true), ["open", "file"]);
        assert_eq!(with_keyring(&["open", "file"], false), ["--disable-keyring", "open", "file"]);
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(17 << 20).unwrap();
        let file = file.path().to_str().unwrap();
        let cheap = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--batch-mode"];
        for (verb, more) in
            [("luksFormat", &cheap[..]), ("open", &["--test-passphrase"]), ("luksDump", &[])]
        {
            let all = [&[verb, "--key-file", "-"], more, &[file]].concat();
            let outcome = run("cryptsetup", &with_keyring(&all, false), b"passphrase").unwrap();
            assert_eq!(outcome.status, 0, "{verb}: {outcome:?}");
        }
    }
}
