//! A machine in miniature for tests that need root: a private copy of the places that a ghost touches.
//!
//! A stage is a mount namespace of one thread. In it `/etc/passwd` knows two throwaway users, `/run`, `/srv` and sudo's
//! state are empty and in memory, `/dev/fuse` is open to all as udev leaves it, and every mount is *shared*, as systemd
//! leaves them. Nothing of that reaches the machine outside, and all of it is gone with the last process of the stage.

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// One of the throwaway users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// As in `/etc/passwd`.
    pub name: &'static str,
    /// Its uid, and its gid too.
    pub id: u32,
}

/// Whose vault it is.
pub const OWNER: User = User { name: "tzowner", id: 64_101 };
/// Somebody else on the same machine.
pub const STRANGER: User = User { name: "tzstranger", id: 64_102 };
/// The superuser.
pub const ROOT: User = User { name: "root", id: 0 };

/// The stage that the calling thread, and what it starts, lives on.
pub struct Stage {
    bin: PathBuf,
}

impl Stage {
    /// Runs `play` on a fresh stage, in a thread of its own so that the caller keeps its namespace.
    ///
    /// `programs` are copied to where every user of the stage may run them.
    ///
    /// # Panics
    /// Without root, and when `play` does.
    pub fn run<T: Send>(programs: &[&Path], play: impl FnOnce(&Self) -> T + Send) -> T {
        assert!(
            nix::unistd::Uid::effective().is_root(),
            "this test needs root: run it by tests/run"
        );
        let outcome = std::thread::scope(|scope| {
            scope.spawn(|| play(&Self::raise(programs).expect("a stage can be set"))).join()
        });
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn raise(programs: &[&Path]) -> std::io::Result<Self> {
        unshare(CloneFlags::CLONE_NEWNS)?;
        propagate(MsFlags::MS_PRIVATE)?;
        for place in ["/srv", "/run", "/var/lib/sudo"] {
            fs::create_dir_all(place)?;
            memory(Path::new(place))?;
        }
        let bin = PathBuf::from("/srv/bin");
        fs::create_dir_all(&bin)?;
        for program in programs {
            fs::copy(program, bin.join(program.file_name().unwrap_or_default()))?;
        }
        accounts(Path::new("/srv/etc"))?;
        fuse_device(Path::new("/srv/dev"))?;
        for user in [OWNER, STRANGER, ROOT] {
            fs::create_dir_all(user.home().join("secrets"))?;
            fs::create_dir_all(user.project())?;
            for path in [user.home(), user.home().join("secrets"), user.project()] {
                chown(&path, Some(user.id), Some(user.id))?;
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
            }
        }
        propagate(MsFlags::MS_SHARED)?;
        Ok(Self { bin })
    }

    /// The copy of a program that every user may run.
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// A command run as `user` from that user's project folder, without sudo and without root's environment.
    pub fn command(&self, user: User, program: impl AsRef<Path>) -> Command {
        let program = program.as_ref();
        let mut command = Command::new(program);
        command.current_dir(user.project()).uid(user.id).gid(user.id);
        command.env_clear().envs(user.environment(&self.bin));
        command
    }

    /// Lets `user` run, by sudo and without a password, what `rule` says: a command, or ALL.
    ///
    /// # Panics
    /// When the rule cannot be written.
    pub fn allow_sudo(&self, user: User, rule: &str) {
        let path = Path::new("/etc/sudoers.d/tazpod-tests");
        fs::write(path, format!("{} ALL=(root) NOPASSWD: {rule}\n", user.name))
            .expect("the stage's sudoers");
        fs::set_permissions(path, fs::Permissions::from_mode(0o440)).expect("the stage's sudoers");
    }
}

impl User {
    /// The home folder on the stage.
    pub fn home(self) -> PathBuf {
        PathBuf::from("/srv/home").join(self.name)
    }

    /// A folder to run `tazpod` in.
    pub fn project(self) -> PathBuf {
        self.home().join("project")
    }

    /// The mount point of this user's vault.
    pub fn secrets(self) -> PathBuf {
        self.home().join("secrets")
    }

    /// The variables of a login, with the programs in `bin` found first.
    pub fn environment(self, bin: &Path) -> Vec<(&'static str, String)> {
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", bin.display());
        vec![
            ("PATH", path),
            ("HOME", self.home().display().to_string()),
            ("USER", self.name.to_owned()),
            ("LOGNAME", self.name.to_owned()),
            ("SHELL", "/bin/bash".to_owned()),
            ("TERM", "dumb".to_owned()),
            ("LANG", "C.UTF-8".to_owned()),
        ]
    }
}

fn propagate(kind: MsFlags) -> nix::Result<()> {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | kind, None::<&str>)
}

fn memory(place: &Path) -> nix::Result<()> {
    mount(Some("stage"), place, Some("tmpfs"), MsFlags::empty(), Some("mode=0755"))
}

fn bind(from: &Path, to: &Path) -> nix::Result<()> {
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>)
}

/// Copies of the account files with two more users, and an empty folder for sudo's rules.
fn accounts(dir: &Path) -> std::io::Result<()> {
    fs::create_dir_all(dir.join("sudoers.d"))?;
    for name in ["passwd", "group", "shadow"] {
        let original = Path::new("/etc").join(name);
        let mut text = fs::read_to_string(&original)?;
        if name == "passwd" {
            // Root's home is on the stage as well, so that no test can touch the real one.
            text = text.replace(":/root:", &format!(":{}:", ROOT.home().display()));
        }
        for user in [OWNER, STRANGER] {
            let (User { name: user_name, id }, home) = (user, user.home());
            let line = match name {
                "passwd" => format!("{user_name}:x:{id}:{id}::{}:/bin/bash\n", home.display()),
                "group" => format!("{user_name}:x:{id}:\n"),
                _ => format!("{user_name}:*:19000:0:99999:7:::\n"),
            };
            text += &line;
        }
        fs::write(dir.join(name), text)?;
        fs::set_permissions(dir.join(name), fs::metadata(&original)?.permissions())?;
        bind(&dir.join(name), &original)?;
    }
    Ok(bind(&dir.join("sudoers.d"), Path::new("/etc/sudoers.d"))?)
}

/// The same device with the mode that udev gives it.
fn fuse_device(dir: &Path) -> std::io::Result<()> {
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    fs::create_dir_all(dir)?;
    let device = dir.join("fuse");
    mknod(&device, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(10, 229))?;
    fs::set_permissions(&device, fs::Permissions::from_mode(0o666))?;
    Ok(bind(&device, Path::new("/dev/fuse"))?)
}

/// Waits until `ready` holds, for at most `seconds`; says whether it did.
pub fn within(seconds: u64, mut ready: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        if ready() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    ready()
}

/// Puts a symbolic link in place of an empty folder.
///
/// # Errors
/// When the folder is busy or not empty.
pub fn replace_by_link(folder: &Path, target: &Path) -> std::io::Result<()> {
    fs::remove_dir(folder)?;
    symlink(target, folder)
}
