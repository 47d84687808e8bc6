//! The shell of a ghost: which one, its rc file on top of the user's, and its environment.

use super::place::Place;
use super::protocol::{Raw, SessionRequest};
use crate::sys::folder;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The names of the rc files.
pub(crate) const FILES: [&str; 5] = ["bashrc", ".zshenv", ".zshrc", "config.fish", "shrc"];

const BASH: &str = r#"[ -r /etc/bash.bashrc ] && . /etc/bash.bashrc
[ -r ~/.bashrc ] && . ~/.bashrc
__tazpod_mark() { case $PS1 in '(ghost) '*) ;; *) PS1="(ghost) $PS1" ;; esac; }
if [[ $(declare -p PROMPT_COMMAND 2>/dev/null) == 'declare -a'* ]]; then
  PROMPT_COMMAND+=(__tazpod_mark)
else
  PROMPT_COMMAND="${PROMPT_COMMAND:+$PROMPT_COMMAND
}__tazpod_mark"
fi
__tazpod_mark
[[ -x ${TAZPOD_PROGRAM-} ]] && eval "$("$TAZPOD_PROGRAM" env --hook --shell bash)"
"#;

const ZSH_ENVIRONMENT: &str = r#"__tazpod_ours=$ZDOTDIR
ZDOTDIR=${TAZPOD_ZDOTDIR:-$HOME}
[[ -r $ZDOTDIR/.zshenv ]] && . "$ZDOTDIR/.zshenv"
TAZPOD_ZDOTDIR=$ZDOTDIR
ZDOTDIR=$__tazpod_ours
unset __tazpod_ours
"#;

const ZSH: &str = r#"ZDOTDIR=${TAZPOD_ZDOTDIR:-$HOME}
unset TAZPOD_ZDOTDIR
[[ -r $ZDOTDIR/.zshrc ]] && . "$ZDOTDIR/.zshrc"
[[ $ZDOTDIR == $HOME ]] && unset ZDOTDIR
__tazpod_mark() { [[ $PROMPT == '(ghost) '* ]] || PROMPT="(ghost) $PROMPT" }
autoload -Uz add-zsh-hook && add-zsh-hook precmd __tazpod_mark
[[ -x ${TAZPOD_PROGRAM-} ]] && eval "$("$TAZPOD_PROGRAM" env --hook --shell zsh)"
"#;

const FISH: &str = r#"functions -q fish_prompt; and functions -c fish_prompt __tazpod_prompt
function fish_prompt
    echo -n '(ghost) '
    functions -q __tazpod_prompt; and __tazpod_prompt; or echo -n '> '
end
test -x "$TAZPOD_PROGRAM"; and $TAZPOD_PROGRAM env --hook --shell fish | source
"#;

const PLAIN: &str = "PS1=\"(ghost) ${PS1:-\\$ }\"\n";

/// Variables that name a socket, an agent or a session outside, beside those whose value is a
/// socket's path.
const OUTSIDE: [&str; 18] = [
    "SSH_AUTH_SOCK",
    "SSH_AGENT_PID",
    "GPG_AGENT_INFO",
    "GPG_TTY",
    "DBUS_SESSION_BUS_ADDRESS",
    "SESSION_MANAGER",
    "TMUX",
    "TMUX_PANE",
    "STY",
    "WAYLAND_DISPLAY",
    "WAYLAND_SOCKET",
    "KITTY_LISTEN_ON",
    "NVIM",
    "VSCODE_IPC_HOOK_CLI",
    "VSCODE_GIT_IPC_HANDLE",
    "SWAYSOCK",
    "I3SOCK",
    "AT_SPI_BUS_ADDRESS",
];

/// Variables that are meaningless inside; nobody misses them.
const MEANINGLESS: [&str; 13] = [
    "XDG_RUNTIME_DIR",
    "OLDPWD",
    "SUDO_UID",
    "SUDO_GID",
    "SUDO_USER",
    "SUDO_COMMAND",
    "TAZPOD_GHOST",
    "TAZPOD_PROJECT",
    "TAZPOD_SECRETS",
    "TAZPOD_VAULT",
    "TAZPOD_PROGRAM",
    "TAZPOD_VARIABLES",
    "_",
];

