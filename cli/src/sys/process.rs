//! Making processes and hardening them: forks, namespaces, limits, what a process leaves behind.

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The namespaces of a ghost, the user namespace first: it owns the others.
const GHOST_NAMESPACES: libc::c_int =
    libc::CLONE_NEWUSER | libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWIPC;

/// The exit status of a child that panicked.
const PANICKED: i32 = 70;

/// Forks; the child runs `work` and ends with its status without ever returning from here.
///
/// Must be called while the process has one thread, as every process of a ghost has until its last
/// fork.
pub(crate) fn fork(work: impl FnOnce() -> i32) -> io::Result<Pid> {
    // SAFETY: the process has one thread (rule of this module), so the child finds no lock held by
    // a thread that does not exist in it.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => run_child(work),
    }
}

/// Forks into new user, PID, mount and IPC namespaces; the child is process 1 of the second.
pub(crate) fn fork_into_namespaces(work: impl FnOnce() -> i32) -> io::Result<Pid> {
    let flags = libc::c_long::from(GHOST_NAMESPACES | libc::SIGCHLD);
    let none: libc::c_long = 0;
    // SAFETY: clone without CLONE_VM and with a null stack is fork: the child goes on with a copy
    // of everything. As in `fork`, one thread means no lock is lost; nothing here caches the pid.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, none, none, none, none) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => run_child(work),
        pid => Ok(Pid::from_raw(i32::try_from(pid).map_err(|_| Errno::EOVERFLOW)?)),
    }
}

fn run_child(work: impl FnOnce() -> i32) -> ! {
    // A panic must not unwind into the parent's frames: they own files and guards of the parent.
    let status = catch_unwind(AssertUnwindSafe(work)).unwrap_or(PANICKED);
    exit_now(status)
}

/// Ends the process at once, without destructors or exit handlers.
pub(crate) fn exit_now(status: i32) -> ! {
    // SAFETY: _exit has no preconditions and does not return.
    unsafe { libc::_exit(status) }
}

/// Asks the kernel to send `signal` when the parent dies. Any change of credentials undoes it.
pub(crate) fn die_with_parent(signal: Signal) -> io::Result<()> {
    Ok(nix::sys::prctl::set_pdeathsig(signal)?)
}

/// Has a child of `parent` be killed when that dies. It is an error if it has died already: no signal would tell.
pub(crate) fn die_with(parent: Pid) -> io::Result<()> {
    die_with_parent(Signal::SIGKILL)?;
    if nix::unistd::getppid() == parent { Ok(()) } else { Err(Errno::ESRCH.into()) }
}

/// Forbids core dumps, ptrace and `/proc/self` to others. Any change of credentials undoes it.
pub(crate) fn set_not_dumpable() -> io::Result<()> {
    nix::sys::prctl::set_dumpable(false)?;
    if nix::sys::prctl::get_dumpable()? {
        return Err(io::Error::other("the kernel kept the process dumpable"));
    }
    Ok(())
}

/// Sets whether this process and the children it forks from now on may be dumped.
pub(crate) fn set_dumpable(dumpable: bool) -> io::Result<()> {
    Ok(nix::sys::prctl::set_dumpable(dumpable)?)
}

/// Sets the limit of core files to one byte. Zero would still start a piped `core_pattern`.
pub(crate) fn forbid_core_files() -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    // A hard limit of 0, as services often inherit, cannot be raised to 1 without a capability
    // that containers lack; the process being not dumpable covers that case.
    let hard = getrlimit(Resource::Core).maximum.unwrap_or(u64::MAX).min(1);
    Ok(setrlimit(Resource::Core, Rlimit { current: Some(hard), maximum: Some(hard) })?)
}

/// Empties the environment but for a `PATH` of system folders.
pub(crate) fn rebuild_environment() -> io::Result<()> {
    // SAFETY: one thread (rule of this module), so nobody reads the environment meanwhile.
    unsafe {
        nix::env::clearenv().map_err(|_| io::Error::other("cannot clear the environment"))?;
        std::env::set_var("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    }
    Ok(())
}

/// Sets the file mode creation mask.
pub(crate) fn set_umask(mask: u32) {
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(mask));
}

/// Locks what is mapped now and later into memory, as far as the limits of this process allow.
pub(crate) fn lock_memory() -> io::Result<()> {
    use rustix::mm::{MlockAllFlags, mlockall};
    Ok(mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE)?)
}

/// Closes every descriptor above 2 except those in `keep`.
pub(crate) fn close_all_except(keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut keep: Vec<RawFd> = keep.iter().map(AsRawFd::as_raw_fd).filter(|fd| *fd > 2).collect();
    keep.sort_unstable();
    let mut first = 3;
    for fd in keep {
        if fd > first {
            close_range(first, fd - 1)?;
        }
        first = fd + 1;
    }
    close_range(first, RawFd::MAX)
}

