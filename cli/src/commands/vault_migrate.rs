//! `tazpod vault migrate`: everything into a new image of the other backend, which takes the old one's place.
//!
//! Names beside the image tell how far an interrupted one has come. `FILE.new` is the new image on its way: it
//! is removed and made again. `FILE.luks` or `FILE.fuse` is a second name of the old image, made just before
//! the new one takes its place, and its only one from then on.

use super::vault_luks::key_of;
use crate::app::App;
use crate::args::ghost::BackendKind;
use crate::args::migrate::MigrateArgs;
use crate::backend::luks;
use crate::backend::luks::capabilities::capabilities;
use crate::caller::{ActingAs, Caller};
use crate::error::{Error, Kind, Result};
use crate::ghost::privilege::identity_of;
use crate::ghost::protocol::{CredentialKind, NewVault, VaultRequest};
use crate::image::create::beside as unfinished;
use crate::image::credential::{new_slot, new_slot_cost};
use crate::image::explain::{foreign, mount_error, open_error, vault_error};
use crate::image::foreign::{comparison_error, container_error, copied_error};
use crate::image::fresh::{beside, device, is_same_file, keep, put_over, require_clean};
use crate::image::open::kdf_limits;
use crate::image::volume::{remember, setup};
use crate::image::{self, Image, recognise};
use crate::quoting::JsonName;
use crate::sys::memory::LockedKdfMemory;
use crate::ui::interrupt::{NoReturn, OnInterrupt};
use nix::unistd::getuid;
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vault_core::device::{Access, BlockDevice, FileDevice};
use vault_core::foreign::ext4::Ext4;
use vault_core::foreign::luks::Container;
use vault_core::foreign::{compare, copy};
use vault_core::format::magic::ImageFormat;
use vault_core::fs::{OpenOptions, Volume};
use vault_core::ids::UNIT_U64;
use vault_core::keyslot::{Credential, SlotPorts};
use vault_core::ports::{SystemClock, SystemEntropy};
use vault_core::vault::Vault;
use vault_core::witness::Witness;

/// Units that a new fuse image may grow to beyond what it shall have: a full vault must fit too.
const SLACK: u64 = 4096;
/// Binary logarithm of the size of a block of file data, as `pull` makes vaults.
const BLOCK_SHIFT: u8 = 14;
/// Bytes of a LUKS2 header, and the part of the rest that ext4 keeps for itself, about.
const LUKS_HEADER: u64 = 16 << 20;
const EXT4_SHARE: u64 = 8;
/// What ext4's journal takes besides.
const EXT4_JOURNAL: u64 = 16 << 20;

/// Bytes that ext4 has for an inode, on small and on large file systems, and what is small.
const INODE_RATIO: [u64; 2] = [4096, 16_384];
const SMALL: u64 = 512 << 20;

const HINT: &str = "the vault is as it was; the same command starts anew";

/// Moves the vault.
pub(crate) fn run(app: &App, args: &MigrateArgs) -> Result<u8> {
    let caller = Caller::detect()?;
    let as_caller = caller.act()?;
    let (path, shown) = Image::place(app, &args.image)?;
    let from = match recognise(&path) {
        Some(ImageFormat::Vault) => BackendKind::Fuse,
        Some(ImageFormat::Luks { version: 1 | 2 }) => BackendKind::Luks,
        Some(other) => return Err(foreign(other, &shown)),
        // For the exact reason.
        None => return Image::open(&path, &shown, Access::ReadOnly).map(|_| 0),
    };
    if from == args.to {
        app.ui.notice(&format!("{shown} is a {from} vault already."));
        return Ok(0);
    }
    let migration = Migration {
        app,
        args,
        caller: &caller,
        making: unfinished(&path),
        making_shown: format!("{shown}.new"),
        kept: beside(&path, &format!(".{from}")),
        kept_shown: format!("{shown}.{from}"),
        path,
        shown,
    };
    migration.clear_way()?;
    let files = match args.to {
        BackendKind::Fuse => migration.to_fuse()?,
        BackendKind::Luks => migration.to_luks(as_caller)?,
    };
    migration.report(from, files)
}

