//! What decrypts an archive: identities, which are secret.

use crate::error::{Error, Result};
use crate::quoting::word;
use crate::ui::Ui;
use crate::ui::secret;
use age::x25519::Identity;
use std::fmt;
use std::path::{Path, PathBuf};

/// How an identity of age's own kind begins.
const START: &str = "AGE-SECRET-KEY-";
/// How a file begins that is itself encrypted.
const ENCRYPTED: [&[u8]; 2] = [super::header::MAGIC, super::header::ARMOUR];

/// At least one identity.
pub(crate) struct Identities(Vec<Identity>);

impl Identities {
    /// Reads those in the files, or `None` if there are no files.
    pub(crate) fn gather(ui: &Ui, files: &[PathBuf]) -> Result<Option<Self>> {
        if files.is_empty() {
            return Ok(None);
        }
        let mut gathered = Vec::new();
        for path in files {
            let content = secret::identity_file(ui, path)?;
            gathered.extend(parse(content.bytes()).map_err(|fault| fault.explain(path))?);
        }
        Ok(Some(Self(gathered)))
    }

    /// Hands the identities to the format.
    pub(super) fn iter(&self) -> impl Iterator<Item = &dyn age::Identity> {
        self.0.iter().map(|identity| identity as &dyn age::Identity)
    }
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identities(..)")
    }
}

/// Whether a word is, or was meant to be, an identity.
pub(super) fn looks_like_one(word: &str) -> bool {
    word.get(..START.len()).is_some_and(|start| start.eq_ignore_ascii_case(START))
}

/// Why a file holds no identities. Nothing of its content is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NoIdentity {
    Encrypted,
    Recipient { line: usize },
    Line { line: usize },
    Empty,
}

impl NoIdentity {
    fn explain(self, path: &Path) -> Error {
        let shown = path.display();
        let by_pipe =
            "for identities of other kinds: age -d -i IDENTITY ARCHIVE | tazpod vault import -";
        match self {
            Self::Encrypted => Error::user(format!(
                "the identity file '{shown}' is itself encrypted"
            ))
            .hint(format!("tazpod vault import --identity <(age -d {}) ARCHIVE", word(path))),
            Self::Recipient { line } => {
                Error::user(format!("line {line} of '{shown}' is a recipient, not an identity"))
                    .hint("the identity is the file that 'age-keygen -o FILE' wrote")
            }
            Self::Line { line } => {
                Error::user(format!("line {line} of '{shown}' is no age identity"))
                    .hint(format!(
                        "an identity is a line that begins with {START}1, as age-keygen writes it"
                    ))
                    .hint(by_pipe)
            }
            Self::Empty => Error::user(format!("there is no identity in '{shown}'"))
                .hint("'age-keygen -o FILE' makes one"),
        }
    }
}

/// Reads identities: one a line, with empty lines and comments in between.
fn parse(bytes: &[u8]) -> std::result::Result<Vec<Identity>, NoIdentity> {
    if ENCRYPTED.iter().any(|start| bytes.starts_with(start)) {
        return Err(NoIdentity::Encrypted);
    }
    let mut identities = Vec::new();
    for (line, bytes) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
        let bytes = bytes.trim_ascii();
        if bytes.is_empty() || bytes.starts_with(b"#") {
            continue;
        }
        let text = std::str::from_utf8(bytes).map_err(|_| NoIdentity::Line { line })?;
        let wrong = if text.starts_with("age1") {
            NoIdentity::Recipient { line }
        } else {
            NoIdentity::Line { line }
        };
        identities.push(text.parse().map_err(|_| wrong)?);
    }
    if identities.is_empty() { Err(NoIdentity::Empty) } else { Ok(identities) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use age::secrecy::ExposeSecret;

    /// Compiles only while the type is no `Clone`: with it, the call below would be ambiguous.
    #[test]
    fn identities_are_not_cloned_and_not_shown() {
        trait CloneIsAbsent<Marker> {
            fn check() {}
        }
        struct Implemented;
        impl<T> CloneIsAbsent<()> for T {}
        impl<T: Clone> CloneIsAbsent<Implemented> for T {}
        <Identities as CloneIsAbsent<_>>::check();
        assert_eq!(format!("{:?}", Identities(vec![Identity::generate()])), "Identities(..)");
    }

    #[test]
    fn files_of_age_keygen_are_read_and_others_are_told_apart() {
        let identity = Identity::generate();
        let secret = identity.to_string();
        let secret = secret.expose_secret();
        let recipient = identity.to_public().to_string();
        let file = format!("# created: 2026\n# public key: {recipient}\n{secret}\r\n\n{secret}");
        assert_eq!(parse(file.as_bytes()).map(|found| found.len()), Ok(2));
        let cut = secret.split_at(40).0;
        for (file, wanted) in [
            ("", NoIdentity::Empty),
            ("# nothing\n", NoIdentity::Empty),
            (recipient.as_str(), NoIdentity::Recipient { line: 1 }),
            (&format!("\n{cut}"), NoIdentity::Line { line: 2 }),
            ("AGE-PLUGIN-YUBIKEY-1QQ", NoIdentity::Line { line: 1 }),
            ("-----BEGIN OPENSSH PRIVATE KEY-----\n", NoIdentity::Line { line: 1 }),
            ("age-encryption.org/v1\n-> scrypt\n", NoIdentity::Encrypted),
            ("-----BEGIN AGE ENCRYPTED FILE-----\n", NoIdentity::Encrypted),
        ] {
            assert_eq!(parse(file.as_bytes()).err(), Some(wanted), "{file}");
        }
    }
}
