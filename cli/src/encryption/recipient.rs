//! Who can read an archive that leaves the vault.

use crate::args::archive::RecipientArgs;
use crate::error::{Error, Result};
use crate::quoting;
use age::x25519::Recipient;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use vault_core::archive::ArchiveError;

/// Recipients of one archive: what reads such a header takes at least as many.
const MOST: usize = 256;
/// Bytes of a file of recipients.
const LONGEST_FILE: u64 = 1 << 18;
/// Characters that are repeated of what is no recipient.
const SHOWN: usize = 70;

/// At least one recipient.
pub(crate) struct Recipients(Vec<Recipient>);

impl Recipients {
    /// Gathers those that the command line names, or `None` if it names none.
    pub(crate) fn gather(args: &RecipientArgs) -> Result<Option<Self>> {
        if args.named.is_empty() && args.files.is_empty() {
            return Ok(None);
        }
        let mut gathered = Vec::new();
        for word in &args.named {
            add(&mut gathered, parse(word).map_err(|fault| fault.of_word(word))?);
        }
        for path in &args.files {
            for recipient in from_file(path)? {
                add(&mut gathered, recipient);
            }
        }
        if gathered.len() > MOST {
            return Err(Error::user(format!("an archive can have {MOST} recipients at most")));
        }
        Ok(Some(Self(gathered)))
    }

    /// Says to how many an archive is encrypted.
    pub(crate) fn describe(&self) -> String {
        match self.0.len() {
            1 => "encrypted to 1 recipient".to_owned(),
            count => format!("encrypted to {count} recipients"),
        }
    }

    /// Encrypts into `out` what `fill` writes.
    pub(crate) fn encrypt<T>(
        &self,
        out: &mut dyn Write,
        fill: impl FnOnce(&mut dyn Write) -> std::result::Result<T, ArchiveError>,
    ) -> std::result::Result<T, ArchiveError> {
        let recipients = self.0.iter().map(|recipient| recipient as &dyn age::Recipient);
        let encryptor = age::Encryptor::with_recipients(recipients)
            .map_err(|cause| ArchiveError::Write(io::Error::other(cause)))?;
        let mut encrypted = encryptor.wrap_output(out).map_err(ArchiveError::Write)?;
        let filled = fill(&mut encrypted)?;
        // Only now can it be told from one that was cut short.
        let out = encrypted.finish().map_err(ArchiveError::Write)?;
        out.flush().map_err(ArchiveError::Write)?;
        Ok(filled)
    }
}

fn add(gathered: &mut Vec<Recipient>, recipient: Recipient) {
    if !gathered.contains(&recipient) {
        gathered.push(recipient);
    }
}

/// Why a word is no recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NoRecipient {
    /// It is the secret, which is never repeated.
    Identity,
    Other(&'static str),
}

impl NoRecipient {
    fn of_word(self, word: &str) -> Error {
        match self {
            Self::Identity => Error::user("an identity was given where a recipient belongs")
                .hint("it is secret, and the shell's history and other programs have seen it now: make another one")
                .hint("'age-keygen -y IDENTITY-FILE' prints the recipient that belongs to an identity"),
            Self::Other(_) if word.chars().count() > SHOWN => {
                let start: String = word.chars().take(SHOWN).collect();
                self.explain(&format!("'{start}...'"))
            }
            Self::Other(_) => self.explain(&format!("'{word}'")),
        }
    }

    /// Lines of a file are not repeated: it may be the wrong one.
    fn of_line(self, number: usize, path: &Path) -> Error {
        let shown = path.display();
        match self {
            Self::Identity => {
                Error::user(format!("line {number} of '{shown}' is an identity, which is secret"))
                    .hint(format!(
                        "age-keygen -y {} prints the recipient that belongs to it",
                        quoting::word(path)
                    ))
            }
            Self::Other(_) => self.explain(&format!("line {number} of '{shown}'")),
        }
    }

    fn explain(self, what: &str) -> Error {
        let error = Error::user(format!("{what} is no age recipient"));
        let error = match self {
            Self::Other(cause) => error.caused_by(cause),
            Self::Identity => error,
        };
        error
            .hint("a recipient is what 'age-keygen -y IDENTITY-FILE' prints: age1 and 58 more letters and digits")
            .hint("for keys of other kinds: tazpod vault export - | age -r RECIPIENT > FILE")
    }
}