struct Migration<'a> {
    app: &'a App,
    args: &'a MigrateArgs,
    caller: &'a Caller,
    path: PathBuf,
    shown: String,
    making: PathBuf,
    making_shown: String,
    kept: PathBuf,
    kept_shown: String,
}

impl Migration<'_> {
    /// Makes sure that the old image can be kept, before anything is done.
    fn clear_way(&self) -> Result<()> {
        if self.kept.symlink_metadata().is_err() {
            return Ok(());
        }
        if is_same_file(&self.path, &self.kept) {
            // Interrupted before the new image had taken the place.
            return fs::remove_file(&self.kept).map_err(|cause| {
                Error::environment(format!("cannot remove '{}'", self.kept_shown)).caused_by(cause)
            });
        }
        Err(Error::user(format!("'{}' exists already", self.kept_shown))
            .hint("it holds an image that was kept earlier; move it away first"))
    }

    /// Without its secret a keyslot cannot be made for another volume key.
    fn confirm_lost_slots(&self, slots: usize) -> Result<()> {
        if slots <= 1 || self.args.yes {
            return Ok(());
        }
        let question = format!(
            "{} has {slots} keyslots, and only what you just gave will open the new vault. Go on?",
            self.shown
        );
        if self.app.ui.confirm(&question)? {
            return Ok(());
        }
        Err(Error::user("nothing was changed")
            .hint("'tazpod vault slot add' adds the others again later"))
    }

    fn credential(&self) -> Result<Credential> {
        image::credential(&self.app.ui, &self.args.credential, &self.shown)
    }

    fn on_interrupt(&self) -> OnInterrupt {
        OnInterrupt { hint: HINT, remove: Some(self.making.clone()) }
    }

    /// What an interrupted attempt left goes before the next, and what a failed one made goes after it.
    fn remove_unfinished(&self) {
        let _ = fs::remove_file(&self.making);
    }

    /// Opens a LUKS image without the kernel.
    fn foreign_tree(
        &self,
        image: Arc<dyn BlockDevice>,
        credential: &Credential,
        shown: &str,
    ) -> Result<Ext4> {
        let explain = |error| container_error(error, shown);
        let container = Container::open(image).map_err(explain)?;
        let limits = kdf_limits(&self.args.credential);
        // A new container has one slot, whichever opened the old vault.
        let slot = self.args.credential.slot.filter(|_| shown == self.shown);
        let (bytes, _) = container
            .unlock(&key_of(credential), slot, &limits, &mut LockedKdfMemory)
            .map_err(explain)?;
        Ext4::open(Arc::new(bytes)).map_err(explain)
    }

    fn to_fuse(&self) -> Result<u64> {
        let (path, shown) = (&self.path, &self.shown);
        let locked = FileDevice::open(path, Access::ReadOnly).map_err(|e| open_error(e, shown))?;
        if luks::is_on_loop_device(path) {
            return Err(Error::new(Kind::InUse, format!("'{shown}' is in use by a loop device"))
                .hint("close it first: 'losetup --associated' on the file names the device"));
        }
        let image: Arc<dyn BlockDevice> = Arc::new(locked);
        let len = image.len().map_err(|cause| vault_error(cause.into(), shown))?;
        let container =
            Container::open(Arc::clone(&image)).map_err(|e| container_error(e, shown))?;
        let credential = self.credential()?;
        let tree = self.foreign_tree(image, &credential, shown)?;
        self.confirm_lost_slots(container.slots().count())?;
        let size = self.args.size.map_or(len, |size| size.0);
        self.remove_unfinished();
        let whole = NoReturn::default();
        let made = self.app.ui.interruptible_until(&whole, &self.on_interrupt(), || {
            let (vault, newest) = self.make_fuse(&tree, &credential, size / UNIT_U64)?;
            whole.pass();
            self.put_in_place()?;
            remember(&vault, &newest);
            Ok(())
        });
        let made = made.and_then(|made| made);
        if made.is_err() {
            self.remove_unfinished();
        }
        made.map(|()| tree.files())
    }

    /// Copies, and reads everything back beside the original.
    fn make_fuse(
        &self,
        tree: &Ext4,
        credential: &Credential,
        capacity: u64,
    ) -> Result<(Vault<vault_core::vault::Unlocked>, Witness)> {
        let (shown, ui) = (&self.making_shown, &self.app.ui);
        let explain = |error| mount_error(error, shown);
        let slot = new_slot(credential, &self.args.kdf, "");
        let mut ports = SlotPorts {
            entropy: &SystemEntropy,
            clock: &SystemClock,
            memory: &mut LockedKdfMemory,
        };
        let file = device(&self.making, shown)?;
        let mut vault = Vault::create_header(file, BLOCK_SHIFT, &slot, &mut ports)
            .map_err(|error| vault_error(error, shown))?;
        Volume::format(&setup(&vault), capacity.saturating_add(SLACK), (0, 0)).map_err(explain)?;
        let (volume, _) = Volume::open(&setup(&vault), &OpenOptions::default()).map_err(explain)?;
        let mut progress = ui.progress("copying");
        copy(tree, &volume, &mut |done, total| progress.show(done, total))
            .map_err(|error| copied_error(error, &self.shown, shown))?;
        drop(progress);
        // The room for copying is not needed any more; a vault that is full to the brim keeps it.
        let _ = volume.resize(capacity, &mut |_, _| Ok(()));
        volume.close().map_err(|error| vault_error(error.into(), shown))?;
        let newest = volume.anchor();
        drop(volume);
        vault.mend_copies().map_err(|error| vault_error(error, shown))?;
        require_clean(ui, &vault, shown)?;
        let read_only = OpenOptions { read_only: true, ..OpenOptions::default() };
        let (copied, _) = Volume::open(&setup(&vault), &read_only).map_err(explain)?;
        self.compare(tree, &copied, true)?;
        Ok((vault, newest))
    }

    fn to_luks(&self, as_caller: ActingAs) -> Result<u64> {
        let (shown, ui) = (&self.shown, &self.app.ui);
        if !getuid().is_root() {
            return Err(Error::environment("only root can make a luks vault")
                .hint(format!("'sudo tazpod vault migrate --to luks': {NEEDS}")));
        }
        let lacking = capabilities(true).lacking();
        if !lacking.is_empty() {
            return Err(Error::environment(format!("'{shown}' cannot become a luks vault here"))
                .caused_by(std::io::Error::other(format!("missing: {}", lacking.join(", "))))
                .hint("the vault is as it was"));
        }
        let old = Image::open(&self.path, shown, Access::ReadWrite)?;
        self.confirm_lost_slots(old.vault().slots().count())?;
        let credential = self.credential()?;
        // Keys are derived by many threads, and this process must have one to start others.
        let (capacity, files) = luks::apart(|| {
            let space = self.read_old(&old, &credential)?.stat_fs();
            Ok((space.total.saturating_mul(UNIT_U64), space.files))
        })?;
        let size = self.args.size.map_or_else(|| luks_size(capacity), |size| size.0);
        let request = self.request(size);
        let identity = identity_of(self.caller.uid, self.caller.gid)?;
        drop(as_caller);
        let mut progress = ui.progress("copying");
        let filling = luks::Filling::begin(
            &request,
            &identity,
            (&key_of(&credential), inodes(size, files)),
            || self.read_old(&old, &credential),
            &mut |done, total| progress.show(done, total),
        )?;
        // The guardian takes the new image away, once no device stands on it.
        let on_interrupt = OnInterrupt { remove: None, ..self.on_interrupt() };
        let filled = ui.interruptible(&on_interrupt, || filling.end())?;
        if filled.is_err() {
            // It may have been killed itself.
            let _ = luks::sweep(&self.path, shown, &identity);
        }
        // The line was the other process's, which had no time to take it away.
        progress.show(1, 1);
        drop(progress);
        let _as_caller = self.caller.act()?;
        let made = filled.and_then(|()| {
            let whole = NoReturn::default();
            ui.interruptible_until(&whole, &self.on_interrupt(), || {
                let volume = self.read_old(&old, &credential)?;
                let new = FileDevice::open(&self.making, Access::ReadOnly)
                    .map_err(|error| open_error(error, &self.making_shown))?;
                let tree = self.foreign_tree(Arc::new(new), &credential, &self.making_shown)?;
                self.compare(&tree, &volume, false)?;
                whole.pass();
                self.put_in_place()?;
                Ok(volume.stat_fs().files)
            })
            .and_then(|made| made)
        });
        if made.is_err() {
            self.remove_unfinished();
        }
        made
    }

    fn read_old(&self, old: &Image, credential: &Credential) -> Result<Volume> {
        let vault = old.unlock(credential, &self.args.credential)?;
        old.volume(&self.app.ui, &vault, true, None)
    }

    fn request(&self, capacity: u64) -> VaultRequest {
        let cost = new_slot_cost(&self.args.kdf);
        VaultRequest {
            image: self.path.as_path().into(),
            shown: self.making_shown.clone(),
            backend: BackendKind::Luks,
            create: Some(NewVault {
                capacity,
                kdf_memory_kib: cost.memory_kib,
                kdf_passes: cost.passes,
            }),
            // The bytes are cryptsetup's already.
            credential: CredentialKind::KeyFile,
            slot: None,
            allow_kdf_cost: self.args.credential.allow_kdf_cost,
            accept_generation: None,
            discard: true,
        }
    }

    fn compare(&self, tree: &Ext4, volume: &Volume, with_changed: bool) -> Result<()> {
        let mut progress = self.app.ui.progress("comparing");
        compare(tree, volume, with_changed, &mut |done, total| progress.show(done, total))
            .map_err(|error| comparison_error(error, &self.making_shown))
    }

    /// Keeps the old image under its own name, and gives the new one its place.
    fn put_in_place(&self) -> Result<()> {
        keep(&self.path, &self.kept, &self.kept_shown)?;
        put_over(&self.making, &self.path, &self.shown)
    }

    fn report(&self, from: BackendKind, files: u64) -> Result<u8> {
        let (shown, kept) = (&self.shown, &self.kept_shown);
        if self.args.json {
            let size_on_disk = size_of(&self.path);
            self.app.ui.json(&Moved {
                image: JsonName::shown(&self.path, shown),
                from,
                to: self.args.to,
                kept: JsonName::shown(&self.kept, kept),
                files,
                size_on_disk,
            })?;
        } else {
            self.app.ui.print(&format!("{shown} is a {} vault now", self.args.to))?;
        }
        self.app.ui.notice(&format!(
            "The old image is {kept}, and opens with what opened it. Delete it when you have seen that all is there."
        ));
        Ok(0)
    }
}

/// Returns the size of a luks image that holds what fits into a fuse vault: header, journal and tables besides.
fn luks_size(capacity: u64) -> u64 {
    let more = capacity / EXT4_SHARE + LUKS_HEADER + EXT4_JOURNAL;
    capacity.saturating_add(more).next_multiple_of(1 << 20)
}

/// Returns how many inodes a file system of this size shall have: as many as always, or those of the vault and
/// room.
fn inodes(size: u64, files: u64) -> u64 {
    let [small, large] = INODE_RATIO;
    let usual = size / if size < SMALL { small } else { large };
    usual.max(files.saturating_add(files / 8).saturating_add(64))
}

const NEEDS: &str = "devices are needed for it";

#[derive(Serialize)]
struct Moved {
    image: JsonName,
    from: BackendKind,
    to: BackendKind,
    kept: JsonName,
    files: u64,
    size_on_disk: u64,
}

fn size_of(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    path.metadata().map_or(0, |about| about.blocks().saturating_mul(512))
}
