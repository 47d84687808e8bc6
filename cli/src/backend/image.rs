//! TazPod's own image, served by FUSE from a sandboxed process inside the ghost.
//!
//! Steps 8 and 9 of GHOST.md. The server opens and locks the image as the caller, gives up every
//! right that it will not need, and only then looks at what the image holds.

use super::{Backend, Opening, Served};
use crate::error::{Error, Kind, Result};
use crate::ghost::link::{Link, Received};
use crate::ghost::privilege;
use crate::ghost::protocol::{CredentialKind, FromServer, NewVault, Raw, ToServer, VaultRequest};
use crate::ghost::sandbox::{self, Landlock};
use crate::ghost::server::credential;
use crate::image::create::{beside, put_in_place};
use crate::image::explain::{cannot_make, mount_error, open_error, vault_error};
use crate::image::volume::setup;
use crate::machine;
use crate::sys::identity::{Bounding, Identity, become_for_good};
use crate::sys::memory::LockedKdfMemory;
use crate::sys::{mount, process, signals};
use crate::witness_store::{WitnessStore, decode};
use nix::sys::signal::Signal;
use parking_lot::Mutex;
use rustix::mount::MountFlags;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use vault_core::device::{Access, BlockDevice, FileDevice, OpenError};
use vault_core::fs::{OpenOptions, Opened, Volume};
use vault_core::ids::{Generation, SlotIndex, UNIT_U64};
use vault_core::keyslot::{Credential, KdfCost, KdfLimits, NewSlot, SlotLabel, SlotPorts};
use vault_core::ports::{SystemClock, SystemEntropy};
use vault_core::vault::{Locked, UnlockOptions, Unlocked, Vault};
use vault_fuse::{Options, Session, Trouble};

/// Bytes of the largest single read or write, as vault-fuse serves them.
const LARGEST_REQUEST: u32 = 1 << 20;

/// Binary logarithm of the size of a block of file data in a new vault.
const BLOCK_SHIFT: u8 = 14;

/// The exit status of a server that said why it ended.
const SAID: i32 = 1;

/// A vault in an image of TazPod's own format.
pub(crate) struct ImageBackend {
    request: VaultRequest,
    state: Raw,
}

impl ImageBackend {
    /// Makes the backend of the vault that is asked for.
    pub(crate) fn new(request: &VaultRequest, state_folder: &Path) -> Self {
        Self { request: request.clone(), state: state_folder.into() }
    }
}

impl Backend for ImageBackend {
    fn opening(&self) -> Opening<'_> {
        Opening::Served(self)
    }

    /// Nothing is open outside of the ghost's processes but the image, and that ended with them.
    fn close(&self) -> Result<()> {
        Ok(())
    }

    /// The lock on the image ends with the last process that had it open.
    fn verify_closed(&self) -> Result<()> {
        match FileDevice::open(self.request.image.path(), Access::ReadOnly) {
            Err(error @ OpenError::InUse { .. }) => Err(Error::environment(format!(
                "'{}' is still in use after the ghost has ended",
                self.request.shown
            ))
            .caused_by(error)),
            // Whatever else is wrong with it, nobody holds it.
            _ => Ok(()),
        }
    }
}

impl Served for ImageBackend {
    fn mount(&self, target: &OwnedFd) -> Result<OwnedFd> {
        let device = File::options().read(true).write(true).open("/dev/fuse").map_err(|cause| {
            Error::environment("cannot open /dev/fuse")
                .caused_by(cause)
                .hint("load the fuse module; a container needs '--device /dev/fuse'")
                .hint("where only root may open it, '--rootless' cannot work")
        })?;
        let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
        let options = format!(
            "fd={},rootmode=40000,user_id={uid},group_id={gid},default_permissions,allow_other,\
             max_read={LARGEST_REQUEST}",
            device.as_raw_fd()
        );
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        mount::mount_new("fuse.tazpod", "tazpod", target, flags, &options).map_err(|cause| {
            Error::environment("cannot mount the vault").caused_by(cause).hint(
                "the kernel may refuse FUSE in user namespaces; Linux 4.18 and later allow it",
            )
        })?;
        Ok(device.into())
    }

