//! Secrets pulled into a vault.
#![allow(clippy::unwrap_used)]

use crate::ghost::{finish, kill, wait_until};
use crate::source::{Sourced, program, sha256, values};
use harness::infisical::{Item, Trouble};
use std::fmt::Write as _;
use std::fs;

fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn values_of_every_kind_survive_byte_for_byte() {
    let sourced = Sourced::new();
    let large = "0123456789abcde\n".repeat(1 << 16);
    let mut values = values();
    values.push(("LARGE", large));
    values.push(("NUL", "with\0nul".into()));
    let mut map = String::new();
    for (name, value) in &values {
        sourced.set(name, value);
        let _ = writeln!(map, "{{name: {name}, file: files/{name}, env: {name}, expand: false}}");
    }
    sourced.map(&map);
    let line = "cd ~/secrets/files; sha256sum *; stat -c '%a %u %n' *; echo $CRLF; ls -A ..";
    let output = sourced.run(line);
    assert!(output.status.success(), "{output:?}");
    let text = said(&output.stdout);
    let uid = nix::unistd::Uid::effective();
    for (name, value) in &values {
        assert!(
            text.contains(&format!("{}  {name}\n", sha256(value.as_bytes()))),
            "{name}\n{text}"
        );
        assert!(text.contains(&format!("600 {uid} {name}\n")), "{name}\n{text}");
    }
    assert!(text.contains("/home/secrets/files/CRLF\n"), "{text}");
    assert!(said(&output.stderr).contains("16 added"), "{output:?}");
    sourced.project.assert_nothing_left();
}

#[test]
fn what_no_variable_can_hold_is_refused_before_anything_is_written() {
    let sourced = Sourced::new();
    sourced.set("GOOD", "x");
    for value in ["with\0nul", &"x".repeat(200 << 10)] {
        sourced.set("BAD", value);
        sourced.map("{name: GOOD, file: good}\n{name: BAD, env: BAD}");
        let output = sourced.run("touch ran");
        assert_eq!(output.status.code(), Some(78), "{output:?}");
        assert!(
            said(&output.stderr).contains("secrets.yml:6:20: the value of 'BAD'"),
            "{output:?}"
        );
    }
    assert!(!sourced.project.path().join("project/ran").exists());
    assert_eq!(sourced.as_they_are("ls ~/secrets"), "kept\n");
}

#[test]
fn five_hundred_secrets_in_three_folders_are_three_requests() {
    let sourced = Sourced::new();
    let mut map = String::new();
    for number in 0..500 {
        let folder = ["/", "/apps", "/apps/web"][number % 3];
        let value = format!("value {number}");
        sourced.server.world().set("dev", folder, &format!("S{number}"), &value);
        let _ = writeln!(map, "{{name: S{number}, file: s/{number}, path: {folder}}}");
    }
    sourced.map(&map);
    let before = sourced.lists();
    // What a person waits for once the server has answered: first with everything new, then with
    // nothing changed. The program's end is seen by the shell that started it.
    let line = format!("{} pull >/dev/null; date +%s%N", program().display());
    let run = || {
        let command = sourced.project.verb("unlock", &["--", "sh", "-c", &line]).spawn().unwrap();
        let output = finish(command);
        let end: u128 = said(&output.stdout).trim().parse().unwrap();
        let answered = sourced.server.answered().unwrap().duration_since(std::time::UNIX_EPOCH);
        let micros = end.saturating_sub(answered.unwrap().as_nanos()) / 1000;
        format!("{}.{} ms", micros / 1000, micros / 100 % 10)
    };
    let (first, again) = (run(), run());
    assert_eq!(sourced.lists() - before, 6, "three for each pull");
    measured(&format!(
        "500 secrets, from the last answer to the end of pull: {first} all new, {again} none changed"
    ));
    let text = sourced.good("cd ~/secrets/s; ls | wc -l; cat 7 499");
    assert_eq!(text, "500\nvalue 7value 499");
    assert_eq!(sourced.lists() - before, 9);
}

/// Says a number where `tests/run` looks for it; what a test prints is not shown otherwise.
fn measured(what: &str) {
    let _ =
        std::io::Write::write_all(&mut std::io::stdout(), format!("measured: {what}\n").as_bytes());
}

