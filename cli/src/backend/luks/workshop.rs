//! A mount namespace with a `/dev` of its own, in which devices are made and used unseen.
//!
//! Containers lack the nodes of devices that were made after they were started; those that are made
//! here have the numbers that sysfs says. On a machine with udev nothing of what happens here has a
//! name in the folder that udev fills.

use crate::error::{Error, Result};
use crate::ghost::link::{Link, Received};
use crate::ghost::protocol::Failure;
use crate::sys::{block, folder, mount, process, signals};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid, getppid};
use rustix::fs::FileType;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Character devices that programs expect, with the numbers that Linux gave them for ever.
const EXPECTED: [(&str, (u32, u32)); 5] =
    [("null", (1, 3)), ("zero", (1, 5)), ("full", (1, 7)), ("random", (1, 8)), ("urandom", (1, 9))];

/// Milliseconds between two looks at whether anybody waits for work still.
const GLANCE: u16 = 100;

/// The number of `/dev/loop-control`, fixed like those above.
const LOOP_CONTROL: (u32, u32) = (10, 237);

/// This process's own `/dev`.
pub(super) struct Workshop {
    dev: OwnedFd,
}

impl Workshop {
    /// Leaves the namespace that this process shares with others.
    pub(super) fn enter() -> Result<Self> {
        let dev = furnish().map_err(|cause| {
            Error::environment("cannot prepare a place for the vault's devices")
                .caused_by(cause)
                .hint("luks needs root and a privileged container; '--backend fuse' does not")
        })?;
        Ok(Self { dev })
    }

    /// Opens the device mapper's control, loading the module where it is missing.
    pub(super) fn mapper_control(&self) -> io::Result<File> {
        let number = misc_number("device-mapper").or_else(|| {
            load("dm-mod");
            misc_number("device-mapper")
        });
        let minor = number.ok_or_else(|| {
            io::Error::new(io::ErrorKind::Unsupported, "this kernel has no device mapper")
        })?;
        folder::make(&self.dev, "mapper", 0o700)?;
        let mapper = folder::open_below(&self.dev, Path::new("mapper"))?;
        block::make_node(&mapper, "control", FileType::CharacterDevice, (10, minor))?;
        // The target is a module of its own, which the kernel loads by itself where it can.
        File::options().read(true).write(true).open("/dev/mapper/control")
    }

    /// Opens the control of loop devices.
    pub(super) fn loop_control(&self) -> io::Result<File> {
        if misc_number("loop-control").is_none() {
            load("loop");
        }
        block::make_node(&self.dev, "loop-control", FileType::CharacterDevice, LOOP_CONTROL)?;
        File::options().read(true).write(true).open("/dev/loop-control")
    }

    /// Returns the node of a block device, by the numbers in sysfs. It is made anew where a node with
    /// other numbers stands in its place.
    pub(super) fn block_node(&self, name: &str) -> io::Result<PathBuf> {
        let numbers = std::fs::read_to_string(format!("/sys/class/block/{name}/dev"))?;
        let numbers = parse_numbers(&numbers)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "sysfs names no device"))?;
        folder::remove_file(&self.dev, name)?;
        block::make_node(&self.dev, name, FileType::BlockDevice, numbers)?;
        Ok(Path::new("/dev").join(name))
    }
}

/// Runs `work` in a process of its own, and returns what it returned.
pub(super) fn apart<T: Serialize + DeserializeOwned>(
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    Apart::begin(work)?.end()
}

/// Work that goes on in a process of its own, which dies with this one.
pub(super) struct Apart<T> {
    link: Link,
    pid: Pid,
    answer: std::marker::PhantomData<T>,
}

impl<T: Serialize + DeserializeOwned> Apart<T> {
    /// Begins the work. This process has one thread until then.
    pub(super) fn begin(work: impl FnOnce() -> Result<T>) -> Result<Self> {
        let (link, theirs) = Link::pair().map_err(cannot_work)?;
        let parent = getpid();
        let pid = process::fork(|| {
            let answer: std::result::Result<T, Failure> = process::die_with(parent)
                .map_err(cannot_work)
                .and_then(|()| work())
                .map_err(Failure::from);
            i32::from(theirs.send(&answer, &[]).is_err())
        })
        .map_err(cannot_work)?;
        Ok(Self { link, pid, answer: std::marker::PhantomData })
    }

