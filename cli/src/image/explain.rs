//! Turning what the library reports into what a person reads: kind, message, cause, hints.

use crate::dates;
use crate::error::{Error, Kind};
use crate::units::ByteSize;
use std::io;
use vault_core::crypto::kdf::KdfError;
use vault_core::device::OpenError;
use vault_core::device::holder::Holder;
use vault_core::error::{Damage, FsError};
use vault_core::format::magic::ImageFormat;
use vault_core::fs::MountError;
use vault_core::keyslot::NewSlotError;
use vault_core::vault::VaultError;
use vault_core::witness::Rollback;

const UNTOUCHED: &str = "the file was not touched";

/// Explains why the file `shown` could not be opened as an image.
pub(crate) fn open_error(error: OpenError, shown: &str) -> Error {
    match error {
        OpenError::NotFound => Error::new(Kind::Format, format!("there is no vault '{shown}'"))
            .hint("'tazpod pull' makes one; 'tazpod -C FOLDER' works on another project"),
        OpenError::Exists => Error::user(format!("'{shown}' exists already"))
            .hint("'tazpod reinit' deletes a vault, after naming what is lost"),
        OpenError::SymbolicLink => {
            Error::new(Kind::Format, format!("'{shown}' is a symbolic link"))
                .hint("name the image itself: a link could be changed while it is open")
        }
        OpenError::NotRegular { kind } => {
            Error::new(Kind::Format, format!("'{shown}' is a {kind}, not a vault image"))
        }
        OpenError::TooShort { .. } => foreign(ImageFormat::Unknown, shown),
        OpenError::InUse { holder } => in_use(holder, shown),
        OpenError::NoLocks(cause) => {
            Error::environment(format!("'{shown}' lies on a file system that cannot lock files"))
                .caused_by(cause)
                .hint("without locks two ghosts could destroy the vault; move it to a local disk")
        }
        OpenError::Io(cause) => storage(cause, &format!("cannot open '{shown}'")),
        other => Error::environment(format!("cannot open '{shown}'")).caused_by(other),
    }
}

/// Says who has an image open, as far as its note tells.
pub(crate) fn in_use(holder: Option<Holder>, shown: &str) -> Error {
    let message = match holder {
        None => format!("'{shown}' is in use"),
        Some(holder) => {
            let process = holder.process.map(|number| format!(" by process {number}"));
            let container = holder.container.map(|name| format!(" in container {name}"));
            let [process, container] = [process, container].map(Option::unwrap_or_default);
            let since = dates::utc(holder.since);
            format!("'{shown}' is in use{process}{container} on {} since {since}", holder.host)
        }
    };
    Error::new(Kind::InUse, message)
        .hint("'tazpod pull' joins a ghost that is open here, 'tazpod lock' ends it; 'tazpod vault unmount FOLDER' ends a plain mount")
}

/// Explains that a file is something else than an image that we read.
pub(crate) fn foreign(format: ImageFormat, shown: &str) -> Error {
    let error = |message: String| Error::new(Kind::Format, message);
    match format {
        ImageFormat::OtherVault { version } => {
            error(format!("'{shown}' uses format {version}, this tazpod reads format 1"))
                .hint(format!("upgrade tazpod; {UNTOUCHED}"))
        }
        ImageFormat::Luks { .. } => error(format!("'{shown}' is {format}, not a TazPod image"))
            .hint(format!("'tazpod pull' opens LUKS1 and LUKS2; {UNTOUCHED}")),
        ImageFormat::Empty => error(format!("'{shown}' is empty, not a vault image")).hint(
            "making a vault was interrupted, or the disk lost it; remove the file to start anew",
        ),
        ImageFormat::Ext => {
            error(format!("'{shown}' is {format}, not a vault image")).hint(UNTOUCHED)
        }
        ImageFormat::Unknown | ImageFormat::Vault => {
            error(format!("'{shown}' is not a vault image")).hint(UNTOUCHED)
        }
    }
}

