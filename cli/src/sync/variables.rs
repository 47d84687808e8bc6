//! The environment that the secrets of an open vault make.

use super::change::target;
use super::vault::OpenVault;
use crate::args::project::Shell;
use crate::config::secrets::Secrets;
use crate::quoting;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use zeroize::Zeroizing;

/// The variable that lists which variables are ours, by name.
pub(crate) const OURS: &str = "TAZPOD_VARIABLES";

/// What the kernel takes for one variable, its name and two more bytes included.
const LARGEST: usize = 128 << 10;

/// What all variables may take together. The kernel starts no program with more than 2 MiB, unless told otherwise, of
/// which what was there before and the arguments take their part: a shell with too much starts nothing any more.
const ALL: usize = 1 << 20;

/// What there is left for variables.
pub(super) struct Room(usize);

impl Default for Room {
    fn default() -> Self {
        Self(ALL)
    }
}

impl Room {
    /// Takes what a variable needs, or says why it cannot have this value.
    pub(super) fn take(&mut self, name: &str, value: &[u8]) -> Result<(), &'static str> {
        if value.contains(&0) {
            return Err("has a NUL byte, which no variable can hold");
        }
        let size = name.len() + value.len() + 2;
        if size > LARGEST {
            return Err("is larger than the 128 KiB that a variable can hold");
        }
        self.0 =
            self.0.checked_sub(size).ok_or("is more than the 1 MiB of all variables leaves")?;
        Ok(())
    }
}

/// Variables and their values.
#[derive(Default)]
pub(crate) struct Variables {
    /// By name.
    pub(crate) values: BTreeMap<String, Zeroizing<Vec<u8>>>,
    /// Those that cannot be set, each with the reason.
    pub(crate) left_out: Vec<(String, String)>,
}

impl Variables {
    /// Reads them from the vault, as the last pull left it.
    pub(crate) fn of(secrets: &Secrets, vault: &OpenVault) -> Self {
        let mut variables = Self::default();
        let mut room = Room::default();
        for mapping in secrets.all() {
            let (Some(variable), Some(target)) = (&mapping.variable, target(mapping)) else {
                continue;
            };
            let path = vault.path(&target);
            let value = if variable.holds_value {
                match vault.read(&target, LARGEST) {
                    Ok(Some(found)) => room
                        .take(&variable.name, &found.content)
                        .map(|()| found.content)
                        .map_err(|why| format!("its value {why}")),
                    Ok(None) => Err("it was not pulled yet".to_owned()),
                    Err(cause) => Err(cause.to_string()),
                }
            } else if vault.has(&target) {
                Ok(Zeroizing::new(path.into_os_string().into_vec()))
            } else {
                Err(format!("{} is not there", path.display()))
            };
            let name = variable.name.clone();
            match value {
                Ok(value) => drop(variables.values.insert(name, value)),
                Err(why) => variables.left_out.push((name, why)),
            }
        }
        variables
    }

    /// The paths that variables would have, for a shell outside of the ghost.
    pub(crate) fn outside(secrets: &Secrets, folder: &std::path::Path) -> Self {
        let mut variables = Self::default();
        for mapping in secrets.all() {
            let (Some(variable), Some(file)) = (&mapping.variable, &mapping.file) else { continue };
            let path: PathBuf = folder.join(file);
            if variable.holds_value {
                variables.left_out.push((variable.name.clone(), "no ghost is open here".into()));
            } else if path.is_file() {
                let value = Zeroizing::new(path.into_os_string().into_vec());
                variables.values.insert(variable.name.clone(), value);
            } else {
                let why = format!("{} is not there", path.display());
                variables.left_out.push((variable.name.clone(), why));
            }
        }
        variables
    }

    /// Returns the list of names for [`OURS`].
    pub(crate) fn names(&self) -> String {
        self.values.keys().map(String::as_str).collect::<Vec<_>>().join(":")
    }
}

/// What has to be done to a shell's environment.
pub(crate) struct Difference<'a> {
    /// Set these.
    pub(crate) set: Vec<(&'a str, &'a [u8])>,
    /// Unset these.
    pub(crate) unset: Vec<String>,
    list: String,
    had: String,
}

