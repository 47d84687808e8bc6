//! The seccomp profile is Docker's default and the calls that a ghost makes, shown by taking the one from the other.

use sha2::{Digest, Sha256};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// SHA-256 of `profiles/seccomp/default.json` in moby 26.1.5, as Debian ships it.
const DEFAULT: &str = "9c1025c88ccaa517b648da571961838744ea2137f176bfe6a48b21294cae9c76";

/// Where the profile and the script that made it are.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("cli/src/docker")
}

/// The profile.
pub(crate) fn path() -> PathBuf {
    folder().join("seccomp.json")
}

fn derive(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut script = Command::new(folder().join("derive-seccomp"));
    let mut child =
        script.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || pipe.write_all(&input));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    output.stdout
}

#[test]
fn profile_is_dockers_default_and_a_list() {
    let profile = std::fs::read(path()).unwrap();
    let default = derive(&["--strip"], &profile);
    let hash: String = Sha256::digest(&default)
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    assert_eq!(hash, DEFAULT, "what is left without our list is not the default");
    assert_eq!(derive(&[], &default), profile, "the script and the profile differ");
}