fn close_range(first: RawFd, last: RawFd) -> io::Result<()> {
    let (first, last) = (libc::c_long::from(first), libc::c_long::from(last));
    let none: libc::c_long = 0;
    // SAFETY: only called right after a fork or at a program's start. The owners of the closed
    // descriptors are frames that this process never returns to (`run_child` ends it).
    match unsafe { libc::syscall(libc::SYS_close_range, first, last, none) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes descriptors 0, 1 and 2 those of `streams` and leaves them open across `exec`.
pub(crate) fn set_streams(streams: [BorrowedFd<'_>; 3]) -> io::Result<()> {
    // Copies first: a stream may sit on a number that an earlier dup2 overwrites.
    let [stdin, stdout, stderr] = streams.map(copy_above_streams);
    nix::unistd::dup2_stdin(stdin?)?;
    nix::unistd::dup2_stdout(stdout?)?;
    nix::unistd::dup2_stderr(stderr?)?;
    Ok(())
}

/// Copies a descriptor to a number above 2, closed on `exec`.
pub(crate) fn copy_above_streams(fd: impl AsFd) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(fd, 3)?)
}

/// Starts `command` in a session of its own: it has no terminal to ask on, and what it starts can be
/// ended with it.
pub(crate) fn without_terminal(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt as _;
    let detach = || nix::unistd::setsid().map(drop).map_err(io::Error::from);
    // SAFETY: between fork and exec only a system call is made, without memory or locks.
    unsafe { command.pre_exec(detach) };
}

/// Waits for the end of a child until `deadline` without collecting it, so that its number stays
/// its own; false if it still runs.
pub(crate) fn ends_by(child: &std::process::Child, deadline: std::time::Instant) -> bool {
    use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
    let Ok(pid) = i32::try_from(child.id()) else { return false };
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    loop {
        match waitid(Id::Pid(Pid::from_raw(pid)), flags) {
            Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => {}
            _ => return true,
        }
        if std::time::Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// Kills a child that was started by [`without_terminal`] with everything in its group.
pub(crate) fn end_group(child: &std::process::Child) {
    if let Ok(pid) = i32::try_from(child.id()) {
        // Nobody may be left, which is fine.
        let _ = nix::sys::signal::killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

/// How a child ended, as a shell would report it: its status, or 128 plus the signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Which child.
    pub(crate) pid: Pid,
    /// The status, 0 to 255.
    pub(crate) status: u8,
    /// Whether a signal ended it.
    pub(crate) signalled: bool,
}

/// Returns the next ended child without waiting for one; `None` when none has ended.
pub(crate) fn reap() -> io::Result<Option<Ended>> {
    wait_for(None, WaitPidFlag::WNOHANG)
}

/// Waits for the end of one child.
pub(crate) fn wait(pid: Pid) -> io::Result<Ended> {
    loop {
        if let Some(ended) = wait_for(Some(pid), WaitPidFlag::empty())? {
            return Ok(ended);
        }
    }
}

/// Returns how `pid` ended, or `None` while it lives.
pub(crate) fn try_wait(pid: Pid) -> io::Result<Option<Ended>> {
    wait_for(Some(pid), WaitPidFlag::WNOHANG)
}

fn wait_for(pid: Option<Pid>, flags: WaitPidFlag) -> io::Result<Option<Ended>> {
    loop {
        return match waitpid(pid, Some(flags)) {
            Ok(WaitStatus::Exited(pid, status)) => {
                let status = u8::try_from(status & 0xff).unwrap_or(u8::MAX);
                Ok(Some(Ended { pid, status, signalled: false }))
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) => {
                let status = 128 + u8::try_from(signal as i32).unwrap_or(0);
                Ok(Some(Ended { pid, status, signalled: true }))
            }
            Ok(_) | Err(Errno::ECHILD) => Ok(None),
            Err(Errno::EINTR) => continue,
            Err(errno) => Err(errno.into()),
        };
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn child_status_and_signal_are_reported_as_a_shell_would() {
        let plain = fork(|| 7).unwrap();
        assert_eq!(wait(plain).unwrap(), Ended { pid: plain, status: 7, signalled: false });
        let killed = fork(|| {
            nix::sys::signal::raise(Signal::SIGKILL).unwrap();
            0
        })
        .unwrap();
        assert_eq!(wait(killed).unwrap(), Ended { pid: killed, status: 137, signalled: true });
    }

    #[test]
    fn panic_in_a_child_ends_the_child_only() {
        let child = fork(|| panic!("expected by the test")).unwrap();
        assert_eq!(wait(child).unwrap().status, 70);
    }

    #[test]
    fn only_the_kept_descriptors_survive() {
        let kept = std::fs::File::open("/dev/null").unwrap();
        let gone = std::fs::File::open("/dev/null").unwrap();
        let child = fork(|| {
            close_all_except(&[kept.as_fd()]).unwrap();
            let open = |fd: RawFd| std::fs::read_link(format!("/proc/self/fd/{fd}")).is_ok();
            i32::from(!open(kept.as_raw_fd())) + 2 * i32::from(open(gone.as_raw_fd()))
        })
        .unwrap();
        assert_eq!(wait(child).unwrap().status, 0);
    }

    #[test]
    fn hardened_process_has_no_core_file_and_is_not_dumpable() {
        let child = fork(|| {
            forbid_core_files().unwrap();
            set_not_dumpable().unwrap();
            let limit = rustix::process::getrlimit(rustix::process::Resource::Core);
            i32::from(limit.maximum.is_none_or(|limit| limit > 1))
        })
        .unwrap();
        assert_eq!(wait(child).unwrap().status, 0);
    }
}
