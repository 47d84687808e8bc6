//! A ghost's life from outside: made, used, joined, locked, killed. After each, nothing is left.
//!
//! Runs as root, with `/dev/fuse`.

mod by_sudo;
mod ghost;
mod joining;
mod kills;
mod plain;
mod steps;
mod terminal;
mod traced;
