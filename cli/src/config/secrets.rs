//! `secrets.yml`: where secrets come from, and which one goes to which file below `~/secrets` and
//! which variable.
//!
//! The file lies in the project, so whoever can write there can change it: it decides names and
//! places within the vault, and nothing else. What it may not decide is refused with file, line and
//! column: places outside the vault or in what TazPod keeps there, variables that decide which
//! programs run, and one place or variable given twice.

use super::deciding::decides;
use super::locate::{self, Step};
use super::parse;
use crate::error::{Error, Result};
use crate::infisical::settings::SourceKind;
use serde::Deserialize;
use serde::de::{self, Deserializer};
use std::collections::BTreeSet;
use std::fmt;
use std::path::{Component, Path, PathBuf};

/// Where secrets are when nothing is said.
const ENVIRONMENT: &str = "dev";
const FOLDER: &str = "/";

/// Folders and files in the vault that are not for secrets.
const RESERVED: [&str; 8] = [
    ".tazpod",
    ".home",
    ".infisical-vault",
    ".infisical-keyring",
    ".gemini-vault",
    ".infisical-storage",
    ".infisical-auth",
    ".auth-infisical",
];

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "keys and values")]
struct File {
    config: Option<Source>,
    secrets: Option<Vec<Entry>>,
}

/// Both our keys and those of the older program.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "keys and values")]
struct Source {
    #[serde(alias = "infisical_project_id", alias = "project_id")]
    project: Option<String>,
    #[serde(alias = "project_slug")]
    slug: Option<String>,
    #[serde(alias = "infisical_url", alias = "infisical_domain")]
    url: Option<String>,
    #[serde(alias = "infisical_env")]
    environment: Option<String>,
    #[serde(alias = "infisical_path")]
    path: Option<String>,
    #[serde(rename = "source")]
    kind: Option<SourceKind>,
    ca_file: Option<PathBuf>,
    proxy: Option<String>,
    allow_http: Option<bool>,
    recursive: Option<bool>,
    tags: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "keys and values")]
struct Entry {
    name: String,
    file: Option<String>,
    env: Option<String>,
    path: Option<String>,
    environment: Option<String>,
    expand: Option<bool>,
    optional: Option<bool>,
    mode: Option<Permissions>,
    value_in_env: Option<bool>,
    recursive: Option<bool>,
    tags: Option<Vec<String>>,
}

/// Where secrets come from, as far as the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The project's id.
    pub(crate) project: Option<String>,
    /// The project's short name.
    pub(crate) slug: Option<String>,
    /// The server.
    pub(crate) url: Option<String>,
    /// Which source.
    pub(crate) source: Option<SourceKind>,
    /// Certificates that are trusted beside the platform's.
    pub(crate) ca_file: Option<PathBuf>,
    /// The proxy, instead of the environment's.
    pub(crate) proxy: Option<String>,
    /// Whether plain HTTP is accepted.
    pub(crate) allow_http: bool,
}

/// One secret and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mapping {
    /// Its name at the source.
    pub(crate) name: String,
    /// The folder that it is in at the source.
    pub(crate) folder: String,
    /// The environment that it is in at the source.
    pub(crate) environment: String,
    /// Whether the folders below count too.
    pub(crate) recursive: bool,
    /// Only a secret with one of these tags is meant; empty for any.
    pub(crate) tags: Vec<String>,
    /// Whether references in it are replaced.
    pub(crate) expand: bool,
    /// Whether it may be missing.
    pub(crate) optional: bool,
    /// Its file below `~/secrets`.
    pub(crate) file: Option<PathBuf>,
    /// The file's permissions.
    pub(crate) permissions: u32,
    /// The variable that it sets.
    pub(crate) variable: Option<Variable>,
}

/// A variable, and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Variable {
    /// Its name.
    pub(crate) name: String,
    /// Whether it holds the value itself, rather than the file's path.
    pub(crate) holds_value: bool,
}

/// The whole file, judged.
#[derive(Clone, Debug, Default)]
pub(crate) struct Secrets {
    origin: Origin,
    all: Vec<Mapping>,
    shown: String,
    bytes: Vec<u8>,
}

