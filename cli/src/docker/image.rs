//! Getting the container's image: built from the project, or pulled from its registry.

use super::build_log::BuildLog;
use super::container::failed;
use super::context::Context;
use super::credentials;
use super::engine::{Engine, EngineError, Layer};
use crate::error::{Error, Result};
use crate::ui::Ui;
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

/// Lines of a build that are shown when it failed and nothing was shown before.
const TAIL: usize = 40;

/// What to build an image from.
#[derive(Debug)]
pub(crate) struct Recipe {
    /// The Dockerfile.
    pub(crate) dockerfile: PathBuf,
    /// The folder that is sent with it.
    pub(crate) context: PathBuf,
    /// What is never sent.
    pub(crate) never: Vec<PathBuf>,
}

/// Builds the image.
pub(crate) fn build(ui: &Ui, engine: &dyn Engine, tag: &str, recipe: Recipe) -> Result<()> {
    ui.notice(&format!("Building {tag} from {}.", recipe.dockerfile.display()));
    let context = Context::new(&recipe.context, &recipe.dockerfile, recipe.never)?;
    let mut last = VecDeque::new();
    let mut show = |line: String| {
        ui.notice(&line);
        last.push_back(line);
        if last.len() > TAIL {
            last.pop_front();
        }
    };
    let mut log = BuildLog::default();
    let outcome =
        engine.build(tag, context, &mut |said| log.feed(said).into_iter().for_each(&mut show));
    log.line().into_iter().for_each(show);
    outcome.map_err(|cause| {
        if ui.is_quiet() {
            for line in &last {
                ui.say_anyway(line);
            }
        }
        // Where a program in the build found it full, only the log says so.
        let is_full = |text: &str| text.to_lowercase().contains("no space left on device");
        let full = is_full(&cause.to_string()) || last.iter().any(|line| is_full(line));
        let error =
            Error::environment(format!("the image {tag} could not be built")).caused_by(cause);
        if full { error.hint(FULL) } else { error }
    })
}

/// Where to look when the engine's disk is full.
const FULL: &str = "the engine's disk is full: 'docker system df' shows what takes the room";

/// Pulls the image from its registry.
pub(crate) fn pull(ui: &Ui, engine: &dyn Engine, reference: &str) -> Result<()> {
    let login = credentials::for_image(reference)?;
    ui.notice(&format!("Pulling {reference}."));
    let mut layers = Layers::default();
    let mut line = ui.status_line();
    let outcome = engine.pull(reference, login, &mut |layer| {
        if let Some(done) = layers.take(&layer) {
            line.clear();
            ui.notice(&done);
        }
        line.show(&layers.summary());
    });
    line.clear();
    outcome.map_err(|cause| {
        let error = Error::environment(format!("the image {reference} could not be pulled"));
        let text = cause.to_string();
        let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
        let hint = if says(&["no space left on device"]) {
            FULL.to_owned()
        } else if matches!(cause, EngineError::NotFound(_)) {
            "its registry does not have it, or hides it from who is not logged in (docker login)".to_owned()
        } else if says(&["unauthorized", "no basic auth", "authentication required", "access denied", ": denied"]) {
            let login = format!("docker login {}", credentials::place(reference));
            format!("its registry wants a login, or another one: {}", login.trim_end())
        } else {
            "is the name right, and can its registry be reached from here? 'image' in .tazpod/config.yaml names it".to_owned()
        };
        error.caused_by(cause).hint(hint)
    })
}

/// Returns the image's id, or says how to come by it when it is one of ours that nobody publishes.
pub(crate) fn require(engine: &dyn Engine, reference: &str) -> Result<Option<String>> {
    let found = engine
        .image(reference)
        .map_err(failed(format!("cannot look for the image {reference}")))?;
    if found.is_none()
        && let Some(vertical) = reference.strip_prefix("tazpod:")
    {
        return Err(Error::environment(format!("the image {reference} is not on this machine"))
            .hint(format!("build it from the sources of TazPod: tazpod image build {vertical}"))
            .hint("or name another image in .tazpod/config.yaml, or a Dockerfile by 'build'"));
    }
    Ok(found)
}

/// Returns what never goes into a build.
pub(crate) fn private(root: &Path, vault: &Path) -> Vec<PathBuf> {
    let mut never = vec![root.join(".tazpod/vault"), root.join(".gemini")];
    never.push(vault.to_owned());
    never
}

/// How far each layer has come.
#[derive(Debug, Default)]
struct Layers {
    bytes: BTreeMap<String, (u64, u64)>,
    done: usize,
}

impl Layers {
    /// Takes news about a layer; returns a line for one that is complete.
    fn take(&mut self, layer: &Layer) -> Option<String> {
        match layer.what.as_str() {
            "Pulling fs layer" | "Waiting" => {
                self.bytes.entry(layer.id.clone()).or_default();
                None
            }
            "Downloading" => {
                if let Some(bytes) = layer.bytes {
                    self.bytes.insert(layer.id.clone(), bytes);
                }
                None
            }
            "Pull complete" | "Already exists" => {
                self.done += 1;
                let bytes = self.bytes.entry(layer.id.clone()).or_default();
                bytes.0 = bytes.1;
                Some(format!("layer {}: {}", layer.id, layer.what.to_lowercase()))
            }
            _ => None,
        }
    }

    fn summary(&self) -> String {
        let sum = |part: fn(&(u64, u64)) -> u64| {
            self.bytes.values().map(part).fold(0, u64::saturating_add)
        };
        let (done, all) = (sum(|bytes| bytes.0) >> 20, sum(|bytes| bytes.1) >> 20);
        format!("{} of {} layers, {done} of {all} MiB", self.done, self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_counted_and_each_is_told_when_it_is_complete() {
        let mut layers = Layers::default();
        let mut take = |id: &str, what: &str, bytes| {
            layers.take(&Layer { id: id.to_owned(), what: what.to_owned(), bytes })
        };
        assert_eq!(take("a", "Pulling fs layer", None), None);
        assert_eq!(take("b", "Already exists", None).as_deref(), Some("layer b: already exists"));
        assert_eq!(take("a", "Downloading", Some((1 << 20, 4 << 20))), None);
        assert_eq!(take("a", "Extracting", Some((1, 2))), None);
        assert_eq!(layers.summary(), "1 of 2 layers, 1 of 4 MiB");
        layers.take(&Layer { id: "a".to_owned(), what: "Pull complete".to_owned(), bytes: None });
        assert_eq!(layers.summary(), "2 of 2 layers, 4 of 4 MiB");
    }
}