/// What of an environment goes into a ghost.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Filtered {
    /// The variables that go in.
    pub(crate) kept: Vec<(Raw, Raw)>,
    /// The names that stay outside and that somebody may miss.
    pub(crate) left: Vec<String>,
    /// Files that variables which go in name.
    pub(crate) files: Vec<PathBuf>,
}

/// Sorts an environment: what names something outside stays there unless `pass` names it.
pub(crate) fn filter(
    variables: impl Iterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
    pass: &[String],
    is_socket: impl Fn(&Path) -> bool,
) -> Filtered {
    let mut filtered = Filtered::default();
    for (name, value) in variables {
        let text = name.to_string_lossy().into_owned();
        let path = Path::new(&value);
        let points_out =
            OUTSIDE.contains(&text.as_str()) || (path.is_absolute() && is_socket(path));
        if pass.contains(&text) {
            if path.is_absolute() {
                filtered.files.push(path.to_owned());
            }
        } else if MEANINGLESS.contains(&text.as_str()) {
            continue;
        } else if points_out {
            filtered.left.push(text);
            continue;
        }
        filtered.kept.push((name.into(), value.into()));
    }
    filtered.left.sort();
    filtered
}

/// Whether a socket is at `path`.
pub(crate) fn is_socket(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|about| about.file_type().is_socket())
}

/// Writes the rc files below the ghost's folder.
pub(crate) fn write_rc_files(folder: &OwnedFd) -> io::Result<()> {
    folder::make(folder, super::place::SHELL, 0o755)?;
    let shell = folder::open_below(folder, Path::new(super::place::SHELL))?;
    let contents = [BASH, ZSH_ENVIRONMENT, ZSH, FISH, PLAIN];
    for (name, content) in FILES.into_iter().zip(contents) {
        let file = fs::File::from(folder::open_file(&shell, name, 0o644)?);
        file.set_len(0)?;
        io::Write::write_all(&mut &file, content.as_bytes())?;
        file.set_permissions(fs::Permissions::from_mode(0o644))?;
    }
    Ok(())
}

/// The program to execute, its arguments, and its environment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Launch {
    /// The program: a path, or a name to look for.
    pub(crate) program: Raw,
    /// The arguments, the program's name first.
    pub(crate) arguments: Vec<Raw>,
    /// The environment.
    pub(crate) environment: Vec<(Raw, Raw)>,
}

/// This program, whatever its path is and whether the ghost sees it or not.
const OURSELVES: &str = "/proc/self/exe";

/// Decides how a session is launched.
pub(crate) fn launch(request: &SessionRequest, place: &Place, runtime: &Path) -> Launch {
    let Launch { program, arguments, environment } = plain_launch(request, place, runtime);
    if request.through.is_empty() {
        return Launch { program, arguments, environment };
    }
    let rest = arguments.into_iter().skip(1);
    let words = std::iter::once("tazpod".into())
        .chain(request.through.iter().cloned())
        .chain(["--".into(), program])
        .chain(rest);
    Launch { program: OURSELVES.into(), arguments: words.collect(), environment }
}

