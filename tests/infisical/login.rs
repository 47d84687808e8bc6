//! Logging in and out with the program itself: what is said, what is kept, and where nothing is.
#![allow(clippy::unwrap_used)]

use harness::binary::{backend, tazpod};
use harness::infisical::{CLIENT_ID, CLIENT_SECRET, ELSEWHERE, PROJECT_ID, Server, Trouble};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

/// Where people have a home, a project and a server.
struct Scene {
    server: Server,
    top: TempDir,
}

impl Scene {
    fn new() -> Self {
        let top = tempfile::Builder::new().prefix("login-").tempdir().unwrap();
        for name in ["home", "home/bin", "project"] {
            fs::create_dir(top.path().join(name)).unwrap();
        }
        let scene = Self { server: Server::start(), top };
        scene.write("pass", "a passphrase\n");
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.top.path().join(name)
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        let mut options = fs::OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(0o600).open(&path).unwrap();
        file.write_all(content.as_bytes()).unwrap();
        path
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.path("project")).env_clear().env("HOME", self.path("home"));
        command.env(
            "PATH",
            format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.path("home/bin").display()),
        );
        command.env("SHELL", "/bin/sh").env("TERM", "dumb").env("LANG", "C.UTF-8");
        command.stdin(Stdio::null());
        command
    }

    /// Makes the vault, with a key derivation that does not take long.
    fn with_vault() -> Self {
        let scene = Self::new();
        let backend = format!("--backend={}", backend());
        let new = ["pull", &backend, "--kdf-memory=64M", "--kdf-time=1", "--", "true"];
        let output = scene.run(&new);
        assert!(output.status.success(), "{output:?}");
        scene
    }

    /// Runs a verb, with the passphrase by file.
    fn run(&self, words: &[&str]) -> Output {
        let mut command = self.command(tazpod());
        command.arg(words[0]).arg("--passphrase-file").arg(self.path("pass")).args(&words[1..]);
        command.output().unwrap()
    }

    /// Runs a line of shell in a ghost; returns what it prints.
    fn inside(&self, line: &str) -> String {
        let output = self.run(&["pull", "--", "sh", "-c", line]);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn log_in(&self) -> Output {
        let secret = self.write("secret", &format!("{CLIENT_SECRET}\n"));
        let secret = secret.to_str().unwrap();
        self.run(&[
            "login",
            "--url",
            &self.server.url,
            "--client-id",
            CLIENT_ID,
            "--client-secret-file",
            secret,
        ])
    }

    /// Names one secret of the server's in `secrets.yml`.
    fn map_one(&self) {
        self.server.world().set("dev", "/", "A", "value-canary");
        let text = format!(
            "config: {{project: {PROJECT_ID}, url: '{}'}}\nsecrets: [{{name: A, file: a}}]\n",
            self.server.url
        );
        self.write("project/secrets.yml", &text);
    }

    /// Starts `pull -- cat ~/secrets/a` on a terminal, which says its status at the end.
    fn pull_on_terminal(&self) -> Terminal {
        self.terminal(&format!(
            "{} pull --passphrase-file {} -- sh -c 'cat ~/secrets/a'; echo \"<$?>\"",
            tazpod().display(),
            self.path("pass").display()
        ))
    }

    /// Starts a line of shell on a terminal of its own.
    fn terminal(&self, line: &str) -> Terminal {
        let mut script = self.command("script");
        script.args(["--quiet", "--return", "--flush", "--echo", "never", "--command", line]);
        let script = script.arg("/dev/null").stdin(Stdio::piped()).stdout(Stdio::piped());
        Terminal { child: script.spawn().unwrap(), seen: String::new() }
    }
}

/// A person at a terminal.
struct Terminal {
    child: Child,
    seen: String,
}

