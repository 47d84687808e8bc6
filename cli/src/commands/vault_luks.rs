//! The verbs of `tazpod vault` on an image that is a LUKS container: the same words and exit statuses, by
//! `cryptsetup` and `e2fsck`.

use crate::app::App;
use crate::args::access::{CredentialArgs, KdfArgs};
use crate::args::ghost::BackendKind;
use crate::args::vault::{
    CheckArgs, HeaderArgs, HeaderCommand, ImageArgs, InfoArgs, PasswdArgs, SlotAddArgs,
    SlotCommand, SlotKind, SlotRemoveArgs, SlotTestArgs, VaultCommand,
};
use crate::backend::luks::{self, header::Cost, header::Header, header::HeaderFile};
use crate::caller::Caller;
use crate::error::{Error, Result};
use crate::ghost::privilege::identity_of;
use crate::ghost::protocol::{CredentialKind, VaultRequest};
use crate::image::credential::{generated_recovery_key, new_slot_cost, next_credential};
use crate::image::explain::open_error;
use crate::image::{self, Image, recognise};
use crate::quoting::JsonName;
use crate::units::ByteSize;
use nix::unistd::Uid;
use serde::Serialize;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use vault_core::device::{Access, FileDevice};
use vault_core::format::magic::ImageFormat;
use vault_core::keyslot::Credential;
use zeroize::Zeroizing;

/// The exit status when something is wrong and was left as it is, as for a fuse vault.
const DAMAGE_LEFT: u8 = 2;

/// Keyslots of a header of version 1 and 2.
const SLOTS: [u8; 2] = [8, 32];

/// Runs the verb if its image is a LUKS container; `None` if it is not, or the verb is for fuse images.
#[allow(clippy::match_wildcard_for_single_variants, reason = "whatever else is not for LUKS")]
pub(crate) fn run(app: &App, command: &VaultCommand) -> Result<Option<u8>> {
    let Some(args) = image_of(command) else { return Ok(None) };
    let caller = Caller::detect()?;
    let as_caller = caller.act()?;
    let (path, shown) = Image::place(app, args)?;
    // A header that is to be put back need not be there.
    let restored = match command {
        VaultCommand::Header(HeaderArgs { command: HeaderCommand::Restore(args) }) => {
            recognise(&args.file)
        }
        _ => None,
    };
    let found = restored.or_else(|| recognise(&path));
    let Some(ImageFormat::Luks { version: version @ (1 | 2) }) = found else {
        return Ok(None);
    };
    let vault = Luks { app, path, shown, version };
    if restored.is_none() {
        // A header that cannot be read is no wrong passphrase; said before anybody is asked.
        vault.header()?;
    }
    let status = match command {
        VaultCommand::Info(args) => vault.info(&args.info)?,
        VaultCommand::Slot(args) => match &args.command {
            SlotCommand::List(args) => vault.list(&args.info)?,
            SlotCommand::Add(args) => vault.add(args)?,
            SlotCommand::Remove(args) => vault.remove(args)?,
            SlotCommand::Test(args) => vault.test(args)?,
        },
        VaultCommand::Passwd(args) => vault.passwd(args)?,
        VaultCommand::Check(args) if args.repair => {
            return Err(Error::user(format!(
                "{} is a LUKS vault, which this does not mend",
                vault.shown
            ))
            .hint("open it and let e2fsck mend its file system, after making a copy"));
        }
        VaultCommand::Check(args) => {
            drop(as_caller);
            vault.check(args, &caller)?
        }
        VaultCommand::Resize(args) => vault.resize(args, &caller, as_caller)?,
        VaultCommand::Header(args) => match &args.command {
            HeaderCommand::Backup(args) => vault.back_header_up(args)?,
            HeaderCommand::Restore(args) => vault.restore_header(args)?,
        },
        _ => return Ok(None),
    };
    Ok(Some(status))
}

/// Which image a verb is about, of those that know LUKS containers.
#[allow(clippy::match_wildcard_for_single_variants, reason = "whatever else is not for LUKS")]
fn image_of(command: &VaultCommand) -> Option<&ImageArgs> {
    match command {
        VaultCommand::Info(args) => Some(&args.info.image),
        VaultCommand::Check(args) => Some(&args.image),
        VaultCommand::Passwd(args) => Some(&args.image),
        VaultCommand::Resize(args) => Some(&args.image),
        VaultCommand::Header(args) => Some(match &args.command {
            HeaderCommand::Backup(args) => &args.image,
            HeaderCommand::Restore(args) => &args.image,
        }),
        VaultCommand::Slot(args) => Some(match &args.command {
            SlotCommand::Add(args) => &args.image,
            SlotCommand::Remove(args) => &args.image,
            SlotCommand::List(args) => &args.info.image,
            SlotCommand::Test(args) => &args.image,
        }),
        _ => None,
    }
}

/// A LUKS image that a verb is about.
pub(super) struct Luks<'a> {
    pub(super) app: &'a App,
    pub(super) path: PathBuf,
    pub(super) shown: String,
    pub(super) version: u16,
}

