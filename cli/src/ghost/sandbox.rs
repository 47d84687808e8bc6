//! The last thing the serving process does before it looks at a vault: give up what it will never need.
//!
//! The server parses bytes that an attacker may have written, with the keys in its memory. A bug in it must not reach
//! further than those keys. So everything it needs (the image, `/dev/fuse`, the supervisor's socket) is open before,
//! and then:
//! - no new privileges, and nobody of its uid may trace it or read its memory; no core file;
//! - Landlock without a single rule: no file can be opened, made or removed, no TCP port used, no process outside
//!   signalled, no abstract socket reached. Descriptors that are open stay usable;
//! - seccomp: only the calls in [`ALLOWED`] work, others fail with EPERM, and those that a server never makes by
//!   accident ([`FATAL`]) end it.
//!
//! Landlock binds only the calling thread and what it starts later, so [`enter`] refuses to run beside other threads.
//! Linux before 5.13 has no Landlock; the rest holds there, and [`Report`] says so.

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetStatus,
    Scope,
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::thread;
use std::time::{Duration, Instant};
use thiserror::Error;

/// The process could not be confined; it must not go on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum SandboxError {
    /// Other threads would stay outside.
    #[error("the server has {0} threads before it is confined")]
    Threads(usize),
    /// A step failed that every supported kernel can do.
    #[error("cannot confine the server: {step}")]
    System {
        /// What was tried.
        step: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Landlock is there and refused.
    #[error("cannot confine the server with Landlock")]
    Landlock(#[from] landlock::RulesetError),
    /// The filter could not be made for this machine.
    #[error("cannot make the system call filter")]
    Filter(#[from] seccompiler::BackendError),
    /// The kernel refused the filter.
    #[error("cannot confine the server with seccomp")]
    Seccomp(#[from] seccompiler::Error),
}

/// What holds from now on, for `status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// How far this kernel knows Landlock.
    pub(crate) landlock: Landlock,
}

/// How far the kernel knows Landlock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Landlock {
    /// Everything asked for is enforced.
    Full,
    /// The file system is closed; newer kernels also close ports, signals or sockets.
    Partial,
    /// The kernel has none, or it is switched off.
    Missing,
}

/// Confines the calling process for good. Call it while there is one thread, before a passphrase or an image is read.
pub(crate) fn enter() -> Result<Report, SandboxError> {
    wait_for_one_thread()?;
    let system =
        |step| move |errno: nix::errno::Errno| SandboxError::System { step, source: errno.into() };
    nix::sys::prctl::set_no_new_privs().map_err(system("no new privileges"))?;
    nix::sys::prctl::set_dumpable(false).map_err(system("not dumpable"))?;
    forbid_core_files().map_err(system("no core files"))?;
    let filters = filters()?;
    let landlock = close_file_system()?;
    for filter in filters {
        // To all threads: none but this one exists, and the kernel confirms it.
        seccompiler::apply_filter_all_threads(&filter)?;
    }
    Ok(Report { landlock })
}

/// Waits for threads that are ending, such as those of a pool that was dropped.
fn wait_for_one_thread() -> Result<(), SandboxError> {
    let unreadable = |source| SandboxError::System { step: "count threads", source };
    let deadline = Instant::now() + Duration::from_secs(1);
    loop {
        let threads = fs::read_dir("/proc/self/task").map_err(unreadable)?.count();
        match threads {
            1 => return Ok(()),
            _ if Instant::now() < deadline => thread::sleep(Duration::from_millis(1)),
            _ => return Err(SandboxError::Threads(threads)),
        }
    }
}

/// A limit of 1 stops core files and, other than 0, piped core patterns too. A lower hard limit stays.
fn forbid_core_files() -> nix::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_CORE)?;
    let limit = hard.min(1);
    setrlimit(Resource::RLIMIT_CORE, limit, limit)
}

pub(crate) fn close_file_system() -> Result<Landlock, SandboxError> {
    let newest = ABI::V7;
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(newest))?
        .handle_access(AccessNet::from_all(newest))?
        .scope(Scope::from_all(newest))?
        .create()?
        .restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Landlock::Full,
        RulesetStatus::PartiallyEnforced => Landlock::Partial,
        RulesetStatus::NotEnforced => Landlock::Missing,
    })
}

/// Calls that work whatever their arguments: on descriptors that are open, on memory, on threads of this process, and
/// questions to the kernel that tell nothing about others.
const ALLOWED: &[libc::c_long] = &[
    // The image, /dev/fuse, the supervisor.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync_file_range,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fadvise64,
    libc::SYS_close,
    libc::SYS_ppoll,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_recvfrom,
    libc::SYS_shutdown,
    // Memory.
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_mlock,
    libc::SYS_mlock2,
    libc::SYS_munlock,
    // Threads.
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getcpu,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_restart_syscall,
    // Signals to itself, and waiting for them.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_rt_sigsuspend,
    libc::SYS_sigaltstack,
    // Time and randomness.
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
];

