//! `tazpod vault header` on a LUKS image: everything before the encrypted data, kept elsewhere and put back.

use super::vault_luks::Luks;
use crate::args::access::CredentialArgs;
use crate::args::vault::{HeaderBackupArgs, HeaderRestoreArgs};
use crate::backend::luks::{self, header::HeaderFile};
use crate::error::{Error, Kind, Result};
use crate::image::create::sync_folder;
use crate::image::explain::open_error;
use crate::image::foreign::container_error;
use crate::image::open::kdf_limits;
use crate::image::output::must_be_file;
use crate::image::recognise;
use crate::sys::memory::LockedKdfMemory;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use vault_core::device::{BlockDevice, FileDevice};
use vault_core::foreign::Bytes;
use vault_core::foreign::luks::Container;
use vault_core::format::magic::ImageFormat;

/// Where ext4 says what it is.
const EXT4_MAGIC_AT: u64 = 1080;
const EXT4_MAGIC: [u8; 2] = [0x53, 0xef];

impl Luks<'_> {
    /// Writes the header to a new file.
    pub(super) fn back_header_up(&self, args: &HeaderBackupArgs) -> Result<u8> {
        let file = args.file.display().to_string();
        must_be_file(&args.file)?;
        if args.file.symlink_metadata().is_ok() {
            return Err(Error::user(format!("'{file}' exists already"))
                .hint("a backup never replaces another one"));
        }
        let _locked = self.locked()?;
        let header = self.header_file()?;
        let key = self.key(&args.credential)?;
        header.opens(&key, args.credential.slot)?;
        let written = header.back_up(&args.file).and_then(|()| {
            let private = fs::Permissions::from_mode(0o600);
            fs::set_permissions(&args.file, private)
                .and_then(|()| fs::File::open(&args.file)?.sync_all())
                .and_then(|()| sync_folder(&args.file))
                .map_err(|cause| {
                    Error::environment(format!("cannot write '{file}'")).caused_by(cause)
                })
        });
        if written.is_err() {
            let _ = fs::remove_file(&args.file);
        }
        written?;
        let (ui, uuid) = (&self.app.ui, self.header()?.uuid);
        ui.print(&format!("the header of {}, vault {uuid}, is in {file}", self.shown))?;
        ui.notice(
            "It opens every copy of this vault with what opens it today, also after a passphrase was changed.",
        );
        Ok(0)
    }

    /// Puts a header back that belongs to this vault.
    pub(super) fn restore_header(&self, args: &HeaderRestoreArgs) -> Result<u8> {
        let (file, ui) = (args.file.display().to_string(), &self.app.ui);
        let version = match recognise(&args.file) {
            Some(ImageFormat::Luks { version: version @ (1 | 2) }) => version,
            Some(_) => {
                return Err(Error::new(Kind::Format, format!("'{file}' is no header of a vault")));
            }
            None => return Err(Error::user(format!("cannot read '{file}'"))),
        };
        let _locked = self.locked()?;
        let backup = HeaderFile::new(&args.file, &file)?;
        let slots = backup.read(version)?.slots;
        let key = crate::image::credential(ui, &args.credential, &file)?;
        let key = super::vault_luks::key_of(&key);
        backup.opens(&key, args.credential.slot)?;
        // Keys are derived by many threads, and this process must have one to start programs.
        luks::apart(|| self.require_own(&args.file, &file, (&key, &args.credential)))?;
        let list: Vec<String> =
            slots.iter().map(|slot| format!("{} ({})", slot.number, slot.kdf)).collect();
        let question = format!(
            "The keyslots of the backup, {}, will open {} again, and no others. Restore it?",
            list.join(", "),
            self.shown
        );
        if !args.yes && !ui.confirm(&question)? {
            return Err(Error::user("nothing was changed"));
        }
        self.header_file()?.restore(&args.file)?;
        ui.print(&format!("{} has the header of {file} again", self.shown))?;
        ui.notice("'tazpod vault slot list' shows what opens it now.");
        Ok(0)
    }

    /// Fails unless the backup's volume key is that of the data in the image.
    fn require_own(
        &self,
        path: &Path,
        file: &str,
        (key, args): (&[u8], &CredentialArgs),
    ) -> Result<()> {
        let explain = |error| container_error(error, file);
        let unreadable =
            |cause: io::Error| Error::user(format!("cannot read '{file}'")).caused_by(cause);
        let backup = fs::File::open(path).map_err(unreadable)?;
        let backup: Arc<dyn BlockDevice> =
            Arc::new(FileDevice::held(backup).map_err(|error| open_error(error, file))?);
        let image = fs::File::open(&self.path).map_err(|cause| self.cannot_read(cause))?;
        let image = FileDevice::held(image).map_err(|error| open_error(error, &self.shown))?;
        let container = Container::open(backup).map_err(explain)?;
        let opened = container
            .unlock(key, args.slot, &kdf_limits(args), &mut LockedKdfMemory)
            .and_then(|(opened, _)| opened.onto(Arc::new(image)));
        let mut magic = [0; 2];
        let is_own = opened.is_ok_and(|opened| {
            opened.read_at(&mut magic, EXT4_MAGIC_AT).is_ok() && magic == EXT4_MAGIC
        });
        if is_own {
            return Ok(());
        }
        Err(Error::user(format!("'{file}' is not a header of '{}'", self.shown)).hint(format!(
            "it belongs to vault {}, or to one that was re-encrypted since; nothing was changed",
            container.uuid()
        )))
    }
}
