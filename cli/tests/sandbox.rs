//! The server's sandbox, tried from inside: each attack first succeeds without it, in a process of its own, and then
//! fails in it.
//!
//! A process enters the sandbox while it has one thread, and the usual test harness always has more; so this program
//! is its own harness, and starts itself again for each attempt.

#![allow(clippy::print_stdout, clippy::print_stderr, dead_code)]

#[path = "../src/ghost/sandbox.rs"]
mod sandbox;

use nix::sys::signal::Signal;
use sandbox::{Landlock, close_file_system, enter, filters};
use std::env;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::panic::catch_unwind;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use vault_core::crypto::secret::VolumeKey;
use vault_core::crypto::subkeys::Subkeys;
use vault_core::device::{Access, FileDevice};
use vault_core::fs::{OpenOptions, Setup, Volume};
use vault_core::ids::VaultId;
use vault_core::ports::{Entropy, SystemClock, SystemEntropy};
use vault_fuse::{Ended, Options, Session};

const PROBE: &str = "TAZPOD_SANDBOX_PROBE";
const CONFINE: &str = "TAZPOD_SANDBOX_CONFINE";

const TESTS: &[(&str, fn())] = &[
    ("the_server_can_do_its_work", the_server_can_do_its_work),
    ("a_vault_is_served_from_inside", a_vault_is_served_from_inside),
    ("no_file_can_be_opened_listed_or_made", no_file_can_be_opened_listed_or_made),
    ("seccomp_alone_closes_the_file_system", seccomp_alone_closes_the_file_system),
    (
        "landlock_alone_closes_the_file_system_where_it_is_reported",
        landlock_alone_closes_the_file_system_where_it_is_reported,
    ),
    ("no_program_can_be_started", no_program_can_be_started),
    ("nothing_can_be_reached_over_a_network", nothing_can_be_reached_over_a_network),
    ("other_processes_are_out_of_reach", other_processes_are_out_of_reach),
    ("no_namespace_can_be_made", no_namespace_can_be_made),
    ("the_kernel_confirms_it", the_kernel_confirms_it),
    ("a_process_with_threads_is_refused", a_process_with_threads_is_refused),
];

fn main() -> ExitCode {
    if let Ok(probe) = env::var(PROBE) {
        be_the_probe(&probe);
    }
    let chosen: Vec<String> =
        env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let run = TESTS
        .iter()
        .filter(|(name, _)| chosen.is_empty() || chosen.iter().any(|part| name.contains(part)));
    let results: Vec<bool> = run
        .map(|(name, test)| {
            let passed = catch_unwind(test).is_ok();
            println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
            passed
        })
        .collect();
    let passed = results.iter().filter(|passed| **passed).count();
    let failed = results.len() - passed;
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out\n"
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// How an attempt ended.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Worked,
    Refused,
    Killed,
}

/// Runs an attempt in a new process and tells how it ended.
fn attempt(probe: &str, confine: &str) -> Outcome {
    let status = probe_command(probe, confine).status().expect("the test program starts");
    outcome(status)
}

fn outcome(status: ExitStatus) -> Outcome {
    match (status.code(), status.signal()) {
        (Some(0), _) => Outcome::Worked,
        (Some(77), _) => Outcome::Refused,
        (_, Some(signal)) if signal == Signal::SIGSYS as i32 => Outcome::Killed,
        _ => panic!("the probe broke: {status}"),
    }
}

fn probe_command(probe: &str, confine: &str) -> Command {
    let mut command = Command::new(env::current_exe().expect("the test program has a path"));
    command.env(PROBE, probe).env(CONFINE, confine).stdin(Stdio::null());
    command
}

/// What the process that [`attempt`] starts does.
fn be_the_probe(probe: &str) -> ! {
    let mut scratch = tempfile::tempfile().expect("a scratch file");
    match env::var(CONFINE).as_deref() {
        Ok("whole") => {
            enter().expect("confined");
        }
        Ok("landlock") => {
            close_file_system().expect("confined");
        }
        Ok("seccomp") => {
            nix::sys::prctl::set_no_new_privs().expect("no new privileges");
            for filter in filters().expect("filters") {
                seccompiler::apply_filter_all_threads(&filter).expect("confined");
            }
        }
        _ => {}
    }
    let result = try_it(probe, &mut scratch);
    if let Err(error) = result {
        eprintln!("{probe}: {error}");
        let refused = error.kind() == ErrorKind::PermissionDenied;
        std::process::exit(if refused { 77 } else { 78 });
    }
    std::process::exit(0);
}

