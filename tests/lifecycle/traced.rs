//! A ghost whose processes are traced, so that they can be killed at each named step of its making and its end.
//!
//! A step is a system call that changes something for others: a mount, a device, a lock, a fork, a message. A test
//! traces the whole ghost (ptrace, with nothing in the program for it), writes the steps of an undisturbed one down, and
//! then makes a ghost for each of some of them, spread over all, that is killed at the moment it would take that step.
#![allow(clippy::unwrap_used)]

use crate::ghost::{Project, finish};
use harness::binary::backend;
use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Event, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

/// Ghosts that each test kills; `TAZPOD_STEPS` asks for another number, up to one for each step.
const KILLS: usize = 16;

/// How long a ghost may live on after one of its processes was killed.
const LIMIT: Duration = Duration::from_secs(60);

/// System calls that are steps, by their names.
const STEPS: &[(i64, &str)] = &[
    (libc::SYS_mount, "mount"),
    (libc::SYS_umount2, "umount2"),
    (libc::SYS_move_mount, "move_mount"),
    (libc::SYS_fsopen, "fsopen"),
    (libc::SYS_fsconfig, "fsconfig"),
    (libc::SYS_fsmount, "fsmount"),
    (libc::SYS_open_tree, "open_tree"),
    (libc::SYS_unshare, "unshare"),
    (libc::SYS_mknodat, "mknodat"),
    (libc::SYS_mkdir, "mkdir"),
    (libc::SYS_mkdirat, "mkdirat"),
    (libc::SYS_unlink, "unlink"),
    (libc::SYS_unlinkat, "unlinkat"),
    (libc::SYS_rename, "rename"),
    (libc::SYS_renameat, "renameat"),
    (libc::SYS_renameat2, "renameat2"),
    (libc::SYS_flock, "flock"),
    (libc::SYS_bind, "bind"),
    (libc::SYS_fork, "fork"),
    (libc::SYS_clone, "clone"),
    (libc::SYS_clone3, "clone3"),
    (libc::SYS_execve, "execve"),
    (libc::SYS_setsid, "setsid"),
    (libc::SYS_setgroups, "setgroups"),
    (libc::SYS_setresgid, "setresgid"),
    (libc::SYS_setresuid, "setresuid"),
    (libc::SYS_capset, "capset"),
    (libc::SYS_fchown, "fchown"),
    (libc::SYS_fchmod, "fchmod"),
    (libc::SYS_sendmsg, "sendmsg"),
    (libc::SYS_kill, "kill"),
    (libc::SYS_fsync, "fsync"),
    (libc::SYS_fdatasync, "fdatasync"),
    (libc::SYS_syncfs, "syncfs"),
    (libc::SYS_fallocate, "fallocate"),
    (libc::SYS_pwrite64, "pwrite64"),
    (libc::SYS_landlock_restrict_self, "landlock_restrict_self"),
    (libc::SYS_seccomp, "seccomp"),
    (libc::SYS_exit_group, "exit_group"),
];

/// Requests by `ioctl` that are steps: what makes and unmakes devices, and gives their space back.
const REQUESTS: &[(u64, &str)] = &[
    (0x4C82, "LOOP_CTL_GET_FREE"),
    (0x4C0A, "LOOP_CONFIGURE"),
    (0xC138_FD03, "DM_DEV_CREATE"),
    (0xC138_FD09, "DM_TABLE_LOAD"),
    (0xC138_FD06, "DM_DEV_SUSPEND"),
    (0xC138_FD04, "DM_DEV_REMOVE"),
    (0xC018_5879, "FITRIM"),
];

/// A process of the ghost by what it is for, a system call's name, and the how-manieth of its kind.
pub(crate) type Step = (String, &'static str, usize);

/// Whom a step is the last moment of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// The process that would take it.
    OfOne,
    /// Every process of the ghost, as when the machine's memory or a container ends.
    OfAll,
}

/// What a ghost is asked to say: the content of a file that the vault holds.
const KEPT: &str = "cat ~/secrets/kept";

/// The same, but of a file that a new vault does not hold yet.
const MADE: &str = "test -s ~/secrets/kept || echo kept > ~/secrets/kept; cat ~/secrets/kept";

/// Who makes the ghosts, and how.
pub(crate) struct Scene {
    pub(crate) project: Project,
    /// What `pull` is told besides.
    flags: &'static [&'static str],
    /// Whether sudo stands between the client and the keeper.
    by_sudo: bool,
    /// Whether each of its ghosts makes the vault.
    making: bool,
}