impl Terminal {
    /// Waits for a question and answers it.
    fn answer(&mut self, question: &str, answer: &str) {
        let screen = self.child.stdout.as_mut().unwrap();
        let mut bytes = [0; 4096];
        let from = self.seen.len();
        while !self.seen[from..].contains(question) {
            let count = screen.read(&mut bytes).unwrap();
            assert!(count > 0, "ended without {question:?}: {:?}", self.seen);
            self.seen += &String::from_utf8_lossy(&bytes[..count]);
        }
        let keyboard = self.child.stdin.as_mut().unwrap();
        keyboard.write_all(format!("{answer}\n").as_bytes()).unwrap();
    }

    /// Waits for the end; returns everything that was on the screen.
    fn end(mut self) -> String {
        let mut rest = Vec::new();
        self.child.stdout.take().unwrap().read_to_end(&mut rest).unwrap();
        self.seen += &String::from_utf8_lossy(&rest);
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {}", self.seen);
        self.seen
    }
}

/// Returns the files below a folder that hold one of the canaries.
fn found(folder: &Path, canaries: &[&str]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files.extend(found(&path, canaries));
        } else if kind.is_file() {
            let content = fs::read(&path).unwrap();
            let holds =
                |canary: &&str| content.windows(canary.len()).any(|part| part == canary.as_bytes());
            if canaries.iter().any(holds) {
                files.push(path);
            }
        }
    }
    files
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

const CANARIES: [&str; 2] = [CLIENT_SECRET, "token-canary"];

#[test]
fn login_is_kept_in_the_vault_alone_until_logout_revokes_it() {
    let scene = Scene::with_vault();
    let output = scene.log_in();
    assert!(output.status.success(), "{output:?}");
    let said = text(&output);
    let expected = format!("Logged in to {} as deployer (universal auth)", scene.server.url);
    assert!(said.contains(&expected), "{said}");
    assert!(CANARIES.iter().all(|canary| !said.contains(canary)), "{said}");

    let kept =
        scene.inside("cat ~/.infisical/tazpod-sessions.json; stat -c %a ~/.infisical/*.json");
    assert!(CANARIES.iter().all(|canary| kept.contains(canary)), "what is looked for is there");
    assert!(kept.trim_end().ends_with("600"), "{kept}");
    // The file that the person gave is the one place outside; the search finds it.
    assert_eq!(found(scene.top.path(), &CANARIES), [scene.path("secret")]);

    assert_eq!(scene.server.world().live_tokens(), 1);
    let output = scene.run(&["logout"]);
    assert!(output.status.success(), "{output:?}");
    assert!(text(&output).contains("the token is revoked"), "{output:?}");
    assert_eq!(scene.server.world().live_tokens(), 0);
    let left = scene.inside("cat ~/.infisical/*");
    assert!(CANARIES.iter().all(|canary| !left.contains(canary)), "{left}");
    assert!(
        text(&scene.run(&["logout", "--url", &scene.server.url])).contains("Nobody was logged in")
    );
}

#[test]
fn refused_login_says_so_once_and_keeps_nothing() {
    let scene = Scene::with_vault();
    let wrong = scene.write("wrong", "not-the-secret\n");
    let output = scene.run(&[
        "login",
        "--url",
        &scene.server.url,
        "--client-id",
        CLIENT_ID,
        "--client-secret-file",
        wrong.to_str().unwrap(),
    ]);
    assert_eq!(output.status.code(), Some(67), "{output:?}");
    let said = text(&output);
    assert!(said.contains("Invalid credentials") && !said.contains("not-the-secret"), "{said}");
    assert_eq!(scene.server.count("/api/v1/auth/universal-auth/login"), 1);
    assert_eq!(scene.inside("ls -A ~/.infisical"), "");
}

#[test]
fn login_without_a_terminal_asks_nothing() {
    let scene = Scene::new();
    for words in [&["login"][..], &["login", "--method", "user"]] {
        let output = scene.run(words);
        assert_eq!(output.status.code(), Some(64), "{output:?}");
        assert!(text(&output).contains("--client-secret-file"), "{output:?}");
    }
    assert!(!scene.path("project/.tazpod/vault/vault.img").exists(), "nothing was made");
}

