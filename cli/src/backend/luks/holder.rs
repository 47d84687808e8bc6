//! The process that has a luks vault open: opens it, hands its mount over, and closes it.
//!
//! Section 10 of GHOST.md. It speaks to the supervisor as the server of a fuse vault does, but
//! is root outside of the ghost: devices cannot be had with less. It reads a passphrase line and the
//! kernel's tables; the header is parsed by `cryptsetup` and by the kernel, the tree by the kernel.

use super::device::{LoopDevice, Mapping};
use super::header::LEAST_PASSES;
use super::image::{Image, Suspect, Uuid};
use super::workshop::Workshop;
use super::{leftovers, tool};
use crate::error::{Error, Kind, Result};
use crate::ghost::link::{Link, Received};
use crate::ghost::protocol::{CredentialKind, FromServer, NewVault, ToServer, VaultRequest};
use crate::sys::block::{self, Removal};
use crate::sys::identity::Identity;
use crate::sys::{folder, mount, process, signals};
use nix::sys::signal::Signal;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use vault_core::keyslot::RecoveryKey;
use zeroize::Zeroizing;

/// The exit status of a holder that said why it ended.
const SAID: i32 = 1;

/// The shortest run of free space that is given back to the disk, as for fuse vaults.
const SHORTEST_TRIM: u64 = 1 << 20;

/// What `e2fsck` ends with when it left something that is wrong, or could not go on for it.
const FOUND: [u8; 3] = [4, 8, 12];

/// Sectors as large as the blocks of the file system inside: one cipher call for each.
const SECTOR: &str = "4096";

/// Runs the holder; returns its exit status.
pub(super) fn run(request: &VaultRequest, identity: &Identity, mut link: Link) -> i32 {
    match serve(request, identity, &mut link) {
        Ok(()) => 0,
        Err(error) => {
            let _ = link.send(&FromServer::Failed(error.into()), &[]);
            SAID
        }
    }
}

