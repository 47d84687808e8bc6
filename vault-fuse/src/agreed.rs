//! What we and the kernel agree on when a session begins (`FUSE_INIT`).

use crate::options::MAX_IO;
use fuser::{InitFlags, KernelConfig};

/// Requests of readahead and writeback that may wait at once.
const MAX_BACKGROUND: u16 = 64;

/// What is asked of the kernel, where it offers it.
const WANTED: [InitFlags; 12] = [
    InitFlags::FUSE_ASYNC_READ,
    InitFlags::FUSE_ASYNC_DIO,
    InitFlags::FUSE_BIG_WRITES,
    InitFlags::FUSE_MAX_PAGES,
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_READDIRPLUS_AUTO,
    InitFlags::FUSE_CACHE_SYMLINKS,
    InitFlags::FUSE_EXPLICIT_INVAL_DATA,
    // Without it every buffered write asks for `security.capability` first.
    InitFlags::FUSE_HANDLE_KILLPRIV_V2,
    InitFlags::FUSE_POSIX_ACL,
    // A default ACL replaces the umask, and only the volume knows whether there is one.
    InitFlags::FUSE_DONT_MASK,
];

/// What the kernel does by itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Agreed {
    /// Whether it collects writes.
    pub(crate) write_back: bool,
    /// Whether it learns from ENOSYS that files, or folders, need no opening.
    pub(crate) skips_open: bool,
    pub(crate) skips_opendir: bool,
}

impl Agreed {
    /// Asks for what is wanted and offered; the kernel collects writes only if `write_back` says so.
    pub(crate) fn with(config: &mut KernelConfig, write_back: bool) -> Self {
        let offered = config.capabilities();
        for flag in WANTED.into_iter().filter(|flag| offered.contains(*flag)) {
            config.add_capabilities(flag).expect("offered");
        }
        let write_back = write_back && offered.contains(InitFlags::FUSE_WRITEBACK_CACHE);
        if write_back {
            config.add_capabilities(InitFlags::FUSE_WRITEBACK_CACHE).expect("offered");
        }
        let skips_open = offered.contains(InitFlags::FUSE_NO_OPEN_SUPPORT);
        let skips_opendir = offered.contains(InitFlags::FUSE_NO_OPENDIR_SUPPORT);
        // Each setter answers with the nearest value that it can take; the kernel's own limit is then as good.
        let _ = config.set_max_write(MAX_IO);
        let _ = config.set_max_readahead(MAX_IO).map_err(|limit| config.set_max_readahead(limit));
        let _ = config.set_max_background(MAX_BACKGROUND);
        Self { write_back, skips_open, skips_opendir }
    }
}