fn parse(word: &str) -> std::result::Result<Recipient, NoRecipient> {
    let word = word.trim();
    if super::identity::looks_like_one(word) {
        return Err(NoRecipient::Identity);
    }
    word.parse().map_err(NoRecipient::Other)
}

/// Reads a file of recipients: one a line, with empty lines and comments in between.
fn from_file(path: &Path) -> Result<Vec<Recipient>> {
    let shown = path.display();
    let failed = |cause: io::Error| {
        Error::user(format!("cannot read the recipients in '{shown}'")).caused_by(cause)
    };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LONGEST_FILE + 1).read_to_end(&mut bytes))
        .map_err(failed)?;
    if bytes.len() as u64 > LONGEST_FILE {
        return Err(Error::user(format!("'{shown}' is longer than a file of recipients can be")));
    }
    let text = String::from_utf8_lossy(&bytes);
    let mut recipients = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if !line.is_empty() && !line.starts_with('#') {
            recipients.push(parse(line).map_err(|fault| fault.of_line(number, path))?);
        }
    }
    if recipients.is_empty() {
        return Err(Error::user(format!("'{shown}' names no recipient"))
            .hint("nothing was written: the archive would not have been encrypted"));
    }
    Ok(recipients)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use age::secrecy::ExposeSecret;
    use age::x25519::Identity;

    fn gather(named: &[&str], file: Option<&str>) -> Result<Option<Recipients>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("recipients");
        std::fs::write(&path, file.unwrap_or_default()).unwrap();
        let files = file.is_some().then_some(path).into_iter().collect();
        Recipients::gather(&RecipientArgs {
            named: named.iter().map(|&word| word.to_owned()).collect(),
            files,
        })
    }

    fn recipient() -> String {
        Identity::generate().to_public().to_string()
    }

    #[test]
    fn recipients_come_from_words_and_files_and_count_once() {
        assert!(gather(&[], None).unwrap().is_none());
        let (one, two) = (recipient(), recipient());
        let file = format!("# ours\n\n  {two}\r\n{one}\n");
        let gathered = gather(&[&one, &one], Some(&file)).unwrap().unwrap();
        assert_eq!(gathered.describe(), "encrypted to 2 recipients");
        let one = gather(&[&one], None).unwrap().unwrap();
        assert_eq!(one.describe(), "encrypted to 1 recipient");
    }

    #[test]
    fn file_without_recipients_is_no_leave_to_write_in_the_clear() {
        let error = gather(&[&recipient()], Some("# nobody\n")).err().unwrap();
        assert!(error.to_string().contains("names no recipient"), "{error}");
    }

    #[test]
    fn more_recipients_than_a_header_may_have_are_refused() {
        let many: Vec<_> = (0..=MOST).map(|_| recipient()).collect();
        assert!(gather(&[], Some(&many[..MOST].join("\n"))).is_ok());
        assert!(gather(&[], Some(&many.join("\n"))).is_err());
    }

    #[test]
    fn what_is_no_recipient_is_named_and_a_secret_never_repeated() {
        let changed = recipient().replace("age1", "age2");
        for wrong in ["", "bob", "ssh-ed25519 AAAA", "age1", &changed] {
            let error = gather(&[wrong], None).err().unwrap();
            assert!(error.to_string().contains(wrong), "{error}");
            assert!(error.hints().iter().any(|hint| hint.contains("age1 and 58")), "{error:?}");
        }
        let secret = Identity::generate().to_string().expose_secret().to_owned();
        let file = format!("# created\n{secret}\n");
        for error in [
            gather(&[&secret], None).err().unwrap(),
            gather(&[&secret.to_lowercase()], None).err().unwrap(),
            gather(&[], Some(&file)).err().unwrap(),
            gather(&[], Some(secret.split_at(20).1)).err().unwrap(),
        ] {
            let told = format!("{error:?}").to_uppercase();
            assert!(!told.contains(secret.split_at(24).1), "{told}");
        }
        let error = gather(&[], Some(&file)).err().unwrap();
        assert!(error.to_string().starts_with("line 2 of"), "{error}");
    }
}
