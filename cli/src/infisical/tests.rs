//! Our own client against a server that speaks Infisical's interface.
#![allow(clippy::unwrap_used)]

use super::choose;
use super::native::Native;
use super::settings::{Folders, Settings, SourceKind};
use super::source::{ProjectRef, Query, Secret, Source, SourceError};
use super::transport::Limits;
use harness::infisical::{
    CLIENT_ID, CLIENT_SECRET, ELSEWHERE, Item, PROJECT_ID, PROJECT_SLUG, Server, Trouble,
};
use std::fmt::Write as _;
use std::fs;
use std::time::Duration;
use tempfile::TempDir;

/// A vault's bridge folders and a server.
pub(super) struct Scene {
    pub(super) server: Server,
    pub(super) top: TempDir,
    pub(super) settings: Settings,
}

impl Scene {
    pub(super) fn new() -> Self {
        Self::with(Server::start())
    }

    fn with(server: Server) -> Self {
        let top = tempfile::tempdir().unwrap();
        for name in [".infisical", "infisical-keyring"] {
            fs::create_dir(top.path().join(name)).unwrap();
        }
        let limits = Limits { pause: Duration::from_millis(1), ..Limits::default() };
        let settings = Settings {
            source: Some(SourceKind::Native),
            url: Some(server.url.clone()),
            limits,
            ..Settings::default()
        };
        Self { server, top, settings }
    }

    pub(super) fn folders(&self) -> Folders {
        Folders {
            home: self.top.path().to_owned(),
            infisical: self.top.path().join(".infisical"),
            keyring: self.top.path().join("infisical-keyring"),
        }
    }

    /// What the next run of the program finds.
    fn native(&self) -> Native {
        choose::native(&self.settings, &self.folders()).unwrap()
    }

    fn logged_in(&self) -> Native {
        let mut native = self.native();
        native.log_in(CLIENT_ID.into(), CLIENT_SECRET.to_owned().into()).unwrap();
        native
    }

    pub(super) fn logins(&self) -> usize {
        self.server.count("/api/v1/auth/universal-auth/login")
    }
}

pub(super) fn query(path: &str) -> Query {
    Query {
        project: ProjectRef::Id(PROJECT_ID.into()),
        environment: "dev".into(),
        path: path.into(),
        recursive: false,
        expand: true,
        imports: true,
        tags: Vec::new(),
    }
}

pub(super) fn rows(secrets: &[Secret]) -> Vec<(&str, &str, &str)> {
    secrets.iter().map(|s| (s.path.as_str(), s.name.as_str(), s.value.expose())).collect()
}

#[test]
fn values_of_every_kind_survive_byte_for_byte() {
    let scene = Scene::new();
    let long = "é\u{1f511}\"\\\r\n\t$(x)`y`'".repeat(50_000);
    let values =
        ["", "plain", "a\nb\r\nc\n", "'\"$(touch x)`id`\\", "\0\u{1}\u{7f}\u{2028}", &long, " x "];
    for (number, value) in values.iter().enumerate() {
        scene.server.world().set("dev", "/", &format!("N{number}"), value);
    }
    let found = scene.logged_in().list(&query("/")).unwrap();
    let found: Vec<&str> = found.iter().map(|secret| secret.value.expose()).collect();
    assert!(found == values, "a value changed on its way");
}

