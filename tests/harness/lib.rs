//! Helpers that the outside tests share: throwaway vaults, processes, attacks.

pub mod binary;
pub mod image;
#[cfg(feature = "root")]
pub mod process;
#[cfg(feature = "root")]
pub mod stage;
