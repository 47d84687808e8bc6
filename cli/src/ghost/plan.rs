//! What `pull` decides before it does anything: which vault, and with whose rights. Pure, so that
//! every case can be tested.

use crate::args::ghost::BackendKind;
use crate::error::{Error, Result};
use crate::image::explain::foreign;
use std::path::PathBuf;
use vault_core::format::magic::ImageFormat;

/// What stands at the image's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing.
    Absent,
    /// A file of this format.
    File(ImageFormat),
}

/// Which vault will be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VaultPlan {
    /// What keeps its contents.
    pub(crate) backend: BackendKind,
    /// Whether it is to be made first.
    pub(crate) create: bool,
    /// Worth saying about the choice.
    pub(crate) notice: Option<String>,
}

/// Decides which backend opens or makes the vault. An existing vault is never second-guessed.
/// `lacking` names what luks would need and this machine does not have.
pub(crate) fn vault(
    asked: Option<BackendKind>,
    configured: Option<BackendKind>,
    found: Found,
    shown: &str,
    lacking: &[&str],
) -> Result<VaultPlan> {
    let backend = match found {
        Found::File(ImageFormat::Vault) => BackendKind::Fuse,
        Found::File(ImageFormat::Luks { version: 1 | 2 }) => BackendKind::Luks,
        Found::File(other) => return Err(foreign(other, shown)),
        Found::Absent => return new_vault(asked.or(configured), shown, lacking),
    };
    if let Some(asked) = asked.filter(|asked| *asked != backend) {
        return Err(Error::user(format!("'{shown}' is a {backend} vault, not a {asked} one"))
            .hint("leave --backend out: an existing vault tells what it is")
            .hint(format!(
                "'tazpod vault migrate --to {asked}' makes it one, and keeps the old image"
            ))
            .hint(format!("for a {asked} vault beside it name another image by 'vault.path'")));
    }
    if backend == BackendKind::Luks && !lacking.is_empty() {
        return Err(unavailable(&format!("'{shown}' is a luks vault"), lacking)
            .hint("it opens where nothing of that is missing; the file was not touched"));
    }
    Ok(VaultPlan { backend, create: false, notice: None })
}

fn new_vault(chosen: Option<BackendKind>, shown: &str, lacking: &[&str]) -> Result<VaultPlan> {
    let plan = |backend| VaultPlan { backend, create: true, notice: None };
    match chosen {
        Some(BackendKind::Fuse) => Ok(plan(BackendKind::Fuse)),
        Some(BackendKind::Luks) | None if lacking.is_empty() => Ok(plan(BackendKind::Luks)),
        Some(BackendKind::Luks) => {
            Err(unavailable(&format!("'{shown}' cannot become a luks vault"), lacking)
                .hint("'--backend fuse' needs neither devices nor a privileged container"))
        }
        None => {
            let lacking = lacking.join(", ");
            let notice = format!("LUKS cannot work here (missing: {lacking}): using fuse.");
            Ok(VaultPlan { notice: Some(notice), ..plan(BackendKind::Fuse) })
        }
    }
}

fn unavailable(what: &str, lacking: &[&str]) -> Error {
    Error::environment(format!("{what}, and LUKS cannot work here"))
        .caused_by(std::io::Error::other(format!("missing: {}", lacking.join(", "))))
}

/// With whose rights the ghost is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// We are root.
    Root,
    /// Through this sudo.
    Sudo(PathBuf),
    /// As a plain user; the reason is said unless the person asked for it.
    Rootless(Option<&'static str>),
}

/// Decides with whose rights the ghost is made.
pub(crate) fn way(is_root: bool, wants_rootless: bool, sudo: Option<PathBuf>) -> Way {
    match (is_root, wants_rootless, sudo) {
        (true, false, _) => Way::Root,
        (_, true, _) => Way::Rootless(None),
        (false, false, Some(sudo)) => Way::Sudo(sudo),
        (false, false, None) => Way::Rootless(Some("There is no sudo here: going without root.")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::error::Kind;

    #[test]
    fn existing_vault_decides_and_an_absent_one_follows_the_person() {
        let decide = |asked, configured, found| vault(asked, configured, found, "v", &["loop"]);
        let able = |asked, configured, found| vault(asked, configured, found, "v", &[]);
        let (fuse, luks) = (Some(BackendKind::Fuse), Some(BackendKind::Luks));
        let there = Found::File(ImageFormat::Vault);
        assert!(!decide(None, luks, there).unwrap().create);
        assert_eq!(decide(luks, None, there).unwrap_err().kind(), Kind::User);
        assert!(decide(fuse, luks, Found::Absent).unwrap().create);
        assert_eq!(decide(None, fuse, Found::Absent).unwrap().notice, None);
        assert!(decide(None, None, Found::Absent).unwrap().notice.is_some());
        assert_eq!(decide(None, luks, Found::Absent).unwrap_err().kind(), Kind::Environment);
        assert!(
            decide(None, None, Found::Absent).unwrap().notice.unwrap().contains("(missing: loop)")
        );
        assert_eq!(able(None, None, Found::Absent).unwrap().backend, BackendKind::Luks);
        assert_eq!(able(None, fuse, Found::Absent).unwrap().backend, BackendKind::Fuse);
        for version in [1, 2] {
            let there = Found::File(ImageFormat::Luks { version });
            assert_eq!(able(None, fuse, there).unwrap().backend, BackendKind::Luks);
            assert_eq!(decide(None, None, there).unwrap_err().kind(), Kind::Environment);
            let mismatch = able(fuse, None, there).unwrap_err();
            assert_eq!(mismatch.kind(), Kind::User);
            assert!(mismatch.hints().iter().any(|hint| hint.contains("vault migrate --to fuse")));
        }
        for format in [ImageFormat::Luks { version: 3 }, ImageFormat::Empty, ImageFormat::Unknown] {
            assert_eq!(decide(fuse, None, Found::File(format)).unwrap_err().kind(), Kind::Format);
        }
    }

    #[test]
    fn root_is_used_where_it_can_be_had_unless_declined() {
        let sudo = || Some(PathBuf::from("/usr/bin/sudo"));
        assert_eq!(way(true, false, None), Way::Root);
        assert_eq!(way(true, true, sudo()), Way::Rootless(None));
        assert_eq!(way(false, false, sudo()), Way::Sudo("/usr/bin/sudo".into()));
        assert!(matches!(way(false, false, None), Way::Rootless(Some(_))));
    }
}