#[test]
fn what_is_asked_for_is_said_in_full_and_in_one_request() {
    let scene = Scene::new();
    scene.server.world().set("dev", "/a b&c", "X", "x");
    let mut native = scene.logged_in();
    let mut asked = query("/a b&c");
    asked.tags = vec!["one".into(), "two".into()];
    native.list(&asked).unwrap();
    assert_eq!(scene.server.count("/api/v4/secrets"), 1);
    let seen = scene.server.seen().pop().unwrap();
    let expected = [
        ("projectId", PROJECT_ID),
        ("environment", "dev"),
        ("secretPath", "/a b&c"),
        ("recursive", "false"),
        ("includeImports", "true"),
        ("includePersonalOverrides", "true"),
        ("expandSecretReferences", "true"),
        ("viewSecretValue", "true"),
        ("tagSlugs", "one,two"),
    ];
    for (name, value) in expected {
        assert_eq!(seen.query.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert_eq!(seen.query.len(), expected.len());
}

/// Both versions give the same; v3 is asked only where v4 is not known.
#[test]
fn folders_imports_references_and_tags_come_from_v4_and_from_v3() {
    for v3_only in [false, true] {
        let scene = Scene::new();
        {
            let mut world = scene.server.world();
            world.v3_only = v3_only;
            world.set("dev", "/", "OWN", "to ${dev.in.DEEP}");
            world.set("dev", "/in", "DEEP", "deep");
            world.set("dev", "/shared", "OWN", "shadowed");
            world.set("dev", "/shared", "IMPORTED", "imported");
            let tags = vec!["red".to_owned()];
            world.put("dev", "/in", "TAGGED", Item { value: "t".into(), tags, ..Item::default() });
            world.import(("dev", "/"), ("dev", "/shared"));
        }
        let mut native = scene.logged_in();
        let mut ask = |change: &dyn Fn(&mut Query)| {
            let mut query = query("/");
            change(&mut query);
            native.list(&query).unwrap()
        };
        let plain = ask(&|_| ());
        assert_eq!(rows(&plain), [("/", "IMPORTED", "imported"), ("/", "OWN", "to deep")]);
        let raw = ask(&|query| (query.expand, query.imports) = (false, false));
        assert_eq!(rows(&raw), [("/", "OWN", "to ${dev.in.DEEP}")]);
        let below = ask(&|query| query.recursive = true);
        assert!(rows(&below).contains(&("/in", "DEEP", "deep")), "{:?}", rows(&below).len());
        let tagged = ask(&|query| {
            query.path = "/in".into();
            query.tags = vec!["red".into()];
        });
        assert_eq!(rows(&tagged), [("/in", "TAGGED", "t")]);
        let by_slug = ask(&|query| query.project = ProjectRef::Slug(PROJECT_SLUG.into()));
        assert_eq!(rows(&by_slug), rows(&plain));
        // Asked in vain at most once.
        let v4 = scene.server.count("/api/v4/secrets");
        let v3 = scene.server.count("/api/v3/secrets/raw");
        assert_eq!((v4, v3), if v3_only { (1, 5) } else { (5, 0) });
    }
}

#[test]
fn hidden_values_are_no_values() {
    let scene = Scene::new();
    let hidden = Item { value: "canary".into(), hidden: true, ..Item::default() };
    scene.server.world().put("dev", "/", "X", hidden);
    let found = scene.logged_in().list(&query("/")).unwrap();
    assert!(found[0].hidden && found[0].value.expose().is_empty());
}

#[test]
fn session_survives_in_the_vault_and_nobody_logs_in_again() {
    let scene = Scene::new();
    drop(scene.logged_in());
    for _ in 0..3 {
        scene.native().list(&query("/")).unwrap();
    }
    assert_eq!(scene.logins(), 1);
    let identity = scene.native().identity().unwrap();
    assert_eq!((identity.who.as_str(), identity.how), ("deployer", "universal auth"));
    assert_eq!(identity.at, scene.server.url);
    assert!(identity.until.is_some());
}

#[test]
fn token_is_renewed_before_it_ends_and_the_renewed_one_kept() {
    let scene = Scene::new();
    scene.server.world().token_life = (200, 0);
    let mut native = scene.logged_in();
    // Far enough from the end for a machine that is slow today.
    native.age(145);
    native.list(&query("/")).unwrap();
    assert_eq!(scene.server.count("/api/v1/auth/token/renew"), 1);
    assert_eq!(scene.logins(), 1);
    let first = scene.server.seen().pop().unwrap().headers["authorization"].clone();
    scene.native().list(&query("/")).unwrap();
    let second = scene.server.seen().pop().unwrap().headers["authorization"].clone();
    assert_eq!(first, second, "the renewed token is the one that is kept");
}

#[test]
fn token_that_cannot_be_renewed_any_more_is_replaced_by_a_login() {
    let scene = Scene::new();
    scene.server.world().token_life = (30, 30);
    let mut native = scene.logged_in();
    native.age(29);
    native.list(&query("/")).unwrap();
    assert_eq!(scene.server.count("/api/v1/auth/token/renew"), 0);
    assert_eq!(scene.logins(), 2);
}

#[test]
fn token_that_the_server_ended_is_replaced_once() {
    let scene = Scene::new();
    let mut native = scene.logged_in();
    scene.server.world().revoke_all();
    native.list(&query("/")).unwrap();
    assert_eq!(scene.logins(), 2);
    // A server that refuses every token is asked twice, not for ever.
    let body = r#"{"statusCode":401,"error":"UnauthorizedError","message":"no"}"#;
    scene.server.trouble(Trouble::Status(401, body.into()), 1);
    scene.server.world().logins_left = Some(0);
    assert!(native.list(&query("/")).unwrap_err().asks_for_login());
}

/// Wrong client secrets lock the client: a refused one is offered once, also by later runs.
#[test]
fn refused_client_secret_is_never_offered_again() {
    let scene = Scene::new();
    drop(scene.logged_in());
    scene.server.world().revoke_all();
    scene.server.world().logins_left = Some(0);
    let before = scene.logins();
    for _ in 0..4 {
        assert!(scene.native().list(&query("/")).unwrap_err().asks_for_login());
    }
    assert_eq!(scene.logins(), before + 1);
    let mut native = scene.native();
    let wrong = native.log_in(CLIENT_ID.into(), "wrong".to_owned().into()).unwrap_err();
    assert!(wrong.asks_for_login());
    assert_eq!(scene.logins(), before + 2, "a 401 is not repeated");
    assert!(!scene.server.world().is_locked());
}

#[test]
fn pasted_token_serves_until_it_ends_and_then_asks_for_a_login() {
    let scene = Scene::new();
    let token = scene.server.world().issue();
    scene.native().take_token(token.into()).unwrap();
    assert_eq!(scene.native().identity().unwrap().how, "token");
    scene.native().list(&query("/")).unwrap();
    scene.server.world().revoke_all();
    assert!(scene.native().list(&query("/")).unwrap_err().asks_for_login());
    assert_eq!(scene.logins(), 0);
}

#[test]
fn logging_out_ends_the_token_there_and_here() {
    let scene = Scene::new();
    drop(scene.logged_in());
    assert_eq!(scene.server.world().live_tokens(), 1);
    assert!(scene.native().log_out().unwrap());
    assert_eq!(scene.server.world().live_tokens(), 0);
    assert!(scene.native().list(&query("/")).unwrap_err().asks_for_login());
    assert!(!scene.native().log_out().unwrap());
    let left = fs::read_to_string(scene.folders().infisical.join("tazpod-sessions.json")).unwrap();
    assert!(!left.contains(CLIENT_SECRET) && !left.contains("token-canary"), "{left}");
}

#[test]
fn errors_are_told_apart() {
    let scene = Scene::new();
    let mut native = scene.logged_in();
    let mut fails = |query: &Query| native.list(query).unwrap_err();
    assert!(matches!(fails(&query("/nowhere")), SourceError::NotFound { .. }));
    assert!(matches!(fails(&query("no-slash")), SourceError::Invalid { .. }));
    let foreign = Query { project: ProjectRef::Slug("another".into()), ..query("/") };
    assert!(matches!(fails(&foreign), SourceError::NotFound { .. }));
    scene.server.world().outsider = true;
    let error = fails(&query("/"));
    assert!(matches!(error, SourceError::Permission { .. }), "{error:?}");
    assert!(error.to_string().contains("not a member"), "{error}");
    assert_eq!(scene.logins(), 1, "only an authentication error leads to a login");
}

#[test]
fn passing_trouble_is_waited_out() {
    for (trouble, times) in [
        (Trouble::Status(503, String::new()), 3),
        (Trouble::Status(500, "{}".into()), 1),
        (Trouble::Busy { seconds: 0, header: true }, 2),
        (Trouble::Busy { seconds: 0, header: false }, 2),
        (Trouble::CutOff, 1),
        (Trouble::Closed, 2),
    ] {
        let scene = Scene::new();
        scene.server.world().set("dev", "/", "X", "x");
        let mut native = scene.logged_in();
        scene.server.trouble(trouble.clone(), times);
        let found = native.list(&query("/"));
        assert_eq!(found.map(|list| list.len()).ok(), Some(1), "{trouble:?}");
        assert_eq!(scene.server.count("/api/v4/secrets"), times + 1, "{trouble:?}");
    }
}

#[test]
fn patience_ends() {
    let mut scene = Scene::new();
    scene.settings.limits.patience = Duration::from_millis(50);
    let mut native = scene.logged_in();
    let mut meets = |trouble: Trouble| {
        scene.server.trouble(trouble, 1000);
        let error = native.list(&query("/")).unwrap_err();
        scene.server.calm();
        error
    };
    let busy = meets(Trouble::Busy { seconds: 40, header: true });
    let wait = Some(Duration::from_secs(40));
    assert!(matches!(busy, SourceError::RateLimited { wait: said, .. } if said == wait));
    let broken = meets(Trouble::Status(503, r#"{"message":"down for repair"}"#.into()));
    assert!(matches!(broken, SourceError::Unreachable { .. }), "{broken:?}");
    let closed = meets(Trouble::Closed);
    assert!(matches!(closed, SourceError::Unreachable { .. }), "{closed:?}");
}

#[test]
fn answers_that_are_none_are_bounded_errors() {
    let mut scene = Scene::new();
    scene.settings.limits.answer = 1 << 20;
    scene.settings.limits.patience = Duration::ZERO;
    let mut native = scene.logged_in();
    let mut meets = |trouble: Trouble| {
        scene.server.trouble(trouble, 1);
        native.list(&query("/")).unwrap_err()
    };
    assert!(matches!(meets(Trouble::Html), SourceError::Malformed { .. }));
    assert!(matches!(meets(Trouble::Huge(2 << 20)), SourceError::TooLarge { .. }));
    assert!(matches!(meets(Trouble::Endless), SourceError::TooLarge { .. }));
    let garbage = meets(Trouble::Garbage);
    assert!(matches!(garbage, SourceError::Malformed { .. }), "{garbage:?}");
    let cut = meets(Trouble::CutOff);
    assert!(matches!(cut, SourceError::Unreachable { .. }), "{cut:?}");
}

#[test]
fn slow_server_is_given_up() {
    let mut scene = Scene::new();
    drop(scene.logged_in());
    scene.settings.limits.request = Duration::from_millis(200);
    scene.server.trouble(Trouble::Slow(Duration::from_secs(3)), 1);
    let error = scene.native().list(&query("/")).unwrap_err();
    assert!(matches!(error, SourceError::TimedOut { .. }), "{error:?}");
}

/// A token goes to the server that it was given for, and nowhere else.
#[test]
fn redirects_are_not_followed() {
    let scene = Scene::new();
    let elsewhere = Server::start();
    let mut native = scene.logged_in();
    scene.server.trouble(Trouble::Redirect(format!("{}/api/v4/secrets", elsewhere.url)), 1);
    let error = native.list(&query("/")).unwrap_err();
    assert!(matches!(error, SourceError::Malformed { .. }), "{error:?}");
    assert!(elsewhere.seen().is_empty());
}

#[test]
fn private_ca_is_trusted_when_its_file_is_named_and_only_then() {
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    let mut scene = Scene::with(Server::start_tls(&ca_file));
    let mut stranger = scene.native();
    let refused = stranger.log_in(CLIENT_ID.into(), CLIENT_SECRET.to_owned().into()).unwrap_err();
    let error = crate::error::Error::from(refused);
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("ca_file"), "{error}: {cause}");
    assert!(scene.server.seen().is_empty(), "nothing was sent");
    scene.settings.ca_file = Some(ca_file);
    scene.logged_in().list(&query("/")).unwrap();
    scene.settings.ca_file = Some("/dev/null".into());
    assert!(choose::native(&scene.settings, &scene.folders()).is_err());
}

/// Whoever may write `secrets.yml` must not come between a kept login and its server.
#[test]
fn what_is_kept_goes_no_way_that_no_login_went() {
    let folder = tempfile::tempdir().unwrap();
    let [ours, theirs] = ["ours.pem", "theirs.pem"].map(|name| folder.path().join(name));
    let mut scene = Scene::with(Server::start_tls(&ours));
    let impostor = Server::start_tls(&theirs);
    scene.settings.ca_file = Some(ours.clone());
    drop(scene.logged_in());
    let chosen = |scene: &Scene| choose::choose(&scene.settings, &scene.folders());
    chosen(&scene).unwrap().list(&query("/")).unwrap();
    let moved = folder.path().join("moved.pem");
    fs::copy(&ours, &moved).unwrap();
    scene.settings.ca_file = Some(moved);
    chosen(&scene).unwrap().list(&query("/")).unwrap();

    let both = folder.path().join("both.pem");
    let certificates = [&ours, &theirs].map(|path| fs::read_to_string(path).unwrap());
    fs::write(&both, certificates.concat()).unwrap();
    let before = scene.server.seen().len();
    for changed in [&both, &theirs] {
        scene.settings.ca_file = Some(changed.clone());
        let error = chosen(&scene).err().unwrap();
        assert_eq!(error.kind(), crate::error::Kind::Refused, "{error}");
        assert!(error.to_string().contains("not that of the login"), "{error}");
    }
    assert!(scene.native().is_new_way().unwrap());
    assert_eq!(scene.server.seen().len() + impostor.seen().len(), before, "nothing was sent");

    scene.settings.ca_file = Some(both);
    drop(scene.logged_in());
    chosen(&scene).unwrap().list(&query("/")).unwrap();
    scene.settings.ca_file = Some(ours);
    let before = scene.server.seen().len();
    assert!(matches!(scene.native().log_out(), Err(SourceError::OtherWay { .. })));
    assert_eq!(scene.server.seen().len(), before, "the token was not sent");
    assert!(!scene.native().log_out().unwrap(), "it is forgotten");
}

/// Nothing keeps a proxy from reading what is not encrypted; one that the environment names is ours.
#[test]
fn a_configured_proxy_counts_as_a_way_where_nothing_is_encrypted() {
    let way = |url: &str, proxy: Option<&str>| {
        let settings = Settings { proxy: proxy.map(str::to_owned), ..Settings::default() };
        let transport = super::transport::Transport::new(
            super::address::Address::parse(url, true).unwrap(),
            &settings,
        );
        transport.unwrap().way().map(str::to_owned)
    };
    let (one, other) = (Some("http://proxy.example:3128"), Some("http://other.example:3128"));
    assert!(way("http://a.example", one).is_some());
    assert_ne!(way("http://a.example", one), way("http://a.example", other));
    for (url, proxy) in [
        ("https://a.example", one),
        ("http://a.example", None),
        ("http://a.example", Some("none")),
        ("http://localhost:1", one),
    ] {
        assert_eq!(way(url, proxy), None, "{url} {proxy:?}");
    }
}

/// The host has a name that only the proxy can find.
#[test]
fn configured_proxy_leads_to_a_host_that_only_it_can_find() {
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    let mut scene = Scene::with(Server::start_tls(&ca_file));
    let proxy = scene.server.proxy();
    let host = format!("{ELSEWHERE}:{}", scene.server.port());
    scene.settings.url = Some(format!("https://{host}"));
    scene.settings.ca_file = Some(ca_file);
    scene.settings.limits.patience = Duration::ZERO;
    for (configured, reaches) in [(&proxy.url[..], true), ("none", false)] {
        scene.settings.proxy = Some(configured.into());
        let outcome = scene.native().log_in(CLIENT_ID.into(), CLIENT_SECRET.to_owned().into());
        assert_eq!(outcome.is_ok(), reaches, "{configured}: {outcome:?}");
    }
    assert_eq!(proxy.asked(), [host]);
    scene.settings.proxy = Some("ftp://user:canary@proxy".into());
    let error = choose::native(&scene.settings, &scene.folders()).err().unwrap();
    assert!(!format!("{error:?}").contains("canary"), "{error:?}");
}

/// Every error of every kind of trouble is rendered whole and searched for what must not be in it.
#[test]
fn errors_hold_no_secret() {
    let mut scene = Scene::new();
    scene.settings.limits.patience = Duration::ZERO;
    scene.server.world().set("dev", "/", "X", "value-canary");
    let mut native = scene.logged_in();
    let token = scene.server.world().issue();
    let echo = format!(r#"{{"message":"bad token {token}","error":"X"}}"#);
    let mut statuses = vec![400, 403, 404, 409, 422, 500, 503];
    statuses.dedup();
    let troubles = statuses
        .into_iter()
        .map(|status| Trouble::Status(status, echo.clone()))
        .chain([Trouble::Html, Trouble::CutOff, Trouble::Garbage])
        .chain([Trouble::Status(200, r#"{"secrets":"value-canary"}"#.into())]);
    for trouble in troubles {
        scene.server.trouble(trouble.clone(), 1);
        let error = native.list(&query("/")).unwrap_err();
        let debug = format!("{error:?}");
        let error = crate::error::Error::from(error);
        let mut text = format!("{debug} {error} {:?}", error.hints());
        let mut cause = std::error::Error::source(&error);
        while let Some(inner) = cause {
            write!(text, " {inner} {inner:?}").unwrap();
            cause = inner.source();
        }
        for canary in ["value-canary", "token-canary", CLIENT_SECRET, "eyJ"] {
            assert!(!text.contains(canary), "{trouble:?}: {text}");
        }
    }
}