fn plain_launch(request: &SessionRequest, place: &Place, runtime: &Path) -> Launch {
    let mut environment = request.environment.clone();
    let mut set = |name: &str, value: Raw| {
        environment.retain(|(known, _)| known.bytes() != name.as_bytes());
        environment.push((name.into(), value));
    };
    set("TAZPOD_GHOST", "1".into());
    set("TAZPOD_VAULT", place.vault().into());
    if let Some(home) = &request.private_home {
        set("HOME", home.clone());
    }
    set("XDG_RUNTIME_DIR", runtime.into());
    if let Some(program) = request.command.first() {
        let arguments = request.command.clone();
        return Launch { program: program.clone(), arguments, environment };
    }
    let rc = place.shell();
    let file = |name: &str| Raw::from(rc.join(name));
    let name = request.shell.path().file_name().map(OsStr::as_bytes).unwrap_or_default();
    let (program, rest) = match name {
        b"bash" => (request.shell.clone(), vec!["--rcfile".into(), file("bashrc"), "-i".into()]),
        b"zsh" => {
            let own = environment.iter().find(|(name, _)| name.bytes() == b"ZDOTDIR").cloned();
            if let Some((_, folder)) = own {
                environment.push(("TAZPOD_ZDOTDIR".into(), folder));
            }
            environment.retain(|(name, _)| name.bytes() != b"ZDOTDIR");
            environment.push(("ZDOTDIR".into(), rc.as_path().into()));
            (request.shell.clone(), vec!["-i".into()])
        }
        b"fish" => {
            let mut source = b"source ".to_vec();
            source.extend_from_slice(file("config.fish").bytes());
            let source = std::ffi::OsString::from(OsStr::from_bytes(&source));
            (request.shell.clone(), vec!["-C".into(), source.into()])
        }
        _ => {
            environment.retain(|(name, _)| name.bytes() != b"ENV");
            environment.push(("ENV".into(), file("shrc")));
            (Raw::from("/bin/sh"), vec!["-i".into()])
        }
    };
    let arguments = std::iter::once(program.clone()).chain(rest).collect();
    Launch { program, arguments, environment }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn filtered(variables: &[(&str, &str)], pass: &[&str]) -> Filtered {
        let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        let pass: Vec<String> = pass.iter().map(ToString::to_string).collect();
        filter(variables, &pass, |path| path == Path::new("/x/sock"))
    }

    #[test]
    fn what_names_something_outside_stays_there_unless_passed() {
        let variables = [
            ("HOME", "/home/u"),
            ("SSH_AUTH_SOCK", "/tmp/agent"),
            ("MY_DAEMON", "/x/sock"),
            ("XDG_RUNTIME_DIR", "/run/user/1"),
        ];
        let plain = filtered(&variables, &[]);
        assert_eq!(plain.left, ["MY_DAEMON", "SSH_AUTH_SOCK"]);
        assert_eq!(plain.kept, [("HOME".into(), "/home/u".into())]);
        let passed = filtered(&variables, &["SSH_AUTH_SOCK"]);
        assert_eq!(passed.left, ["MY_DAEMON"]);
        assert_eq!(passed.files, [Path::new("/tmp/agent")]);
    }

    fn request(shell: &str, command: &[&str]) -> SessionRequest {
        SessionRequest {
            command: command.iter().map(|word| Raw::from(*word)).collect(),
            shell: shell.into(),
            environment: vec![
                ("ZDOTDIR".into(), "/z".into()),
                ("XDG_RUNTIME_DIR".into(), "/o".into()),
            ],
            folder: "/".into(),
            umask: 0o022,
            private_home: None,
            through: Vec::new(),
        }
    }

    #[test]
    fn each_shell_gets_our_rc_file_and_a_command_runs_as_it_is() {
        let place = Place::of_root(nix::unistd::Uid::from_raw(1), Path::new("/p"));
        let of = |shell: &str, command: &[&str]| {
            launch(&request(shell, command), &place, Path::new("/r"))
        };
        let rc = place.shell();
        assert_eq!(of("/bin/bash", &[]).arguments[2], Raw::from(rc.join("bashrc")));
        let zsh = of("/bin/zsh", &[]).environment;
        assert!(zsh.contains(&("TAZPOD_ZDOTDIR".into(), "/z".into())));
        assert!(zsh.contains(&("ZDOTDIR".into(), rc.as_path().into())));
        assert_eq!(of("/bin/csh", &[]).program, Raw::from("/bin/sh"));
        let command = of("/bin/bash", &["make", "-j"]);
        assert_eq!(command.program, Raw::from("make"));
        assert_eq!(command.arguments.len(), 2);
        assert!(command.environment.contains(&("XDG_RUNTIME_DIR".into(), "/r".into())));
        assert!(!command.environment.contains(&("XDG_RUNTIME_DIR".into(), "/o".into())));
    }
}
