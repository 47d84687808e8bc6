//! The environment of shells, and of commands.
#![allow(clippy::unwrap_used)]

use crate::ghost::finish;
use crate::source::{Sourced, program, sha256, values};
use std::fmt::Write as _;

fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn with_values() -> (Sourced, Vec<(&'static str, String)>) {
    let sourced = Sourced::new();
    let values = values();
    let mut map = String::new();
    for (name, value) in &values {
        sourced.set(name, value);
        let _ = writeln!(map, "{{name: {name}, env: V_{name}, expand: false}}");
    }
    sourced.map(&map);
    (sourced, values)
}

/// A program that says the sums of the variables as it finds them.
const SUMS: &str = "import os, hashlib
for name in sorted(os.environ):
    if name.startswith('V_'):
        print(name, hashlib.sha256(os.environb[name.encode()]).hexdigest())";

fn assert_sums(text: &str, values: &[(&str, String)], what: &str) {
    for (name, value) in values {
        let line = format!("V_{name} {}\n", sha256(value.as_bytes()));
        assert!(text.contains(&line), "{what}: {name}\n{text}");
    }
}

#[test]
fn a_command_starts_with_every_value_and_none_is_in_its_arguments() {
    let (sourced, values) = with_values();
    let script = sourced.project.path().join("project/sums.py");
    std::fs::write(&script, SUMS).unwrap();
    let line = "python3 sums.py; tr '\\0' '\\n' < /proc/$PPID/cmdline; cat /proc/*/cmdline | tr '\\0' '\\n'";
    let text = sourced.good(line);
    assert_sums(&text, &values, "a command");
    assert!(!text.contains("BEGIN KEY"), "{text}");
}

/// Each shell evaluates what `env` prints, from an environment in which everything is missing or
/// wrong, and hands it to a program.
#[test]
fn nothing_executes_and_nothing_changes_in_bash_zsh_and_fish() {
    let (sourced, values) = with_values();
    let folder = sourced.project.path().join("project");
    std::fs::write(folder.join("sums.py"), SUMS).unwrap();
    let unset: String =
        values.iter().fold(String::new(), |text, (name, _)| format!("{text} -u V_{name}"));
    let tazpod = program().display();
    for (shell, line) in [
        ("bash", format!("eval \"$({tazpod} env --shell bash)\"")),
        ("zsh", format!("eval \"$({tazpod} env --shell zsh)\"")),
        ("fish", format!("{tazpod} env --shell fish | source")),
    ] {
        let line = format!(
            "V_PLAIN=wrong; export V_PLAIN; env {unset} {shell} -c '{line}; python3 sums.py'; ls"
        );
        let output = sourced.run(&line);
        assert_sums(&said(&output.stdout), &values, shell);
        assert!(!said(&output.stdout).contains("executed"), "{shell}: {output:?}");
    }
}

#[test]
fn exactly_what_changed_is_set_and_unset_by_the_hook() {
    let sourced = Sourced::new();
    sourced.set("A", "one");
    sourced.set("B", "two");
    sourced.map("{name: A, env: A}\n{name: B, env: B}");
    sourced.good("true");
    let tazpod = program().display();
    let other = "secrets.yml.other";
    sourced.map("{name: A, env: A}\n{name: C, env: C}");
    let folder = sourced.project.path().join("project");
    std::fs::rename(folder.join("secrets.yml"), folder.join(other)).unwrap();
    sourced.map("{name: A, env: A}\n{name: B, env: B}");
    sourced.set("A", "changed");
    sourced.set("C", "three");
    for (shell, hook, prompt) in [
        (
            "bash",
            format!("eval \"$({tazpod} env --hook --shell bash)\""),
            "eval \"$PROMPT_COMMAND\"",
        ),
        ("zsh", format!("eval \"$({tazpod} env --hook --shell zsh)\""), "__tazpod_env"),
        ("fish", format!("{tazpod} env --hook --shell fish | source"), "__tazpod_env"),
    ] {
        let inner = format!(
            "{hook}\n{prompt}\necho \"$A $B $C\"\ncp secrets.yml kept.yml\nmv {other} secrets.yml\n\
             {tazpod} -q pull > table\n{prompt}\necho \"$A $B $C\"\nmv secrets.yml {other}\nmv kept.yml secrets.yml\n\
             {tazpod} env --shell {shell} > script; cat script\n"
        );
        std::fs::write(folder.join("inner"), inner).unwrap();
        let flags = if shell == "fish" { "" } else { "-f" };
        let flags = if shell == "bash" { "--norc" } else { flags };
        let line = format!("{shell} {flags} inner");
        let command = sourced.project.verb("unlock", &["--", "sh", "-c", &line]).spawn().unwrap();
        let output = finish(command);
        let text = said(&output.stdout);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.first().is_some_and(|line| line.ends_with(" two ")), "{shell}: {output:?}");
        assert_eq!(lines.get(1), Some(&"changed  three"), "{shell}: {output:?}");
        assert!(said(&output.stderr).contains("+C"), "{shell}: {output:?}");
        assert!(said(&output.stderr).contains("-B"), "{shell}: {output:?}");
        // Back with the first map, only what differs is printed.
        let script = lines.get(2..).unwrap_or_default().join("\n");
        assert!(script.contains("B ") || script.contains("B="), "{shell}: {script}");
        assert!(!script.contains(" A=") && !script.contains("-gx A "), "{shell}: {script}");
        sourced.good("true");
    }
}