impl Secrets {
    /// Reads the file and judges it; one that does not exist names no secrets.
    pub(crate) fn load(path: &Path, shown: &str) -> Result<Self> {
        match parse::read(path, shown)? {
            Some(bytes) => Self::parse(bytes, shown),
            None => Ok(Self::default()),
        }
    }

    fn parse(bytes: Vec<u8>, shown: &str) -> Result<Self> {
        let file: File = parse::parse(&bytes, shown)?.unwrap_or_default();
        let source = file.config.unwrap_or_default();
        let mut secrets = Self { shown: shown.to_owned(), bytes, ..Self::default() };
        let at = |key| [Step::Key("config"), Step::Key(key)];
        let defaults = Defaults {
            environment: non_empty(source.environment).unwrap_or_else(|| ENVIRONMENT.to_owned()),
            folder: non_empty(source.path).unwrap_or_else(|| FOLDER.to_owned()),
            recursive: source.recursive.unwrap_or(false),
            tags: judge_tags(source.tags.unwrap_or_default())
                .map_err(|what| secrets.refuse_at(&at("tags"), &what))?,
        };
        judge_folder(&defaults.folder).map_err(|what| secrets.refuse_at(&at("path"), &what))?;
        secrets.origin = Origin {
            project: non_empty(source.project),
            slug: non_empty(source.slug),
            url: non_empty(source.url),
            source: source.kind,
            ca_file: source.ca_file,
            proxy: non_empty(source.proxy),
            allow_http: source.allow_http.unwrap_or(false),
        };
        for (number, entry) in file.secrets.unwrap_or_default().into_iter().enumerate() {
            let mapping = entry
                .judged(&defaults)
                .map_err(|(key, what)| secrets.refuse(number, key, &what))?;
            secrets.all.push(mapping);
        }
        secrets.refuse_doubles()?;
        Ok(secrets)
    }

    /// Returns where the secrets come from.
    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Returns the secrets in the file's order.
    pub(crate) fn all(&self) -> &[Mapping] {
        &self.all
    }

    /// Makes the error about a key of the secret with this number: the file, the place, what is
    /// wrong.
    pub(crate) fn refuse(&self, number: usize, key: &str, what: &str) -> Error {
        let entry = [Step::Key("secrets"), Step::Entry(number)];
        let with_key = [entry[0], entry[1], Step::Key(key)];
        match locate::place(&self.bytes, &with_key) {
            Some(_) => self.refuse_at(&with_key, what),
            None => self.refuse_at(&entry, what),
        }
    }

    /// Makes the error of a file that names secrets, but not where they are.
    pub(crate) fn refuse_without_project(&self) -> Error {
        self.refuse_at(&[Step::Key("secrets")], "secrets are named, but no project that has them")
            .hint("'project' below 'config' takes its id, 'slug' its short name")
    }

