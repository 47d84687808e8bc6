//! Looking at a folder to propose what its container should bring, and to say why.

use crate::args::project::Vertical;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// More entries than this in one folder are not looked at.
const MOST_ENTRIES: usize = 10_000;

/// What a file or folder of this name says about the project.
const SIGNS: &[(Vertical, Sign)] = &[
    (Vertical::Gemini, Sign::Name("GEMINI.md")),
    (Vertical::Gemini, Sign::Name(".gemini/settings.json")),
    (Vertical::K8s, Sign::Name("kubeconfig")),
    (Vertical::K8s, Sign::Name("talosconfig")),
    (Vertical::K8s, Sign::Name("Chart.yaml")),
    (Vertical::K8s, Sign::Name("helmfile.yaml")),
    (Vertical::K8s, Sign::Name("kustomization.yaml")),
    (Vertical::K8s, Sign::Name("skaffold.yaml")),
    (Vertical::K8s, Sign::Name("Tiltfile")),
    (Vertical::K8s, Sign::Name("charts")),
    (Vertical::K8s, Sign::Name("k8s")),
    (Vertical::K8s, Sign::Suffix(".tf")),
    (Vertical::Infisical, Sign::Name(".infisical.json")),
    (Vertical::Infisical, Sign::Name("secrets.yml")),
    (Vertical::Base, Sign::Name("Dockerfile")),
    (Vertical::Base, Sign::Name("Cargo.toml")),
    (Vertical::Base, Sign::Name("package.json")),
    (Vertical::Base, Sign::Name("pyproject.toml")),
    (Vertical::Base, Sign::Name("go.mod")),
    (Vertical::Base, Sign::Name("Makefile")),
];

enum Sign {
    Name(&'static str),
    Suffix(&'static str),
}

/// A vertical and what in the folder speaks for it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Proposal {
    /// What to bring.
    pub(crate) vertical: Vertical,
    /// Names found that speak for it, in alphabetical order.
    pub(crate) because: Vec<String>,
}

impl Proposal {
    /// Says the proposal and its reason in one line.
    pub(crate) fn reason(&self) -> String {
        if self.because.is_empty() {
            return "nothing here asks for more".to_owned();
        }
        let shown: Vec<_> = self.because.iter().take(3).map(String::as_str).collect();
        let more = self.because.len() - shown.len();
        let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("this folder has {}{rest}", shown.join(", "))
    }
}

/// Looks at a folder. The vertical that brings most wins, since each contains the ones before it.
pub(crate) fn propose(root: &Path) -> Proposal {
    let names = names_in(root);
    let found = |sign: &Sign| -> Vec<String> {
        match sign {
            Sign::Name(name) if name.contains('/') => {
                Vec::from_iter(root.join(name).exists().then(|| (*name).to_owned()))
            }
            Sign::Name(name) => Vec::from_iter(names.get(*name).cloned()),
            Sign::Suffix(suffix) => {
                names.iter().filter(|name| name.ends_with(suffix)).cloned().collect()
            }
        }
    };
    for vertical in [Vertical::Gemini, Vertical::K8s, Vertical::Infisical, Vertical::Base] {
        let signs = SIGNS.iter().filter(|(speaks_for, _)| *speaks_for == vertical);
        let because: BTreeSet<_> = signs.flat_map(|(_, sign)| found(sign)).collect();
        if !because.is_empty() {
            return Proposal { vertical, because: because.into_iter().collect() };
        }
    }
    Proposal { vertical: Vertical::Base, because: Vec::new() }
}

fn names_in(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.take(MOST_ENTRIES).filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn proposal(names: &[&str]) -> Proposal {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
            fs::write(dir.path().join(name), "").unwrap();
        }
        propose(dir.path())
    }

    #[test]
    fn each_sign_speaks_for_its_vertical() {
        for (name, vertical) in [
            ("Dockerfile", Vertical::Base),
            (".infisical.json", Vertical::Infisical),
            ("main.tf", Vertical::K8s),
            ("kubeconfig", Vertical::K8s),
            ("Chart.yaml", Vertical::K8s),
            ("GEMINI.md", Vertical::Gemini),
            (".gemini/settings.json", Vertical::Gemini),
        ] {
            let expected = Proposal { vertical, because: vec![name.to_owned()] };
            assert_eq!(proposal(&[name]), expected);
        }
    }

    #[test]
    fn the_vertical_that_brings_most_wins_and_only_its_reasons_are_given() {
        let both = proposal(&["Dockerfile", "b.tf", "a.tf", "Chart.yaml", "kubeconfig"]);
        assert_eq!(both.vertical, Vertical::K8s);
        assert_eq!(both.reason(), "this folder has Chart.yaml, a.tf, b.tf and 1 more");
    }

    #[test]
    fn an_empty_folder_gets_the_base() {
        let nothing = proposal(&[]);
        assert_eq!(
            (nothing.vertical, nothing.reason().as_str()),
            (Vertical::Base, "nothing here asks for more")
        );
    }
}