impl<'a> Difference<'a> {
    /// Compares with an environment: what is ours there and wanted no more goes.
    pub(crate) fn from(
        wanted: &'a Variables,
        environment: impl Fn(&str) -> Option<OsString>,
    ) -> Self {
        let had = environment(OURS).and_then(|names| names.into_string().ok()).unwrap_or_default();
        let legal = |name: &&str| {
            let mut bytes = name.bytes();
            bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
                && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        let ours: BTreeSet<&str> = had.split(':').filter(legal).collect();
        let unset = ours
            .into_iter()
            .filter(|name| !wanted.values.contains_key(*name) && environment(name).is_some())
            .map(ToOwned::to_owned)
            .collect();
        let set = wanted
            .values
            .iter()
            .filter(|(name, value)| {
                environment(name).is_none_or(|now| now.as_bytes() != value.as_slice())
            })
            .map(|(name, value)| (name.as_str(), value.as_slice()))
            .collect();
        Self { set, unset, list: wanted.names(), had }
    }

    /// Whether nothing changed.
    pub(crate) fn is_empty(&self) -> bool {
        self.set.is_empty() && self.unset.is_empty()
    }

    /// Says what changed, by name.
    pub(crate) fn names(&self) -> String {
        let set = self.set.iter().map(|(name, _)| format!("+{name}"));
        let unset = self.unset.iter().map(|name| format!("-{name}"));
        set.chain(unset).collect::<Vec<_>>().join(" ")
    }

    /// Writes the commands for a shell to read. Every value stands in single quotes, in which a shell
    /// expands nothing.
    pub(crate) fn script(&self, shell: Shell) -> Zeroizing<Vec<u8>> {
        let mut script = Zeroizing::new(Vec::with_capacity(self.room()));
        for name in &self.unset {
            match shell {
                Shell::Bash | Shell::Zsh => script.extend(format!("unset {name}\n").bytes()),
                Shell::Fish => script.extend(format!("set -e {name}\n").bytes()),
            }
        }
        for (name, value) in &self.set {
            export(&mut script, shell, name, value);
        }
        if self.list != self.had {
            export(&mut script, shell, OURS, self.list.as_bytes());
        }
        script
    }

    /// Enough for every quote, so that the script is never moved and left behind in memory.
    fn room(&self) -> usize {
        let set: usize =
            self.set.iter().map(|(name, value)| name.len() + 4 * value.len() + 16).sum();
        let unset: usize = self.unset.iter().map(|name| name.len() + 16).sum();
        set + unset + 4 * self.list.len() + 64
    }
}

fn export(script: &mut Vec<u8>, shell: Shell, name: &str, value: &[u8]) {
    script.extend(match shell {
        Shell::Bash | Shell::Zsh => format!("export {name}=").into_bytes(),
        Shell::Fish => format!("set -gx {name} ").into_bytes(),
    });
    quoting::push(script, shell, value);
    script.push(b'\n');
}

/// Returns what a shell runs before each prompt, so that its environment follows the vault.
pub(crate) fn hook(shell: Shell, program: &std::path::Path) -> Vec<u8> {
    let mut word = Vec::new();
    quoting::push(&mut word, shell, program.as_os_str().as_bytes());
    let (before, after): (&str, &str) = match shell {
        Shell::Bash => (
            "__tazpod_env() {\n  local status=$?\n  eval \"$(",
            " env --shell bash)\"\n  return \"$status\"\n}\n\
             case \";${PROMPT_COMMAND[*]-};\" in\n  *__tazpod_env*) ;;\n  *) PROMPT_COMMAND=\"__tazpod_env${PROMPT_COMMAND:+;$PROMPT_COMMAND}\" ;;\nesac\n",
        ),
        Shell::Zsh => (
            "__tazpod_env() { eval \"$(",
            " env --shell zsh)\" }\nautoload -Uz add-zsh-hook && add-zsh-hook precmd __tazpod_env\n",
        ),
        Shell::Fish => (
            "function __tazpod_env --on-event fish_prompt\n  ",
            " env --shell fish | source\nend\n",
        ),
    };
    [before.as_bytes(), &word, after.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn variables(values: &[(&str, &str)]) -> Variables {
        let values = values
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Zeroizing::new(value.as_bytes().to_vec())));
        Variables { values: values.collect(), left_out: Vec::new() }
    }

