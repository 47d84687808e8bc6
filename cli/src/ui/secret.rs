//! Where secrets come in: the terminal, a file, a descriptor, or standard input.
//!
//! Never the command line's words nor the environment, which every process of the user can read.

use super::{Ui, prompt};
use crate::args::access::PassphraseArgs;
use crate::error::{Error, Result};
use crate::quoting::word;
use crate::sys::descriptor;
use crate::sys::memory::SecretBuffer;
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use vault_core::crypto::secret::Passphrase;
use zeroize::Zeroizing;

/// The longest key file; more is a sign of the wrong file.
const LONGEST_KEY_FILE: usize = 1 << 20;
/// The longest file of identities: some hundred of them, each with its comments.
const LONGEST_IDENTITY_FILE: usize = 1 << 16;

/// Where a passphrase comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PassphraseSource {
    /// Typed on the terminal.
    Terminal,
    /// The content of a file.
    File(PathBuf),
    /// What can be read from a descriptor that was open when we started.
    Descriptor(i32),
    /// What can be read from standard input.
    StandardInput,
}

impl PassphraseSource {
    /// Picks the source that the command line names; else the terminal, or standard input when that
    /// is not a terminal.
    pub(crate) fn from_args(args: &PassphraseArgs) -> Self {
        match (&args.passphrase_file, args.passphrase_fd) {
            (Some(path), _) => Self::File(path.clone()),
            (None, Some(fd)) => Self::Descriptor(fd),
            (None, None) if io::stdin().is_terminal() => Self::Terminal,
            (None, None) => Self::StandardInput,
        }
    }

    /// Reads the passphrase of an existing vault.
    pub(crate) fn read(&self, ui: &Ui, question: &str) -> Result<Passphrase> {
        let passphrase = match self {
            Self::Terminal => prompt::secret_line(question)?,
            Self::File(path) => from_file(ui, path)?,
            Self::Descriptor(fd) => {
                let file = descriptor::inherit(*fd).map_err(|cause| {
                    Error::user(format!("cannot read file descriptor {fd}")).caused_by(cause)
                })?;
                from_reader(File::from(file), &format!("file descriptor {fd}"))?
            }
            Self::StandardInput => from_reader(io::stdin().lock(), "standard input")?,
        };
        if passphrase.is_empty() {
            return Err(Error::user("the passphrase is empty")
                .hint(self.where_to_look())
                .hint("nothing was changed"));
        }
        Ok(passphrase.into_passphrase())
    }

    /// Reads the passphrase of a new keyslot; a typed one is asked for twice.
    pub(crate) fn read_new(&self, ui: &Ui, question: &str) -> Result<Passphrase> {
        let first = self.read(ui, question)?;
        if *self == Self::Terminal {
            let second = prompt::secret_line("Repeat: ")?;
            if second.bytes() != first.expose() {
                return Err(Error::user("the two passphrases differ").hint("nothing was changed"));
            }
        }
        Ok(first)
    }

    fn where_to_look(&self) -> String {
        match self {
            Self::Terminal => "type it, or give it with --passphrase-file".to_owned(),
            Self::File(path) => format!("it was read from '{}'", path.display()),
            Self::Descriptor(fd) => format!("it was read from file descriptor {fd}"),
            Self::StandardInput => {
                "it was read from standard input, which is no terminal".to_owned()
            }
        }
    }
}

/// Reads a key file: all its bytes, as they are.
pub(crate) fn key_file(ui: &Ui, path: &Path) -> Result<Passphrase> {
    let content = read_to_end(open(ui, path, "key file")?, LONGEST_KEY_FILE, || {
        Error::user(format!("'{}' is longer than a key file can be (1 MiB)", path.display()))
    })?;
    if content.is_empty() {
        return Err(Error::user(format!("the key file '{}' is empty", path.display())));
    }
    Ok(content.into_passphrase())
}

/// Reads a file of identities, which decrypt archives: all its bytes, as they are.
pub(crate) fn identity_file(ui: &Ui, path: &Path) -> Result<SecretBuffer> {
    read_to_end(open(ui, path, "identity file")?, LONGEST_IDENTITY_FILE, || {
        Error::user(format!("'{}' is longer than an identity file can be (64 KiB)", path.display()))
    })
}

