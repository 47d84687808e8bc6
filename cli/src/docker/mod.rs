//! The container that a project has, and the engine that runs it.
//!
//! [`endpoint`] finds the engine's socket, [`greeting`] hears which engine it is, [`engine`] says what
//! we ask of it and [`bollard`] asks.
//! [`spec`] decides as pure data what a container is granted; [`container`] tells ours from those of
//! others. [`image`] gets the image, built from a [`context`] that [`ignore`] thins out, or pulled
//! with the [`credentials`] of the person. [`attach`] speaks to a program in a container, [`session`]
//! joins it with the terminal, [`lifeline`] hangs it up, and [`route`] sends host commands there. [`owner`] makes the user in it
//! who the project's owner is.
//!
//! What comes from the engine, from configuration files and from helpers is bounded and judged;
//! whoever can write to the engine's socket is root on its machine all the same.

mod attach;
mod bollard;
mod build_log;
pub(crate) mod container;
mod context;
mod credentials;
pub(crate) mod endpoint;
pub(crate) mod engine;
mod greeting;
mod head;
mod ignore;
pub(crate) mod image;
pub(crate) mod lifeline;
pub(crate) mod owner;
pub(crate) mod route;
pub(crate) mod session;
pub(crate) mod spec;

use crate::error::Result;
use endpoint::Endpoint;
use engine::Engine;

/// Finds the engine and connects to it.
pub(crate) fn connect() -> Result<Box<dyn Engine>> {
    let endpoint = Endpoint::find()?;
    open(&endpoint)
}

/// Shows what would be asked of an engine to make a container.
pub(crate) fn request_text(spec: &spec::ContainerSpec) -> String {
    bollard::request_text(spec)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// Connects to the engine at an endpoint.
pub(crate) fn open(endpoint: &Endpoint) -> Result<Box<dyn Engine>> {
    Ok(Box::new(bollard::Bollard::connect(endpoint)?))
}
