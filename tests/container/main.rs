//! A ghost inside a container: what the container must grant, and whether the ghost is as private there.
//!
//! The attacks are those of `tests/attacks`, from a second `docker exec`. They succeed against a plain ghost in a
//! *permissive* container, fail against ours there, and fail in the *usual* container, where no plain ghost can be made.
#![allow(clippy::unwrap_used)]

#[path = "../attacks/mod.rs"]
mod attacks;

mod endings;
mod grants;
mod images;
mod lab;
mod neighbours;
mod profile;
mod traces;
