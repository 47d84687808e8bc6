//! Images pulled from a registry: Debian's `docker-registry`, at a port of this test's own, that wants a login.

use super::fixture::{Host, base, wait_until};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use harness::engine::{Engine, said};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

const USER: &str = "puller";
const PASSWORD: &str = "canary-registry-password";

/// The password as the registry keeps it: bcrypt at its lowest cost.
const HASH: &str = "$2b$05$g7XqIoTacHUtnCPRbsOywe7ftHqugrpVo3dID2I6TisLIudGIul9m";

/// A registry. Dropping it ends it.
struct Registry {
    server: Child,
    /// Its host and port.
    place: String,
}

impl Registry {
    fn start(folder: &Path) -> Self {
        fs::create_dir_all(folder.join("data")).unwrap();
        fs::write(folder.join("users"), format!("{USER}:{HASH}\n")).unwrap();
        let config = format!(
            "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: {0}/data\n\
             http:\n  addr: 127.0.0.1:0\nauth:\n  htpasswd:\n    realm: tests\n    path: {0}/users\n",
            folder.display()
        );
        fs::write(folder.join("config.yml"), config).unwrap();
        let log = fs::File::create(folder.join("log")).unwrap();
        let server = Command::new("docker-registry")
            .arg("serve")
            .arg(folder.join("config.yml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("docker-registry is installed");
        let mut registry = Self { server, place: String::new() };
        let sign = "listening on 127.0.0.1:";
        wait_until("the registry listens", || {
            let said = fs::read_to_string(folder.join("log")).unwrap();
            let port: String = said
                .split_once(sign)
                .map(|(_, rest)| rest.chars().take_while(char::is_ascii_digit).collect())
                .unwrap_or_default();
            registry.place = format!("localhost:{port}");
            !port.is_empty()
        });
        registry
    }

    /// Puts an image of two layers there; returns its name. The engine forgets it.
    fn filled(&self, host: &Host) -> String {
        let image = format!("{}/team/app:1", self.place);
        let folder = host.path("app");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("Dockerfile"), small(base())).unwrap();
        fs::write(folder.join("file"), "from the registry").unwrap();
        let folder = folder.display().to_string();
        host.docker(&["build", "--network", "host", "--tag", &image, &folder]);
        let config = host.path("pusher");
        fs::create_dir_all(&config).unwrap();
        let words = ["--password", PASSWORD, &self.place];
        let login = ["login", "--username", USER];
        said(Engine::shared().docker().env("DOCKER_CONFIG", &config).args(login).args(words));
        said(Engine::shared().docker().env("DOCKER_CONFIG", &config).args(["push", &image]));
        host.docker(&["rmi", &image]);
        image
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// A system of a few programs: a registry is handed every layer compressed, which takes the engine long.
pub(crate) fn small(base: &str) -> String {
    format!(
        "FROM {base} AS whole
RUN useradd --create-home tazpod && mkdir /few && cd /few && mkdir bin && \
    cp --parents $(ldd /bin/sh /bin/cat /bin/sleep | grep -o '/[^ ]*[.]so[^ ]*' | sort -u) . && \
    cp --parents /etc/passwd /etc/group . && cp /bin/sh /bin/cat /bin/sleep bin && \
    cp --parents --archive /home/tazpod .
FROM scratch
COPY --from=whole /few /
COPY file /file
"
    )
}

/// Writes the configuration of the person's docker client.
fn log_in(host: &Host, registry: &str, password: &str) {
    let auth = STANDARD.encode(format!("{USER}:{password}"));
    host.write(
        "home/.docker/config.json",
        &format!(r#"{{"auths":{{"{registry}":{{"auth":"{auth}"}}}}}}"#),
    );
}

#[test]
fn an_image_is_pulled_with_the_login_of_the_docker_client_or_its_helper() {
    let host = Host::without_image();
    let registry = Registry::start(&host.path("registry"));
    let image = registry.filled(&host);
    host.configure(&format!("image: {image}\nvault:\n  backend: fuse\n"));
    let place = &registry.place;

    // No login, then a wrong one.
    let refused = host.complains(&["up"], 69);
    assert!(
        refused.contains("could not be pulled")
            && refused.contains(&format!("docker login {place}")),
        "{refused}"
    );
    log_in(&host, place, "wrong-password-5e");
    let refused = host.complains(&["up"], 69);
    assert!(refused.contains(&format!("docker login {place}")), "{refused}");
    assert!(!refused.contains("wrong-password-5e"), "{refused}");
    assert_eq!(host.inspect(&host.name(), "{{.Id}}"), "");

    // The right one: each layer is told.
    log_in(&host, place, PASSWORD);
    let pulled = host.complains(&["up"], 0);
    assert!(pulled.contains(&format!("Pulling {image}.")), "{pulled}");
    let layers = pulled.lines().filter(|line| {
        line.starts_with("layer ")
            && (line.ends_with("pull complete") || line.ends_with("already exists"))
    });
    assert!(layers.count() >= 2, "{pulled}");
    assert!(!pulled.contains(PASSWORD), "{pulled}");
    assert_eq!(host.says(&["enter", "--", "cat", "/file"]), "from the registry");
    // Once more, when asked to; there is nothing new.
    let again = host.complains(&["up", "--pull"], 0);
    assert!(again.contains("Pulling") && !again.contains("is newer"), "{again}");
    host.says(&["down"]);

    // A helper is asked for this registry alone; one that does not know it leaves the matter to the file.
    host.docker(&["rmi", &image]);
    let helper = |answer: &str| {
        let path = host.path("bin/docker-credential-test");
        fs::write(&path, format!("#!/bin/sh\nread registry\n[ \"$1 $registry\" = \"get {place}\" ] || exit 3\n{answer}\n"))
            .unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    host.write("home/.docker/config.json", r#"{"credsStore":"test"}"#);
    helper("echo credentials not found in native keychain; exit 1");
    assert!(host.complains(&["up"], 69).contains("docker login"));
    helper("echo a broken keychain >&2; exit 1");
    let broken = host.complains(&["up"], 69);
    assert!(broken.contains("'docker-credential-test' does not work"), "{broken}");
    helper(&format!(
        r#"echo '{{"ServerURL":"{place}","Username":"{USER}","Secret":"{PASSWORD}"}}'"#
    ));
    assert!(host.complains(&["up"], 0).contains("Pulling"));
    host.says(&["down"]);
    host.docker(&["rmi", &image]);
}