#[test]
fn pull_offers_a_login_for_an_authentication_error_on_a_terminal_and_else_never() {
    let scene = Scene::with_vault();
    scene.map_one();
    let pull = || scene.run(&["pull", "--", "sh", "-c", "cat ~/secrets/a"]);
    let logins = || scene.server.count("/api/v1/auth/universal-auth/login");
    let asks = |seen: &str| seen.contains("Log in now?");

    let output = pull();
    assert_eq!(output.status.code(), Some(67), "{output:?}");
    assert!(!asks(&text(&output)) && text(&output).contains("tazpod login"), "{output:?}");

    let mut declined = scene.pull_on_terminal();
    declined.answer("Log in now? [y/N]", "");
    let seen = declined.end();
    assert!(seen.contains("<67>") && !seen.contains("Log in as"), "{seen}");
    assert_eq!(logins(), 0);

    let mut terminal = scene.pull_on_terminal();
    terminal.answer("Log in now? [y/N]", "y");
    terminal.answer("[1]", "1");
    terminal.answer("Client id", CLIENT_ID);
    terminal.answer("Client secret", CLIENT_SECRET);
    let seen = terminal.end();
    assert!(seen.contains("as deployer (universal auth)"), "{seen}");
    assert!(seen.contains("value-canary") && seen.contains("<0>"), "{seen}");
    assert_eq!(logins(), 1);

    // What is no authentication error leads to none: no permission, no folder, no answer.
    scene.server.world().outsider = true;
    let seen = scene.pull_on_terminal().end();
    assert!(seen.contains("not a member") && seen.contains("<68>") && !asks(&seen), "{seen}");
    scene.server.world().outsider = false;
    let words = r#"{"message":"no such folder","error":"NotFound"}"#;
    for trouble in [Trouble::Html, Trouble::Status(404, words.into())] {
        scene.server.trouble(trouble, 1);
        let seen = scene.pull_on_terminal().end();
        assert!(!seen.contains("<0>") && !asks(&seen), "{seen}");
        scene.server.calm();
    }
    assert_eq!(logins(), 1);
    assert!(text(&pull()).contains("value-canary"), "the login lasts");
}

#[test]
fn credentials_are_typed_unseen() {
    let scene = Scene::new();
    let line = format!("{} login --url {}", tazpod().display(), scene.server.url);
    let mut terminal = scene.terminal(&line);
    terminal.answer("assphrase", "a passphrase");
    terminal.answer("Repeat", "a passphrase");
    terminal.answer("[1]", "");
    terminal.answer("Client id", CLIENT_ID);
    terminal.answer("Client secret", CLIENT_SECRET);
    let seen = terminal.end();
    assert!(seen.contains("as deployer (universal auth)"), "{seen}");
    assert!(!seen.contains(CLIENT_SECRET) && !seen.contains("a passphrase"), "{seen}");
}

#[test]
fn token_comes_through_a_pipe_into_the_vault() {
    let scene = Scene::with_vault();
    let token = scene.write("token", &scene.server.world().issue());
    let line = format!(
        "{} login --url {} --token-fd 3 --passphrase-file {} 3< {}",
        tazpod().display(),
        scene.server.url,
        scene.path("pass").display(),
        token.display()
    );
    let output = scene.command("sh").args(["-c", &line]).output().unwrap();
    assert!(text(&output).contains("as deployer (token), until "), "{output:?}");
    assert_eq!(found(scene.top.path(), &CANARIES), [token]);
}

