//! `tazpod image build`: makes the images of the verticals, one on top of the other.

use crate::app::App;
use crate::args::image::{BuildArgs, ImageCommand};
use crate::caller::Caller;
use crate::docker;
use crate::docker::image::{self as images, Recipe};
use crate::error::{Error, Result};
use crate::recipe::{self, Supplies};
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Runs the verb.
pub(crate) fn run(app: &App, command: &ImageCommand) -> Result<u8> {
    match command {
        ImageCommand::Build(args) => build(app, args),
    }
}

fn build(app: &App, args: &BuildArgs) -> Result<u8> {
    if let Some(base) = args.base.as_deref().filter(|base| !recipe::is_reference(base)) {
        return Err(Error::user(format!("'{}' is no name of an image", base.escape_debug())));
    }
    let caller = Caller::detect()?;
    let engine = docker::connect()?;
    let program = program(args)?;
    let artifacts = artifacts(args, &caller)?;
    let context = Folder::make()?;
    let supplies = Supplies {
        program: &program,
        artifacts: artifacts.as_deref(),
        allow_missing: args.allow_missing,
        base: args.base.as_deref(),
    };
    recipe::lay_out(&context.0, &supplies)
        .map_err(|cause| Error::environment("cannot lay the build out").caused_by(cause))?;
    for vertical in recipe::layers(args.vertical) {
        let dockerfile = context.0.join(recipe::name(vertical)).join("Dockerfile");
        let recipe = Recipe { dockerfile, context: context.0.clone(), never: Vec::new() };
        images::build(&app.ui, engine.as_ref(), &recipe::tag(vertical), recipe)?;
    }
    app.ui.print(&format!("built {}", recipe::tag(args.vertical)))?;
    Ok(0)
}

/// The program that goes into the image: one for Linux.
fn program(args: &BuildArgs) -> Result<PathBuf> {
    let failed = |cause: io::Error| {
        Error::environment("cannot find the program for the image").caused_by(cause)
    };
    match &args.binary {
        Some(file) => fs::canonicalize(file).map_err(failed),
        None if cfg!(target_os = "linux") => std::env::current_exe().map_err(failed),
        None => Err(Error::user("this program does not run in a container of Linux")
            .hint("'--binary' names a tazpod for Linux")),
    }
}

/// The folder of tools that lie ready. One that was named must exist.
fn artifacts(args: &BuildArgs, caller: &Caller) -> Result<Option<PathBuf>> {
    let usual = || caller.home.join(".cache/tazpod/artifacts");
    let folder = args.artifacts.clone().unwrap_or_else(usual);
    if folder.is_dir() {
        return Ok(Some(folder));
    }
    match args.artifacts {
        Some(_) => Err(Error::user(format!("'{}' is no folder", folder.display()))),
        None => Ok(None),
    }
}

/// A folder of this run, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn make() -> Result<Self> {
        let failed = |cause: io::Error| {
            Error::environment("cannot make a folder to build from").caused_by(cause)
        };
        for number in 0..1000_u32 {
            let name = format!("tazpod-image-{}-{number}", std::process::id());
            let path = std::env::temp_dir().join(name);
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Err(failed(io::ErrorKind::AlreadyExists.into()))
    }

    fn remove(path: &Path) {
        let _ = fs::remove_dir_all(path);
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        Self::remove(&self.0);
    }
}