fn try_it(probe: &str, scratch: &mut File) -> io::Result<()> {
    let parent = nix::unistd::getppid();
    match probe {
        "open" => File::open("/etc/passwd").map(drop),
        "list" => fs::read_dir("/etc").map(drop),
        "create" => {
            let path = env::temp_dir().join(format!("tazpod-probe-{}", std::process::id()));
            File::create(&path)?;
            fs::remove_file(path)
        }
        "exec" => Err(Command::new("/bin/true").exec()),
        "spawn" => Command::new("/bin/true").status().map(drop),
        "connect" => match TcpStream::connect("127.0.0.1:1") {
            // Nobody listens there, but asking worked.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
            other => other.map(drop),
        },
        "trace" => {
            nix::sys::ptrace::seize(parent, nix::sys::ptrace::Options::empty())?;
            Ok(nix::sys::ptrace::detach(parent, None).or(Ok::<(), nix::Error>(()))?)
        }
        "signal" => Ok(nix::sys::signal::kill(parent, None)?),
        "namespace" => Ok(nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER)?),
        "work" => work(scratch),
        "serve" => serve(),
        "threads" => {
            let (sender, receiver) = std::sync::mpsc::channel::<()>();
            let thread = thread::spawn(move || receiver.recv());
            assert!(matches!(enter(), Err(sandbox::SandboxError::Threads(2))));
            drop(sender);
            let _ = thread.join();
            Ok(())
        }
        "report" => match enter().map_err(io::Error::other)?.landlock {
            Landlock::Full | Landlock::Partial => Ok(()),
            Landlock::Missing => Err(ErrorKind::PermissionDenied.into()),
        },
        "wait" => {
            let mut byte = [0];
            io::stdin().read(&mut byte).map(drop)
        }
        _ => panic!("no such probe"),
    }
}

/// Everything that a server does all day.
fn work(scratch: &mut File) -> io::Result<()> {
    let threads: Vec<_> = (0..8_usize)
        .map(|n| {
            thread::spawn(move || {
                vec![1_u8; (n + 1) << 20].iter().map(|x| usize::from(*x)).sum::<usize>()
            })
        })
        .collect();
    for (n, thread) in threads.into_iter().enumerate() {
        assert_eq!(thread.join().expect("no panic"), (n + 1) << 20);
    }
    let mut random = vec![0; 4096];
    SystemEntropy.fill(&mut random).map_err(io::Error::other)?;
    scratch.write_all(&random)?;
    scratch.sync_data()?;
    scratch.sync_all()?;
    scratch.set_len(8192)?;
    scratch.rewind()?;
    let mut back = Vec::new();
    scratch.read_to_end(&mut back)?;
    assert_eq!(back[..4096], random);
    assert_eq!(scratch.metadata()?.len(), 8192);
    assert_eq!(scratch.try_clone()?.metadata()?.len(), 8192);
    thread::sleep(Duration::from_millis(2));
    thread::available_parallelism().map(drop)
}

fn the_server_can_do_its_work() {
    assert_eq!(attempt("work", "not"), Outcome::Worked);
    assert_eq!(attempt("work", "whole"), Outcome::Worked);
}

/// A vault is opened and served by a process that was confined before it looked at the image, as in a ghost.
fn a_vault_is_served_from_inside() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let root = dir.path().join("mnt");
    fs::create_dir(&root).expect("a mount point");
    let device = FileDevice::create_new(&dir.path().join("vault.img")).expect("a new image");
    Volume::format(&setup(device), 1 << 18, (0, 0)).expect("an empty vault");
    for round in 0..2 {
        let mut server = probe_command("serve", "not").current_dir(&dir).spawn().expect("starts");
        let deadline = Instant::now() + Duration::from_secs(30);
        while !fs::read_to_string("/proc/self/mountinfo")
            .expect("proc")
            .contains(&format!(" {} ", root.display()))
        {
            assert!(
                Instant::now() < deadline && server.try_wait().expect("a child").is_none(),
                "not mounted"
            );
            thread::sleep(Duration::from_millis(5));
        }
        let script = if round == 0 { FILL } else { COMPARE };
        let work =
            Command::new("sh").args(["-euc", script]).current_dir(&root).status().expect("a shell");
        let unmounted = Command::new("umount").arg(&root).status().expect("umount");
        assert_eq!(outcome(server.wait().expect("it ends")), Outcome::Worked, "round {round}");
        assert!(work.success() && unmounted.success(), "round {round}");
    }
}

const FILL: &str = "head -c 60000000 /dev/urandom > big; cksum < big > sum; sync big
mkdir -p many/deep; for n in $(seq 300); do echo $n > many/deep/$n; done; ln -s big link; ln big hard; mkfifo pipe
python3 -c \"import os, sqlite3; db = sqlite3.connect('db'); db.execute('create table t (n)'); db.execute('insert into t values (1)'); db.commit()
os.setxattr('big', 'user.a', b'x' * 5000); f = os.open('hole', os.O_CREAT | os.O_RDWR); os.posix_fallocate(f, 0, 1 << 20); os.truncate('hole', 5)\"
rm -r many/deep; mv many few; echo 3 > /proc/sys/vm/drop_caches; cksum < big | cmp - sum; df . > /dev/null; sync";