#[test]
fn imports_references_folders_and_tags_find_what_is_meant() {
    let sourced = Sourced::new();
    {
        let mut world = sourced.server.world();
        world.set("dev", "/apps", "PLAIN", "of apps");
        world.set("dev", "/apps/web", "DEEP", "${PLAIN_WEB}-${dev.apps.PLAIN}");
        world.set("dev", "/apps/web", "PLAIN_WEB", "web");
        world.set("dev", "/apps/web", "PLAIN", "of web");
        world.set("dev", "/apps/web", "TWICE", "1");
        world.set("dev", "/apps/db", "TWICE", "2");
        world.set("prod", "/one", "IMPORTED", "earlier");
        world.set("prod", "/two", "IMPORTED", "later");
        world.set("prod", "/two", "PLAIN", "not the folder's own");
        world.import(("dev", "/apps"), ("prod", "/one"));
        world.import(("dev", "/apps"), ("prod", "/two"));
        let tagged = |tag: &str| Item {
            value: format!("for {tag}"),
            tags: vec![tag.into()],
            ..Item::default()
        };
        world.put("dev", "/apps/web", "FOR_WEB", tagged("web"));
        world.put("dev", "/apps/db", "FOR_DB", tagged("db"));
    }
    let all = "{name: PLAIN, file: plain, path: /apps, recursive: true}
        {name: IMPORTED, file: imported, path: /apps, recursive: true}
        {name: DEEP, file: deep, path: /apps, recursive: true}
        {name: DEEP, file: raw, path: /apps/web, expand: false}
        {name: FOR_WEB, file: web, path: /apps, recursive: true, tags: [web]}
        {name: FOR_DB, file: db, path: /apps, recursive: true, tags: [web], optional: true}";
    sourced.map(all);
    let before = sourced.lists();
    let text = sourced.good("cd ~/secrets; head -v plain imported deep raw web; test ! -e db");
    let expected = "==> plain <==\nof apps\n==> imported <==\nlater\n==> deep <==\nweb-of apps\n\
        ==> raw <==\n${PLAIN_WEB}-${dev.apps.PLAIN}\n==> web <==\nfor web";
    assert_eq!(text, expected);
    assert_eq!(sourced.lists() - before, 3, "one for each folder, tag and way of expanding");
    sourced.map(&format!("{all}\n{{name: TWICE, file: twice, path: /apps, recursive: true}}"));
    let output = sourced.run("true");
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    let words = "'TWICE' is in '/apps/db' and in '/apps/web': say with 'path'";
    assert!(said(&output.stderr).contains(words), "{output:?}");
}

#[test]
fn unchanged_files_are_not_touched_and_the_table_names_no_value() {
    let sourced = Sourced::new();
    for name in ["A", "B", "C"] {
        sourced.set(name, &format!("value-of-{name}"));
    }
    sourced.map("{name: A, file: a}\n{name: B, file: b, mode: 0400}\n{name: C, file: d/c, env: C}");
    let look = "cd ~/secrets; stat -c '%i %Y %a' a b d/c";
    let first = sourced.good(look);
    sourced.set("A", "value-of-A changed");
    let output = sourced.run(look);
    let second = said(&output.stdout);
    let same = |line: usize| first.lines().nth(line) == second.lines().nth(line);
    assert_eq!([same(0), same(1), same(2)], [false, true, true], "{first}{second}");
    assert!(second.lines().nth(1).unwrap().ends_with(" 400"), "{second}");
    let table = said(&output.stderr);
    assert!(table.contains("updated    A  a\n"), "{table}");
    assert!(table.contains("Secrets: 2 unchanged, 1 updated."), "{table}");
    assert!(!table.contains("value-of"), "{table}");
    assert_eq!(sourced.as_they_are("cat ~/secrets/a"), "value-of-A changed");
}

