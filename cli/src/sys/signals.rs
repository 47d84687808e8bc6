//! Signals as data: blocked, and read from a descriptor in a poll loop.

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use std::io;

/// The signals by which a person or a machine asks a program to end.
pub(crate) const ENDING: [Signal; 4] =
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];

/// Has the threads that share work, which are started here, leave those signals to the thread that waits for them: the
/// kernel gives one to any thread that does not block it, and there it would end the program with nothing put back.
pub(crate) fn keep_from_workers() {
    let block = |_| {
        let _ = ENDING.into_iter().collect::<SigSet>().thread_block();
    };
    // They may be there already.
    let _ = rayon::ThreadPoolBuilder::new().start_handler(block).build_global();
}

/// Blocks `signals` and returns the descriptor that reports them.
pub(crate) fn watch(signals: &[Signal]) -> io::Result<SignalFd> {
    let set = signals.iter().copied().collect::<SigSet>();
    set.thread_block()?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

/// Returns the next signal that arrived, if any.
pub(crate) fn next(source: &SignalFd) -> io::Result<Option<Signal>> {
    match source.read_signal()? {
        Some(info) => {
            Ok(i32::try_from(info.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok()))
        }
        None => Ok(None),
    }
}

/// Sets every signal to its default and unblocks all, as a program expects to find them.
pub(crate) fn reset() -> io::Result<()> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in Signal::iterator() {
        if matches!(signal, Signal::SIGKILL | Signal::SIGSTOP) {
            continue;
        }
        // SAFETY: the default action runs no code of ours.
        unsafe { sigaction(signal, &default) }?;
    }
    nix::sys::signal::sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    Ok(())
}

/// Ignores a signal.
pub(crate) fn ignore(signal: Signal) -> io::Result<()> {
    let ignored = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    // SAFETY: ignoring runs no code of ours.
    unsafe { sigaction(signal, &ignored) }?;
    Ok(())
}

/// Sends `signal` to process `pid`; one that is gone is no error.
pub(crate) fn send(pid: Pid, signal: Signal) -> io::Result<()> {
    match nix::sys::signal::kill(pid, signal) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Sends `signal` to every process that this one may signal; as process 1 of a PID namespace these
/// are all others in it.
pub(crate) fn send_to_all(signal: Signal) -> io::Result<()> {
    send(Pid::from_raw(-1), signal)
}
