//! The image file: opened with the caller's rights, recognised, held by one holder at a time.
//!
//! Two locks say that it is held. The first, by `flock`, belongs to the holder and ends with it: who
//! has it alone may remove what a killed holder left. The second is the lock that every writer of an image
//! takes (an OFD lock); it goes along to the loop device and stays for as long as the kernel has the
//! image open, so that nothing else writes to an image that is still mapped.

use crate::error::{Error, Kind, Result};
use crate::ghost::protocol::VaultRequest;
use crate::image::create::beside;
use crate::image::explain::{cannot_make, foreign, in_use, open_error};
use crate::sys::folder::{self, Facts};
use crate::sys::identity::{FileRights, Identity};
use nix::fcntl::{FcntlArg, fcntl};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};
use vault_core::device::OpenError;
use vault_core::device::holder::Holder;
use vault_core::format::magic::ImageFormat;

/// The least that holds a LUKS2 header (16 MiB) and a file system that is worth it.
pub(super) const LEAST: u64 = 24 << 20;

/// How long another's lock is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where a LUKS1 or LUKS2 header has its UUID, as text that ends with a zero.
const UUID_AT: usize = 168;
const UUID_LEN: usize = 40;

/// An image that is ours.
pub(super) struct Image {
    /// The lock of the holder; the file is the image too.
    holder: File,
    /// Which file it is.
    pub(super) facts: Facts,
}

impl Image {
    /// Opens an existing image for a holder, and reads its UUID.
    pub(super) fn open(request: &VaultRequest, identity: &Identity) -> Result<(Self, Uuid)> {
        let (path, shown) = (request.image.path(), &request.shown);
        let _rights = rights(identity)?;
        let file = open_regular(path).map_err(|error| open_error(error, shown))?;
        let uuid = read_uuid(&file, shown)?;
        Ok((Self::held(file, path, shown)?, uuid))
    }

    /// Makes the file of a new image, sparse.
    pub(super) fn create(request: &VaultRequest, identity: &Identity, size: u64) -> Result<Self> {
        let shown = &request.shown;
        if size < LEAST {
            return Err(Error::user(format!("'{shown}' cannot have this size"))
                .hint("a LUKS vault takes at least 24M, of which 16M are its header"));
        }
        let _rights = rights(identity)?;
        let fresh = beside(request.image.path());
        // What an interrupted attempt left. The ghost's lock says that no other is under way.
        let _ = std::fs::remove_file(&fresh);
        let file = options().create_new(true).mode(0o600).open(&fresh);
        let file = file.map_err(|cause| cannot_make(cause, shown))?;
        // Whole encrypted sectors.
        file.set_len(size & !0xfff).map_err(|cause| cannot_make(cause, shown))?;
        Self::held(file, &fresh, shown)
    }

    fn held(file: File, path: &Path, shown: &str) -> Result<Self> {
        let failed = |cause: io::Error| open_error(OpenError::Io(cause), shown);
        // Whoever only looks for leftovers has it for a moment.
        let deadline = Instant::now() + PATIENCE;
        while !folder::try_lock(&file).map_err(failed)? {
            if Instant::now() >= deadline {
                return Err(in_use(Holder::read(path), shown));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let facts = folder::facts(&file).map_err(failed)?;
        Ok(Self { holder: file, facts })
    }

    /// Opens the image once more, for the loop device, with the lock of a writer.
    pub(super) fn writer(&self, request: &VaultRequest, identity: &Identity) -> Result<File> {
        let shown = &request.shown;
        let explain = |cause: io::Error| open_error(OpenError::Io(cause), shown);
        let _rights = rights(identity)?;
        let again = options().open(folder::path_of(&self.holder)).map_err(explain)?;
        let range = libc::flock {
            l_type: i16::try_from(libc::F_WRLCK).unwrap_or_default(),
            l_whence: i16::try_from(libc::SEEK_SET).unwrap_or_default(),
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        match fcntl(&again, FcntlArg::F_OFD_SETLK(&range)) {
            Ok(_) => {
                // It keeps others away from here on. cryptsetup shares the first lock to read.
                folder::share_lock(&self.holder).map_err(explain)?;
                Ok(again)
            }
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EACCES) => {
                Err(in_use(Holder::read(request.image.path()), shown))
            }
            Err(errno) => Err(open_error(OpenError::NoLocks(errno.into()), shown)),
        }
    }

    /// The image as a file.
    pub(super) fn file(&self) -> &File {
        &self.holder
    }

    /// Waits until all of the file is on its disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.holder.sync_all()
    }
}

/// A vault's UUID, as its header writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Uuid(String);

impl Uuid {
    /// Reads one from text; only what every tool writes is taken, since it becomes part of names.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let plain = text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
        (plain && text.len() == 36).then(|| Self(text.to_ascii_lowercase()))
    }