#[test]
fn a_pull_that_fails_leaves_the_secrets_whole_and_its_status_says_so() {
    let sourced = Sourced::new();
    sourced.set("A", "first a");
    sourced.set("B", "first b");
    sourced.map("{name: A, file: a}\n{name: B, file: b, path: /}");
    sourced.good("true");
    let look = "cat ~/secrets/a ~/secrets/b; ls -A ~/secrets/.tazpod/new";
    let check = |what: &str, status: i32, word: &str| {
        let output = sourced.run("touch ran");
        assert_eq!(output.status.code(), Some(status), "{what}: {output:?}");
        assert!(said(&output.stderr).contains(word), "{what}: {output:?}");
        assert!(!sourced.project.path().join("project/ran").exists(), "{what}: it ran");
        assert_eq!(sourced.as_they_are(look), "first afirst b", "{what}");
    };
    sourced.set("A", "second a");
    sourced.server.world().remove("dev", "/", "B");
    check("missing", 68, "B (dev /)");
    let hidden = Item { value: "x".into(), hidden: true, ..Item::default() };
    sourced.server.world().put("dev", "/", "B", hidden);
    check("hidden", 68, "you may not read B");
    sourced.set("B", "second b");
    // What the client does not try again: it waits a minute for what passes.
    for trouble in [
        Trouble::Html,
        Trouble::Status(404, r#"{"message":"no such folder","error":"NotFound"}"#.into()),
        Trouble::Status(403, r#"{"message":"not yours","error":"PermissionDenied"}"#.into()),
    ] {
        let what = format!("{trouble:?}");
        sourced.server.trouble(trouble, 1);
        let output = sourced.run("touch ran");
        assert!(matches!(output.status.code(), Some(68 | 69)), "{what}: {output:?}");
        assert_eq!(sourced.as_they_are(look), "first afirst b", "{what}");
        sourced.server.calm();
    }
    sourced.server.world().revoke_all();
    check("not logged in", 67, "tazpod login");
}

#[test]
fn a_missing_secret_may_be_optional_and_a_shell_starts_with_what_there_is() {
    let sourced = Sourced::new();
    sourced.set("A", "a");
    sourced.map("{name: A, file: a}\n{name: B, file: b, optional: true}");
    let output = sourced.run("cat ~/secrets/a; test ! -e ~/secrets/b");
    assert!(output.status.success(), "{output:?}");
    assert!(said(&output.stderr).contains("missing    B  b"), "{output:?}");
    // Without 'optional' the shell says what is wrong, starts, and its end has the error's status.
    sourced.map("{name: A, file: a, env: A}\n{name: B, file: b}");
    let mut command = sourced.project.verb("pull", &[]);
    let mut child = command.stdin(std::process::Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, b"cat \"$A\"; exit\n").unwrap();
    drop(stdin);
    let output = finish(child);
    assert_eq!(output.status.code(), Some(68), "{output:?}");
    assert!(said(&output.stdout).contains('a'), "{output:?}");
    assert!(said(&output.stderr).contains("as the last pull left them"), "{output:?}");
}

#[test]
fn an_open_ghost_is_refreshed_in_place_offline_dry_pruned_and_as_json() {
    let sourced = Sourced::new();
    sourced.set("A", "one");
    sourced.set("B", "gone");
    sourced.map("{name: A, file: a, env: A_FILE}\n{name: B, file: b}");
    sourced.good("true");
    sourced.set("A", "two");
    sourced.map("{name: A, file: a, env: A_FILE}");
    let tazpod = program().display();
    let line = format!(
        "cat $A_FILE
         {tazpod} pull --offline; echo offline=$?
         {tazpod} pull --dry-run --json; cat ~/secrets/a; echo
         {tazpod} pull; cat ~/secrets/a ~/secrets/b; echo
         {tazpod} pull --prune; ls ~/secrets
         {tazpod} pull -- sh -c 'cat $A_FILE; exit 9'; echo =$?"
    );
    // `unlock` leaves the vault as it was, so that each step is the line's own.
    let command = sourced.project.verb("unlock", &["--", "sh", "-c", &line]).spawn().unwrap();
    let output = finish(command);
    let text = said(&output.stdout);
    assert_eq!(
        text,
        "oneoffline=0\n\
         {\"dry_run\":true,\"offline\":false,\"pulled\":null,\"secrets\":[{\"name\":\"A\",\"environment\":\"dev\",\
         \"path\":\"/\",\"file\":\"a\",\"env\":\"A_FILE\",\"change\":\"updated\"},{\"name\":\"B\",\"environment\":\"dev\",\
         \"path\":\"/\",\"file\":\"b\",\"env\":null,\"change\":\"unmapped\"}]}\none\n\
         updated    A  a  $A_FILE\nunmapped   B  b\n'tazpod pull --prune' removes what is unmapped.\n\
         Secrets: 1 unmapped, 1 updated.\ntwogone\n\
         removed    B  b\nSecrets: 1 removed, 1 unchanged.\na\nkept\n\
         two=9\n",
        "{output:?}"
    );
    assert!(said(&output.stderr).contains("pulled less than a minute ago"), "{output:?}");
}

#[test]
fn a_dry_run_leaves_the_vault_as_it_was() {
    let sourced = Sourced::new();
    sourced.set("A", "a");
    sourced.map("{name: A, file: a}");
    let before = sourced.as_they_are("cd ~/secrets; find . | sort; stat -c %Y .");
    let output = finish(sourced.project.verb("pull", &["--dry-run"]).spawn().unwrap());
    assert!(said(&output.stderr).contains("added      A  a\n"), "{output:?}");
    assert_eq!(sourced.as_they_are("cd ~/secrets; find . | sort; stat -c %Y ."), before);
}

#[test]
fn quiet_says_nothing_of_a_pull_that_went_well() {
    let sourced = Sourced::new();
    sourced.set("A", "a");
    sourced.map("{name: A, file: a}");
    let command = sourced.project.verb("pull", &["-q", "--", "cat", "../home/secrets/a"]).spawn();
    let output = finish(command.unwrap());
    assert_eq!((said(&output.stdout), said(&output.stderr)), ("a".into(), String::new()));
}

#[test]
fn secrets_of_no_project_are_an_error_with_its_place() {
    let sourced = Sourced::new();
    sourced.write("secrets.yml", "config: {project: ''}\nsecrets:\n- {name: A, file: a}\n");
    let output = sourced.run("touch ran");
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    let words = "secrets.yml:3:1: secrets are named, but no project that has them";
    assert!(said(&output.stderr).contains(words), "{output:?}");
    assert!(!sourced.project.path().join("project/ran").exists());
}

#[test]
fn links_in_the_vault_are_not_followed_and_named_with_their_place() {
    let sourced = Sourced::new();
    sourced.set("A", "secret");
    let outside = sourced.project.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let shown = outside.display();
    sourced.good(&format!("ln -s {shown} ~/secrets/d; ln -s {shown}/f ~/secrets/f"));
    for (file, column) in [("d/x", 19), ("f", 19)] {
        sourced.map(&format!("{{name: A, file: {file}}}"));
        let output = sourced.run("true");
        assert_eq!(output.status.code(), Some(78), "{output:?}");
        let place = format!("secrets.yml:5:{column}: file '{file}' leads through a symbolic link");
        assert!(said(&output.stderr).contains(&place), "{output:?}");
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn what_secrets_yml_gets_wrong_is_told_before_anybody_is_asked() {
    let sourced = Sourced::new();
    sourced.map("{name: A, file: ../../.bashrc}");
    let before = sourced.lists();
    let output = sourced.run("true");
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    assert!(said(&output.stderr).contains("secrets.yml:5:19: file '../../.bashrc'"), "{output:?}");
    assert_eq!(sourced.lists(), before);
}

#[test]
fn a_project_without_secrets_asks_nobody_and_says_nothing() {
    let sourced = Sourced::new();
    let before = sourced.lists();
    for text in ["", "secrets: []\n", "config:\n  infisical_project_id: \"\"\nsecrets: []\n"] {
        sourced.write("secrets.yml", text);
        let output = sourced.run("echo $TAZPOD_GHOST");
        assert_eq!(said(&output.stdout), "1\n", "{output:?}");
        assert!(!said(&output.stderr).contains("ecret:"), "{output:?}");
    }
    assert_eq!(sourced.lists(), before);
}

/// Kills a whole ghost while it pulls, again and again: each file is the old or the new one.
#[test]
fn kill_at_any_moment_of_a_pull_leaves_the_old_or_the_new_file() {
    let sourced = Sourced::new();
    let value = |round: usize, number: usize| format!("{round}-{number} ").repeat(2000);
    let mut map = String::new();
    for number in 0..60 {
        let _ = writeln!(map, "{{name: S{number}, file: s/{number}}}");
        sourced.set(&format!("S{number}"), &value(0, number));
    }
    sourced.map(&map);
    sourced.good("true");
    let mut changed = 0;
    for round in 1..9 {
        for number in 0..60 {
            sourced.set(&format!("S{number}"), &value(round, number));
        }
        let asked = sourced.lists();
        let child = sourced.project.pull("sleep 100").spawn().unwrap();
        wait_until("the secrets are asked for", || sourced.lists() > asked);
        std::thread::sleep(std::time::Duration::from_millis(round as u64 * 8));
        for pid in sourced.project.processes() {
            kill(pid, "KILL");
        }
        finish(child);
        wait_until("its processes are gone", || sourced.project.processes().is_empty());
        let sums = sourced.as_they_are("cd ~/secrets/s; sha256sum * | sort -k2n");
        for (line, number) in sums.lines().zip(sorted(60)) {
            let (sum, name) = line.split_once("  ").unwrap();
            assert_eq!(name, number.to_string());
            let found = (0..=round).find(|round| sum == sha256(value(*round, number).as_bytes()));
            changed += usize::from(found == Some(round));
            assert!(found.is_some(), "round {round}: {name} is torn");
        }
        assert_eq!(sums.lines().count(), 60);
    }
    println!("files that were new already when their pull was killed: {changed}");
    assert!(sourced.good("ls -A ~/secrets/.tazpod/new; cat ~/secrets/s/9").starts_with("8-9 "));
}

fn sorted(count: usize) -> impl Iterator<Item = usize> {
    0..count
}
