//! Serves a TazPod vault to the kernel through FUSE.
#![forbid(unsafe_code)]