#[test]
fn a_shell_of_the_ghost_follows_the_vault_by_itself() {
    let sourced = Sourced::new();
    sourced.set("A", "before");
    sourced.map("{name: A, env: A}");
    sourced.good("true");
    sourced.set("A", "after");
    let tazpod = program().display();
    // With a terminal, as a person has it.
    for shell in ["bash", "zsh", "fish"] {
        let words = format!(
            "exec {tazpod} unlock --passphrase-file {} --backend fuse",
            sourced.project.path().join("pass").display()
        );
        let mut command = sourced.project.command("script", &["-qec", &words, "/dev/null"]);
        command.env("SHELL", format!("/usr/bin/{shell}")).env("TERM", "dumb");
        let mut child = command.stdin(std::process::Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let typed = format!("echo 1=$A=1\n{tazpod} -q pull\necho 2=$A=2\nexit\n");
        std::io::Write::write_all(&mut stdin, typed.as_bytes()).unwrap();
        let output = finish(child);
        drop(stdin);
        let text = said(&output.stdout);
        assert!(text.contains("1=before=1") || text.contains("1=after=1"), "{shell}: {text}");
        assert!(text.contains("2=after=2"), "{shell}: {text}");
    }
}

#[test]
fn env_shows_nothing_on_a_terminal() {
    let sourced = Sourced::new();
    sourced.set("A", "visible-canary");
    sourced.map("{name: A, env: A}");
    let line = format!("script -qec '{} env' /dev/null; echo", program().display());
    let output = sourced.run(&line);
    let text = said(&output.stdout) + &said(&output.stderr);
    assert!(text.contains("not for the screen"), "{text}");
    assert!(!text.contains("visible-canary"), "{text}");
}

#[test]
fn run_hands_on_environment_and_status_and_masks_values() {
    let sourced = Sourced::new();
    sourced.set("A", "mask-me-please");
    sourced.set("KEY", "-----BEGIN-----\nsecret line of the key\n-----END-----\n");
    sourced.map("{name: A, env: A}\n{name: KEY, file: key, env: KEY}");
    sourced.good("true");
    let line = "echo \"<$A>\"; echo \"[$A]\" >&2; sed 's/^/  /' \"$KEY\"; printf mask-me; printf %s -please; exit 7";
    let run = |more: &[&str]| {
        let words = [more, &["--", "sh", "-c", line]].concat();
        finish(sourced.project.verb("run", &words).spawn().unwrap())
    };
    let plain = run(&[]);
    assert_eq!(plain.status.code(), Some(7), "{plain:?}");
    assert!(said(&plain.stdout).contains("<mask-me-please>"), "{plain:?}");
    let masked = run(&["--redact"]);
    assert_eq!(masked.status.code(), Some(7), "{masked:?}");
    let (stdout, stderr) = (said(&masked.stdout), said(&masked.stderr));
    assert_eq!(
        stdout, "<[redacted]>\n  [redacted]\n  [redacted]\n  [redacted]\n[redacted]",
        "{masked:?}"
    );
    assert!(stderr.contains("[[redacted]]"), "{stderr}");
    // In a ghost the same.
    let inside =
        format!("{} run --redact -- sh -c 'echo $A; kill -TERM $$'; echo =$?", program().display());
    assert_eq!(sourced.good(&inside), "[redacted]\n=143\n");
}

/// A command that counts on secrets which no pull has brought yet.
#[test]
fn run_starts_nothing_without_the_secrets_that_it_promises() {
    let sourced = Sourced::new();
    sourced.set("A", "a");
    sourced.map("{name: A, env: A}\n{name: B, env: B, optional: true}");
    let run = || {
        let words = ["--", "sh", "-c", "echo \"<$A$B>\"; touch ran"];
        finish(sourced.project.verb("run", &words).spawn().unwrap())
    };
    let lacking = run();
    assert_eq!(lacking.status.code(), Some(68), "{lacking:?}");
    assert!(said(&lacking.stderr).contains("the vault does not have A"), "{lacking:?}");
    assert!(!sourced.project.path().join("project/ran").exists(), "it ran");
    let inside = format!("{} run -- true; echo =$?", program().display());
    assert_eq!(sourced.as_they_are(&inside), "=68\n");
    sourced.good("true");
    assert_eq!(said(&run().stdout), "<a>\n");
}

/// With more than the kernel takes no program starts, not even the shell in which that could be mended.
#[test]
fn a_shell_starts_whatever_the_variables_would_take_together() {
    let sourced = Sourced::new();
    let names: Vec<String> = (0..24).map(|number| format!("V{number}")).collect();
    for name in &names {
        sourced.set(name, &"x".repeat(120_000));
    }
    let map = |more: &str| {
        names.iter().fold(String::new(), |text, name| {
            format!("{text}{{name: {name}, file: {name}, env: {name}{more}}}\n")
        })
    };
    sourced.map(&map(""));
    assert_eq!(sourced.good("cat \"$V23\" | wc -c"), "120000\n");
    // The values are there already; now they are wanted in variables.
    sourced.map(&map(", value_in_env: true"));
    let sum = "/bin/sh -c 'env | grep -c ^V'";
    assert_eq!(sourced.as_they_are(sum), "8\n");
    let refused = sourced.run("true");
    assert_eq!(refused.status.code(), Some(78), "{refused:?}");
    let words = "the value of 'V8' is more than the 1 MiB of all variables leaves";
    assert!(said(&refused.stderr).contains(words), "{refused:?}");
}