/// Explains why the vault in `shown` could not be opened, unlocked, made or changed.
pub(crate) fn vault_error(error: VaultError, shown: &str) -> Error {
    match error {
        VaultError::NotAVault | VaultError::TooShort { .. } => foreign(ImageFormat::Unknown, shown),
        VaultError::Version { found } => foreign(ImageFormat::OtherVault { version: found }, shown),
        VaultError::Suite { .. } => Error::new(Kind::Format, format!("cannot read '{shown}'"))
            .caused_by(error)
            .hint(format!("upgrade tazpod; {UNTOUCHED}")),
        VaultError::NoSlotOpened => Error::new(
            Kind::WrongPassphrase,
            format!("no keyslot of '{shown}' opened with what was given"),
        )
        .hint("check the keyboard layout; 'tazpod vault slot list' shows which slots exist"),
        VaultError::SlotMissing { .. } | VaultError::NoSuchSlot { .. } => {
            slot_mistake(error, shown).hint("'tazpod vault slot list' shows which slots exist")
        }
        VaultError::SlotTaken { .. } | VaultError::NoFreeSlot => {
            slot_mistake(error, shown).hint("'tazpod vault slot remove N' makes room")
        }
        VaultError::LastSlot { .. } => slot_mistake(error, shown)
            .hint("without it nothing could open the vault; add another one first"),
        VaultError::NewSlot(NewSlotError::Kdf(cause)) => new_slot_kdf_error(cause, shown),
        VaultError::Kdf(cause) => kdf_error(cause, shown),
        VaultError::RolledBack(cause) => rolled_back(cause, shown),
        VaultError::HeaderReplaced { .. } => {
            Error::new(Kind::Rollback, format!("'{shown}' has an old header"))
                .caused_by(error)
                .hint("someone put an older header back: it may hold a keyslot that was removed")
                .hint("restore image and header together from one backup")
        }
        VaultError::HeaderDamaged => Error::new(Kind::Damage, format!("cannot read '{shown}'"))
            .caused_by(error)
            .hint("nothing opens the vault without its header; restore the image from a backup"),
        VaultError::Damaged(cause) | VaultError::Commit(FsError::Damaged(cause)) => {
            damaged(cause, shown)
        }
        VaultError::HeaderAltered => Error::new(Kind::Damage, format!("cannot trust '{shown}'"))
            .caused_by(error)
            .hint("a keyslot or a parameter in the header is not what tazpod wrote")
            .hint("restore image and header together from one backup"),
        VaultError::Io(cause) => storage(cause, &format!("cannot read or write '{shown}'")),
        VaultError::Commit(FsError::Io(cause)) => {
            storage(cause, &format!("cannot read or write '{shown}'"))
        }
        VaultError::Commit(FsError::NoSpace) => {
            Error::environment(format!("there is no space left for '{shown}'"))
                .hint("free space on the disk that holds the image")
        }
        VaultError::NotCompleted(cause) => {
            Error::environment(format!("the header of '{shown}' was changed, but not all that follows from it was written"))
                .caused_by(cause)
                .hint("what was asked for counts from now on; the next opening completes it, once the disk takes writes")
        }
        VaultError::Commit(_) | VaultError::Entropy(_) => {
            Error::environment(format!("cannot change '{shown}'")).caused_by(error)
        }
        other => Error::user(format!("cannot do that with '{shown}'")).caused_by(other),
    }
}

/// Explains why the newest state of the vault in `shown` could not be opened, or a first one made.
pub(crate) fn mount_error(error: MountError, shown: &str) -> Error {
    match error {
        MountError::RolledBack(cause) => rolled_back(cause, shown),
        MountError::HeaderRolledBack { header, expected } => {
            vault_error(VaultError::HeaderReplaced { found: header, committed: expected }, shown)
        }
        MountError::Fs(cause) => vault_error(VaultError::Commit(cause), shown),
        MountError::Geometry => Error::user(format!("'{shown}' cannot have this size"))
            .hint("--size takes 4M to 4096T, --block-size 4K to 128K in powers of two"),
        other => Error::environment(format!("cannot open '{shown}'")).caused_by(other),
    }
}

