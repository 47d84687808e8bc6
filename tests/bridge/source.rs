//! A project whose vault is logged in at a test server.

use crate::ghost::{Project, finish};
use harness::infisical::{PROJECT_ID, Server};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Output;

pub(crate) struct Sourced {
    pub(crate) project: Project,
    pub(crate) server: Server,
}

impl Sourced {
    pub(crate) fn new() -> Self {
        Self::of(Project::with_vault())
    }

    /// Logs a project's vault in with a pasted token, as `tazpod login` keeps it.
    pub(crate) fn of(project: Project) -> Self {
        let server = Server::start();
        let token = server.world().issue();
        let session = format!(
            r#"{{"version":1,"sessions":[{{"at":"{}","login":{{"token":{{}}}},"token":"{token}","issued":0,"expires":null,"ends":null}}]}}"#,
            server.url
        );
        let mut child = project
            .pull("umask 077; cat > ~/.infisical/tazpod-sessions.json")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("tazpod starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        std::io::Write::write_all(&mut stdin, session.as_bytes()).expect("it reads");
        drop(stdin);
        let output = finish(child);
        assert!(output.status.success(), "{output:?}");
        Self { project, server }
    }

    /// Writes `secrets.yml`: the server and project, then these lines.
    pub(crate) fn map(&self, lines: &str) {
        let mut text =
            format!("config:\n  project: {PROJECT_ID}\n  url: {}\nsecrets:\n", self.server.url);
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let _ = writeln!(text, "- {line}");
        }
        self.write("secrets.yml", &text);
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.project.path().join("project").join(name), text).expect("ours");
    }

    pub(crate) fn set(&self, name: &str, value: &str) {
        self.server.world().set("dev", "/", name, value);
    }

    /// Runs a line in a ghost, secrets pulled before.
    pub(crate) fn run(&self, line: &str) -> Output {
        self.project.run(line)
    }

    /// Runs a line that must succeed; returns what it wrote.
    pub(crate) fn good(&self, line: &str) -> String {
        let output = self.run(line);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a line in a ghost with the secrets as they are.
    pub(crate) fn as_they_are(&self, line: &str) -> String {
        let command = self.project.verb("unlock", &["--", "sh", "-c", line]).spawn();
        let output = finish(command.expect("tazpod starts"));
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// How often secrets were asked for.
    pub(crate) fn lists(&self) -> usize {
        self.server.count("/api/v4/secrets")
    }
}

pub(crate) fn sha256(content: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(content);
    digest.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

pub(crate) fn program() -> &'static Path {
    harness::binary::tazpod()
}

/// Values of every kind that a file must hold, and an environment variable nearly all of them.
pub(crate) fn values() -> Vec<(&'static str, String)> {
    vec![
        ("PLAIN", "plain".into()),
        ("EMPTY", String::new()),
        ("LINES", "-----BEGIN KEY-----\nline two\n\n  indented\n-----END KEY-----\n".into()),
        ("NEWLINES", "\n\n\n".into()),
        ("CRLF", "one\r\ntwo\r\n".into()),
        ("QUOTES", r#"it's "quoted" \'twice\' \\ and \n"#.into()),
        (
            "COMMANDS",
            "$(touch executed) `touch executed` ${HOME} $HOME; touch executed & | ;".into(),
        ),
        ("BREAKING", "';touch executed;'\"$(touch executed)\"".into()),
        ("BANG", "!! !$ !1 ~ * ? [a] {a,b} #not a comment".into()),
        ("UNICODE", "grüße ☃ 𝄞 \u{202e}right to left\u{feff}".into()),
        ("CONTROL", "tab\there \u{1b}[31mred\u{7f}\u{1}".into()),
        ("TRAILING", "ends with backslash \\".into()),
        ("DASH", "-n -e --".into()),
        ("EQUALS", "A=B=C".into()),
    ]
}
