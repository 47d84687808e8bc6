//! Finding an image, telling what it is, and opening it.

use super::explain::{foreign, open_error, vault_error};
use crate::app::App;
use crate::args::access::CredentialArgs;
use crate::args::vault::ImageArgs;
use crate::error::Result;
use crate::machine;
use crate::project::legacy;
use crate::sys::memory::LockedKdfMemory;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vault_core::crypto::kdf::KdfLimits;
use vault_core::device::{Access, BlockDevice, FileDevice, OpenError};
use vault_core::format::magic::{ImageFormat, RECOGNISE_LEN};
use vault_core::ids::SlotIndex;
use vault_core::keyslot::Credential;
use vault_core::vault::{Locked, UnlockOptions, Unlocked, Vault};

/// An image that is ours while this lives, with its header read.
pub(crate) struct Image {
    /// Its path as the person would write it.
    pub(crate) shown: String,
    /// Its length in bytes.
    pub(crate) len: u64,
    vault: Vault<Locked>,
}

impl Image {
    /// Returns the path that the command line names, else the project's vault, and how to show it.
    pub(crate) fn place(app: &App, args: &ImageArgs) -> Result<(PathBuf, String)> {
        if let Some(path) = &args.image {
            return Ok((path.clone(), path.display().to_string()));
        }
        let project = app.project()?;
        let path = app.config(&project)?.vault_file(&project);
        legacy::refuse_two(&project, &path)?;
        let shown = project.shown(&path).to_string();
        Ok((path, shown))
    }

    /// Reads the header without locking, so that it works beside an open ghost. A header that is
    /// being changed this very moment is read from the copy that is whole.
    pub(crate) fn peek(path: &Path, shown: &str) -> Result<Self> {
        let Some(start) = read_start(path) else {
            // For the exact reason.
            return Self::open(path, shown, Access::ReadOnly);
        };
        let len = path.metadata().map_err(|cause| vault_error(cause.into(), shown))?.len();
        Self::judge(Arc::new(Start(start)), len, shown)
    }

    /// Opens and locks the image, after telling what it is.
    pub(crate) fn open(path: &Path, shown: &str, access: Access) -> Result<Self> {
        let device = match FileDevice::open(path, access) {
            Ok(device) => device,
            // Too short for an image can still be worth a name: empty, or cut off.
            Err(OpenError::TooShort { .. }) => {
                return Err(foreign(recognise(path).unwrap_or(ImageFormat::Unknown), shown));
            }
            Err(error) => return Err(open_error(error, shown)),
        };
        let len = device.len().map_err(|cause| vault_error(cause.into(), shown))?;
        Self::judge(Arc::new(device), len, shown)
    }

    fn judge(device: Arc<dyn BlockDevice>, len: u64, shown: &str) -> Result<Self> {
        let explain = |error| vault_error(error, shown);
        let start = usize::try_from(device.len().map_err(|cause| explain(cause.into()))?);
        let mut start = vec![0; RECOGNISE_LEN.min(start.unwrap_or(usize::MAX))];
        device.read_at(&mut start, 0).map_err(|cause| explain(cause.into()))?;
        match ImageFormat::recognise(&start) {
            ImageFormat::Vault => {}
            other => return Err(foreign(other, shown)),
        }
        let vault = Vault::open(device).map_err(explain)?;
        Ok(Self { shown: shown.to_owned(), len, vault })
    }

    /// Returns the vault with nothing in it authenticated yet.
    pub(crate) fn vault(&self) -> &Vault<Locked> {
        &self.vault
    }

    /// Opens a keyslot with what the person presents.
    pub(crate) fn unlock(
        &self,
        credential: &Credential,
        args: &CredentialArgs,
    ) -> Result<Vault<Unlocked>> {
        let options = UnlockOptions { slot: args.slot.map(SlotIndex), limits: kdf_limits(args) };
        self.vault
            .unlock(credential, &options, &mut LockedKdfMemory)
            .map_err(|error| vault_error(error, &self.shown))
    }
}

/// Returns what may be spent on the KDF: what the machine has, and what the person allows.
pub(crate) fn kdf_limits(args: &CredentialArgs) -> KdfLimits {
    KdfLimits {
        allow_cheap: false,
        allow_costly: args.allow_kdf_cost,
        max_memory_kib: machine::available_kib(),
    }
}

/// Tells what a regular file is by its first bytes; `None` if it cannot be read.
pub(crate) fn recognise(path: &Path) -> Option<ImageFormat> {
    read_start(path).map(|start| ImageFormat::recognise(&start))
}

fn read_start(path: &Path) -> Option<Vec<u8>> {
    let mut start = Vec::new();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .ok()
        .filter(|file| file.metadata().is_ok_and(|about| about.is_file()))?;
    file.take(RECOGNISE_LEN as u64).read_to_end(&mut start).ok()?;
    Some(start)
}

/// The first bytes of an image, as a device that takes no writes.
struct Start(Vec<u8>);

impl BlockDevice for Start {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let from = usize::try_from(offset).ok();
        let range = from.and_then(|from| Some(from..from.checked_add(buffer.len())?));
        let bytes =
            range.and_then(|range| self.0.get(range)).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn grow(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn discard(&self, _: u64, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}
