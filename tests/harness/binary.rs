//! The program under test, built once per run, and which of its backends.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Returns the `tazpod` binary: the one that `TAZPOD` names, else a fresh build of this source in
/// the profile of the tests.
///
/// # Panics
/// When it does not build.
pub fn tazpod() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| std::env::var_os("TAZPOD").map_or_else(build, PathBuf::from))
}

/// Returns the backend that the tests are about, where they are the same for each: `TAZPOD_BACKEND`, or fuse.
#[must_use]
pub fn backend() -> String {
    std::env::var("TAZPOD_BACKEND").unwrap_or_else(|_| "fuse".to_owned())
}

fn build() -> PathBuf {
    // target/PROFILE/deps/NAME-HASH is where this code runs.
    let own = std::env::current_exe().expect("a running program has a path");
    let profile = own.ancestors().nth(2).expect("tests run from target/PROFILE/deps");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--package", "tazpod", "--bin", "tazpod"]);
    cargo.arg("--target-dir").arg(profile.parent().expect("target holds the profile"));
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let status = cargo.status().expect("cargo runs, since it runs us");
    assert!(status.success(), "tazpod does not build");
    profile.join("tazpod")
}
