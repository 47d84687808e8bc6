//! `tazpod vault resize` on a LUKS image: a copy is resized, and takes its place when all of it is right.
//!
//! What moves blocks of a file system must not be killed in the middle; a copy may be.

use super::vault_luks::Luks;
use crate::args::vault::ResizeArgs;
use crate::backend::luks;
use crate::backend::luks::capabilities::capabilities;
use crate::caller::{ActingAs, Caller};
use crate::error::{Error, Result};
use crate::ghost::privilege::identity_of;
use crate::image::create::beside;
use crate::image::explain::open_error;
use crate::image::foreign::container_error;
use crate::image::fresh::put_over;
use crate::image::open::kdf_limits;
use crate::sys::memory::LockedKdfMemory;
use crate::ui::interrupt::OnInterrupt;
use crate::units::ByteSize;
use nix::unistd::{Uid, getuid};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use vault_core::device::FileDevice;
use vault_core::foreign::ext4::Ext4;
use vault_core::foreign::luks::Container;

/// What is not told apart below: encrypted sectors and pages.
const UNIT: u64 = 4096;

const HINT: &str = "the vault is as it was; the same command starts anew";

impl Luks<'_> {
    /// Gives the vault another size.
    pub(super) fn resize(
        &self,
        args: &ResizeArgs,
        caller: &Caller,
        rights: ActingAs,
    ) -> Result<u8> {
        let (shown, ui) = (&self.shown, &self.app.ui);
        if !Uid::is_root(getuid()) {
            return Err(Error::environment("only root can resize a luks vault")
                .hint("'sudo tazpod vault resize': devices are needed for it"));
        }
        let lacking = capabilities(true).lacking();
        if !lacking.is_empty() {
            return Err(Error::environment(format!("'{shown}' cannot be resized here"))
                .caused_by(std::io::Error::other(format!("missing: {}", lacking.join(", ")))));
        }
        let _locked = self.locked()?;
        let key = self.key(&args.credential)?;
        self.header_file()?.opens(&key, args.credential.slot)?;
        let size = args.size.0 / UNIT * UNIT;
        let len = self.path.metadata().map_err(|cause| self.cannot_read(cause))?.len();
        // Keys are derived by many threads, and this process must have one to start others.
        let (before, least, block) = luks::apart(|| self.measure(&self.path, &key, args))?;
        let wanted = size.checked_sub(before).filter(|wanted| *wanted >= least);
        let Some(wanted) = wanted else {
            let needed = ByteSize(before.saturating_add(least));
            return Err(Error::user(format!("'{shown}' holds too much for this size")).hint(
                format!("it needs more than {needed}; remove files, or choose a larger size"),
            ));
        };
        let making = beside(&self.path);
        let _ = fs::remove_file(&making);
        let on_interrupt = OnInterrupt { hint: HINT, remove: Some(making.clone()) };
        let made = ui
            .interruptible(&on_interrupt, || self.copy_to(&making, len.max(size)))
            .and_then(|made| made)
            .and_then(|()| {
                let identity = identity_of(caller.uid, caller.gid)?;
                let request = self.request_for(&making, &args.credential);
                drop(rights);
                let size = luks::NewSize { len: wanted, block, before };
                let resizing = luks::Resizing::begin(&request, &identity, &key, &size)?;
                // The guardian takes the copy away, once no device stands on it.
                let on_interrupt = OnInterrupt { remove: None, ..on_interrupt.clone() };
                let resized = ui.interruptible(&on_interrupt, || resizing.end())?;
                if resized.is_err() {
                    // It may have been killed itself.
                    let _ = luks::sweep(&making, shown, &identity);
                }
                resized
            })
            .and_then(|()| {
                let _rights = caller.act()?;
                let copy = OpenOptions::new().write(true).open(&making);
                copy.and_then(|copy| copy.set_len(size).and_then(|()| copy.sync_all()))
                    .map_err(|cause| self.cannot_read(cause))?;
                luks::apart(|| self.measure(&making, &key, args))?;
                put_over(&making, &self.path, shown)
            });
        if made.is_err() {
            let _ = fs::remove_file(&making);
        }
        made?;
        let taken = self.path.metadata().map_or(0, |about| about.blocks().saturating_mul(512));
        ui.print(&format!(
            "{shown} may grow to {}, and takes {} now",
            ByteSize(size),
            ByteSize(taken)
        ))?;
        Ok(0)
    }

    /// Returns where the data begins, about how much of it is in use, and the size of a block.
    fn measure(&self, image: &Path, key: &[u8], args: &ResizeArgs) -> Result<(u64, u64, u64)> {
        let explain = |error| container_error(error, &self.shown);
        // The lock is the parent's.
        let file = File::open(image).map_err(|cause| self.cannot_read(cause))?;
        let device = FileDevice::held(file).map_err(|error| open_error(error, &self.shown))?;
        let container = Container::open(Arc::new(device)).map_err(explain)?;
        let limits = kdf_limits(&args.credential);
        let slot = args.credential.slot;
        let opened = container.unlock(key, slot, &limits, &mut LockedKdfMemory).map_err(explain)?;
        let tree = Ext4::open(Arc::new(opened.0)).map_err(explain)?;
        Ok((container.data_offset(), tree.used(), tree.block()))
    }

    fn copy_to(&self, making: &Path, len: u64) -> Result<()> {
        let failed =
            |cause| crate::image::explain::cannot_make(cause, &format!("{}.new", self.shown));
        let source = File::open(&self.path).map_err(|cause| self.cannot_read(cause))?;
        let target =
            OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(making);
        let target = target.map_err(failed)?;
        let mut progress = self.app.ui.progress("copying");
        crate::image::copy::copy_file(
            &source,
            &target,
            (&self.shown, &self.shown),
            &mut |done, total| {
                progress.show(done, total);
            },
        )?;
        target.set_len(len).map_err(failed)
    }
}
