//! What the vault's server and the supervisor say to each other, from the server's side.
//!
//! The server is a backend's (`backend/image.rs`); this is its half of the protocol.

use super::protocol::CredentialKind;
use crate::error::{Error, Result};
use vault_core::crypto::secret::Passphrase;
use vault_core::keyslot::{Credential, RecoveryKey};

/// Makes a credential of what came over a link.
pub(crate) fn credential(kind: CredentialKind, secret: &[u8]) -> Result<Credential> {
    let passphrase = || Passphrase::new(secret.to_vec());
    match kind {
        CredentialKind::Passphrase => Ok(Credential::Passphrase(passphrase())),
        CredentialKind::KeyFile => Ok(Credential::KeyFile(passphrase())),
        CredentialKind::RecoveryKey => {
            let unreadable = || {
                Error::user("the recovery key cannot be read")
                    .hint("it has 24 words; the first four letters of each are enough")
            };
            let text = std::str::from_utf8(secret).map_err(|_| unreadable())?;
            RecoveryKey::from_words(text)
                .map(Credential::RecoveryKey)
                .map_err(|cause| unreadable().caused_by(cause))
        }
    }
}