fn serve(request: &VaultRequest, identity: &Identity, link: &mut Link) -> Result<()> {
    confine(link)?;
    let holder = Holder::prepare(request, identity)?;
    let vault = request.create.is_none().then(|| holder.uuid.text().to_owned());
    tell(link, &FromServer::Waiting { vault }, None)?;
    loop {
        let Some(secret) = next_secret(link)? else { return Ok(()) };
        match holder.open(&secret) {
            Ok(mount) => {
                let notices = holder.notices(&mount);
                let vault = holder.uuid.text().to_owned();
                let opened = FromServer::Opened { vault, notices, weaknesses: Vec::new() };
                tell(link, &opened, Some(&mount))?;
                return holder.live(link, mount);
            }
            Err(error) if error.kind() == Kind::WrongPassphrase => {
                tell(link, &FromServer::Refused(error.into()), None)?;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Keeps only what a holder needs, and dies with the supervisor.
fn confine(link: &Link) -> Result<()> {
    let failed = |cause: io::Error| Error::environment("cannot open the vault").caused_by(cause);
    process::close_all_except(&[link.as_fd()]).map_err(failed)?;
    let nothing = File::options().read(true).write(true).open("/dev/null").map_err(failed)?;
    process::set_streams([nothing.as_fd(), nothing.as_fd(), nothing.as_fd()]).map_err(failed)?;
    for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM, Signal::SIGPIPE] {
        signals::ignore(signal).map_err(failed)?;
    }
    process::die_with_parent(Signal::SIGKILL).map_err(failed)
}

fn tell(link: &Link, message: &FromServer, mount: Option<&OwnedFd>) -> Result<()> {
    let mount = mount.map(AsFd::as_fd);
    link.send(message, mount.as_slice())
        .map_err(|cause| Error::internal("the supervisor is gone").caused_by(cause))
}

/// Waits for a secret to open the vault with; `None` when the supervisor gives up.
fn next_secret(link: &mut Link) -> Result<Option<Zeroizing<Vec<u8>>>> {
    match link.receive::<ToServer>() {
        Ok(Received::Message(ToServer::Open {}, _)) => match link.receive::<ToServer>() {
            Ok(Received::Secret(secret)) => Ok(Some(secret)),
            _ => Err(Error::internal("the supervisor talks out of order")),
        },
        _ => Ok(None),
    }
}

/// What a holder has before the vault is open.
pub(super) struct Holder<'a> {
    request: &'a VaultRequest,
    workshop: Workshop,
    image: Image,
    uuid: Uuid,
    device: LoopDevice,
}

impl<'a> Holder<'a> {
    /// Opens and locks the image, removes what an earlier holder left, and makes the loop device.
    pub(super) fn prepare(request: &'a VaultRequest, identity: &'a Identity) -> Result<Self> {
        let (image, uuid) = match &request.create {
            None => Image::open(request, identity)?,
            Some(new) => {
                // The file of an interrupted attempt is about to go, and with it the way to what stands on it.
                leftovers::sweep(request, identity)?;
                let uuid = Uuid::random().map_err(|cause| {
                    Error::environment("cannot make a UUID for the vault").caused_by(cause)
                })?;
                (Image::create(request, identity, new.capacity)?, uuid)
            }
        };
        let workshop = Workshop::enter()?;
        let suspect = Suspect { facts: image.facts, uuid: Some(uuid.clone()), lock: None };
        leftovers::clear(&workshop, &suspect, &request.shown)?;
        let writer = image.writer(request, identity)?;
        // Lost with the change of rights.
        process::die_with_parent(Signal::SIGKILL)
            .map_err(|cause| Error::environment("cannot open the vault").caused_by(cause))?;
        let device = LoopDevice::attach(&workshop, &writer, &uuid.mapping(&image.facts))?;
        Ok(Self { request, workshop, image, uuid, device })
    }

    /// Opens the vault, or makes it, and mounts it attached nowhere.
    fn open(&self, secret: &[u8]) -> Result<OwnedFd> {
        let key = key_of(self.request.credential, secret)?;
        let Some(new) = &self.request.create else {
            return self.map(&key).and_then(|mapping| self.mount(&mapping));
        };
        self.make(new, &key, &[])
    }

    /// Makes the vault, with more words for the maker of its file system, and mounts it.
    fn make(&self, new: &NewVault, key: &[u8], more: &[&str]) -> Result<OwnedFd> {
        self.format(new, key)?;
        let mapping = self.map(key)?;
        let made = self.make_tree(&mapping, more).and_then(|()| self.mount(&mapping));
        if made.is_err() {
            let _ = mapping.remove(&self.workshop, Removal::Now);
        }
        let mount = made?;
        self.tidy(&mount).map_err(|cause| {
            Error::environment(format!("cannot finish the new vault '{}'", self.request.shown))
                .caused_by(cause)
        })?;
        Ok(mount)
    }

    /// Makes the header and its first keyslot.
    fn format(&self, new: &NewVault, key: &[u8]) -> Result<()> {
        let (memory, passes) = (new.kdf_memory_kib, new.kdf_passes.max(LEAST_PASSES));
        let (memory, passes) = (memory.to_string(), passes.to_string());
        let arguments = [
            "luksFormat",
            "--batch-mode",
            "--type",
            "luks2",
            "--uuid",
            self.uuid.text(),
            "--sector-size",
            SECTOR,
            "--pbkdf",
            "argon2id",
            "--pbkdf-memory",
            &memory,
            "--pbkdf-force-iterations",
            &passes,
            "--pbkdf-parallel",
            "4",
            "--key-file",
            "-",
            self.device.path(),
        ];
        tool::cryptsetup(&arguments, key, &self.request.shown).map(drop)
    }

    /// Maps the volume under a name of its own.
    pub(super) fn map(&self, key: &[u8]) -> Result<Mapping> {
        let shown = &self.request.shown;
        let name = self.uuid.mapping(&self.image.facts);
        let slot = self.request.slot.map(|slot| slot.to_string());
        let mut arguments = vec!["open", "--type", "luks", "--key-file", "-"];
        if let Some(slot) = &slot {
            arguments.extend(["--key-slot", slot]);
        }
        if self.request.discard {
            arguments.push("--allow-discards");
        }
        arguments.extend([self.device.path(), &name]);
        tool::cryptsetup(&arguments, key, shown)?;
        let failed = |cause: io::Error| {
            Error::environment(format!("cannot find the mapping of '{shown}'")).caused_by(cause)
        };
        Mapping::named(&name)
            .and_then(|found| found.ok_or_else(|| io::ErrorKind::NotFound.into()))
            .map_err(failed)
    }

    /// Makes the file system, whose top folder is the caller's.
    fn make_tree(&self, mapping: &Mapping, more: &[&str]) -> Result<()> {
        let shown = &self.request.shown;
        let node = self.node(mapping)?;
        let owner = folder::facts(self.image.file()).map_err(|cause| self.cannot_mount(cause))?;
        let owner = format!("root_owner={}:{}", owner.uid, owner.gid);
        let mut arguments = vec!["-q", "-F", "-m", "0", "-E", &owner];
        arguments.extend(more);
        arguments.push(&node);
        let outcome = tool::run("mkfs.ext4", &arguments, b"")?;
        if outcome.status == 0 {
            return Ok(());
        }
        let error =
            Error::environment(format!("cannot make the file system of the new vault '{shown}'"))
                .hint("no vault was made; '--size' may be too small, or the disk full");
        Err(tool::said(error, &outcome))
    }

    /// Mounts the mapped volume. From here on mapping and loop device go with the mount.
    fn mount(&self, mapping: &Mapping) -> Result<OwnedFd> {
        let node = self.node(mapping)?;
        let mounted = mount::detached_device("ext4", Path::new(&node));
        let mount = mounted.map_err(|cause| {
            let _ = mapping.remove(&self.workshop, Removal::Now);
            self.cannot_mount(cause)
        })?;
        mapping
            .remove(&self.workshop, Removal::WithLastUser)
            .map_err(|cause| self.cannot_mount(cause))?;
        Ok(mount)
    }

    pub(super) fn node(&self, mapping: &Mapping) -> Result<String> {
        let node = self.workshop.block_node(&mapping.device);
        let node = node.map_err(|cause| self.cannot_mount(cause))?;
        Ok(node.to_string_lossy().into_owned())
    }

    /// Removes a mapping that was never mounted.
    pub(super) fn unmap(&self, mapping: &Mapping) -> Result<()> {
        mapping
            .remove(&self.workshop, Removal::Now)
            .map_err(|cause| Error::environment("cannot close the vault again").caused_by(cause))
    }

    /// Lets go of the image, and waits until the kernel has.
    pub(super) fn release(self) -> Result<()> {
        let Self { request, workshop, image, device, .. } = self;
        drop(device);
        leftovers::wait_until_gone(&workshop, &image.facts, &request.shown)
    }

    fn cannot_mount(&self, cause: io::Error) -> Error {
        let error = Error::environment(format!("cannot mount '{}'", self.request.shown));
        let error = match cause.raw_os_error() {
            Some(libc::EINVAL) => error.hint("the passphrase was right, but no ext4 is inside"),
            Some(libc::EUCLEAN | libc::EIO) => {
                error.hint("'tazpod vault check' tells more and changes nothing")
            }
            _ => error,
        };
        error.caused_by(cause)
    }

    /// Leaves a new vault as a fuse one is: empty, and the caller's alone.
    fn tidy(&self, mount: &OwnedFd) -> io::Result<()> {
        let top = top_of(mount)?;
        // e2fsck makes another when it needs one.
        folder::remove_folder(&top, "lost+found")?;
        rustix::fs::fchmod(&top, rustix::fs::Mode::from_raw_mode(0o700))?;
        rustix::fs::syncfs(&top)?;
        self.image.sync()
    }

    fn notices(&self, mount: &OwnedFd) -> Vec<String> {
        let Ok(top) = top_of(mount).and_then(|top| folder::facts(&top)) else { return Vec::new() };
        let Ok(image) = folder::facts(self.image.file()) else { return Vec::new() };
        if top.uid == image.uid || image.uid == 0 {
            return Vec::new();
        }
        vec![format!(
            "The vault's top folder belongs to user {}, not to you: 'sudo chown' in the ghost \
             changes that.",
            top.uid
        )]
    }

    /// Tries the secrets of those who want to join, until the ghost is gone; then closes.
    fn live(self, link: &mut Link, mount: OwnedFd) -> Result<()> {
        let mut asked = None;
        loop {
            match link.receive::<ToServer>() {
                Ok(Received::Message(ToServer::Prove { credential, slot }, _)) => {
                    asked = Some((credential, slot));
                }
                Ok(Received::Secret(secret)) => {
                    let proved =
                        asked.take().is_some_and(|(kind, slot)| self.opens(kind, slot, &secret));
                    tell(link, &FromServer::Proved(proved), None)?;
                }
                Ok(Received::Message(ToServer::Close {}, _)) => {
                    self.close(mount)?;
                    return tell(link, &FromServer::Closed, None);
                }
                // The supervisor is gone, and with it the ghost: the kernel closes everything.
                _ => return Ok(()),
            }
        }
    }

    fn opens(&self, kind: CredentialKind, slot: Option<u8>, secret: &[u8]) -> bool {
        let Ok(key) = key_of(kind, secret) else { return false };
        let slot = slot.map(|slot| slot.to_string());
        let mut arguments = vec!["open", "--test-passphrase", "--type", "luks", "--key-file", "-"];
        if let Some(slot) = &slot {
            arguments.extend(["--key-slot", slot]);
        }
        arguments.push(self.device.path());
        tool::cryptsetup(&arguments, &key, &self.request.shown).is_ok()
    }

    /// Writes out what is left, gives free space back, and waits until the kernel has let go.
    fn close(self, mount: OwnedFd) -> Result<()> {
        let Self { request, workshop, image, device, .. } = self;
        let written = top_of(&mount).and_then(|top| {
            rustix::fs::syncfs(&top)?;
            if request.discard {
                // What cannot be given back costs space and nothing else.
                let _ = block::trim(&top, SHORTEST_TRIM);
            }
            Ok(())
        });
        drop(mount);
        drop(device);
        leftovers::wait_until_gone(&workshop, &image.facts, &request.shown)?;
        let on_disk = image.sync();
        written.and(on_disk).map_err(|cause| {
            Error::new(Kind::Damage, "not everything could be written to the vault")
                .caused_by(cause)
                .hint("the disk may be full or failing; 'tazpod vault check' tells more")
        })
    }
}

/// Opens the top folder of a mount that may be attached nowhere.
fn top_of(mount: &OwnedFd) -> io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(mount, c".", flags, Mode::empty())?)
}

