//! The `infisical` program's source against a program with its habits, which reads from a server.
#![allow(clippy::unwrap_used)]

use super::address::Address;
use super::program::Program;
use super::source::{ProjectRef, Query, Source, SourceError};
use super::tests::{Scene, query, rows};
use harness::infisical::{Item, PROJECT_SLUG};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// The program beside its own notes, and a server.
struct Stage {
    scene: Scene,
    path: PathBuf,
}

impl Stage {
    fn new() -> Self {
        let scene = Scene::new();
        let path = scene.top.path().join("infisical");
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/infisical/infisical");
        symlink(program, &path).unwrap();
        Self { scene, path }
    }

    /// A user is logged in with the program.
    fn logged_in() -> Self {
        let stage = Self::new();
        let token = stage.scene.server.world().issue();
        stage.keep(&token);
        stage
    }

    fn keep(&self, token: &str) {
        let status = Command::new(&self.path)
            .args(["keep", "--email=dev@example.com"])
            .arg(format!("--domain={}/api", self.scene.server.url))
            .arg(format!("--token={token}"))
            .env("HOME", self.scene.top.path())
            .status();
        assert!(status.unwrap().success());
        fs::remove_file(self.scene.top.path().join("calls")).unwrap();
    }

    fn behave(&self, how: &str) {
        fs::write(self.scene.top.path().join("behave"), how).unwrap();
    }

    fn program(&self) -> Program {
        let address = Address::parse(&self.scene.server.url, false).unwrap();
        Program::at(self.path.clone(), address, &self.scene.settings, &self.scene.folders())
    }

    fn calls(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.scene.top.path().join("calls")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

#[test]
fn values_come_from_the_program_byte_for_byte_and_warnings_do_not() {
    let stage = Stage::logged_in();
    let lines = "a\nb\r\n\"'$(x)`y`\\ é\u{1f511}\n";
    stage.scene.server.world().set("dev", "/in", "LINES", lines);
    stage.scene.server.world().set("dev", "/in", "EMPTY", "");
    let hidden = Item { value: "x".into(), hidden: true, ..Item::default() };
    stage.scene.server.world().put("dev", "/in", "HIDDEN", hidden);
    let found = stage.program().list(&query("/in")).unwrap();
    assert_eq!(
        rows(&found),
        [("/in", "EMPTY", ""), ("/in", "HIDDEN", ""), ("/in", "LINES", lines)]
    );
    assert_eq!(found.iter().map(|s| s.hidden).collect::<Vec<_>>(), [false, true, false]);
    let identity = stage.program().identity().unwrap();
    assert_eq!((identity.who.as_str(), identity.how), ("dev@example.com", "user"));
}

#[test]
fn program_gets_no_terminal_no_token_and_no_secret() {
    let stage = Stage::logged_in();
    stage.program().list(&query("/")).unwrap();
    let [call] = &stage.calls()[..] else { panic!("one call") };
    let argv: Vec<&str> =
        call["argv"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(argv[..3], ["export", "--format=json", "--silent"]);
    assert!(argv.contains(&"--expand=true") && argv.contains(&"--include-imports=true"));
    assert_eq!((&call["terminal"], &call["stdin"]), (&false.into(), &"/dev/null".into()));
    assert_eq!(call["cwd"], "/");
    assert!(!call.to_string().contains("token-canary"));
    let program = stage.program();
    let command = program.command(&query("/"), "project");
    let names: Vec<_> = command.get_envs().map(|(name, _)| name.to_str().unwrap()).collect();
    let known = |name: &&str| {
        super::program::KEPT.contains(name)
            || super::program::PROXIES.contains(name)
            || ["HOME", "INFISICAL_DISABLE_UPDATE_CHECK"].contains(name)
    };
    assert!(names.iter().all(known), "{names:?}");
}

#[test]
fn program_is_never_called_without_a_session_that_lives() {
    let stage = Stage::new();
    assert!(stage.program().list(&query("/")).unwrap_err().asks_for_login());
    stage.scene.server.world().token_life = (10, 0);
    let short = stage.scene.server.world().issue();
    stage.keep(&short);
    let error = stage.program().list(&query("/")).unwrap_err();
    assert!(error.asks_for_login(), "{error}");
    assert!(stage.calls().is_empty());
    assert!(stage.program().identity().unwrap_err().asks_for_login());
}

#[test]
fn session_of_another_server_is_not_used() {
    let stage = Stage::logged_in();
    let address = Address::parse("https://elsewhere.example", false).unwrap();
    let (settings, folders) = (&stage.scene.settings, stage.scene.folders());
    let mut program = Program::at(stage.path.clone(), address, settings, &folders);
    assert!(program.list(&query("/")).unwrap_err().asks_for_login());
    assert!(stage.calls().is_empty());
}

#[test]
fn what_the_program_says_about_a_failure_is_understood() {
    let stage = Stage::logged_in();
    let fails = |path: &str| stage.program().list(&query(path)).unwrap_err();
    assert!(matches!(fails("/nowhere"), SourceError::NotFound { .. }));
    stage.scene.server.world().outsider = true;
    assert!(matches!(fails("/"), SourceError::Permission { .. }));
    stage.scene.server.world().revoke_all();
    let ended = fails("/");
    assert!(ended.asks_for_login(), "{ended:?}");
}

#[test]
fn program_that_hangs_or_prints_no_secrets_is_a_bounded_error() {
    let mut stage = Stage::logged_in();
    stage.scene.settings.limits.answer = 1 << 20;
    stage.behave("garbage");
    let garbage = stage.program().list(&query("/")).unwrap_err();
    assert!(matches!(garbage, SourceError::Malformed { .. }), "{garbage:?}");
    stage.behave("huge");
    let huge = stage.program().list(&query("/")).unwrap_err();
    assert!(matches!(huge, SourceError::TooLarge { .. }), "{huge:?}");
    stage.behave("hang");
    stage.scene.settings.limits.patience = Duration::from_millis(300);
    let hung = stage.program().list(&query("/")).unwrap_err();
    assert!(matches!(hung, SourceError::TimedOut { .. }), "{hung:?}");
}

#[test]
fn what_the_program_cannot_do_is_said() {
    let stage = Stage::logged_in();
    let recursive = Query { recursive: true, ..query("/") };
    let slug = Query { project: ProjectRef::Slug(PROJECT_SLUG.into()), ..query("/") };
    for asked in [recursive, slug] {
        let error = stage.program().list(&asked).unwrap_err();
        assert!(matches!(error, SourceError::Invalid { .. }), "{error:?}");
    }
}

/// Our own client goes on with the session that the program left.
#[test]
fn session_of_the_program_serves_our_own_client() {
    let stage = Stage::logged_in();
    stage.scene.server.world().set("dev", "/", "X", "x");
    let (settings, folders) = (&stage.scene.settings, stage.scene.folders());
    let mut source = super::choose::choose(settings, &folders).unwrap();
    assert_eq!(source.name(), "native");
    assert_eq!(rows(&source.list(&query("/")).unwrap()), [("/", "X", "x")]);
    assert_eq!(source.identity().unwrap().who, "dev@example.com");
    assert_eq!(stage.scene.logins(), 0);
    stage.scene.server.world().revoke_all();
    assert!(source.list(&query("/")).unwrap_err().asks_for_login());
    let forgotten =
        super::choose::forget_user(settings, &folders, &stage.scene.server.url).unwrap();
    assert_eq!(forgotten.as_deref(), Some("dev@example.com"));
    assert!(
        super::choose::forget_user(settings, &folders, &stage.scene.server.url).unwrap().is_none()
    );
}
