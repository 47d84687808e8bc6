//! A real vault image, mounted for the length of a test.

#![allow(dead_code)]

use nix::mount::MsFlags;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use vault_core::crypto::secret::VolumeKey;
use vault_core::crypto::subkeys::Subkeys;
use vault_core::device::{Access, BlockDevice, FileDevice};
use vault_core::fs::{OpenOptions, Setup, Volume};
use vault_core::ids::VaultId;
use vault_core::ports::{SystemClock, SystemEntropy};
use vault_fuse::{Ended, Options, Session, SessionError, StopHandle};

const MIB: u64 = 1 << 20;

/// The unprivileged users that tests act as.
pub(crate) const ALICE: u32 = 65_533;
pub(crate) const BOB: u32 = 65_532;

/// A vault image and the folder it is mounted at.
pub(crate) struct Vault {
    dir: TempDir,
    served: Option<Served>,
    pub(crate) options: Options,
    /// Every trouble that a session told of.
    pub(crate) heard: Arc<Mutex<Vec<String>>>,
}

struct Served {
    stop: StopHandle,
    thread: JoinHandle<Result<Ended, SessionError>>,
}

impl Vault {
    /// Makes and mounts a vault of up to 8 GiB.
    pub(crate) fn new() -> Self {
        Self::with_capacity(8 << 30)
    }

    /// Makes and mounts a vault that can hold `bytes`.
    pub(crate) fn with_capacity(bytes: u64) -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "these tests mount and change users: run them as root"
        );
        own_namespace();
        let dir =
            tempfile::Builder::new().prefix("tazpod-fuse-").tempdir().expect("a scratch folder");
        fs::create_dir(dir.path().join("mnt")).expect("a mount point");
        let mut vault =
            Self { dir, served: None, options: Options::default(), heard: Arc::default() };
        let device = FileDevice::create_new(&vault.image()).expect("a new image");
        Volume::format(&setup(Arc::new(device)), bytes / 4096, (0, 0)).expect("an empty vault");
        vault.mount();
        // Other users must get through to the root folder.
        set_mode(vault.dir.path(), 0o755);
        set_mode(&vault.root(), 0o777);
        vault
    }

    /// Returns the mount point.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }

    /// Returns a path in the vault.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    /// Returns the image's path.
    pub(crate) fn image(&self) -> PathBuf {
        self.dir.path().join("vault.img")
    }

    /// Returns a folder outside the vault, on the host's file system.
    pub(crate) fn outside(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir_all(&path).expect("a folder outside");
        path
    }

    /// Opens the image as a volume, without a mount.
    pub(crate) fn volume(&self) -> Arc<Volume> {
        assert!(self.served.is_none(), "it is mounted");
        let options = OpenOptions { read_only: self.options.read_only, ..OpenOptions::default() };
        let device = open_image(&self.image());
        Arc::new(Volume::open(&setup(Arc::new(device)), &options).expect("the vault opens").0)
    }

    /// Mounts the vault again after [`Vault::unmount`].
    pub(crate) fn mount(&mut self) {
        self.serve(self.volume());
    }

    /// Mounts over a device that stands between the vault and its image.
    pub(crate) fn mount_over(&mut self, wrap: impl FnOnce(FileDevice) -> Arc<dyn BlockDevice>) {
        let setup = setup(wrap(open_image(&self.image())));
        let (volume, _) = Volume::open(&setup, &OpenOptions::default()).expect("the vault opens");
        self.serve(Arc::new(volume));
    }

    fn serve(&mut self, volume: Arc<Volume>) {
        let session = Session::mount(volume, &self.root(), &self.options).expect("it mounts");
        let heard = Arc::clone(&self.heard);
        session.on_trouble(Box::new(move |trouble| {
            heard.lock().expect("no panic").push(format!("{trouble:?}"));
        }));
        let stop = session.stop_handle();
        self.served = Some(Served { stop, thread: thread::spawn(move || session.run()) });
    }

    /// Ends the session as a signal would and returns how it ended.
    pub(crate) fn unmount(&mut self) -> Result<Ended, SessionError> {
        let served = self.served.take().expect("it is mounted");
        served.stop.stop();
        served.thread.join().expect("no panic")
    }

    /// Waits for a session that something else ends.
    pub(crate) fn wait(&mut self) -> Result<Ended, SessionError> {
        self.served.take().expect("it is mounted").thread.join().expect("no panic")
    }

    /// Waits until a server that was left behind lets go of the image.
    pub(crate) fn wait_until_free(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while FileDevice::open(&self.image(), Access::ReadWrite).is_err() {
            assert!(Instant::now() < deadline, "the image stays held");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Unmounts and mounts again, with an empty cache.
    pub(crate) fn remount(&mut self) {
        assert_eq!(self.unmount().expect("a clean end"), Ended::Unmounted);
        self.mount();
    }
}

impl Drop for Vault {
    fn drop(&mut self) {
        if self.served.is_some() {
            let ended = self.unmount();
            if !thread::panicking() {
                assert_eq!(ended.expect("a clean end"), Ended::Unmounted);
            }
        }
    }
}

/// Gives this thread, and what it starts, a mount namespace of its own: a test that dies leaves no mount behind, and
/// namespaces that others make meanwhile hold no copy of ours.
fn own_namespace() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).expect("a mount namespace");
    let (none, flags) = (None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE);
    nix::mount::mount(none, "/", none, flags, none).expect("private mounts");
}

