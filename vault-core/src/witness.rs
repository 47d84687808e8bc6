//! Seeing that an image was put back to an older state, by what this machine remembers of it.
//!
//! Whoever may write the image can replace it by any earlier copy of itself, and every byte of that
//! copy is authentic. Only a memory outside the image can tell. The caller keeps the witness file; its
//! MAC under the vault's own key means that it can be removed but not forged.

use crate::crypto::mac::{mac, verifies};
use crate::crypto::subkeys::Subkeys;
use crate::format::witness::{WITNESS_LEN, WITNESS_MAC_AT};
use crate::ids::{Generation, VaultId};
use thiserror::Error;

pub use crate::format::witness::Witness;

/// A witness file says nothing that can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WitnessError {
    /// The bytes are no witness, or were not written with this vault's key.
    #[error("the rollback witness is damaged or was altered")]
    Unauthentic,
    /// The witness belongs to another vault.
    #[error("the rollback witness belongs to vault {found}")]
    OtherVault {
        /// The vault that it names.
        found: VaultId,
    },
}

/// The image is not the newest that this machine has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Rollback {
    /// The image is at an older generation.
    #[error("image is at generation {found}, this machine has seen {seen}")]
    Older {
        /// The image's generation.
        found: Generation,
        /// The newest one seen here.
        seen: Generation,
    },
    /// The image is at the same generation with other content: two copies were written to.
    #[error("image is another copy of generation {generation} than this machine has seen")]
    Fork {
        /// The generation of both.
        generation: Generation,
    },
    /// The image's header is older: it may hold a keyslot that was removed.
    #[error("header is at sequence number {found}, this machine has seen {seen}")]
    Header {
        /// The image's header sequence number.
        found: u64,
        /// The highest one seen here.
        seen: u64,
    },
    /// The vault was re-keyed here; its old image should not be used any more.
    #[error("vault was re-keyed on this machine at generation {seen} and retired")]
    Retired {
        /// The last generation seen.
        seen: Generation,
    },
}

impl Witness {
    /// Encodes the witness with its MAC.
    pub fn encode(&self, subkeys: &Subkeys) -> Vec<u8> {
        let mut bytes = self.encode_body();
        let code = mac(&subkeys.witness_mac, &bytes);
        bytes.extend_from_slice(&code);
        debug_assert_eq!(bytes.len(), WITNESS_LEN);
        bytes
    }

    /// Decodes a witness of `vault` and verifies its MAC.
    pub fn decode(bytes: &[u8], vault: VaultId, subkeys: &Subkeys) -> Result<Self, WitnessError> {
        let (body, code) =
            bytes.split_at_checked(WITNESS_MAC_AT).ok_or(WitnessError::Unauthentic)?;
        let code = code.try_into().map_err(|_| WitnessError::Unauthentic)?;
        let witness = Self::decode_body(body).map_err(|_| WitnessError::Unauthentic)?;
        if witness.vault != vault {
            return Err(WitnessError::OtherVault { found: witness.vault });
        }
        if !verifies(&subkeys.witness_mac, body, code) {
            return Err(WitnessError::Unauthentic);
        }
        Ok(witness)
    }

    /// Judges the state in which an image was found by what was seen before.
    ///
    /// `accepted` is a generation that the user named: an image at exactly this generation is taken
    /// although something newer was seen, and a fork too.
    pub fn judge(&self, found: &Witness, accepted: Option<Generation>) -> Result<(), Rollback> {
        if accepted == Some(found.generation) {
            return Ok(());
        }
        if self.retired {
            return Err(Rollback::Retired { seen: self.generation });
        }
        if found.generation < self.generation {
            return Err(Rollback::Older { found: found.generation, seen: self.generation });
        }
        if found.generation == self.generation && found.root_tag != self.root_tag {
            return Err(Rollback::Fork { generation: found.generation });
        }
        if found.header_sequence < self.header_sequence {
            let (found, seen) = (found.header_sequence, self.header_sequence);
            return Err(Rollback::Header { found, seen });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::crypto::aead::Tag;
    use crate::crypto::secret::SecretBytes;

    const VAULT: VaultId = VaultId([3; 16]);

    fn subkeys(fill: u8) -> Subkeys {
        Subkeys::derive(&SecretBytes::init(|key| key.fill(fill)), VAULT)
    }

    fn seen() -> Witness {
        Witness {
            vault: VAULT,
            generation: Generation(92),
            header_sequence: 4,
            root_tag: Tag([7; 16]),
            retired: false,
        }
    }

    #[test]
    fn a_witness_survives_a_round_trip() {
        for retired in [false, true] {
            let witness = Witness { retired, ..seen() };
            let bytes = witness.encode(&subkeys(1));
            assert_eq!(bytes.len(), WITNESS_LEN);
            assert_eq!(Witness::decode(&bytes, VAULT, &subkeys(1)), Ok(witness));
        }
    }

    #[test]
    fn every_flipped_bit_and_every_other_length_is_refused() {
        let bytes = seen().encode(&subkeys(1));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Witness::decode(&flipped, VAULT, &subkeys(1)).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(Witness::decode(&bytes[..len], VAULT, &subkeys(1)).is_err(), "{len} bytes");
        }
        let longer = [bytes, vec![0]].concat();
        assert!(Witness::decode(&longer, VAULT, &subkeys(1)).is_err());
    }

    #[test]
    fn a_witness_under_another_key_or_of_another_vault_is_refused() {
        let bytes = seen().encode(&subkeys(1));
        let other_key = Witness::decode(&bytes, VAULT, &subkeys(2));
        assert_eq!(other_key, Err(WitnessError::Unauthentic));
        let other_vault = Witness::decode(&bytes, VaultId([4; 16]), &subkeys(1));
        assert_eq!(other_vault, Err(WitnessError::OtherVault { found: VAULT }));
    }

    #[test]
    fn older_states_forks_and_old_headers_are_refused() {
        let judge = |edit: fn(&mut Witness)| {
            let mut found = seen();
            edit(&mut found);
            seen().judge(&found, None)
        };
        assert_eq!(judge(|_| ()), Ok(()));
        assert_eq!(judge(|found| found.generation.0 += 1), Ok(()));
        assert_eq!(
            judge(|found| found.generation.0 -= 1),
            Err(Rollback::Older { found: Generation(91), seen: Generation(92) })
        );
        assert_eq!(
            judge(|found| found.root_tag.0[0] ^= 1),
            Err(Rollback::Fork { generation: Generation(92) })
        );
        assert_eq!(
            judge(|found| {
                found.generation.0 += 1;
                found.root_tag.0[0] ^= 1;
            }),
            Ok(())
        );
        assert_eq!(
            judge(|found| {
                found.generation.0 += 1;
                found.header_sequence -= 1;
            }),
            Err(Rollback::Header { found: 3, seen: 4 })
        );
    }

    #[test]
    fn only_the_generation_that_was_named_is_accepted() {
        let older = Witness { generation: Generation(90), header_sequence: 1, ..seen() };
        assert!(seen().judge(&older, Some(Generation(91))).is_err());
        assert_eq!(seen().judge(&older, Some(Generation(90))), Ok(()));
        let retired = Witness { retired: true, ..seen() };
        assert!(matches!(retired.judge(&seen(), None), Err(Rollback::Retired { .. })));
        assert_eq!(retired.judge(&seen(), Some(Generation(92))), Ok(()));
    }
}
