//! Secrets are owned once and never printed.
#![allow(clippy::unwrap_used)]

use vault_core::crypto::aead::SealingKey;
use vault_core::crypto::secret::{Passphrase, SecretBytes, VolumeKey};
use vault_core::crypto::subkeys::Subkeys;
use vault_core::ids::VaultId;
use vault_core::keyslot::{Credential, RecoveryKey};
use vault_core::vault::{Unlocked, Vault};

/// Compiles only if the type does not implement the trait: otherwise both implementations apply and
/// the call is ambiguous.
macro_rules! assert_lacks {
    ($type:ty, $trait:path) => {
        const _: fn() = || {
            trait Ambiguous<Case> {
                fn one() {}
            }
            struct Implemented;
            impl<T: ?Sized> Ambiguous<()> for T {}
            impl<T: ?Sized + $trait> Ambiguous<Implemented> for T {}
            <$type as Ambiguous<_>>::one();
        };
    };
}

macro_rules! assert_owned_once {
    ($($type:ty),+ $(,)?) => {$(
        assert_lacks!($type, Clone);
        assert_lacks!($type, std::fmt::Display);
        assert_lacks!($type, AsRef<[u8]>);
        assert_lacks!($type, std::ops::Deref);
    )+};
}

assert_owned_once!(
    SecretBytes<32>,
    SecretBytes<16>,
    VolumeKey,
    Passphrase,
    SealingKey,
    Subkeys,
    RecoveryKey,
    Credential,
    Unlocked,
    Vault<Unlocked>,
);

#[test]
fn no_debug_output_holds_a_secret() {
    const MARK: [u8; 32] = *b"MARKMARKMARKMARKMARKMARKMARKMARK";
    let secret = || SecretBytes::init(|bytes| *bytes = MARK);
    let words = RecoveryKey::from_bytes(secret()).expose_words();
    let printed = [
        format!("{:?}", secret()),
        format!("{:?}", Passphrase::new(MARK.to_vec())),
        format!("{:#?}", Credential::Passphrase(Passphrase::new(MARK.to_vec()))),
        format!("{:#?}", Credential::KeyFile(Passphrase::new(MARK.to_vec()))),
        format!("{:#?}", Credential::RecoveryKey(RecoveryKey::from_bytes(secret()))),
        format!("{:?}", RecoveryKey::from_bytes(secret())),
        format!("{:?}", SealingKey::new(&secret())),
        format!("{:?}", Subkeys::derive(&secret(), VaultId(*b"MARKMARKMARKMARK"))),
    ];
    for text in printed {
        assert!(text.contains("redacted"), "{text}");
        for part in ["MARK", "77, 65, 82, 75", "4d41524b", words.split(' ').next().unwrap()] {
            assert!(!text.contains(part), "{text}");
        }
    }
}

#[test]
fn a_passphrase_taken_from_a_buffer_wipes_it() {
    let mut typed = *b"correct horse";
    let passphrase = Passphrase::take_from(&mut typed);
    assert_eq!(typed, [0; 13]);
    assert_eq!(passphrase.expose(), b"correct horse");
}
