//! Which programs run in a ghost, as seen from outside.

use super::protocol::Program;
use nix::unistd::Pid;
use std::fs;
use std::path::Path;

/// Lists the programs in the ghost of `init` that would be lost with it: everything but init, the
/// server, and shells that lead a session and wait.
pub(crate) fn of_ghost(init: Pid) -> Vec<Program> {
    let namespace = |path: &Path| fs::read_link(path.join("ns/pid")).ok();
    let Some(ghost) = namespace(&Path::new("/proc").join(init.to_string())) else {
        return Vec::new();
    };
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| namespace(path).as_ref() == Some(&ghost))
        .filter_map(|path| parse(&fs::read_to_string(path.join("stat")).ok()?))
        .filter(|found| found.pid != init.as_raw() && !is_part_of_ghost(found, init))
        .map(|found| Program { pid: found.pid, name: found.name })
        .collect()
}

/// A process as `/proc/PID/stat` tells it.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    pid: i32,
    name: String,
    parent: i32,
    session: i32,
    foreground: bool,
}

/// The server and waiting shells are no programs that anybody would lose.
fn is_part_of_ghost(found: &Found, init: Pid) -> bool {
    const SHELLS: [&str; 5] = ["bash", "zsh", "fish", "sh", "dash"];
    let ours = found.parent == init.as_raw();
    let leads = found.session == found.pid;
    ours && (!leads || (SHELLS.contains(&found.name.as_str()) && found.foreground))
}

/// Parses a line of proc(5): the name stands in parentheses and may hold anything.
fn parse(stat: &str) -> Option<Found> {
    let (pid, rest) = stat.split_once(" (")?;
    let (name, rest) = rest.rsplit_once(") ")?;
    let mut fields = rest.split_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    let mut number = || fields.next()?.parse::<i32>().ok();
    let (parent, group, session) = (number()?, number()?, number()?);
    let _terminal = number()?;
    let foreground = number()? == group;
    Some(Found { pid: pid.parse().ok()?, name: name.to_owned(), parent, session, foreground })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn name_with_parentheses_is_parsed_and_ended_processes_are_left_out() {
        let line = "812 (a) R (b) S 1 812 812 34816 812 4194560 1 2";
        let found = parse(line).unwrap();
        assert_eq!((found.pid, found.name.as_str(), found.foreground), (812, "a) R (b", true));
        assert_eq!(parse("1 (x) Z 1 1 1 0 -1 0"), None);
        assert_eq!(parse("1 (x"), None);
    }

    #[test]
    fn waiting_shell_and_server_are_no_programs_but_an_editor_is() {
        let init = Pid::from_raw(100);
        let of = |line: &str| is_part_of_ghost(&parse(line).unwrap(), init);
        assert!(of("110 (bash) S 100 110 110 34816 110 0"));
        assert!(of("101 (tazpod) S 100 100 100 0 -1 0"));
        assert!(!of("120 (vim) S 110 120 110 34816 120 0"));
        assert!(!of("110 (make) S 100 110 110 34816 110 0"));
    }
}