/// Opens a copy of a vault's image.
pub(crate) fn open_copy(path: &Path) -> Volume {
    Volume::open(&setup(Arc::new(open_image(path))), &OpenOptions::default())
        .expect("the copy opens")
        .0
}

fn open_image(path: &Path) -> FileDevice {
    FileDevice::open(path, Access::ReadWrite).expect("the image opens")
}

/// A vault without a header: the keys are the same every time.
fn setup(device: Arc<dyn BlockDevice>) -> Setup {
    let id = VaultId([7; 16]);
    let key = VolumeKey::init(|bytes| bytes.fill(9));
    Setup {
        device,
        keys: Arc::new(Subkeys::derive(&key, id)),
        vault: id,
        block_shift: 14,
        header_sequence: 1,
        entropy: Arc::new(SystemEntropy),
        clock: Arc::new(SystemClock),
    }
}

/// Sets permission bits.
pub(crate) fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}

/// Runs `act` with the file-system identity of another user, whose only group has the same number.
pub(crate) fn as_user<T: Send>(user: u32, act: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        // The identity is the thread's own and ends with it.
        let thread = scope.spawn(|| {
            nix::unistd::setfsgid(user.into());
            nix::unistd::setfsuid(user.into());
            act()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Runs a shell script in a folder and returns what it prints; it must succeed.
pub(crate) fn shell(folder: &Path, script: &str) -> String {
    run(Command::new("sh").args(["-euc", script]).current_dir(folder))
}

/// Runs a Python script in a folder; it must succeed.
pub(crate) fn python(folder: &Path, script: &str) -> String {
    run(Command::new("python3").args(["-c", script]).current_dir(folder))
}

fn run(command: &mut Command) -> String {
    let output = command.output().expect("the program is installed");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
    out
}

/// Asserts that a call failed with one errno.
#[track_caller]
pub(crate) fn assert_errno<T: std::fmt::Debug>(result: io::Result<T>, errno: nix::errno::Errno) {
    match result {
        Err(error) => assert_eq!(error.raw_os_error(), Some(errno as i32), "{error}"),
        Ok(value) => panic!("{value:?} instead of {errno}"),
    }
}

/// Bytes that look random and are the same every time.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Bytes in a mebibyte.
pub(crate) fn mib(count: u64) -> u64 {
    count * MIB
}
