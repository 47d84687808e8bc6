//! Where secrets come from: Infisical, by its own program or by its HTTP interface.
//!
//! Commands see a [`source::Source`] and cannot tell which one they hold. Whatever is read from a
//! server or a program is hostile until judged: bounded, checked, and turned into a clear error.
//! Values and tokens are types of their own from the first byte ([`secret`]).

pub(crate) mod secret;
pub(crate) mod source;