impl Scene {
    /// A scene whose vault holds `~/secrets/kept`.
    pub(crate) fn new(project: Project, flags: &'static [&'static str], by_sudo: bool) -> Self {
        let scene = Self { project, flags, by_sudo, making: false };
        let made = finish(scene.pull(MADE).spawn().unwrap());
        assert!(made.status.success(), "{made:?}");
        scene
    }

    /// A scene of root's, whose vault holds `~/secrets/kept`.
    pub(crate) fn by_root() -> Self {
        Self::new(Project::new(), &[], false)
    }

    /// A scene of root's without a vault: each of its ghosts makes one.
    pub(crate) fn making() -> Self {
        Self { project: Project::new(), flags: &[], by_sudo: false, making: true }
    }

    /// Makes the scene as it was before its first ghost.
    fn set(&self) {
        let vault = self.project.path().join("project/.tazpod/vault");
        if self.making && vault.exists() {
            fs::remove_dir_all(vault).unwrap();
        }
    }

    fn line(&self) -> &'static str {
        if self.making { MADE } else { KEPT }
    }

    fn pull(&self, line: &str) -> Command {
        self.project.verb("pull", &[self.flags, &["--", "sh", "-c", line]].concat())
    }

    /// `pull`, but in a shell that waits for a line first, so that it can be traced from its start.
    fn waiting_pull(&self) -> Command {
        let pull = self.pull(self.line());
        let words = ["-c", "read -r go; exec \"$@\"", "sh"].map(OsStr::new);
        let all = words.into_iter().chain([pull.get_program()]).chain(pull.get_args());
        let all: Vec<&str> = all.map(|word| word.to_str().unwrap()).collect();
        let mut shell = self.project.command("sh", &all);
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        shell
    }

    /// Asserts that the next pull works, and that nothing is left after it.
    pub(crate) fn assert_whole(&self, after: &str) {
        let next = finish(self.pull(self.line()).spawn().unwrap());
        assert!(next.status.success() && next.stdout == b"kept\n", "after {after}: {next:?}");
        self.project.assert_nothing_left();
        let left = self.project.remains();
        assert!(left.is_empty(), "after {after}: {left:?} is left");
    }
}

