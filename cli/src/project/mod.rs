//! The project: the folder whose `.tazpod` holds the configuration and the vault.
//!
//! [`place`] finds it, [`legacy`] its vault where the older program put it, [`survey`] looks at what
//! it is about, [`scaffold`] makes what is missing.

pub(crate) mod legacy;
pub(crate) mod place;
pub(crate) mod scaffold;
pub(crate) mod survey;

pub(crate) use place::Project;
