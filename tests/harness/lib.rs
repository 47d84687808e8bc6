//! Helpers that the outside tests share: throwaway vaults, processes, attacks.

pub mod binary;
#[cfg(feature = "root")]
pub mod engine;
pub mod image;
pub mod infisical;
#[cfg(feature = "root")]
pub mod process;
#[cfg(feature = "root")]
pub mod stage;
pub mod terminal;