/// Names from the environment: the proxy, and what goes without it. The certificate is a private CA's.
#[test]
fn proxy_of_the_environment_is_used_except_where_it_says_not_to() {
    let mut scene = Scene::with_vault();
    // In the project, since a ghost has another /tmp.
    let ca_file = scene.path("project/ca.pem");
    scene.server = Server::start_tls(&ca_file);
    let proxy = scene.server.proxy();
    let host = format!("{ELSEWHERE}:{}", scene.server.port());
    let token = scene.write("token", &scene.server.world().issue());
    let url = format!("https://{host}");
    scene.map_one();
    let secrets = format!(
        "config: {{project: {PROJECT_ID}, url: '{url}', ca_file: {}}}\n\
         secrets: [{{name: A, file: a}}]\n",
        ca_file.display()
    );
    scene.write("project/secrets.yml", &secrets);
    // Where the proxy is not to be used, the name leads to this machine, as it does for nobody else.
    scene.write("hosts", &format!("127.0.0.1 localhost {ELSEWHERE}\n"));
    let line = format!(
        "mount --bind {} /etc/hosts && exec {} pull --passphrase-file {} -- sh -c 'cat ~/secrets/a'",
        scene.path("hosts").display(),
        tazpod().display(),
        scene.path("pass").display()
    );
    let pull = |variables: &[(&str, &str)]| {
        let mut command = scene.command("unshare");
        command.args(["--mount", "sh", "-c", &line]);
        let output = command.envs(variables.iter().copied()).output().unwrap();
        assert!(text(&output).contains("value-canary"), "{variables:?}: {output:?}");
    };
    let login = scene.run(&["login", "--token-file", token.to_str().unwrap()]);
    assert!(login.status.success(), "{login:?}");
    assert!(proxy.asked().is_empty(), "a pasted token is not shown to anybody");
    for name in ["HTTPS_PROXY", "https_proxy"] {
        let before = proxy.asked().len();
        pull(&[(name, &proxy.url), ("NO_PROXY", "localhost,.example")]);
        assert!(proxy.asked().len() > before, "{name} is not used");
    }
    assert!(proxy.asked().iter().all(|asked| *asked == host), "{:?}", proxy.asked());
    let before = proxy.asked().len();
    pull(&[("HTTPS_PROXY", &proxy.url), ("NO_PROXY", ELSEWHERE)]);
    scene.write("project/secrets.yml", &secrets.replace("ca_file", "proxy: none, ca_file"));
    pull(&[("HTTPS_PROXY", &proxy.url)]);
    assert_eq!(proxy.asked().len(), before, "it was asked all the same");
}

/// The program keeps its session where it always does, which is the vault; a plain `TOKEN`, which
/// it would take for one, does not reach it.
#[test]
fn user_logs_in_by_the_infisical_program() {
    let scene = Scene::with_vault();
    let program = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/infisical/infisical"));
    symlink(program, scene.path("home/bin/infisical")).unwrap();
    scene.write("home/bin/token", &scene.server.world().issue());
    let line = format!(
        "TOKEN=trap {} login --method user --url {} --passphrase-file {}",
        tazpod().display(),
        scene.server.url,
        scene.path("pass").display()
    );
    let mut terminal = scene.terminal(&line);
    terminal.answer("Enter your email", "dev@example.com");
    let seen = terminal.end();
    let expected = format!("Logged in to {} as dev@example.com (user), until ", scene.server.url);
    assert!(seen.contains(&expected), "{seen}");
    let calls = fs::read_to_string(scene.path("home/bin/calls")).unwrap();
    let calls: Vec<serde_json::Value> =
        calls.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let words: Vec<&str> = calls.iter().filter_map(|call| call["argv"][0].as_str()).collect();
    assert_eq!(words, ["vault", "login"]);
    assert!(calls.iter().all(|call| call["env"].get("TOKEN").is_none()), "{calls:?}");
    assert_eq!(scene.inside("ls ~/infisical-keyring"), "dev@example.com\n");
    assert!(!scene.path("home/infisical-keyring").exists(), "made for the ghost, and gone with it");
    assert_eq!(found(scene.top.path(), &CANARIES), [scene.path("home/bin/token")]);
    let output = scene.run(&["logout", "--url", &scene.server.url]);
    assert!(text(&output).contains("Forgot the session of dev@example.com"), "{output:?}");
    assert_eq!(scene.inside("ls ~/infisical-keyring"), "");
}