    /// The kernel's defaults for FUSE are cautious: 128 KiB of readahead, 1 % of memory to write back.
    fn tune(&self, device: &str) {
        let folder = Path::new("/sys/class/bdi").join(device);
        for (name, value) in [("read_ahead_kb", "1024"), ("max_ratio", "40")] {
            // What is not permitted costs speed and nothing else.
            let _ = std::fs::write(folder.join(name), value);
        }
    }

    fn serve(&self, kernel: OwnedFd, supervisor: Link, identity: &Identity) -> i32 {
        let server = match Server::prepare(self, &kernel, supervisor, identity) {
            Ok(server) => server,
            Err(failed) => {
                let (error, link) = *failed;
                let _ = link.send(&FromServer::Failed(error.into()), &[]);
                return SAID;
            }
        };
        server.serve(kernel)
    }
}

/// What the server has before it looks at the vault.
struct Server<'a> {
    request: &'a VaultRequest,
    identity: &'a Identity,
    device: Arc<dyn BlockDevice>,
    remembered: Option<Vec<u8>>,
    memory_kib: u32,
    weaknesses: Vec<String>,
    link: Link,
    voice: Link,
}

impl<'a> Server<'a> {
    /// Gives up root, opens what will be needed, and gives up the rest.
    fn prepare(
        backend: &'a ImageBackend,
        kernel: &OwnedFd,
        link: Link,
        identity: &'a Identity,
    ) -> std::result::Result<Self, Box<(Error, Link)>> {
        let request = &backend.request;
        let prepared = confine(&link, kernel, identity).and_then(|()| {
            let failed =
                |cause: io::Error| Error::environment("cannot start the server").caused_by(cause);
            let device = open_image(request)?;
            let remembered = remembered(request, &device, backend.state.path())?;
            let voice = link.second().map_err(failed)?;
            let memory_kib = machine::available_kib();
            Ok((device, remembered, voice, memory_kib))
        });
        let (device, remembered, voice, memory_kib) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return Err(Box::new((error, link))),
        };
        let mut weaknesses = Vec::new();
        match sandbox::enter() {
            Ok(report) => weaknesses.extend(weakness(report.landlock)),
            Err(cause) => {
                let error =
                    Error::environment("cannot confine the vault's server").caused_by(cause);
                return Err(Box::new((error, link)));
            }
        }
        Ok(Self { request, identity, device, remembered, memory_kib, weaknesses, link, voice })
    }

    fn serve(mut self, kernel: OwnedFd) -> i32 {
        match self.open() {
            Ok(Some((volume, opened))) => self.run(kernel, &volume, &opened),
            // The supervisor is gone or gives up.
            Ok(None) => 0,
            Err(error) => self.say_failed(error),
        }
    }

    fn say_failed(&self, error: Error) -> i32 {
        let _ = self.link.send(&FromServer::Failed(error.into()), &[]);
        SAID
    }

    /// Waits for a credential that opens the vault, or makes it with the first one.
    fn open(&mut self) -> Result<Option<(Arc<Volume>, OpenVault)>> {
        let locked = match self.request.create {
            Some(_) => None,
            None => Some(self.locked()?),
        };
        let vault = locked.as_ref().map(|vault| vault.id().to_string());
        self.tell(&FromServer::Waiting { vault })?;
        loop {
            let Some(secret) = self.next_secret()? else { return Ok(None) };
            let presented = credential(self.request.credential, &secret);
            let outcome = presented.and_then(|presented| match (&self.request.create, &locked) {
                (None, Some(locked)) => self.unlock(locked, &presented),
                (Some(new), _) => self.create(new, &presented),
                (None, None) => Err(Error::internal("no vault to open")),
            });
            match outcome {
                Ok(unlocked) => return self.volume(unlocked).map(Some),
                Err(error) if error.kind() == Kind::WrongPassphrase => {
                    self.tell(&FromServer::Refused(error.into()))?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn tell(&self, message: &FromServer) -> Result<()> {
        let gone = |cause: io::Error| Error::internal("the supervisor is gone").caused_by(cause);
        self.link.send(message, &[]).map_err(gone)
    }

    fn next_secret(&mut self) -> Result<Option<zeroize::Zeroizing<Vec<u8>>>> {
        loop {
            match self.link.receive::<ToServer>() {
                Ok(Received::Message(ToServer::Open {}, _)) => {}
                Ok(Received::Secret(secret)) => return Ok(Some(secret)),
                Ok(Received::Message(ToServer::Prove { .. }, _)) => {
                    return Err(Error::internal("nothing is open that could be joined"));
                }
                Ok(Received::End | Received::Message(ToServer::Close {}, _)) | Err(_) => {
                    return Ok(None);
                }
            }
        }
    }

    fn locked(&self) -> Result<Vault<Locked>> {
        Vault::open(Arc::clone(&self.device))
            .map_err(|error| vault_error(error, &self.request.shown))
    }

    fn limits(&self) -> KdfLimits {
        KdfLimits {
            allow_cheap: false,
            allow_costly: self.request.allow_kdf_cost,
            max_memory_kib: self.memory_kib,
        }
    }

    fn unlock(&self, vault: &Vault<Locked>, presented: &Credential) -> Result<Vault<Unlocked>> {
        let options =
            UnlockOptions { slot: self.request.slot.map(SlotIndex), limits: self.limits() };
        vault
            .unlock(presented, &options, &mut LockedKdfMemory)
            .map_err(|error| vault_error(error, &self.request.shown))
    }

    fn create(&self, new: &NewVault, presented: &Credential) -> Result<Vault<Unlocked>> {
        let shown = &self.request.shown;
        let explain = |error| vault_error(error, shown);
        let cost = KdfCost {
            memory_kib: new.kdf_memory_kib,
            passes: new.kdf_passes,
            ..KdfCost::default()
        };
        // Whoever names a cost means it.
        let limits = KdfLimits { allow_costly: true, ..self.limits() };
        let slot = NewSlot { credential: presented, cost, limits, label: SlotLabel::default() };
        let mut ports = SlotPorts {
            entropy: &SystemEntropy,
            clock: &SystemClock,
            memory: &mut LockedKdfMemory,
        };
        let device = Arc::clone(&self.device);
        let mut vault =
            Vault::create_header(device, BLOCK_SHIFT, &slot, &mut ports).map_err(explain)?;
        let owner = (self.identity.uid.as_raw(), self.identity.gid.as_raw());
        Volume::format(&setup(&vault), new.capacity / UNIT_U64, owner)
            .map_err(|error| mount_error(error, shown))?;
        vault.mend_copies().map_err(explain)?;
        Ok(vault)
    }

    /// Opens the newest sound state; the volume key is wiped, the subkeys go on.
    fn volume(&self, mut vault: Vault<Unlocked>) -> Result<(Arc<Volume>, OpenVault)> {
        let shown = &self.request.shown;
        let witness = match &self.remembered {
            Some(bytes) => Some(decode(bytes, vault.id(), vault.subkeys())?),
            None => None,
        };
        let options = OpenOptions {
            read_only: false,
            witness,
            accept_generation: self.request.accept_generation.map(Generation),
            keep_free_space: !self.request.discard,
        };
        let (volume, opened) =
            Volume::open(&setup(&vault), &options).map_err(|error| mount_error(error, shown))?;
        // What an interrupted change of keyslots left.
        vault.mend_copies().map_err(|error| vault_error(error, shown))?;
        let keys = Arc::clone(vault.subkeys());
        let id = vault.id().to_string();
        Ok((Arc::new(volume), OpenVault { id, opened, keys }))
    }

    /// Serves until the vault is unmounted.
    fn run(self, kernel: OwnedFd, volume: &Arc<Volume>, opening: &OpenVault) -> i32 {
        let options = Options { in_user_namespace: true, ..Options::default() };
        let session = match Session::from_fd(Arc::clone(volume), kernel, &options) {
            Ok(session) => session,
            Err(cause) => {
                return self
                    .say_failed(Error::environment("cannot serve the vault").caused_by(cause));
            }
        };
        let Self { request, device, memory_kib, weaknesses, link, voice, .. } = self;
        let voice = Arc::new(Mutex::new(voice));
        let say = |message: &FromServer| voice.lock().send(message, &[]).is_ok();
        let (listener, keys) = (Arc::clone(&voice), Arc::clone(&opening.keys));
        volume.on_anchor(Box::new(move |newest| {
            // A supervisor that is gone takes us with it.
            let _ = listener.lock().send(&FromServer::Witness(newest.encode(&keys)), &[]);
        }));
        let troubled = Arc::clone(&voice);
        session.on_trouble(Box::new(move |trouble| {
            let _ = troubled.lock().send(&told(&trouble), &[]);
        }));
        say(&FromServer::Witness(volume.anchor().encode(&opening.keys)));
        let notices = opening.notices(request.create.is_some());
        if !say(&FromServer::Opened { vault: opening.id.clone(), notices, weaknesses }) {
            return SAID;
        }
        let prover = Prover {
            device,
            memory_kib,
            allow_costly: request.allow_kdf_cost,
            link,
            voice: Arc::clone(&voice),
        };
        if std::thread::Builder::new().name("prover".into()).spawn(move || prover.run()).is_err() {
            return SAID;
        }
        let ended = session.run().map_err(|cause| {
            Error::new(Kind::Damage, "the vault could not be closed in order").caused_by(cause)
        });
        let closed = ended.and_then(|_| {
            volume.close().map_err(|cause| {
                Error::environment("the vault's last commit failed").caused_by(cause)
            })
        });
        match closed {
            Ok(()) => i32::from(!say(&FromServer::Closed)),
            Err(error) => {
                say(&FromServer::Failed(error.into()));
                SAID
            }
        }
    }
}

/// An open vault, as far as the supervisor hears of it.
struct OpenVault {
    id: String,
    opened: Opened,
    keys: Arc<vault_core::crypto::subkeys::Subkeys>,
}

impl OpenVault {
    fn notices(&self, is_new: bool) -> Vec<String> {
        let mut notices = Vec::new();
        if let Some(torn) = self.opened.stepped_back {
            notices.push(format!(
                "Commit {torn} was torn by an interruption and left out; the vault is at {}.",
                self.opened.generation
            ));
        }
        if !self.opened.witnessed && !is_new {
            notices.push(
                "This machine sees this vault for the first time: whether it is the newest state \
                 cannot be told."
                    .to_owned(),
            );
        }
        notices
    }
}

/// Tries the secrets of those who want to join, one after the other.
struct Prover {
    device: Arc<dyn BlockDevice>,
    memory_kib: u32,
    allow_costly: bool,
    link: Link,
    voice: Arc<Mutex<Link>>,
}

impl Prover {
    fn run(mut self) {
        let mut question = None;
        loop {
            match self.link.receive::<ToServer>() {
                Ok(Received::Message(ToServer::Prove { credential, slot }, _)) => {
                    question = Some((credential, slot));
                }
                Ok(Received::Secret(secret)) => {
                    let proved =
                        question.take().is_some_and(|(kind, slot)| self.opens(kind, slot, &secret));
                    if self.voice.lock().send(&FromServer::Proved(proved), &[]).is_err() {
                        return;
                    }
                }
                _ => return,
            }
        }
    }

    fn opens(&self, kind: CredentialKind, slot: Option<u8>, secret: &[u8]) -> bool {
        let Ok(presented) = credential(kind, secret) else { return false };
        let Ok(vault) = Vault::open(Arc::clone(&self.device)) else { return false };
        let limits = KdfLimits {
            allow_cheap: false,
            allow_costly: self.allow_costly,
            max_memory_kib: self.memory_kib,
        };
        let options = UnlockOptions { slot: slot.map(SlotIndex), limits };
        vault.unlock(&presented, &options, &mut LockedKdfMemory).is_ok()
    }
}

/// Becomes the caller for good and keeps only what the server needs.
fn confine(link: &Link, kernel: &OwnedFd, identity: &Identity) -> Result<()> {
    let failed = |cause: io::Error| Error::environment("cannot start the server").caused_by(cause);
    process::close_all_except(&[link.as_fd(), kernel.as_fd()]).map_err(failed)?;
    let nothing = File::options().read(true).write(true).open("/dev/null").map_err(failed)?;
    let streams = [nothing.as_fd(), nothing.as_fd(), nothing.as_fd()];
    process::set_streams(streams).map_err(failed)?;
    drop(nothing);
    // Signals that end the ghost's programs are not the server's: it ends when it is unmounted.
    for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM, Signal::SIGPIPE] {
        signals::ignore(signal).map_err(failed)?;
    }
    become_for_good(identity, Bounding::Empty).map_err(failed)?;
    privilege::harden_again(Signal::SIGKILL).map_err(failed)
}

fn open_image(request: &VaultRequest) -> Result<Arc<dyn BlockDevice>> {
    let (path, shown) = (request.image.path(), &request.shown);
    if request.create.is_none() {
        let device =
            FileDevice::open(path, Access::ReadWrite).map_err(|error| open_error(error, shown))?;
        return Ok(Arc::new(device));
    }
    let fresh = beside(path);
    // What an interrupted attempt left. The ghost's lock says that no other attempt is under way.
    let _ = std::fs::remove_file(&fresh);
    let device = FileDevice::create_new(&fresh).map_err(|error| match error {
        OpenError::NotFound => cannot_make(io::ErrorKind::NotFound.into(), shown),
        OpenError::Io(cause) => cannot_make(cause, shown),
        error => open_error(error, shown),
    })?;
    Ok(Arc::new(device))
}

/// Reads what this machine remembers of the vault, while files can still be opened. It is judged
/// when the keys are there.
fn remembered(
    request: &VaultRequest,
    device: &Arc<dyn BlockDevice>,
    state: &Path,
) -> Result<Option<Vec<u8>>> {
    if request.create.is_some() {
        return Ok(None);
    }
    let vault =
        Vault::open(Arc::clone(device)).map_err(|error| vault_error(error, &request.shown))?;
    // Without a folder nothing is remembered; the supervisor says that nothing will be.
    let Ok(store) = WitnessStore::open(state) else { return Ok(None) };
    match store.bytes(vault.id()) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        // It is judged later, and an empty one is none that verifies.
        Err(_) => Ok(Some(Vec::new())),
    }
}

/// Says what programs only see as an errno.
fn told(trouble: &Trouble<'_>) -> FromServer {
    let (what, hint) = match trouble {
        Trouble::Failed(error) => {
            let cause = std::error::Error::source(error);
            let cause = cause.map_or_else(String::new, |cause| format!(": {cause}"));
            (
                format!("the vault failed: {error}{cause}"),
                "what was saved before is safe; end the ghost, then 'tazpod vault check' tells more",
            )
        }
        _ => (
            "the vault's server met a bug and stops".to_owned(),
            "the vault opens again as its last commit left it",
        ),
    };
    FromServer::Trouble(what, hint.to_owned())
}

fn weakness(landlock: Landlock) -> Option<String> {
    match landlock {
        Landlock::Full => None,
        Landlock::Partial => Some(
            "This kernel's Landlock is an older one: the server is confined to files, not in \
             signals and sockets."
                .to_owned(),
        ),
        Landlock::Missing => Some(
            "This kernel has no Landlock: the vault's server is confined by seccomp alone."
                .to_owned(),
        ),
    }
}

/// Gives a new image its name. Called by the supervisor with the caller's rights, once the server
/// has made all of it.
pub(crate) fn place_new(image: &Path) -> io::Result<()> {
    put_in_place(&beside(image), image)
}

/// Removes what an attempt to make an image left.
pub(crate) fn drop_new(image: &Path) -> io::Result<()> {
    match std::fs::remove_file(beside(image)) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(cause),
        _ => Ok(()),
    }
}
