#![allow(clippy::unwrap_used)]
use super::*;
use crate::error::Kind;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

fn parse(text: &str) -> Result<Config> {
    parse::parse(text.as_bytes(), "config.yaml").map(Option::unwrap_or_default)
}

fn complaint(text: &str) -> String {
    let error = parse(text).unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    error.to_string()
}

#[test]
fn a_file_of_the_older_program_keeps_working() {
    let config = parse(
        "# TazPod Configuration\nversion: 1.0\nimage: \"registry/tazpod:k8s\"\n\
         container_name: \"tazpod-lab-1234567\"\nuser: \"tazpod\"\nbuild:\n  \
         dockerfile: \".tazpod/Dockerfile\"\n  context: \".\"\nfeatures:\n  ghost_mode: true\n  \
         debug: false\nmode: docker\naws_sso:\n  profile: x\nvault:\n  retention: 5\n",
    )
    .unwrap();
    assert_eq!(config.container_name.as_deref(), Some("tazpod-lab-1234567"));
    assert_eq!(config.meaningless(), ["mode", "aws_sso", "vault.retention"]);
}

#[test]
fn nothing_and_empty_sections_mean_defaults() {
    for text in ["", "# only a comment\n", "vault:\nghost:\nfeatures:\n", "version: \"1.0\"\n"] {
        let config = parse(text).unwrap();
        assert_eq!((config.backend(), config.ghost_pass().len()), (None, 0), "{text}");
    }
}

#[test]
fn our_own_sections_are_read() {
    let config = parse(
        "vault:\n  backend: fuse\n  size: 2G\n  path: elsewhere.img\n  lock_after: 30m\nghost:\n  home: private\n  pass: [SSH_AUTH_SOCK]\n",
    )
    .unwrap();
    assert_eq!(config.backend(), Some(BackendKind::Fuse));
    assert_eq!(config.vault_size(), Some(ByteSize(2 << 30)));
    assert_eq!(config.ghost_pass(), ["SSH_AUTH_SOCK"]);
    assert_eq!(config.lock_after(), Some(std::time::Duration::from_secs(1800)));
    assert_eq!(config.ghost_home(), GhostHome::Private);
}

#[test]
fn an_unknown_key_is_named_with_its_place_and_the_keys_there_are() {
    assert_eq!(
        complaint("version: 1.0\nvault:\n  bakend: fuse\n"),
        "config.yaml:3:3: vault: unknown field `bakend`, expected one of `backend`, `size`, \
         `path`, `lock_after`, `retention`"
    );
}

#[test]
fn a_wrong_type_is_named_with_its_place_and_what_was_expected() {
    assert_eq!(
        complaint("features:\n  debug: maybe\n"),
        "config.yaml:2:10: features.debug: invalid type: string \"maybe\", expected a boolean"
    );
    assert_eq!(
        complaint("vault:\n  size: huge\n"),
        "config.yaml:2:9: vault.size: invalid value: string \"huge\", expected a size such as \
         512M or 2G"
    );
    assert_eq!(
        complaint("vault: 5\n"),
        "config.yaml:1:8: vault: invalid type: integer `5`, expected keys and values"
    );
    assert_eq!(
        complaint("version: 7\n"),
        "config.yaml:1:10: version: invalid value: string \"7\", expected version 1.0"
    );
}

#[test]
fn names_that_an_engine_would_refuse_are_refused_with_their_place() {
    assert_eq!(
        complaint("image: a\ncontainer_name: \"my app\"\n"),
        "config.yaml:2:17: container_name: invalid value: string \"my app\", expected letters, \
         digits, '_', '.' and '-', beginning with a letter or digit"
    );
    for text in [
        "container_name: -x",
        "container_name: a/b",
        "container_name: x",
        "image: ../etc",
        "image: 'a b'",
        "image: 'a?b=c'",
        "user: 'root:root'",
        "user: ''",
        "user: ../x",
        "user: \"1000\"",
    ] {
        assert!(complaint(text).contains("expected"), "{text}");
    }
    for text in [
        "container_name: tazpod-lab-1234567",
        "image: r.example:5000/a/b_c:1.0",
        "user: tazpod",
        "image: a@sha256:0123456789abcdef",
        "user: _x",
    ] {
        parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
}

#[test]
fn the_container_section_has_careful_defaults() {
    let config = parse("container:\n").unwrap();
    assert!(config.wants_ghosts() && config.privileged() && config.x11() && !config.debug());
    let config = parse(
        "features:\n  ghost_mode: false\n  debug: true\ncontainer:\n  privileged: false\n  x11: false\n",
    )
    .unwrap();
    assert!(!config.wants_ghosts() && !config.privileged() && !config.x11() && config.debug());
    assert_eq!(
        complaint("container:\n  x11: 3\n"),
        "config.yaml:2:8: container.x11: invalid type: integer `3`, expected a boolean"
    );
}

#[test]
fn a_build_counts_from_the_project_and_one_of_its_two_paths_is_enough() {
    let dir = tempfile::tempdir().unwrap();
    let project = Project::find(dir.path()).unwrap();
    let root = project.root();
    for (text, expected) in [
        ("build:\n", None),
        ("build:\n  dockerfile: d/File\n", Some(("d/File", "."))),
        ("build:\n  context: d\n", Some(("d/Dockerfile", "d"))),
    ] {
        let expected = expected.map(|(file, context)| (root.join(file), root.join(context)));
        assert_eq!(parse(text).unwrap().build(&project), expected, "{text}");
    }
}

#[test]
fn what_is_no_yaml_is_refused_with_its_place() {
    let unclosed = complaint("providers: [1\nx: 2\n");
    assert!(unclosed.starts_with("config.yaml:") && unclosed.contains("line 2"), "{unclosed}");
    assert!(complaint("image: a\nimage: b\n").contains("duplicate"));
}

#[test]
fn aliases_that_explode_are_not_followed_to_their_end() {
    let mut bomb = String::from("providers:\n  a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let refs = vec![format!("*a{}", level - 1); 9].join(", ");
        writeln!(bomb, "  a{level}: &a{level} [{refs}]").unwrap();
    }
    let start = Instant::now();
    complaint(&format!("{bomb}ghost:\n  pass: *a11\n"));
    // Where the value means nothing, aliases are not followed at all.
    assert_eq!(parse(&bomb).unwrap().meaningless(), ["providers"]);
    let deep = format!("providers: {}", "[".repeat(10_000));
    complaint(&deep);
    // Followed one by one, they would take weeks.
    assert!(start.elapsed() < Duration::from_secs(60));
}