/// A ghost every process of which is traced by the calling thread.
pub(crate) struct Traced {
    /// What each process is for, and how many children it had.
    processes: BTreeMap<Pid, (String, usize)>,
    dead: BTreeSet<Pid>,
    counts: BTreeMap<(String, &'static str), usize>,
    pub(crate) steps: Vec<Step>,
    by_sudo: bool,
    victim: Option<Step>,
    death: Death,
    pub(crate) met: bool,
    /// A process that does nothing until the victim is dead, by what it is for, and its number once it is born.
    held: Option<(&'static str, Option<Pid>)>,
    /// Who was born before their parents told.
    unnamed: BTreeSet<Pid>,
}

impl Traced {
    /// Runs a whole ghost to its end.
    pub(crate) fn undisturbed(scene: &Scene) -> Self {
        Self::run(scene, None, Death::OfOne, None)
    }

    /// Runs a ghost until a process of it is about to take the step `last`.
    pub(crate) fn killed(scene: &Scene, last: &Step, death: Death) -> Self {
        Self::run(scene, Some(last.clone()), death, None)
    }

    /// Kills the process that would take the step `last`, and lets the process `held` begin only when that is dead.
    pub(crate) fn holding(scene: &Scene, last: &Step, held: &'static str) -> Self {
        Self::run(scene, Some(last.clone()), Death::OfOne, Some(held))
    }

    #[allow(clippy::zombie_processes, reason = "the tracer waits for every process")]
    fn run(scene: &Scene, victim: Option<Step>, death: Death, held: Option<&'static str>) -> Self {
        scene.set();
        let mut child = scene.waiting_pull().spawn().unwrap();
        let first = Pid::from_raw(i32::try_from(child.id()).unwrap());
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEEXEC
            | Options::PTRACE_O_EXITKILL;
        ptrace::seize(first, options).unwrap();
        ptrace::interrupt(first).unwrap();
        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        let mut traced = Self {
            processes: BTreeMap::from([(first, ("client".to_owned(), 0))]),
            dead: BTreeSet::new(),
            counts: BTreeMap::new(),
            steps: Vec::new(),
            by_sudo: scene.by_sudo,
            victim,
            death,
            met: false,
            held: held.map(|role| (role, None)),
            unnamed: BTreeSet::new(),
        };
        let (births, watched) = mpsc::channel();
        births.send(first).unwrap();
        let late = std::thread::scope(|scope| {
            let watchdog = scope.spawn(move || end_what_is_late(&watched));
            traced.follow(&births);
            drop(births);
            watchdog.join().unwrap()
        });
        let living: Vec<_> = late.iter().map(|pid| &traced.processes[pid].0).collect();
        assert!(late.is_empty(), "{:?}: {living:?} live on", traced.victim);
        traced
    }

    /// Goes on until no process of the ghost is left.
    fn follow(&mut self, births: &Sender<Pid>) {
        // Only what this thread traces: other tests have children too.
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        loop {
            let status = match waitpid(None, Some(flags)) {
                Err(Errno::ECHILD) => return,
                status => status.unwrap(),
            };
            // A process may be killed at any moment, also between its stop and our answer.
            let _ = match status {
                WaitStatus::PtraceSyscall(pid) => self.system_call(pid),
                WaitStatus::PtraceEvent(pid, _, event) => self.event(pid, event, births),
                WaitStatus::Stopped(pid, signal) => ptrace::syscall(pid, signal),
                WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..) => self.death(pid),
                _ => Ok(()),
            };
        }
    }

    fn event(&mut self, pid: Pid, event: i32, births: &Sender<Pid>) -> nix::Result<()> {
        let events =
            [Event::PTRACE_EVENT_FORK, Event::PTRACE_EVENT_VFORK, Event::PTRACE_EVENT_CLONE];
        if events.iter().any(|born| *born as i32 == event) {
            let child = Pid::from_raw(i32::try_from(ptrace::getevent(pid)?).unwrap());
            let parent = process_of(pid);
            // A thread belongs to a process that is known already.
            if process_of(child) == child {
                if self.met && self.death == Death::OfAll {
                    let _ = kill(child, Signal::SIGKILL);
                }
                let name = self.name_child(parent);
                self.processes.insert(child, (name, 0));
                births.send(child).unwrap();
                if self.unnamed.remove(&child) && !self.holds(child) {
                    ptrace::syscall(child, None)?;
                }
            }
        }
        if event == libc::PTRACE_EVENT_STOP && self.held.is_some() {
            if !self.processes.contains_key(&process_of(pid)) {
                self.unnamed.insert(pid);
                return Ok(());
            }
            if self.holds(pid) {
                return Ok(());
            }
        }
        if event == Event::PTRACE_EVENT_EXEC as i32 && is_helper(pid) {
            self.processes.insert(pid, ("keeper".to_owned(), 0));
        }
        ptrace::syscall(pid, None)
    }

    /// Whether a process that was just born has to wait.
    fn holds(&mut self, pid: Pid) -> bool {
        match (&mut self.held, self.processes.get(&pid)) {
            (Some((role, waiting)), Some((name, _))) if role == name => {
                *waiting = Some(pid);
                true
            }
            _ => false,
        }
    }

    /// Lets the held process begin once the victim is dead.
    fn death(&mut self, pid: Pid) -> nix::Result<()> {
        self.dead.insert(pid);
        let role = self.processes.get(&pid).map(|(role, _)| role);
        let is_victim = self.met && role == self.victim.as_ref().map(|(role, ..)| role);
        if is_victim && let Some((_, Some(waiting))) = self.held.take() {
            return ptrace::syscall(waiting, None);
        }
        Ok(())
    }

    fn name_child(&mut self, parent: Pid) -> String {
        let Some((name, children)) = self.processes.get_mut(&parent) else {
            return "unknown".to_owned();
        };
        *children += 1;
        let is_luks = backend() == "luks";
        match (&**name, *children) {
            // Without sudo one process is both client and keeper.
            ("client", 1) if !self.by_sudo => "supervisor".to_owned(),
            ("keeper", 1) => "supervisor".to_owned(),
            ("supervisor", 1) => "init".to_owned(),
            ("supervisor", 2) if is_luks => "holder".to_owned(),
            ("init", 1) if !is_luks => "server".to_owned(),
            ("init", number) if number == 2 - usize::from(is_luks) => "bridge maker".to_owned(),
            ("init", number) if number == 3 - usize::from(is_luks) => "shell".to_owned(),
            (name, number) => format!("child {number} of {name}"),
        }
    }

    /// Kills whom the step that is about to be taken by `process` is the last moment of.
    fn kill(&self, process: Pid) -> nix::Result<()> {
        if self.death == Death::OfAll {
            for other in self.processes.keys().filter(|pid| !self.dead.contains(pid)) {
                let _ = kill(*other, Signal::SIGKILL);
            }
        }
        kill(process, Signal::SIGKILL)
    }

    fn system_call(&mut self, pid: Pid) -> nix::Result<()> {
        let registers = ptrace::getregs(pid)?;
        let number = registers.orig_rax.cast_signed();
        // What the kernel puts there when a call is entered.
        let is_entry = registers.rax == (-i64::from(libc::ENOSYS)).cast_unsigned();
        let named = if number == libc::SYS_ioctl {
            REQUESTS.iter().find(|(request, _)| *request == registers.rsi).map(|(_, name)| *name)
        } else {
            STEPS.iter().find(|(step, _)| *step == number).map(|(_, name)| *name)
        };
        let process = process_of(pid);
        let role = self.processes.get(&process).map(|(role, _)| role);
        if let (Some(name), Some(role), true) = (named, role, is_entry) {
            let count = self.counts.entry((role.clone(), name)).or_default();
            *count += 1;
            let step = (role.clone(), name, *count);
            if !self.met && self.victim.as_ref() == Some(&step) {
                self.met = true;
                return self.kill(process);
            }
            self.steps.push(step);
        }
        ptrace::syscall(pid, None)
    }
}

/// Kills, when the time is over, what lives on of the processes that are reported, and returns it.
fn end_what_is_late(births: &Receiver<Pid>) -> Vec<Pid> {
    let deadline = Instant::now() + LIMIT;
    let mut known = Vec::new();
    loop {
        match births.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(pid) => known.push(pid),
            Err(RecvTimeoutError::Disconnected) => return Vec::new(),
            Err(RecvTimeoutError::Timeout) => {
                known.retain(|pid| kill(*pid, Signal::SIGKILL).is_ok());
                return known;
            }
        }
    }
}

