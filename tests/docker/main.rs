//! The project's container from outside: the commands typed on a host, against a real engine.
#![allow(clippy::unwrap_used)]

mod broken;
mod enter;
mod fixture;
mod folders;
mod full;
mod ghosts;
#[cfg(feature = "luks")]
mod guest;
mod image;
mod interrupted;
mod lifecycle;
mod lifeline;
mod login;
mod owner;
mod registry;
mod speed;