/// Reads a credential that is no passphrase: a client id, a client secret, a token.
pub(crate) fn credential(
    ui: &Ui,
    what: &str,
    from: &CredentialSource,
) -> Result<Zeroizing<String>> {
    let too_long = || Error::user(format!("the {what} is longer than {} bytes", prompt::LONGEST));
    let mut buffer = match from {
        CredentialSource::Typed(question) => prompt::secret_line(question)?,
        CredentialSource::File(path) => {
            read_to_end(open(ui, path, &format!("file of the {what}"))?, prompt::LONGEST, too_long)?
        }
        CredentialSource::Descriptor(fd) => {
            let file = descriptor::inherit(*fd).map_err(|cause| {
                Error::user(format!("cannot read file descriptor {fd}")).caused_by(cause)
            })?;
            read_to_end(File::from(file), prompt::LONGEST, too_long)?
        }
    };
    buffer.strip_newline();
    let text = std::str::from_utf8(buffer.bytes())
        .map_err(|_| Error::user(format!("the {what} is not text")))?
        .trim();
    if text.is_empty() {
        return Err(Error::user(format!("the {what} is empty")).hint("nothing was changed"));
    }
    Ok(Zeroizing::new(text.to_owned()))
}

/// Where such a credential comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CredentialSource {
    /// Typed on the terminal, after this question.
    Typed(&'static str),
    /// The content of a file.
    File(PathBuf),
    /// What can be read from a descriptor that was open when we started.
    Descriptor(i32),
}

fn from_file(ui: &Ui, path: &Path) -> Result<SecretBuffer> {
    from_reader(open(ui, path, "passphrase file")?, &format!("'{}'", path.display()))
}

fn open(ui: &Ui, path: &Path, what: &str) -> Result<File> {
    let shown = path.display();
    let failed = |cause: io::Error| {
        Error::user(format!("cannot read the {what} '{shown}'")).caused_by(cause)
    };
    let file = File::open(path).map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    if about.is_dir() {
        return Err(Error::user(format!("the {what} '{shown}' is a folder")));
    }
    if about.is_file() && about.permissions().mode() & 0o077 != 0 {
        ui.warn(
            &format!("the {what} '{shown}' can be read by other users"),
            &format!("chmod 600 {}", word(path)),
        );
    }
    Ok(file)
}

/// Reads a passphrase: one newline at its end does not count, as an editor or echo puts it there.
fn from_reader(reader: impl Read, name: &str) -> Result<SecretBuffer> {
    let mut secret = read_to_end(reader, prompt::LONGEST, || {
        prompt::too_long().hint(format!("it was read from {name}"))
    })?;
    secret.strip_newline();
    Ok(secret)
}

fn read_to_end(
    mut reader: impl Read,
    longest: usize,
    too_long: impl Fn() -> Error,
) -> Result<SecretBuffer> {
    let failed = |cause: io::Error| Error::environment("cannot read the secret").caused_by(cause);
    // Room for a newline, and for one byte that proves the secret too long.
    let mut secret = SecretBuffer::new(longest + 2).map_err(failed)?;
    secret.fill_from(&mut reader).map_err(failed)?;
    if secret.len() > longest + 1 {
        return Err(too_long());
    }
    Ok(secret)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn one_newline_at_the_end_does_not_count() {
        for (given, wanted) in [
            ("x\n", "x"),
            ("x\r\n", "x"),
            ("x\n\n", "x\n"),
            (" x ", " x "),
            ("a\nb", "a\nb"),
            ("", ""),
        ] {
            assert_eq!(from_reader(given.as_bytes(), "test").unwrap().bytes(), wanted.as_bytes());
        }
    }

    #[test]
    fn a_passphrase_that_never_ends_is_refused() {
        assert!(from_reader(io::repeat(b'x'), "test").is_err());
        assert!(from_reader(vec![b'x'; prompt::LONGEST].as_slice(), "test").is_ok());
    }
}