/// Returns the bytes that `cryptsetup` gets. A recovery key is its words with one space between each,
/// so that it opens the vault by hand too.
fn key_of(kind: CredentialKind, secret: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
    // For the same refusals as for a fuse vault.
    crate::ghost::server::credential(kind, secret)?;
    let bytes = match kind {
        CredentialKind::Passphrase | CredentialKind::KeyFile => secret.to_vec(),
        CredentialKind::RecoveryKey => {
            let text = std::str::from_utf8(secret).unwrap_or_default();
            let key = RecoveryKey::from_words(text)
                .map_err(|cause| Error::user("the recovery key cannot be read").caused_by(cause))?;
            key.expose_words().as_bytes().to_vec()
        }
    };
    Ok(Zeroizing::new(bytes))
}

/// Makes a new vault with room for `inodes` files, lets `work` fill it from its top folder, and closes it. The
/// image stays under the name of one that is being made.
pub(super) fn fill(
    request: &VaultRequest,
    identity: &Identity,
    (key, inodes): (&[u8], u64),
    work: impl FnOnce(&OwnedFd) -> Result<()>,
) -> Result<()> {
    let new =
        request.create.as_ref().ok_or_else(|| Error::internal("no new vault is asked for"))?;
    let holder = Holder::prepare(request, identity)?;
    let inodes = inodes.to_string();
    let mount = holder.make(new, key, &["-N", &inodes])?;
    let filled =
        top_of(&mount).map_err(|cause| holder.cannot_mount(cause)).and_then(|top| work(&top));
    let closed = holder.close(mount).map_err(|cause| {
        // Nobody has believed this vault yet: what fails here is the disk that it is made on.
        Error::environment(format!("cannot write '{}'", request.shown))
            .caused_by(cause)
            .hint("the disk may be full; the vault is as it was")
    });
    filled.and(closed)
}

/// Maps the closed vault and lets `e2fsck` look at it without changing anything; returns whether all is
/// well, and what it said.
pub(super) fn check(
    request: &VaultRequest,
    identity: &Identity,
    key: &[u8],
) -> Result<(bool, String)> {
    let holder = Holder::prepare(request, identity)?;
    let mapping = holder.map(key)?;
    let checked =
        holder.node(&mapping).and_then(|node| tool::run("e2fsck", &["-f", "-n", &node], b""));
    let removed = mapping.remove(&holder.workshop, Removal::Now);
    let outcome = checked?;
    removed.map_err(|cause| Error::environment("cannot close the vault again").caused_by(cause))?;
    let said = [&String::from_utf8_lossy(&outcome.output), outcome.complaint.as_str()];
    let said = said.map(str::trim).join("\n").trim().to_owned();
    match outcome.status {
        0 => Ok((true, said)),
        status if FOUND.contains(&status) => Ok((false, said)),
        _ => Err(tool::said(
            Error::environment(format!("e2fsck cannot check '{}'", request.shown)),
            &outcome,
        )),
    }
}
