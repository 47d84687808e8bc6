//! A person at a real terminal: jobs, sizes, shells, statuses, and the terminal as it was before.
#![allow(clippy::unwrap_used)]

use crate::ghost::{Project, User, kill, wait_until};
use harness::terminal::{Terminal, resize};
use std::fs;
use std::path::Path;

/// What a terminal is set to, and whose it is.
const STATE: &str = "stty -g; stat -c '%u %g %a' \"$(tty)\"";

/// Relative, so that the command line of nobody but a ghost's own processes names the project.
const PULL: &str = "pull --kdf-memory 64M --kdf-time 1 --passphrase-file ../pass";

fn at(project: &Project, line: &str) -> Terminal {
    let mut script = project.command("script", &[]);
    script.env_remove("ENV").env_remove("PROMPT_COMMAND");
    Terminal::run(script, line)
}

/// A terminal on which `command` runs between two looks at the terminal; `tazpod` is known by that name.
fn watched(project: &Project, shell: &str, command: &str) -> Terminal {
    let program = project.tazpod(&[]).get_program().to_str().unwrap().to_owned();
    let line = format!(
        "tazpod() {{ SHELL={shell} {program} \"$@\"; }}; outer=$(tty); echo outer=$outer; before=$({STATE}); {command}; \
         echo status=$?; if [ \"$before\" = \"$({STATE})\" ]; then echo sa''me; else {STATE}; fi"
    );
    at(project, &line)
}

/// Opens a ghost's shell on a terminal of 31 lines and 97 columns.
fn opened(project: &Project, shell: &str) -> Terminal {
    let mut terminal =
        watched(project, shell, &format!("stty rows 31 cols 97; before=$({STATE}); tazpod {PULL}"));
    terminal.wait_for("outer=/dev/pts/");
    terminal.wait_for("(ghost) ");
    terminal
}

fn ended(terminal: Terminal, status: i32) {
    let (seen, _) = terminal.end();
    assert!(seen.contains(&format!("status={status}")), "{seen}");
    assert!(seen.trim_end().ends_with("same"), "the terminal is another than before: {seen}");
}

/// Processes of the ghosts that have these words, by number and state.
fn found(words: &str) -> Vec<(i32, char)> {
    let wanted = words.replace(' ', "\0") + "\0";
    let state = |pid: i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    };
    let numbers = fs::read_dir("/proc").unwrap().flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let has_words = |pid: &i32| {
        fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == wanted.as_bytes())
    };
    numbers.filter(has_words).filter_map(|pid| Some((pid, state(pid)?))).collect()
}

fn wait_for_state(words: &str, states: &str) {
    wait_until(&format!("{words} is {states}"), || {
        found(words).first().is_some_and(|(_, state)| states.contains(*state))
    });
}

/// A job is stopped, goes on, is interrupted, and quits; what is left in the background dies with the shell.
fn jobs_obey(project: &Project, number: u32) {
    let mut terminal = opened(project, "/bin/bash");
    let [one, two, three, four] = [0, 1, 2, 3].map(|more| format!("sleep {}", number + more));
    terminal.press(&format!("{one}\n"));
    wait_for_state(&one, "S");
    terminal.press("\u{1a}");
    wait_for_state(&one, "T");
    terminal.wait_for("Stopped");
    terminal.press("fg\n");
    wait_for_state(&one, "S");
    terminal.press("\u{3}");
    wait_until("it was interrupted", || found(&one).is_empty());
    terminal.press("echo inter''rupted=$?\n");
    terminal.wait_for("interrupted=130");
    terminal.press(&format!("{two}\n"));
    wait_for_state(&two, "S");
    terminal.press("\u{1c}");
    wait_until("it quit", || found(&two).is_empty());
    terminal.press("echo quit''ted=$?\n");
    terminal.wait_for("quitted=131");
    terminal.press(&format!("{three} & {four}\n"));
    wait_for_state(&four, "S");
    terminal.press("\u{1a}");
    wait_for_state(&four, "T");
    terminal.press("bg; echo back''ground\n");
    terminal.wait_for("background");
    wait_for_state(&four, "S");
    terminal.press("exit 43\n");
    ended(terminal, 43);
    assert!(found(&three).is_empty() && found(&four).is_empty());
    project.assert_nothing_left();
}

#[test]
fn jobs_are_stopped_continued_interrupted_and_dead_after_the_shell() {
    jobs_obey(&Project::with_vault(), 73_001);
}

/// The size is the terminal's from the start, and follows it.
fn size_follows(project: &Project) {
    let mut terminal = opened(project, "/bin/bash");
    let outer = terminal.word_after("outer=");
    terminal.press(
        "trap 'echo changed=$(stty size | tr \" \" x)' WINCH; echo first=$(stty size | tr ' ' x)\n",
    );
    terminal.wait_for("first=31x97");
    resize(&outer, 40, 120);
    // A shell that waits for a line runs its traps after that line; the size may come later than the keys.
    terminal.press_until("\n", "changed=40x120");
    // What a program in the foreground sees.
    terminal.press(
        "sh -c 'trap \"stty size; exit\" WINCH; echo wait''ing; while :; do sleep 0.1; done'\n",
    );
    terminal.wait_for("waiting");
    resize(&outer, 24, 80);
    terminal.wait_for("24 80");
    resize(&outer, 31, 97);
    terminal.press("exit\n");
    ended(terminal, 0);
}

