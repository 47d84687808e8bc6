//! A ghost inside a container: what the container must grant, and whether the ghost is as private there.
#![allow(clippy::unwrap_used)]

mod grants;
mod profile;