const COMPARE: &str = "cksum < big | cmp - sum; cmp big hard; test \"$(readlink link)\" = big; test -p pipe; test -d few
python3 -c \"import os, sqlite3; assert sqlite3.connect('db').execute('select n from t').fetchone() == (1,); assert len(os.getxattr('big', 'user.a')) == 5000\"";

/// A vault without a header: the keys are the same every time.
fn setup(device: FileDevice) -> Setup {
    let id = VaultId([3; 16]);
    let key = VolumeKey::init(|bytes| bytes.fill(4));
    Setup {
        device: Arc::new(device),
        keys: Arc::new(Subkeys::derive(&key, id)),
        vault: id,
        block_shift: 14,
        header_sequence: 1,
        entropy: Arc::new(SystemEntropy),
        clock: Arc::new(SystemClock),
    }
}

fn serve() -> io::Result<()> {
    let image =
        FileDevice::open("vault.img".as_ref(), Access::ReadWrite).map_err(io::Error::other)?;
    let kernel = File::options().read(true).write(true).open("/dev/fuse")?;
    let options =
        format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", kernel.as_raw_fd());
    let none = nix::mount::MsFlags::empty();
    nix::mount::mount(Some("vault"), "mnt", Some("fuse"), none, Some(options.as_str()))?;
    enter().map_err(io::Error::other)?;
    let (volume, _) =
        Volume::open(&setup(image), &OpenOptions::default()).map_err(io::Error::other)?;
    let session = Session::from_fd(Arc::new(volume), kernel.into(), &Options::default());
    let ended = session.and_then(Session::run).map_err(io::Error::other)?;
    assert_eq!(ended, Ended::Unmounted);
    Ok(())
}

fn no_file_can_be_opened_listed_or_made() {
    for probe in ["open", "list", "create"] {
        assert_eq!(attempt(probe, "not"), Outcome::Worked, "{probe}");
        assert_eq!(attempt(probe, "whole"), Outcome::Refused, "{probe}");
    }
}

fn seccomp_alone_closes_the_file_system() {
    for probe in ["open", "list", "create"] {
        assert_eq!(attempt(probe, "seccomp"), Outcome::Refused, "{probe}");
    }
}

/// What `status` is told about Landlock is what Landlock does.
fn landlock_alone_closes_the_file_system_where_it_is_reported() {
    let reported = attempt("report", "not");
    for probe in ["open", "list", "create"] {
        let expected = if reported == Outcome::Worked { Outcome::Refused } else { Outcome::Worked };
        assert_eq!(attempt(probe, "landlock"), expected, "{probe}");
    }
}

fn no_program_can_be_started() {
    assert_eq!(attempt("exec", "not"), Outcome::Worked);
    assert_eq!(attempt("exec", "whole"), Outcome::Killed);
    assert_eq!(attempt("spawn", "not"), Outcome::Worked);
    assert_eq!(attempt("spawn", "whole"), Outcome::Refused);
}

fn nothing_can_be_reached_over_a_network() {
    assert_eq!(attempt("connect", "not"), Outcome::Worked);
    assert_eq!(attempt("connect", "whole"), Outcome::Killed);
}

fn other_processes_are_out_of_reach() {
    for probe in ["trace", "signal"] {
        assert_eq!(attempt(probe, "not"), Outcome::Worked, "{probe}");
        assert_eq!(attempt(probe, "whole"), Outcome::Killed, "{probe}");
    }
}

fn no_namespace_can_be_made() {
    assert_eq!(attempt("namespace", "not"), Outcome::Worked);
    assert_eq!(attempt("namespace", "whole"), Outcome::Killed);
}

/// The kernel shows each part of the confinement of a process that waits in it.
fn the_kernel_confirms_it() {
    let mut child = probe_command("wait", "whole").stdin(Stdio::piped()).spawn().expect("starts");
    let proc = format!("/proc/{}", child.id());
    let deadline = Instant::now() + Duration::from_secs(10);
    let status = loop {
        let status = fs::read_to_string(format!("{proc}/status")).expect("it runs");
        if status.contains("Seccomp_filters:\t3") {
            break status;
        }
        assert!(Instant::now() < deadline, "not confined in time:\n{status}");
        thread::sleep(Duration::from_millis(5));
    };
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    assert!(status.contains("Seccomp:\t2"), "{status}");
    let limits = fs::read_to_string(format!("{proc}/limits")).expect("it runs");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("listed");
    assert!(
        core.split_whitespace().skip(4).take(2).all(|limit| limit == "1" || limit == "0"),
        "{core}"
    );
    // What cannot be dumped belongs to root, whoever runs it; only visible where that is someone else.
    if !nix::unistd::geteuid().is_root() {
        assert_eq!(fs::metadata(format!("{proc}/environ")).expect("it runs").uid(), 0);
    }
    drop(child.stdin.take());
    assert_eq!(outcome(child.wait().expect("it ends")), Outcome::Worked);
}

fn a_process_with_threads_is_refused() {
    assert_eq!(attempt("threads", "not"), Outcome::Worked);
}
