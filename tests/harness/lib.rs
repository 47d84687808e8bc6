//! Helpers that the outside tests share: throwaway vaults, processes, attacks.

pub mod binary;