pub(super) type Key = Zeroizing<Vec<u8>>;

impl Luks<'_> {
    pub(super) fn header_file(&self) -> Result<HeaderFile<'_>> {
        HeaderFile::new(&self.path, &self.shown)
    }

    pub(super) fn header(&self) -> Result<Header> {
        self.header_file()?.read(self.version)
    }

    /// Keeps everybody else from the image while its header is changed.
    pub(super) fn locked(&self) -> Result<FileDevice> {
        FileDevice::open(&self.path, Access::ReadWrite)
            .map_err(|error| open_error(error, &self.shown))
    }

    /// Reads what opens the vault.
    pub(super) fn key(&self, args: &CredentialArgs) -> Result<Key> {
        image::credential(&self.app.ui, args, &self.shown).map(|given| key_of(&given))
    }

    pub(super) fn cannot_read(&self, cause: std::io::Error) -> Error {
        Error::environment(format!("cannot use '{}'", self.shown)).caused_by(cause)
    }

    fn info(&self, args: &InfoArgs) -> Result<u8> {
        let info = self.about()?;
        if args.json {
            self.app.ui.json(&info)?;
        } else {
            self.app.ui.print(&info.text())?;
        }
        Ok(0)
    }

    fn list(&self, args: &InfoArgs) -> Result<u8> {
        let info = self.about()?;
        if args.json {
            self.app.ui.json(&info.keyslots)?;
        } else {
            self.app.ui.print(&info.slots_text())?;
        }
        Ok(0)
    }

    fn about(&self) -> Result<Info> {
        let size = self.path.metadata().map_err(|cause| self.cannot_read(cause))?;
        Ok(Info::of(&self.header()?, (&self.path, &self.shown), size.len()))
    }

    fn test(&self, args: &SlotTestArgs) -> Result<u8> {
        let key = self.key(&args.credential)?;
        let slot = self.header_file()?.opens(&key, args.credential.slot)?;
        self.app.ui.print(&format!("keyslot {slot} of {} opens", self.shown))?;
        Ok(0)
    }

    fn add(&self, args: &SlotAddArgs) -> Result<u8> {
        if !args.label.is_empty() {
            return Err(
                Error::user("a keyslot of a luks vault has no label").hint("leave --label out")
            );
        }
        let _locked = self.locked()?;
        let file = self.header_file()?;
        let key = self.key(&args.credential)?;
        file.opens(&key, args.credential.slot)?;
        let next = match args.kind {
            SlotKind::Passphrase => next_credential(&self.app.ui, &args.new, &self.shown)?,
            SlotKind::Recovery => {
                Credential::RecoveryKey(generated_recovery_key(&self.app.ui, args.unchecked)?)
            }
        };
        let before = self.header()?;
        file.add(&key, &key_of(&next), cost(&args.kdf)?, self.version)?;
        let after = self.header()?;
        let added = after
            .slots
            .iter()
            .find(|slot| before.slots.iter().all(|earlier| earlier.number != slot.number));
        let place = added.map_or_else(String::new, |slot| format!(" {}", slot.number));
        self.app.ui.notice(&format!("added keyslot{place} to {}", self.shown));
        Ok(0)
    }

    fn remove(&self, args: &SlotRemoveArgs) -> Result<u8> {
        let (place, ui) = (args.remove, &self.app.ui);
        let _locked = self.locked()?;
        let file = self.header_file()?;
        let key = self.key(&args.credential)?;
        let opened = file.opens(&key, args.credential.slot)?;
        let header = self.header()?;
        if header.slots.iter().all(|slot| slot.number != place) {
            return Err(Error::user(format!("keyslot {place} of '{}' is empty", self.shown))
                .hint("'tazpod vault slot list' shows which slots exist"));
        }
        if header.slots.len() == 1 {
            return Err(Error::user(format!("keyslot {place} is the last of '{}'", self.shown))
                .hint("without it nobody could open the vault; add another first"));
        }
        if opened == place && !args.yes {
            let question = format!("Keyslot {place} is the one that you just opened. Remove it?");
            if !ui.confirm(&question)? {
                return Err(Error::user("nothing was removed"));
            }
        }
        file.remove(place)?;
        ui.print(&format!("removed keyslot {place} of {}", self.shown))?;
        ui.notice("Copies of the image made before still open with it.");
        Ok(0)
    }

    fn passwd(&self, args: &PasswdArgs) -> Result<u8> {
        let _locked = self.locked()?;
        let file = self.header_file()?;
        let key = self.key(&args.credential)?;
        let opened = file.opens(&key, args.change.or(args.credential.slot))?;
        if args.credential.recovery && args.change.is_none() {
            return Err(Error::user("the recovery key's own keyslot would be changed")
                .hint("'tazpod vault slot add --recovery' adds a passphrase and keeps it"));
        }
        let next = next_credential(&self.app.ui, &args.new, &self.shown)?;
        file.change(opened, &key, &key_of(&next), cost(&args.kdf)?, self.version)?;
        self.app.ui.print(&format!("changed keyslot {opened} of {}", self.shown))?;
        self.app
            .ui
            .notice("Copies of the image made before still open with what opened them then.");
        Ok(0)
    }

    fn check(&self, args: &CheckArgs, caller: &Caller) -> Result<u8> {
        if !Uid::effective().is_root() {
            return Err(Error::environment("only root can check a luks vault").hint(
                "'sudo tazpod vault check': it is opened by the kernel, read-only in effect",
            ));
        }
        let key = self.key(&args.credential)?;
        let identity = identity_of(caller.uid, caller.gid)?;
        let (clean, said) = luks::check(&self.request(&args.credential), &identity, &key)?;
        if args.json {
            self.app.ui.json(&Checked { clean, said: &said })?;
        } else {
            let verdict = if clean { "clean" } else { "damaged" };
            self.app.ui.print(&format!("{said}\n{}: {verdict}", self.shown))?;
        }
        Ok(if clean { 0 } else { DAMAGE_LEFT })
    }

    fn request(&self, args: &CredentialArgs) -> VaultRequest {
        self.request_for(&self.path, args)
    }

    /// What a holder is asked for, about this image or a copy of it.
    pub(super) fn request_for(&self, image: &Path, args: &CredentialArgs) -> VaultRequest {
        VaultRequest {
            image: image.into(),
            shown: self.shown.clone(),
            backend: BackendKind::Luks,
            create: None,
            // The bytes are cryptsetup's already.
            credential: CredentialKind::KeyFile,
            slot: args.slot,
            allow_kdf_cost: args.allow_kdf_cost,
            accept_generation: None,
            discard: false,
        }
    }
}

