//! `up` and `down`: what they make, what they leave alone, and what they say.

use super::fixture::{Host, image};
use harness::engine::{Engine, said};
use std::os::unix::fs::PermissionsExt;

#[test]
fn init_up_up_again_and_down() {
    let host = Host::new();
    assert!(host.says(&["init", "base"]).contains("made secrets.yml"));
    let name = host.name();
    let first = host.says(&["up"]);
    assert!(
        first.starts_with(&format!("made and started {name} from tazpod-user (fuse: ")),
        "{first}"
    );
    let id = host.inspect(&name, "{{.Id}}");
    let again = host.says(&["up"]);
    assert_eq!(again, format!("running already: {name} from tazpod-user\n"));
    host.docker(&["stop", "--time", "0", &name]);
    assert_eq!(host.says(&["up"]), format!("started: {name} from tazpod-user\n"));
    assert_eq!(host.inspect(&name, "{{.Id}}"), id);
    assert!(host.says(&["down"]).starts_with(&format!("removed {name}")));
    assert_eq!(host.inspect(&name, "{{.Id}}"), "");
    assert!(host.says(&["down"]).contains("nothing was changed"));
    assert!(host.project().join(".tazpod/config.yaml").exists());
}

#[test]
fn a_fuse_container_has_the_least_that_works() {
    let host = Host::new();
    host.write("Lab 1/.gemini/memory.md", "remembered");
    host.says(&["up"]);
    let name = host.name();
    for (format, expected) in [
        ("{{.HostConfig.Privileged}}", "false"),
        ("{{.HostConfig.CapAdd}}", "[]"),
        ("{{len .HostConfig.Devices}} {{(index .HostConfig.Devices 0).PathOnHost}}", "1 /dev/fuse"),
        ("{{.HostConfig.NetworkMode}}", "host"),
        ("{{.HostConfig.Init}}", "true"),
        ("{{.HostConfig.MaskedPaths}} {{.HostConfig.ReadonlyPaths}}", "[] []"),
        ("{{(index .HostConfig.Ulimits 0).Name}}={{(index .HostConfig.Ulimits 0).Hard}}", "core=1"),
        ("{{.Config.User}}", "tazpod"),
    ] {
        assert_eq!(host.inspect(&name, format), expected, "{format}");
    }
    // No variable but the image's own.
    let variables = "{{.Config.Env}}";
    assert_eq!(host.inspect(&name, variables), host.inspect(image(), variables));
    let inside = "cat ~/.gemini/memory.md; stat -c '%a %u' ~/secrets; ls -A ~/secrets; \
                  rmdir ~/secrets 2>&1; touch ~/secrets/x 2>&1; ulimit -Hc; \
                  touch /workspace/mine ~/.local/state/tazpod/witnesses/w; pwd; grep CapEff /proc/self/status";
    let output = host.tazpod(&["enter", "--", "sh", "-c", inside]);
    let text = String::from_utf8_lossy(&output.stdout);
    for part in [
        "remembered500 1000\n",
        "busy",
        "Read-only",
        "\n0\n/workspace\n",
        "CapEff:\t0000000000000000",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    assert!(host.project().join("mine").exists());
    assert!(host.path("home/.local/state/tazpod/witnesses/w").exists());
}

#[test]
fn without_ghosts_nothing_is_granted() {
    let host = Host::new();
    host.configure(&format!("image: {}\nfeatures:\n  ghost_mode: false\n", image()));
    assert!(host.says(&["up"]).contains("(no ghosts, nothing granted)"));
    let name = host.name();
    assert_eq!(
        host.inspect(&name, "{{len .HostConfig.Devices}} {{.HostConfig.SecurityOpt}}"),
        "0 []"
    );
}

#[test]
fn changed_settings_are_said_and_recreate_applies_them() {
    let host = Host::new();
    host.says(&["up"]);
    let id = host.inspect(&host.name(), "{{.Id}}");
    host.configure(&format!(
        "image: {}\nvault:\n  backend: fuse\ncontainer:\n  x11: false\n",
        image()
    ));
    let output = host.tazpod(&["up"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("x11 is false, was true"), "{said}");
    assert!(said.contains("--recreate"), "{said}");
    assert_eq!(host.inspect(&host.name(), "{{.Id}}"), id);
    host.says(&["up", "--recreate"]);
    assert_ne!(host.inspect(&host.name(), "{{.Id}}"), id);
    assert_eq!(host.complains(&["up"], 0), "");
}

#[test]
fn a_container_of_somebody_else_is_never_touched() {
    let host = Host::new();
    let name = host.name();
    host.docker(&[
        "run",
        "--detach",
        "--network",
        "host",
        "--name",
        &name,
        image(),
        "sleep",
        "infinity",
    ]);
    let id = host.inspect(&name, "{{.Id}}");
    for words in [
        &["up"][..],
        &["up", "--recreate", "--force"],
        &["down", "--force"],
        &["enter", "--", "id"],
        &["logs"],
    ] {
        let complaint = host.complains(words, 64);
        assert!(complaint.contains("that TazPod did not make"), "{complaint}");
        assert!(complaint.contains("container_name"), "{complaint}");
    }
    assert_eq!(host.inspect(&name, "{{.Id}} {{.State.Running}}"), format!("{id} true"));
}

#[test]
fn a_name_that_another_project_has_is_refused() {
    let host = Host::new();
    let other = host.configure_other();
    host.says(&["-C", "../other", "up"]);
    host.write(
        "Lab 1/.tazpod/config.yaml",
        &format!("container_name: {other}\nimage: {}\nvault:\n  backend: fuse\n", image()),
    );
    for words in [&["up", "--recreate", "--force"][..], &["down", "--force"]] {
        let complaint = host.complains(words, 64);
        assert!(
            complaint.contains("belongs to the project in") && complaint.contains("/other"),
            "{complaint}"
        );
    }
    assert_eq!(host.inspect(&other, "{{.State.Running}}"), "true");
}

#[test]
fn two_projects_run_at_once_and_each_sees_its_own() {
    let host = Host::new();
    let other = host.configure_other();
    host.write("Lab 1/which", "lab");
    host.write("other/which", "other");
    // At the same time, and twice the same: one makes it, the other finds it.
    let children = ["../other", ".", "."]
        .map(|folder| host.command("tazpod").args(["-C", folder, "up"]).spawn().unwrap());
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    for (folder, which) in [(".", "lab"), ("../other", "other")] {
        assert_eq!(host.says(&["-C", folder, "enter", "--", "cat", "/workspace/which"]), which);
    }
    let all: Vec<_> =
        serde_json::from_str::<Vec<serde_json::Value>>(&host.says(&["status", "--all", "--json"]))
            .unwrap();
    for (name, folder) in [(host.name(), "Lab 1"), (other.clone(), "other")] {
        let one = all.iter().find(|one| one["name"] == name.as_str()).unwrap();
        assert_eq!(one["project"], host.path(folder).to_str().unwrap());
        assert_eq!((&one["state"], &one["backend"]), (&"running".into(), &"fuse".into()));
        assert!(
            one["since"].is_string() && one["ghost"].is_null() && one["problem"].is_null(),
            "{one}"
        );
    }
    let text = host.says(&["status", "--all"]);
    assert!(text.contains(&other) && text.contains("no ghost is open"), "{text}");
    host.says(&["down"]);
    assert_eq!(host.inspect(&other, "{{.State.Running}}"), "true");
}

#[test]
fn status_and_logs_tell_of_the_projects_container() {
    let host = Host::new();
    assert!(!host.says(&["status"]).contains("container "));
    assert!(host.complains(&["logs"], 69).contains("tazpod up"));
    host.says(&["up"]);
    let text = host.says(&["status"]);
    assert!(
        text.contains(&format!("container {}", host.name())) && text.contains("running since"),
        "{text}"
    );
    // Said by the first process's side of the container.
    said(Engine::shared().docker().args([
        "exec",
        "--user",
        "tazpod",
        &host.name(),
        "sh",
        "-c",
        "for n in 1 2 3; do echo line $n >/proc/1/fd/1; done",
    ]));
    assert_eq!(host.says(&["logs", "--tail", "2"]), "line 2\nline 3\n");
}

#[test]
fn doctor_tells_what_is_missing_and_what_weakens() {
    let host = Host::new();
    host.says(&["up"]);
    let output = host.tazpod(&["doctor", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let found = |area: &str, subject: &str| {
        let findings = report["findings"].as_array().unwrap();
        let one = findings.iter().find(|one| one["area"] == area && one["subject"] == subject);
        one.unwrap_or_else(|| panic!("{area} {subject}: {report:#}"))["verdict"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    for (area, subject) in [
        ("engine", "engine"),
        ("container", "container"),
        ("container", "fuse"),
        ("container", "privilege"),
        ("vault", "witnesses"),
        ("vault", "secrets.yml"),
    ] {
        assert_eq!(found(area, subject), "ok");
    }
    for subject in ["swap", "hibernation", "freed memory", "namespaces", "landlock"] {
        found("host", subject);
    }
    let status = match report["worst"].as_str().unwrap() {
        "weak" => 1,
        "missing" => 69,
        _ => 0,
    };
    assert_eq!(output.status.code(), Some(status));

    let mut lone = host.command("tazpod");
    let output = lone.arg("doctor").env("DOCKER_HOST", "unix:///no/such/socket").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(69), "{text}");
    assert!(text.contains("MISSING  engine") && text.contains("fix: start it"), "{text}");
    // What is there and cannot be used is as good as missing.
    let witnesses = host.path("home/.local/state/tazpod/witnesses");
    std::fs::set_permissions(&witnesses, PermissionsExt::from_mode(0o500)).unwrap();
    let output = host.tazpod(&["doctor"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(69), "{text}");
    assert!(text.contains("MISSING  witnesses"), "{text}");
    std::fs::set_permissions(&witnesses, PermissionsExt::from_mode(0o700)).unwrap();
    let mut shared = host.command("tazpod");
    let output = shared.arg("doctor").env("DISPLAY", ":7").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("WEAK     x11"), "{text}");
}