/// Calls that only older machine types have.
#[cfg(target_arch = "x86_64")]
const ALLOWED_HERE: &[libc::c_long] = &[libc::SYS_poll, libc::SYS_time];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &[libc::c_long] = &[];

/// Calls that mean a server which is not itself any more.
const FATAL: &[libc::c_long] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_kill,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setgroups,
    libc::SYS_capset,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_io_uring_setup,
    libc::SYS_userfaultfd,
    libc::SYS_memfd_create,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_kexec_load,
    libc::SYS_open_by_handle_at,
    libc::SYS_personality,
];

/// Calls whose caller falls back to an older one when told that they do not exist: `clone3`, whose flags the filter
/// cannot see, and `statx`, which takes a path.
const ABSENT: &[libc::c_long] = &[libc::SYS_clone3, libc::SYS_statx];

/// Makes the three filters. The strictest answer of all of them counts.
pub(crate) fn filters() -> Result<[BpfProgram; 3], SandboxError> {
    let fatal = plain(FATAL);
    let absent = plain(ABSENT);
    let mut allowed = plain(ALLOWED);
    allowed.extend(plain(ALLOWED_HERE));
    allowed.extend(plain(ABSENT));
    // Judged by the first filter already.
    allowed.extend(plain(FATAL));
    allowed.extend(with_conditions()?);
    // The filters themselves must be installed, so the one that refuses comes last.
    Ok([
        program(fatal, SeccompAction::Allow, SeccompAction::KillProcess)?,
        program(absent, SeccompAction::Allow, SeccompAction::Errno(number(libc::ENOSYS)))?,
        program(allowed, SeccompAction::Errno(number(libc::EPERM)), SeccompAction::Allow)?,
    ])
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Calls that are allowed with some arguments only.
fn with_conditions() -> Result<Rules, SandboxError> {
    let mut rules = Rules::new();
    let no_code = || arg_has_none(2, bits(libc::PROT_EXEC));
    rules.insert(libc::SYS_mmap, vec![rule([no_code()?])?]);
    rules.insert(libc::SYS_mprotect, vec![rule([no_code()?])?]);
    // A thread, never a process.
    rules.insert(libc::SYS_clone, vec![rule([arg_has_all(0, bits(libc::CLONE_THREAD))?])?]);
    // A datagram goes to the peer that the socket has, and to no address.
    rules.insert(libc::SYS_sendto, vec![rule([arg_is(4, SeccompCmpArgLen::Qword, 0)?])?]);
    // What glibc calls `fstat`.
    rules.insert(libc::SYS_newfstatat, vec![rule([arg_has_all(3, bits(libc::AT_EMPTY_PATH))?])?]);
    // `abort`.
    rules.insert(
        libc::SYS_tgkill,
        vec![rule([arg_is(0, SeccompCmpArgLen::Dword, u64::from(std::process::id()))?])?],
    );
    let commands = [
        libc::F_GETFD,
        libc::F_SETFD,
        libc::F_GETFL,
        libc::F_SETFL,
        libc::F_DUPFD_CLOEXEC,
        libc::F_OFD_GETLK,
        libc::F_OFD_SETLK,
    ];
    rules.insert(libc::SYS_fcntl, one_of(1, &commands)?);
    // The names of threads and of memory.
    rules.insert(libc::SYS_prctl, one_of(0, &[libc::PR_SET_NAME, libc::PR_SET_VMA])?);
    Ok(rules)
}

fn plain(calls: &[libc::c_long]) -> Rules {
    calls.iter().map(|call| (*call, Vec::new())).collect()
}

fn one_of(index: u8, values: &[i32]) -> Result<Vec<SeccompRule>, SandboxError> {
    values
        .iter()
        .map(|value| rule([arg_is(index, SeccompCmpArgLen::Dword, bits(*value))?]))
        .collect()
}

fn rule<const N: usize>(conditions: [SeccompCondition; N]) -> Result<SeccompRule, SandboxError> {
    Ok(SeccompRule::new(conditions.into())?)
}

fn arg_is(
    index: u8,
    length: SeccompCmpArgLen,
    value: u64,
) -> Result<SeccompCondition, SandboxError> {
    Ok(SeccompCondition::new(index, length, SeccompCmpOp::Eq, value)?)
}

fn arg_has_all(index: u8, mask: u64) -> Result<SeccompCondition, SandboxError> {
    Ok(SeccompCondition::new(index, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(mask), mask)?)
}

fn arg_has_none(index: u8, mask: u64) -> Result<SeccompCondition, SandboxError> {
    Ok(SeccompCondition::new(index, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(mask), 0)?)
}

fn program(
    rules: Rules,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, SandboxError> {
    let machine = TargetArch::try_from(std::env::consts::ARCH)?;
    Ok(SeccompFilter::new(rules, otherwise, matched, machine)?.try_into()?)
}

/// Returns a C flag as the kernel sees it in a register.
fn bits(flag: i32) -> u64 {
    u64::from(flag.cast_unsigned())
}

fn number(errno: i32) -> u32 {
    errno.cast_unsigned()
}