    fn refuse_at(&self, path: &[Step<'_>], what: &str) -> Error {
        let shown = &self.shown;
        match locate::place(&self.bytes, path) {
            Some((line, column)) => Error::config(format!("{shown}:{line}:{column}: {what}")),
            None => Error::config(format!("{shown}: {what}")),
        }
    }

    /// Refuses a file or a variable that two secrets would share, and files that would lie in files.
    fn refuse_doubles(&self) -> Result<()> {
        let mut files: BTreeSet<&Path> = BTreeSet::new();
        let mut variables = BTreeSet::new();
        for (number, mapping) in self.all.iter().enumerate() {
            if let Some(file) = mapping.file.as_deref() {
                let shown = file.display();
                if files.contains(file) {
                    let what = format!("file '{shown}' is given to another secret already");
                    return Err(self.refuse(number, "file", &what));
                }
                let clash =
                    files.iter().find(|other| file.starts_with(other) || other.starts_with(file));
                if let Some(other) = clash {
                    let other = other.display();
                    let what = format!("file '{shown}' and file '{other}' cannot both exist");
                    return Err(self.refuse(number, "file", &what));
                }
                files.insert(file);
            }
            if let Some(variable) = &mapping.variable
                && !variables.insert(&variable.name)
            {
                let what = format!("env '{}' is set by another secret already", variable.name);
                return Err(self.refuse(number, "env", &what));
            }
        }
        Ok(())
    }
}

/// What counts for a secret that does not say otherwise.
struct Defaults {
    environment: String,
    folder: String,
    recursive: bool,
    tags: Vec<String>,
}

/// What is wrong with an entry: the key, and the words.
type Fault = (&'static str, String);

impl Entry {
    fn judged(self, defaults: &Defaults) -> std::result::Result<Mapping, Fault> {
        let of = |key: &'static str| move |what: String| (key, what);
        if self.name.is_empty() || self.name.chars().any(char::is_control) {
            return Err(("name", "a secret's name is not empty".to_owned()));
        }
        let file = non_empty(self.file).map(|file| judge_file(&file)).transpose();
        let file = file.map_err(of("file"))?;
        let variable = non_empty(self.env).map(|name| judge_variable(&name)).transpose();
        let variable = variable.map_err(of("env"))?;
        let holds_value = self.value_in_env.unwrap_or(file.is_none());
        if !holds_value && file.is_none() && variable.is_some() {
            let what = "without a file there is no path to put into a variable";
            return Err(("value_in_env", what.to_owned()));
        }
        let folder = non_empty(self.path).unwrap_or_else(|| defaults.folder.clone());
        judge_folder(&folder).map_err(of("path"))?;
        let tags = self.tags.map(judge_tags).transpose().map_err(of("tags"))?;
        let environment = non_empty(self.environment);
        Ok(Mapping {
            name: self.name,
            folder,
            environment: environment.unwrap_or_else(|| defaults.environment.clone()),
            recursive: self.recursive.unwrap_or(defaults.recursive),
            tags: tags.unwrap_or_else(|| defaults.tags.clone()),
            expand: self.expand.unwrap_or(true),
            optional: self.optional.unwrap_or(false),
            file,
            permissions: self.mode.map_or(0o600, |mode| mode.0),
            variable: variable.map(|name| Variable { name, holds_value }),
        })
    }
}

fn non_empty(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn judge_file(file: &str) -> std::result::Result<PathBuf, String> {
    let path = Path::new(file);
    let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
    let whole = !file.chars().any(char::is_control) && !file.ends_with('/');
    // Components alone would not show a dot in the middle.
    let dotted = file.split('/').any(|part| part.is_empty() || part == "." || part == "..");
    if !whole || dotted || !path.components().all(plain) {
        return Err(format!("file '{file}' must be a path below ~/secrets"));
    }
    let first = file.split('/').next().unwrap_or_default();
    if RESERVED.contains(&first) {
        return Err(format!("file '{file}': '{first}' is not for secrets"));
    }
    Ok(path.to_owned())
}

fn judge_variable(name: &str) -> std::result::Result<String, String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !name.starts_with(|c: char| legal(c) && !c.is_ascii_digit()) || !name.chars().all(legal) {
        return Err(format!("env '{name}' must be letters, digits and underscores"));
    }
    if decides(name) {
        return Err(format!("env '{name}' decides how programs run, which no secret may"));
    }
    Ok(name.to_owned())
}

fn judge_folder(folder: &str) -> std::result::Result<(), String> {
    let parts = folder.strip_prefix('/').map(|rest| rest.trim_end_matches('/'));
    let sound = |part: &str| !matches!(part, "." | "..") && !part.chars().any(char::is_control);
    match parts {
        Some(rest) if rest.split('/').all(sound) => Ok(()),
        _ => Err(format!("path '{folder}' must begin with '/', as in '/' or '/apps/web'")),
    }
}

/// Puts tags in order, so that the same ones are the same request.
fn judge_tags(mut tags: Vec<String>) -> std::result::Result<Vec<String>, String> {
    // A comma separates them on their way to the server.
    let sound = |tag: &String| {
        !tag.is_empty() && !tag.chars().any(|c| c == ',' || c.is_whitespace() || c.is_control())
    };
    if let Some(tag) = tags.iter().find(|tag| !sound(tag)) {
        return Err(format!("'{tag}' is no tag: a tag's slug is one word, as in [backend, web]"));
    }
    tags.sort_unstable();
    tags.dedup();
    Ok(tags)
}

/// A file's permissions as people write them: `0600`, `600`, `"0o600"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Permissions(u32);

impl<'de> Deserialize<'de> for Permissions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Permissions;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("octal permissions that let the owner read and nobody else write, such as \"0600\" or \"0400\"")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> std::result::Result<Permissions, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_str<E: de::Error>(self, text: &str) -> std::result::Result<Permissions, E> {
                let digits = text.strip_prefix("0o").unwrap_or(text);
                let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
                u32::from_str_radix(digits, 8)
                    .ok()
                    .filter(|mode| plain && mode & !0o777 == 0)
                    .filter(|mode| mode & 0o400 != 0 && mode & 0o022 == 0)
                    .map(Permissions)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::error::Kind;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Secrets> {
        Secrets::parse(text.as_bytes().to_vec(), "secrets.yml")
    }

    fn complaint(text: &str) -> String {
        let error = parse(text).unwrap_err();
        assert_eq!(error.kind(), Kind::Config);
        error.to_string()
    }

    #[test]
    fn files_of_the_older_program_keep_working() {
        let secrets = parse(
            "config:\n  infisical_project_id: \"p-1\"\n  infisical_env: prod\n  infisical_path: /k8s\n  \
             infisical_domain: https://eu.infisical.com\nsecrets:\n  - name: KUBE\n    file: kubeconfig\n    \
             env: KUBECONFIG\n  - name: KEY\n    file: api.key\n    env: \"\"\n    path: /other\n",
        )
        .unwrap();
        let origin = secrets.origin();
        assert_eq!(origin.project.as_deref(), Some("p-1"));
        assert_eq!(origin.url.as_deref(), Some("https://eu.infisical.com"));
        let [kube, key] = secrets.all() else { panic!("two") };
        assert_eq!((kube.environment.as_str(), kube.folder.as_str()), ("prod", "/k8s"));
        let variable = Variable { name: "KUBECONFIG".into(), holds_value: false };
        assert_eq!(kube.variable, Some(variable));
        assert_eq!((key.folder.as_str(), &key.variable), ("/other", &None));
        for empty in ["", "config:\n  infisical_project_id: \"\"\nsecrets: []\n", "secrets:\n"] {
            assert_eq!(parse(empty).unwrap().all(), []);
            assert_eq!(parse(empty).unwrap().origin(), &Origin::default());
        }
    }

    #[test]
    fn every_key_of_ours_is_read() {
        let secrets = parse(
            "config: {slug: web, url: 'http://localhost:8', environment: staging, path: /a/, source: cli,\n  \
             ca_file: ca.pem, proxy: none, allow_http: true, recursive: true, tags: [web]}\nsecrets:\n- {name: A, \
             file: d/a, mode: 0400, optional: true, expand: false, environment: dev, path: /b, \
             recursive: false, tags: [b, a, b]}\n- {name: B, env: B}\n\
             - {name: C, file: c, env: C, value_in_env: true, mode: 640}\n- {name: D}\n",
        )
        .unwrap();
        assert_eq!(secrets.origin().source, Some(SourceKind::Cli));
        assert_eq!(secrets.origin().proxy.as_deref(), Some("none"));
        let [a, b, c, d] = secrets.all() else { panic!("four") };
        assert_eq!((a.permissions, a.optional, a.expand), (0o400, true, false));
        assert_eq!((a.environment.as_str(), a.folder.as_str()), ("dev", "/b"));
        assert_eq!((a.recursive, &a.tags[..]), (false, &["a".to_owned(), "b".to_owned()][..]));
        assert_eq!((b.recursive, &b.tags[..]), (true, &["web".to_owned()][..]));
        assert!(b.variable.as_ref().unwrap().holds_value);
        assert!(c.variable.as_ref().unwrap().holds_value);
        assert_eq!((c.permissions, c.file.as_deref()), (0o640, Some(Path::new("c"))));
        assert_eq!((&d.file, &d.variable), (&None, &None));
    }

    #[test]
    fn what_cannot_be_right_is_named_with_its_place() {
        for (text, expected) in [
            ("secrets:\n- name: A\n  fil: a\n", "secrets.yml:3:3: secrets[0]: unknown field `fil`"),
            ("config:\n  projekt: x\n", "secrets.yml:2:3: config: unknown field `projekt`"),
            ("secrets:\n- name: A\n  file: ../x\n", "secrets.yml:3:9: file '../x' must be"),
            ("secrets:\n- name: A\n  file: /x\n", "secrets.yml:3:9: file '/x' must be"),
            ("secrets:\n- name: A\n  file: a/./b\n", "secrets.yml:3:9: file 'a/./b' must be"),
            ("secrets:\n- name: A\n  file: a/\n", "secrets.yml:3:9: file 'a/' must be"),
            (
                "secrets:\n- name: A\n  file: .infisical-vault/x\n",
                "secrets.yml:3:9: file '.infisical-vault/x': '.infisical-vault' is not for secrets",
            ),
            ("secrets:\n- name: A\n  env: 1A\n", "secrets.yml:3:8: env '1A' must be"),
            ("secrets:\n- name: A\n  env: 'A;id'\n", "secrets.yml:3:8: env 'A;id' must be"),
            (
                "secrets:\n- name: A\n  env: LD_PRELOAD\n",
                "secrets.yml:3:8: env 'LD_PRELOAD' decides",
            ),
            ("secrets:\n- name: A\n  env: PATH\n", "secrets.yml:3:8: env 'PATH' decides"),
            ("secrets:\n- {name: A, env: OPTIND}\n", "secrets.yml:2:18: env 'OPTIND' decides"),
            ("secrets:\n- name: A\n  path: b\n", "secrets.yml:3:9: path 'b' must begin"),
            ("config:\n  path: b\n", "secrets.yml:2:9: path 'b' must begin"),
            ("config:\n  tags: ['a,b']\n", "secrets.yml:2:9: 'a,b' is no tag"),
            ("secrets:\n- {name: A, tags: [' ']}\n", "secrets.yml:2:19: ' ' is no tag"),
            ("secrets:\n- name: ''\n", "secrets.yml:2:9: a secret's name"),
            (
                "secrets:\n- {name: A, file: x}\n- name: B\n  file: x\n",
                "secrets.yml:4:9: file 'x' is given to another secret already",
            ),
            (
                "secrets:\n- {name: A, file: x}\n- {name: B, file: x/y}\n",
                "secrets.yml:3:19: file 'x/y' and file 'x' cannot both exist",
            ),
            (
                "secrets:\n- {name: A, env: X}\n- {name: B, env: X}\n",
                "secrets.yml:3:18: env 'X' is set by another secret already",
            ),
            (
                "secrets:\n- {name: A, env: X, value_in_env: false}\n",
                "secrets.yml:2:35: without a file there is no path",
            ),
            (
                "secrets:\n- {name: A, mode: 0666}\n",
                "secrets.yml:2:19: secrets[0].mode: invalid value",
            ),
            (
                "secrets:\n- {name: A, mode: rw}\n",
                "secrets.yml:2:19: secrets[0].mode: invalid value",
            ),
        ] {
            let complaint = complaint(text);
            assert!(complaint.starts_with(expected), "{text}\n{complaint}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
            let _ = Secrets::parse(bytes, "secrets.yml");
        }

        #[test]
        fn a_file_that_is_accepted_stays_below_the_vault(file in "[a./~ -]{1,12}") {
            if let Ok(path) = judge_file(&file) {
                prop_assert!(Path::new("/v").join(&path).starts_with("/v"));
                prop_assert!(path.components().all(|part| matches!(part, Component::Normal(_))));
            }
        }
    }
}