/// Returns the bytes that `cryptsetup` gets.
pub(super) fn key_of(given: &Credential) -> Key {
    Zeroizing::new(match given {
        Credential::Passphrase(secret) | Credential::KeyFile(secret) => secret.expose().to_vec(),
        Credential::RecoveryKey(key) => key.expose_words().as_bytes().to_vec(),
    })
}

/// Checks the cost as for a keyslot of ours: what pull makes on the next machine must open there.
fn cost(args: &KdfArgs) -> Result<Cost> {
    let cost = new_slot_cost(args);
    if !(64 << 10..=4 << 20).contains(&cost.memory_kib) {
        return Err(Error::user("a keyslot cannot cost that")
            .hint("--kdf-memory takes 64M to 4G, --kdf-time 1 to 16"));
    }
    Ok(Cost { memory_kib: cost.memory_kib, passes: cost.passes })
}

#[derive(Serialize)]
struct Checked<'a> {
    clean: bool,
    said: &'a str,
}

/// What the header says. Nothing in it has been authenticated.
#[derive(Debug, Serialize)]
struct Info {
    image: JsonName,
    #[serde(skip)]
    shown: String,
    format: String,
    vault: String,
    size_on_disk: u64,
    keyslots: Vec<SlotInfo>,
    #[serde(skip)]
    slots: u8,
}

#[derive(Debug, Serialize)]
struct SlotInfo {
    slot: u8,
    kdf: String,
    kdf_memory: Option<u64>,
    kdf_passes: Option<u64>,
    kdf_lanes: Option<u64>,
}

impl Info {
    fn of(header: &Header, (path, shown): (&Path, &str), size: u64) -> Self {
        let keyslots = header.slots.iter().map(|slot| SlotInfo {
            slot: slot.number,
            kdf: slot.kdf.clone(),
            kdf_memory: slot.memory_kib.map(|kib| kib.saturating_mul(1024)),
            kdf_passes: slot.passes,
            kdf_lanes: slot.lanes,
        });
        let [few, many] = SLOTS;
        Self {
            image: JsonName::shown(path, shown),
            shown: shown.to_owned(),
            format: format!("LUKS{}", header.version),
            vault: header.uuid.clone(),
            size_on_disk: size,
            keyslots: keyslots.collect(),
            slots: if header.version == 1 { few } else { many },
        }
    }

    fn text(&self) -> String {
        format!(
            "image       {}\nformat      {} (luks)\nvault       {}\nsize        {}\n\
             keyslots    {} of {}\n{}\nNothing above is proven.",
            self.shown,
            self.format,
            self.vault,
            ByteSize(self.size_on_disk),
            self.keyslots.len(),
            self.slots,
            self.slots_text(),
        )
    }

    fn slots_text(&self) -> String {
        self.keyslots.iter().map(SlotInfo::text).collect::<Vec<_>>().join("\n")
    }
}

impl SlotInfo {
    fn text(&self) -> String {
        let mut line = format!("  {}  {}", self.slot, self.kdf);
        if let Some(memory) = self.kdf_memory {
            let _ = write!(line, " m={}", ByteSize(memory));
        }
        if let Some(passes) = self.kdf_passes {
            let _ = write!(line, " t={passes}");
        }
        if let Some(lanes) = self.kdf_lanes {
            let _ = write!(line, " p={lanes}");
        }
        line
    }
}