/// Whether a process has become the helper that sudo starts.
fn is_helper(pid: Pid) -> bool {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<&[u8]> = words.split(|byte| *byte == 0).collect();
    // sudo's own words are the same ones, further back.
    words.get(1).is_some_and(|word| *word == b"internal-ghost")
}

/// The process that a thread belongs to.
fn process_of(thread: Pid) -> Pid {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).unwrap_or_default();
    let process = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
    process.and_then(|number| number.trim().parse().ok()).map_or(thread, Pid::from_raw)
}

/// Picks about `most` steps, spread over all of them, of every process its first and its last, and all that make or
/// unmake a device.
fn chosen(steps: &[Step], most: usize) -> Vec<Step> {
    let mut picked = BTreeSet::new();
    for role in steps.iter().map(|(role, ..)| role).collect::<BTreeSet<_>>() {
        let own = || (0..steps.len()).filter(|at| steps[*at].0 == *role);
        picked.extend(own().next().into_iter().chain(own().next_back()));
    }
    let is_request = |step: &Step| REQUESTS.iter().any(|(_, name)| *name == step.1);
    picked.extend((0..steps.len()).filter(|at| is_request(&steps[*at])));
    let stride = steps.len().div_ceil(most).max(1);
    picked.extend((0..steps.len()).step_by(stride));
    picked.into_iter().map(|at| steps[at].clone()).collect()
}

/// Kills ghosts at steps of those of their processes that have these names.
pub(crate) fn kill_at_each_step(scene: &Scene, death: Death, is_ours: impl Fn(&str) -> bool) {
    let most = std::env::var("TAZPOD_STEPS").ok().and_then(|text| text.parse().ok());
    let undisturbed = Traced::undisturbed(scene);
    scene.assert_whole("an undisturbed ghost");
    let mut steps = undisturbed.steps;
    let all = steps.len();
    steps.retain(|(role, ..)| is_ours(role));
    let roles: BTreeSet<_> = steps.iter().map(|(role, ..)| role.clone()).collect();
    let chosen = chosen(&steps, most.unwrap_or(KILLS));
    println!("{} of {all} steps are taken by {roles:?}; {} kills", steps.len(), chosen.len());
    assert!(chosen.len() >= 4, "too few steps: {steps:?}");
    let mut met = 0;
    for step in &chosen {
        let traced = Traced::killed(scene, step, death);
        met += usize::from(traced.met);
        println!("{step:?}{}", if traced.met { "" } else { ", not taken this time" });
        if death == Death::OfOne {
            // The others have cleaned up; where nobody is left, the next pull does.
            scene.project.assert_nothing_left();
        }
        scene.assert_whole(&format!("{step:?}"));
    }
    assert!(met * 3 >= chosen.len(), "only {met} of {} steps were met again", chosen.len());
}
