//! A ghost: private namespaces in which a vault is open, and only there.
//!
//! `cli/GHOST.md` lists the sequence step by step, with what each step defends against and what a
//! crash there leaves. Which process runs what:
//! - client: [`client`], [`open`] (what it decides is in [`plan`]);
//! - keeper: [`keeper`];
//! - supervisor: [`supervisor`], [`hearing`], [`served`], [`clients`], [`join`], [`made`], [`teardown`], and [`terminal`] in a child
//!   per session;
//! - init: [`init`], [`namespace`], [`bridges`], [`session`], [`shell`];
//! - server: the backend's, with [`server`] and [`sandbox`].

pub(crate) mod bridges;
pub(crate) mod client;
pub(crate) mod clients;
mod hearing;
mod held;
pub(crate) mod init;
pub(crate) mod join;
pub(crate) mod keeper;
pub(crate) mod link;
mod made;
pub(crate) mod mountpoint;
pub(crate) mod namespace;
pub(crate) mod note;
pub(crate) mod open;
pub(crate) mod place;
pub(crate) mod plan;
pub(crate) mod privilege;
pub(crate) mod programs;
pub(crate) mod protocol;
pub(crate) mod sandbox;
pub(crate) mod served;
pub(crate) mod server;
pub(crate) mod session;
pub(crate) mod shell;
pub(crate) mod supervisor;
pub(crate) mod teardown;
pub(crate) mod terminal;
