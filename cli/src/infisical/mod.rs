//! Where secrets come from: Infisical, by its own program or by its HTTP interface.
//!
//! Commands see a [`source::Source`] and cannot tell which one they hold; [`choose`] picks it.
//! Whatever is read from a server or a program is hostile until judged: bounded, checked, and turned
//! into a clear error. Values and tokens are types of their own from the first byte ([`secret`]);
//! what the libraries below leave behind is wiped when it is freed.
//!
//! | module | knows |
//! |---|---|
//! | [`source`], [`secret`] | the trait, the query, the errors, the values |
//! | [`settings`], [`choose`] | which source, which server |
//! | [`native`], [`session`] | our own client's tokens: renewed, replaced, kept in the vault |
//! | [`client`], [`wire`] | Infisical's interface, v4 and v3 |
//! | [`transport`], [`address`] | HTTP, TLS, time limits; where a server is |
//! | [`program`], [`keyring`], [`jwt`] | the `infisical` program and the session that it left |

pub(crate) mod address;
pub(crate) mod choose;
pub(crate) mod client;
pub(crate) mod jwt;
pub(crate) mod keyring;
pub(crate) mod native;
pub(crate) mod program;
pub(crate) mod secret;
pub(crate) mod session;
pub(crate) mod settings;
pub(crate) mod source;
pub(crate) mod transport;
pub(crate) mod wire;

#[cfg(test)]
mod program_tests;
#[cfg(test)]
mod tests;
