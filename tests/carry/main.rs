//! What leaves a vault and comes in: archives, folders, backups. Through the real program, as root.
#![allow(clippy::unwrap_used, unreachable_pub)]

mod backup;
mod encrypted;
mod import;
mod migrate;
mod round_trip;
mod vault;
