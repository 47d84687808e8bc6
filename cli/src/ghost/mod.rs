//! A ghost: private namespaces in which a vault is open, and only there.

pub(crate) mod sandbox;
