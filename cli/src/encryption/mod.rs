//! Archives that only chosen people can read: what leaves a vault encrypted, and what proves itself on the way in.
//!
//! The format is [age](https://age-encryption.org/v1). A *recipient* is public and says who can decrypt; an *identity* is the
//! secret that belongs to it. Both are of age's own kind, X25519: every other (SSH keys, passphrases, plugins) is served
//! by the age program and a pipe, and the messages say so. This folder alone imports the crate `age`.
//!
//! An archive that comes in is hostile: its header is bounded before it is parsed, its armour in the length of a line,
//! and content is handed on in pieces of 64 KiB that have each been authenticated. Only the last of them proves that
//! nothing is missing, so whoever reads must not believe anything before the end.

mod decrypt;
mod header;
mod identity;
mod recipient;

pub(crate) use decrypt::{Encryption, Fault, altered};
pub(crate) use identity::Identities;
pub(crate) use recipient::Recipients;