/// Explains why a finished image could not be put in its place.
pub(crate) fn cannot_make(cause: io::Error, shown: &str) -> Error {
    storage(cause, &format!("cannot make '{shown}'"))
}

fn slot_mistake(error: VaultError, shown: &str) -> Error {
    Error::user(format!("cannot use that keyslot of '{shown}'")).caused_by(error)
}

fn damaged(cause: Damage, shown: &str) -> Error {
    let hint = match cause {
        Damage::NoSuperblock | Damage::Truncated { .. } => "restore the image from a backup",
        _ => "'tazpod vault check' lists every affected file and changes nothing",
    };
    Error::new(Kind::Damage, format!("'{shown}' was damaged or altered"))
        .caused_by(cause)
        .hint(hint)
}

fn rolled_back(cause: Rollback, shown: &str) -> Error {
    let error = Error::new(
        Kind::Rollback,
        format!("'{shown}' is not the newest state that this machine has seen"),
    );
    let hint = match cause {
        Rollback::Older { found, .. } | Rollback::Fork { generation: found } => {
            format!(
                "if you restored a backup on purpose: 'tazpod pull --accept-generation {found}'"
            )
        }
        Rollback::Retired { .. } => {
            "it is a copy from before 'tazpod vault rekey'; the vault has another volume key now"
                .to_owned()
        }
        _ => "restore the image and its header together from one backup".to_owned(),
    };
    error.caused_by(cause).hint(hint)
}

pub(super) fn kdf_error(error: KdfError, shown: &str) -> Error {
    match error {
        KdfError::BeyondMachine { memory_kib, available_kib } => {
            let [needed, left] =
                [memory_kib, available_kib].map(|kib| ByteSize(u64::from(kib) << 10));
            Error::environment(format!(
                "a keyslot of '{shown}' needs {needed} of memory to open, and {left} are left here"
            ))
            .hint("close programs, raise the container's memory limit, or try --slot N")
        }
        KdfError::OutOfMemory { memory_kib } => {
            let needed = ByteSize(u64::from(memory_kib) << 10);
            Error::environment(format!("cannot get {needed} of memory to open '{shown}'"))
                .hint("close programs, raise the container's memory limit, or try --slot N")
        }
        KdfError::Work { .. } => {
            Error::user(format!("opening '{shown}' would take far longer than usual"))
                .caused_by(error)
                .hint("try one keyslot with --slot N, or wait for all with --allow-kdf-cost")
                .hint("if you did not ask for such slots, the header may have been altered")
        }
        KdfError::Memory { .. } | KdfError::Passes { .. } | KdfError::Lanes { .. } => {
            Error::new(Kind::Damage, format!("a keyslot of '{shown}' asks for an impossible cost"))
                .caused_by(error)
                .hint("the header was damaged or altered; try another keyslot with --slot N")
        }
        other => Error::user(format!("cannot derive the key of '{shown}'")).caused_by(other),
    }
}

fn new_slot_kdf_error(error: KdfError, shown: &str) -> Error {
    match error {
        KdfError::Memory { .. } | KdfError::Passes { .. } | KdfError::Lanes { .. } => {
            Error::user(format!("a keyslot of '{shown}' cannot cost that"))
                .caused_by(error)
                .hint("--kdf-memory takes 64M to 4G, --kdf-time 1 to 16")
        }
        other => kdf_error(other, shown),
    }
}

/// Says of a file what the disk said, and what to do about it.
pub(crate) fn storage(cause: io::Error, message: &str) -> Error {
    let error = Error::environment(message);
    let hint = match cause.kind() {
        io::ErrorKind::PermissionDenied => "the image and its folder must belong to you",
        io::ErrorKind::ReadOnlyFilesystem => {
            "the vault lies on a file system that is mounted read-only"
        }
        io::ErrorKind::NotFound => "its folder does not exist",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "the disk is full",
        _ => return error.caused_by(cause),
    };
    error.caused_by(cause).hint(hint)
}
