//! Serves a TazPod vault to the kernel through FUSE.
//!
//! The kernel turns what programs do below a mount point into requests on `/dev/fuse`. This crate answers them from a
//! [`Volume`](vault_core::fs::Volume): `adapter` unpacks each request, calls the volume and packs the answer (`answers`);
//! `session` mounts, keeps the vault committed while it is served, and ends with a last commit. What a program sees,
//! and where that differs from ext4, is written in `SEMANTICS.md`.
//!
//! Invariants:
//! - The vault has one writer, us, so the kernel may cache everything without asking again.
//! - Requests carry no state of ours: no handle tables. An unlinked file lives while the kernel holds its inode, which
//!   `lookups` counts.
//! - A panic in the volume ends all service with EIO before anything of that operation can be committed.
#![forbid(unsafe_code)]

mod adapter;
mod agreed;
mod answers;
mod convert;
mod errno;
mod lookups;
mod mounted;
mod options;
mod service;
mod session;

pub use mounted::MountError;
pub use options::{AccessTimes, Options};
pub use service::{Trouble, TroubleListener};
pub use session::{Ended, Session, SessionError, StopHandle};