    /// Makes a new random one (RFC 9562, version 4).
    pub(super) fn random() -> io::Result<Self> {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/uuid")?;
        Self::parse(text.trim()).ok_or_else(|| io::Error::other("the kernel made no UUID"))
    }

    /// Returns the text with its dashes.
    pub(super) fn text(&self) -> &str {
        &self.0
    }

    /// Returns the name of the mapping of the image with this UUID. A copy of an image has the same
    /// UUID and may be open at the same time, so the file is named as well.
    pub(super) fn mapping(&self, image: &Facts) -> String {
        format!("tazpod-{}-{:x}-{:x}", self.0, image.device, image.inode)
    }
}

/// A file that may have left devices behind: which one, and the UUID in its header if it has one.
pub(super) struct Suspect {
    pub(super) facts: Facts,
    pub(super) uuid: Option<Uuid>,
    /// Whether no holder lives, which is so while this one is kept.
    pub(super) lock: Option<File>,
}

/// Looks at what stands at `path`; `None` if it cannot be an image of ours.
pub(super) fn suspect(path: &Path, identity: &Identity) -> Option<Suspect> {
    let _rights = rights(identity).ok()?;
    let file = open_regular(path).ok()?;
    let facts = folder::facts(&file).ok()?;
    let uuid = read_uuid(&file, "").ok();
    let lock = folder::try_lock(&file).unwrap_or(false).then_some(file);
    Some(Suspect { facts, uuid, lock })
}

/// Takes the caller's rights; what dies with its parent must say so again when they are given back.
fn rights(identity: &Identity) -> Result<FileRights> {
    FileRights::of(identity.uid, identity.gid)
        .map_err(|cause| Error::environment("cannot act with the caller's rights").caused_by(cause))
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC);
    options
}

fn open_regular(path: &Path) -> std::result::Result<File, OpenError> {
    let file = options()
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOFOLLOW)
        .open(path)
        .map_err(|cause| match cause.raw_os_error() {
            Some(libc::ENOENT) => OpenError::NotFound,
            Some(libc::ELOOP) => OpenError::SymbolicLink,
            _ => OpenError::Io(cause),
        })?;
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(OpenError::NotRegular { kind: "special file" });
    }
    match about.size() {
        len if len < 4096 => Err(OpenError::TooShort { len }),
        _ => Ok(file),
    }
}

fn read_uuid(file: &File, shown: &str) -> Result<Uuid> {
    let mut start = [0; 4096];
    file.read_exact_at(&mut start, 0).map_err(|cause| open_error(OpenError::Io(cause), shown))?;
    match ImageFormat::recognise(&start) {
        ImageFormat::Luks { version: 1 | 2 } => {}
        other => return Err(foreign(other, shown)),
    }
    let field = start.get(UUID_AT..UUID_AT + UUID_LEN).unwrap_or_default();
    let text = field.split(|byte| *byte == 0).next().unwrap_or_default();
    let uuid = std::str::from_utf8(text).ok().and_then(Uuid::parse);
    uuid.ok_or_else(|| {
        Error::new(Kind::Damage, format!("the LUKS header of '{shown}' has no UUID"))
            .hint("'cryptsetup repair' may mend it; the file was not touched")
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_plain_uuids_become_names() {
        let text = "9F548AC0-e84f-42eb-bcc5-c8d6c5aadd52";
        assert_eq!(Uuid::parse(text).unwrap().text(), text.to_lowercase());
        for text in ["", "../../etc/passwd", "9f548ac0-e84f-42eb-bcc5-c8d6c5aadd5", "x"] {
            assert_eq!(Uuid::parse(text), None, "{text}");
        }
        assert!(Uuid::random().is_ok());
    }

    #[test]
    fn uuid_is_read_from_a_header_and_from_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        let mut bytes = vec![0; 8192];
        bytes[..8].copy_from_slice(b"LUKS\xba\xbe\x00\x02");
        bytes[168..204].copy_from_slice(b"9f548ac0-e84f-42eb-bcc5-c8d6c5aadd52");
        std::fs::write(&path, &bytes).unwrap();
        let file = open_regular(&path).unwrap();
        assert_eq!(read_uuid(&file, "v").unwrap().text(), "9f548ac0-e84f-42eb-bcc5-c8d6c5aadd52");
        bytes[168] = b'/';
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(read_uuid(&file, "v").unwrap_err().kind(), Kind::Damage);
        std::fs::write(&path, vec![0; 8192]).unwrap();
        assert_eq!(read_uuid(&file, "v").unwrap_err().kind(), Kind::Format);
    }
}