#[test]
fn size_of_the_terminal_is_known_inside_and_followed() {
    size_follows(&Project::with_vault());
}

#[test]
fn each_shell_reads_its_users_file_shows_where_it_is_and_hands_its_status_on() {
    let project = Project::with_vault();
    let home = project.path().join("home");
    fs::create_dir_all(home.join(".config/fish")).unwrap();
    let shells = [
        ("bash", ".bashrc", "PS1='mine> '\nalias readme='echo rc-bash'\n"),
        ("zsh", ".zshrc", "PROMPT='mine> '\nalias readme='echo rc-zsh'\n"),
        (
            "fish",
            ".config/fish/config.fish",
            "function fish_prompt; echo -n 'mine> '; end\nalias readme 'echo rc-fish'\n",
        ),
    ];
    for (shell, file, content) in shells {
        fs::write(home.join(file), content).unwrap();
        let path = ["/bin", "/usr/bin"].map(|folder| format!("{folder}/{shell}"));
        let path =
            path.iter().find(|path| Path::new(path).exists()).expect("tests/run installs it");
        let mut terminal = watched(&project, path, &format!("tazpod {PULL}"));
        terminal.wait_for("(ghost) mine> ");
        terminal.press("readme\n");
        terminal.wait_for(&format!("rc-{shell}\r"));
        terminal.press("cat ~/secrets/kept\n");
        terminal.wait_for("kept\r");
        terminal.press("exit 7\n");
        ended(terminal, 7);
        project.assert_nothing_left();
    }
}

/// The children of a process.
fn children(parent: i32) -> Vec<i32> {
    let numbers = fs::read_dir("/proc").unwrap().flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_child = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        rest.split(' ').nth(1) == Some(&parent.to_string())
    };
    let mut found: Vec<i32> = numbers.filter(is_child).collect();
    found.sort_unstable();
    found
}

#[test]
fn terminal_is_as_before_whoever_is_killed() {
    let project = Project::with_vault();
    let program = project.tazpod(&[]).get_program().to_str().unwrap().to_owned();
    // The supervisor; init; the agent that relays.
    for victim in 0..3 {
        let line = format!("sh -c 'echo pid=$$; SHELL=/bin/bash exec {program} {PULL}'");
        let mut terminal = watched(&project, "/bin/bash", &line);
        terminal.wait_for("(ghost) ");
        let keeper: i32 = terminal.word_after("pid=").parse().unwrap();
        let supervisor = children(keeper)[0];
        let own = children(supervisor);
        assert_eq!(own.len(), 2, "init and agent");
        kill([supervisor, own[0], own[1]][victim], "KILL");
        let (seen, _) = terminal.end();
        assert!(!seen.contains("status=0"), "{victim}: {seen}");
        assert!(seen.trim_end().ends_with("same"), "{victim}: {seen}");
        project.assert_nothing_left();
        project.assert_vault_whole();
    }
}

#[test]
fn second_terminal_joins_with_a_size_of_its_own_and_leaves_the_first_alone() {
    let project = Project::with_vault();
    let mut first = opened(&project, "/bin/bash");
    let mut second = watched(&project, "/bin/bash", "stty rows 20 cols 70; tazpod pull");
    second.wait_for("assphrase");
    second.press("a passphrase\n");
    second.wait_for("(ghost) ");
    second
        .press("stty size; cat ~/secrets/kept; echo written > ~/secrets/by-second; echo re''ady\n");
    second.wait_for("ready");
    assert!(
        second.seen().contains("20 70") && second.seen().contains("kept\r"),
        "{}",
        second.seen()
    );
    assert!(!second.seen().contains("a passphrase"), "{}", second.seen());
    second.press("exit 5\n");
    second.wait_for("status=5");
    second.end();
    first.press("cat ~/secrets/by-second; stty size\n");
    first.wait_for("written\r");
    first.wait_for("31 97");
    first.press("exit\n");
    ended(first, 0);
    project.assert_nothing_left();
}

mod by_sudo {
    use super::*;

    /// A user with a vault; sudo puts a pty of its own in between, or not, as it is configured.
    fn with_vault(user: &User) -> Project {
        let project = Project::of(user);
        let made = project.run("echo kept > ~/secrets/kept");
        assert!(made.status.success(), "{made:?}");
        project
    }

    #[test]
    fn jobs_and_sizes_pass_through_sudo() {
        let user = User::new("jobs");
        let project = with_vault(&user);
        jobs_obey(&project, 73_101);
        size_follows(&project);
    }
}
