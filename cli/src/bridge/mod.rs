//! The bridge: folders of programs that live in the vault, and are seen in the home folder inside
//! a ghost.
//!
//! Section 9 of GHOST.md. [`Bridge`] lists them. What lay in the clear before is moved into the
//! vault by [`migrate`], what the older program kept elsewhere in the vault by [`legacy`]. Both
//! keep one rule, `INV-B: nothing is removed before another whole copy of it was seen elsewhere,
//! and nothing is ever written over`. Mounting is the ghost's part ([`crate::ghost::bridges`]).

pub(crate) mod legacy;
pub(crate) mod migrate;

use serde::{Deserialize, Serialize};

/// Where the assistant's memory lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MemoryPlace {
    /// In the project's `.gemini`, in the clear.
    #[default]
    Project,
    /// In the vault.
    Vault,
}

/// A folder of the home folder that lives in the vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bridge {
    /// What the Infisical program remembers: who is logged in where.
    Session,
    /// The Infisical program's keyring, which holds the logins themselves.
    Keyring,
    /// What the Gemini assistant remembers.
    Memory,
}

impl Bridge {
    /// Returns the bridges of a ghost.
    pub(crate) fn all(memory: MemoryPlace) -> Vec<Self> {
        let memory = (memory == MemoryPlace::Vault).then_some(Self::Memory);
        [Self::Session, Self::Keyring].into_iter().chain(memory).collect()
    }

    /// Returns the folder's name in the home folder.
    pub(crate) fn in_home(self) -> &'static str {
        match self {
            Self::Session => ".infisical",
            Self::Keyring => "infisical-keyring",
            Self::Memory => ".gemini",
        }
    }

    /// Returns the folder's name in the vault.
    pub(crate) fn in_vault(self) -> &'static str {
        match self {
            Self::Session => ".infisical-vault",
            Self::Keyring => ".infisical-keyring",
            Self::Memory => ".gemini-vault",
        }
    }
}
