//! Vault images as commands meet them: found, recognised, opened with what the person presents, and
//! with every failure explained.

pub(crate) mod archive;
pub(crate) mod copy;
pub(crate) mod create;
pub(crate) mod credential;
pub(crate) mod explain;
pub(crate) mod folder;
pub(crate) mod foreign;
pub(crate) mod fresh;
pub(crate) mod open;
pub(crate) mod output;
pub(crate) mod source;
pub(crate) mod volume;

pub(crate) use credential::credential;
pub(crate) use open::{Image, recognise};