    /// Waits for its end.
    pub(super) fn end(mut self) -> Result<T> {
        let answer = self.link.receive::<std::result::Result<T, Failure>>();
        process::wait(self.pid).map_err(cannot_work)?;
        match answer {
            Ok(Received::Message(answer, _)) => answer.map_err(Error::from),
            _ => Err(cannot_work(io::Error::other("the process that did it ended early"))),
        }
    }
}

impl<T: Serialize + DeserializeOwned> Apart<T> {
    /// The same with a guardian between this process and the work. It outlives this one, whatever that ends
    /// by, and ends the work then: a device must not stay that was half made. `tidy` is called when the work
    /// has failed, and told whether nobody waits any more.
    pub(super) fn guarded(
        work: impl FnOnce() -> Result<T>,
        tidy: impl FnOnce(bool),
    ) -> Result<Self> {
        let waiting = getpid();
        let (link, theirs) = Link::pair().map_err(cannot_work)?;
        let pid = process::fork(|| match guard(waiting, work, tidy) {
            Some(answer) => i32::from(theirs.send(&answer, &[]).is_err()),
            None => 1,
        })
        .map_err(cannot_work)?;
        Ok(Self { link, pid, answer: std::marker::PhantomData })
    }

    /// Waits for its end for a moment.
    fn has_ended(&self) -> bool {
        let mut link = [PollFd::new(self.link.as_fd(), PollFlags::POLLIN)];
        poll(&mut link, GLANCE).is_ok_and(|ready| ready > 0)
    }

    fn kill(self) {
        let _ = kill(self.pid, Signal::SIGKILL);
        let _ = process::wait(self.pid);
    }
}

fn guard<T: Serialize + DeserializeOwned>(
    waiting: Pid,
    work: impl FnOnce() -> Result<T>,
    tidy: impl FnOnce(bool),
) -> Option<std::result::Result<T, Failure>> {
    for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM, Signal::SIGQUIT] {
        if let Err(cause) = signals::ignore(signal) {
            return Some(Err(cannot_work(cause).into()));
        }
    }
    let work = match Apart::begin(work) {
        Ok(work) => work,
        Err(error) => return Some(Err(error.into())),
    };
    while !work.has_ended() {
        if getppid() != waiting {
            work.kill();
            tidy(true);
            return None;
        }
    }
    let answer = work.end();
    if answer.is_err() {
        tidy(false);
    }
    Some(answer.map_err(Failure::from))
}

fn cannot_work(cause: io::Error) -> Error {
    Error::environment("cannot look after devices").caused_by(cause)
}

fn furnish() -> io::Result<OwnedFd> {
    mount::leave_namespace()?;
    let dev = folder::open(Path::new("/dev"))?;
    let flags = rustix::mount::MountFlags::NOSUID | rustix::mount::MountFlags::NOEXEC;
    mount::mount_new("tmpfs", "tazpod", &dev, flags, "mode=0700,size=1m")?;
    // cryptsetup locks devices below here; ours are nobody else's.
    let run = folder::open(Path::new("/run"))?;
    let run_flags = flags | rustix::mount::MountFlags::NODEV;
    mount::mount_new("tmpfs", "tazpod", &run, run_flags, "mode=0700,size=1m")?;
    std::fs::create_dir("/run/cryptsetup")?;
    let dev = folder::open(Path::new("/dev"))?;
    for (name, numbers) in EXPECTED {
        block::make_node(&dev, name, FileType::CharacterDevice, numbers)?;
    }
    Ok(dev)
}

/// Whether the kernel has a device mapper now. Without one nothing is mapped.
pub(super) fn has_mapper() -> bool {
    misc_number("device-mapper").is_some()
}

/// Returns the minor number of a miscellaneous device that the kernel has now.
pub(super) fn misc_number(name: &str) -> Option<u32> {
    let table = std::fs::read_to_string("/proc/misc").ok()?;
    table.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let number = words.next()?.parse().ok()?;
        (words.next()? == name).then_some(number)
    })
}

/// Asks for a module. Where that is not possible, its absence is seen right after.
fn load(module: &str) {
    for program in ["/usr/sbin/modprobe", "/sbin/modprobe"].map(Path::new) {
        if program.exists() {
            let _ = crate::sys::program::run(program, &["-q", module], &[], b"", None);
            return;
        }
    }
}

fn parse_numbers(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_sysfs_writes_them() {
        assert_eq!(parse_numbers("254:17\n"), Some((254, 17)));
        for text in ["", "254", "254:", ":1", "a:b", "-1:2"] {
            assert_eq!(parse_numbers(text), None, "{text}");
        }
    }
}