    fn script(wanted: &Variables, has: &[(&str, &str)], shell: Shell) -> String {
        let of = |name: &str| {
            has.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        };
        let script = Difference::from(wanted, of).script(shell);
        String::from_utf8(script.to_vec()).unwrap()
    }

    #[test]
    fn exactly_what_changed_is_set_and_unset() {
        let wanted = variables(&[("A", "1"), ("B", "2"), ("C", "")]);
        let has =
            [("A", "1"), ("B", "old"), ("GONE", "x"), ("OTHER", "y"), (OURS, "A:B:GONE:X;id:")];
        assert_eq!(
            script(&wanted, &has, Shell::Bash),
            "unset GONE\nexport B='2'\nexport C=''\nexport TAZPOD_VARIABLES='A:B:C'\n"
        );
        let now = [("A", "1"), ("B", "2"), ("C", ""), (OURS, "A:B:C")];
        assert_eq!(script(&wanted, &now, Shell::Zsh), "");
    }

    #[test]
    fn quotes_let_nothing_through() {
        let wanted = variables(&[("V", r"a'b\c$(d)")]);
        let has = [(OURS, "V")];
        assert_eq!(script(&wanted, &has, Shell::Zsh), "export V='a'\\''b\\c$(d)'\n");
        assert_eq!(script(&wanted, &has, Shell::Fish), "set -gx V 'a\\'b\\\\c$(d)'\n");
    }

    /// Quotes are not enough for a variable to which a shell gives a meaning: bash computes what is
    /// assigned to `RANDOM`, and so runs what stands in a subscript. Each shell names its own.
    #[test]
    fn no_variable_that_a_secret_may_set_makes_a_shell_run_or_refuse_its_value() {
        let home = tempfile::tempdir().unwrap();
        let run = |program: &str, flags: &[&str], text: &str| {
            let mut command = std::process::Command::new(program);
            command.args(flags).arg("-c").arg(text).current_dir(home.path());
            command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", home.path());
            command.output().unwrap()
        };
        for (shell, program, flags, list) in [
            (Shell::Bash, "bash", &["--norc", "-i"][..], "compgen -v"),
            (Shell::Zsh, "zsh", &["-f", "-i"][..], "print -l ${(k)parameters}"),
            (Shell::Fish, "fish", &[][..], "set -n"),
        ] {
            let known = String::from_utf8(run(program, flags, list).stdout).unwrap();
            let flags = flags.split_last().map_or(flags, |(_, rest)| rest);
            let word = |name: &&str| {
                let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
                name.bytes().all(legal) && !name.starts_with(|c: char| c.is_ascii_digit())
            };
            let names: Vec<&str> = known.split_whitespace().filter(word).collect();
            assert!(names.contains(&"PATH"), "{program}: {names:?}");
            for name in names.into_iter().filter(|name| !crate::config::deciding::decides(name)) {
                let text = script(&variables(&[(name, "a[$(touch ran)]")]), &[], shell);
                let output = run(program, flags, &text);
                let said = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success() && said.is_empty(), "{program} {name}: {said}");
                assert!(!home.path().join("ran").exists(), "{program} ran the value of {name}");
            }
        }
    }

    #[test]
    fn what_no_variable_can_hold_is_told() {
        let fits = |value: &[u8]| Room::default().take("A", value).is_ok();
        assert!(fits(b"") && fits("ü\r\n".as_bytes()));
        assert!(!fits(b"a\0b"));
        assert!(fits(&vec![b'x'; LARGEST - 3]) && !fits(&vec![b'x'; LARGEST - 2]));
        let mut room = Room::default();
        let large = vec![b'x'; 100_000];
        let taken = (0..20).filter(|_| room.take("A", &large).is_ok()).count();
        assert_eq!((taken, room.take("A", b"small").is_ok()), (10, true));
    }
}
