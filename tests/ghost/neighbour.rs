//! A process that tries to read what is in somebody's ghost: one attack per run, told which one.
//!
//! It prints what it got hold of and ends with 0, or says why it was refused and ends with 1. What it looks for is the
//! inhabitant's token (`ghosttoken-` and 32 hexadecimal digits); where the attack yields no bytes, the word `entered`.
//!
//! ```text
//! neighbour root|cwd|fd|environ|maps|mem|vm-read|ptrace|seize|pidfd-getfd|join PID VAULT [START-END ...]
//! ```

use nix::sched::{CloneFlags, setns};
use nix::sys::ptrace;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use std::error::Error;
use std::fs::{self, File};
use std::io::{IoSliceMut, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::ExitCode;

type Loot = Result<Vec<u8>, Box<dyn Error>>;

const MARK: &[u8] = b"ghosttoken-";
const ENTERED: &[u8] = b"entered";
/// The descriptor on which the inhabitant holds the marker file.
const HELD: i32 = 9;
/// More than this of one region is not looked through.
const REGION: usize = 64 << 20;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [attack, pid, vault, memory @ ..] = arguments.as_slice() else {
        eprintln!("usage: neighbour ATTACK PID VAULT [START-END ...]");
        return ExitCode::from(2);
    };
    let target = Target { pid: pid.parse().unwrap_or(-1), vault, memory };
    match target.attack(attack) {
        Ok(loot) => {
            println!("{}", String::from_utf8_lossy(&loot));
            ExitCode::SUCCESS
        }
        Err(reason) => {
            println!("refused: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// Whom to attack, where the vault is mounted in there, and where its memory lies.
struct Target<'a> {
    pid: i32,
    vault: &'a str,
    memory: &'a [String],
}

impl Target<'_> {
    fn attack(&self, name: &str) -> Loot {
        match name {
            "root" => self.file(&format!("root{}/marker", self.vault)),
            "cwd" => self.file("cwd/marker"),
            "fd" => self.file(&format!("fd/{HELD}")),
            "environ" => tokens(&self.file("environ")?),
            "maps" => self.maps(),
            "mem" => self.mem(),
            "vm-read" => self.search(|start, buffer| {
                let region = RemoteIoVec { base: start, len: buffer.len() };
                let local = &mut [IoSliceMut::new(buffer)];
                Ok(process_vm_readv(Pid::from_raw(self.pid), local, &[region])?)
            }),
            "ptrace" => self.trace(false),
            "seize" => self.trace(true),
            "pidfd-getfd" => self.take_descriptor(),
            "join" => self.join(),
            other => Err(format!("no attack is called '{other}'").into()),
        }
    }

    fn path(&self, rest: &str) -> String {
        format!("/proc/{}/{rest}", self.pid)
    }

    fn file(&self, rest: &str) -> Loot {
        Ok(fs::read(self.path(rest))?)
    }

    fn maps(&self) -> Loot {
        let maps = self.file("maps")?;
        if maps.is_empty() { Err("empty".into()) } else { Ok(ENTERED.to_vec()) }
    }

    fn mem(&self) -> Loot {
        let memory = File::open(self.path("mem"))?;
        self.search(|start, buffer| Ok(memory.read_at(buffer, start as u64)?))
    }

    /// Looks through the given regions for the token.
    fn search(
        &self,
        mut read: impl FnMut(usize, &mut [u8]) -> Result<usize, Box<dyn Error>>,
    ) -> Loot {
        let mut refusal: Box<dyn Error> = "nothing found".into();
        for region in self.memory {
            let (start, end) = region.split_once('-').ok_or("malformed region")?;
            let (start, end) = (usize::from_str_radix(start, 16)?, usize::from_str_radix(end, 16)?);
            let mut buffer = vec![0; (end - start).min(REGION)];
            match read(start, &mut buffer) {
                Ok(count) => {
                    if let Ok(found) = tokens(&buffer[..count]) {
                        return Ok(found);
                    }
                }
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    }

    fn trace(&self, seize: bool) -> Loot {
        let pid = Pid::from_raw(self.pid);
        if seize {
            ptrace::seize(pid, ptrace::Options::empty())?;
        } else {
            ptrace::attach(pid)?;
            nix::sys::wait::waitpid(pid, None)?;
            ptrace::detach(pid, None)?;
        }
        Ok(ENTERED.to_vec())
    }

    fn take_descriptor(&self) -> Loot {
        let process = rustix::process::Pid::from_raw(self.pid).ok_or("malformed pid")?;
        let pidfd = pidfd_open(process, PidfdFlags::empty())?;
        // Every low number, not only the one that the inhabitant uses: the server's are unknown.
        let mut outcome: Loot = Err("no descriptor".into());
        for number in (0..=HELD).rev() {
            match pidfd_getfd(&pidfd, number, PidfdGetfdFlags::empty()) {
                Ok(taken) => {
                    let mut loot = Vec::new();
                    let file = File::from(taken);
                    if file.metadata()?.is_file() && file.read_at(&mut [0], 0).is_ok() {
                        let mut buffer = [0; 256];
                        let count = file.read_at(&mut buffer, 0)?;
                        loot.extend_from_slice(&buffer[..count]);
                        return Ok(loot);
                    }
                    return Ok(ENTERED.to_vec());
                }
                Err(error) => outcome = Err(error.into()),
            }
        }
        outcome
    }

    /// Joins the user namespace, which gives every capability in there, and with them the mount namespace.
    fn join(&self) -> Loot {
        let process = rustix::process::Pid::from_raw(self.pid).ok_or("malformed pid")?;
        let pidfd = pidfd_open(process, PidfdFlags::empty())?;
        let all = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS;
        if setns(pidfd.as_fd(), all).is_err() {
            setns(pidfd.as_fd(), CloneFlags::CLONE_NEWNS)?;
        }
        let mut loot = Vec::new();
        File::open(Path::new(self.vault).join("marker"))?.read_to_end(&mut loot)?;
        Ok(loot)
    }
}

/// Every token in some bytes; an error if there is none.
fn tokens(bytes: &[u8]) -> Loot {
    let mut found = Vec::new();
    for at in memchr(bytes) {
        let candidate = bytes.get(at..at + MARK.len() + 32).unwrap_or_default();
        if candidate.len() > MARK.len() && candidate[MARK.len()..].iter().all(u8::is_ascii_hexdigit)
        {
            found.extend_from_slice(candidate);
            found.push(b'\n');
        }
    }
    if found.is_empty() { Err("nothing found".into()) } else { Ok(found) }
}

fn memchr(bytes: &[u8]) -> impl Iterator<Item = usize> + '_ {
    bytes.windows(MARK.len()).enumerate().filter(|(_, window)| *window == MARK).map(|(at, _)| at)
}
