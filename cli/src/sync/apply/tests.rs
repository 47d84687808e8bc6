#![allow(clippy::unwrap_used)]
use super::super::change::{Change, plan};
use super::super::fetch::Answer;
use super::*;
use crate::config::secrets::Secrets;
use std::collections::BTreeMap;
use std::fs;

/// A folder as a vault, and what a `secrets.yml` beside it names.
struct Scene {
    top: tempfile::TempDir,
}

/// Three files, one of them in a folder of its own, and a variable.
const MAP: [&str; 4] = [
    "{name: A, file: a}",
    "{name: B, file: in/b, mode: 0400}",
    "{name: C, file: c}",
    "{name: D, env: D}",
];

impl Scene {
    fn new() -> Self {
        // In memory: every step waits for a disk several times.
        let scene = Self { top: tempfile::tempdir_in("/dev/shm").unwrap() };
        fs::create_dir(scene.vault_folder()).unwrap();
        scene
    }

    fn vault_folder(&self) -> PathBuf {
        self.top.path().join("vault")
    }

    fn vault(&self) -> OpenVault {
        OpenVault::of_folder(&self.vault_folder())
    }

    fn secrets(&self, map: &[&str]) -> Secrets {
        let path = self.top.path().join("secrets.yml");
        fs::write(&path, format!("secrets: [{}]\n", map.join(", "))).unwrap();
        Secrets::load(&path, "secrets.yml").unwrap()
    }

    fn plan(&self, map: &[&str], answers: Vec<Answer>, prune: bool) -> Result<Plan> {
        let vault = self.vault();
        plan(&vault, &self.secrets(map), answers, &Record::load(&vault), prune)
    }

    /// Pulls values that say which round they are of, for everything that the map names.
    fn pull(&self, map: &[&str], round: &str) -> Result<()> {
        let answers = map.iter().map(|_| value(round)).collect();
        self.apply(&self.plan(map, answers, true)?)
    }

    fn apply(&self, plan: &Plan) -> Result<()> {
        let vault = self.vault();
        let turn = Turn::take(&vault)?;
        turn.apply(&vault, plan, Record::load(&vault), "test")
    }

    fn files(&self) -> BTreeMap<&'static str, String> {
        let places = ["a", "in/b", "c", ".tazpod/values/D"];
        let read = |place| Some((place, fs::read_to_string(self.vault_folder().join(place)).ok()?));
        places.into_iter().filter_map(read).collect()
    }

    fn staged(&self) -> usize {
        fs::read_dir(self.vault_folder().join(".tazpod/new")).unwrap().count()
    }
}

fn value(round: &str) -> Answer {
    Answer::Value(round.repeat(5000).into())
}

#[test]
fn what_stands_in_the_way_of_the_last_file_is_known_before_the_first_is_placed() {
    let scene = Scene::new();
    scene.pull(&MAP[..1], "old ").unwrap();
    let plan = scene.plan(&MAP, MAP.iter().map(|_| value("new ")).collect(), false).unwrap();
    // What was to be a folder became a file since.
    fs::write(scene.vault_folder().join("in"), "mine").unwrap();
    let error = scene.apply(&plan).unwrap_err();
    assert_eq!(error.hints(), ["the secrets are as they were"]);
    assert!(error.to_string().contains("in/b"), "{error}");
    assert_eq!(scene.files(), BTreeMap::from([("a", "old ".repeat(5000))]));
    assert_eq!(scene.staged(), 0, "what nobody will place takes room");
}

#[test]
fn a_secret_that_is_optional_in_one_place_is_not_so_in_another() {
    let scene = Scene::new();
    let twice = ["{name: A, file: a, optional: true}", "{name: A, file: b}"];
    let missing = |count: usize| (0..count).map(|_| Answer::Missing).collect();
    let error = scene.plan(&twice, missing(2), false).err().unwrap();
    assert_eq!(error.to_string(), "Infisical does not have A (dev /)");
    let plan = scene.plan(&twice[..1], missing(1), false).unwrap();
    assert_eq!(plan.rows.first().map(|row| row.change), Some(Change::Missing));
}

#[test]
fn variables_that_would_leave_a_shell_no_room_are_refused_by_name_and_place() {
    let scene = Scene::new();
    let map: Vec<String> =
        (0..11).map(|number| format!("{{name: V{number}, env: V{number}}}")).collect();
    let map: Vec<&str> = map.iter().map(String::as_str).collect();
    let large = || Answer::Value("x".repeat(100_000).into());
    let error = scene.plan(&map, map.iter().map(|_| large()).collect(), false).err().unwrap();
    let words = "the value of 'V10' is more than the 1 MiB of all variables leaves";
    assert!(error.to_string().ends_with(words), "{error}");
    assert!(scene.plan(&map[..10], (0..10).map(|_| large()).collect(), false).is_ok());
}
