//! Hangs up a program in a container when its client is gone.
//!
//! An engine that loses the connection to a program on a terminal keeps the terminal and tells nobody;
//! one without a terminal sees the end of its input, which may as well be the end of a file. So a small
//! program stands beside, whose input ends with the client, however that ended, and does then what a
//! kernel does when a terminal hangs up: SIGHUP and SIGCONT to the session's leader and its group, and
//! to the group in the foreground.

use super::engine::{Engine, Program};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::{Duration, SystemTime};

/// How long a program runs before anything stands beside it: shorter ones are spared the cost.
pub(super) const GRACE: Duration = Duration::from_millis(200);

/// The variable by which the program is found.
const MARK: &str = "TAZPOD_CLIENT";

/// What the client says when the program has ended by itself.
const FAREWELL: &[u8] = b"ended\n";

/// Waits for the end of its input, then hangs up. What was started from outside of the container has no
/// parent in it: programs that inherited the mark are not meant. The program may not have begun yet.
const SCRIPT: &str = "\
read -r word && exit 0
tries=0
while [ $tries -lt 20 ]; do
  tries=$((tries + 1))
  for file in $(grep -ls -- \"$1\" /proc/[0-9]*/environ 2>/dev/null); do
    pid=${file#/proc/}
    pid=${pid%/environ}
    stat=$(cat \"/proc/$pid/stat\" 2>/dev/null) || continue
    read -r state parent group session terminal foreground rest <<EOT
${stat##*) }
EOT
    [ \"$parent\" = 0 ] && [ \"$session\" = \"$pid\" ] || continue
    [ \"$terminal\" != 0 ] && [ \"$foreground\" -gt 1 ] || foreground=$pid
    for signal in HUP CONT; do
      kill -s $signal -- \"-$foreground\"
      [ \"$foreground\" = \"$pid\" ] || kill -s $signal -- \"-$pid\"
    done
    exit 0
  done
  sleep 1
done";

/// Runs its arguments as a program that cannot hide whose it is: one that holds secrets lets nobody see
/// its environment, and would not be found. Signals of the terminal are the program's matter.
const LEADER: &str = "trap : INT QUIT; \"$@\"";

/// Stands beside a program. Whatever ends this process without [`Lifeline::release`] hangs up.
pub(super) struct Lifeline {
    socket: UnixStream,
}

/// Returns a mark that no other program has, and the program that carries it.
pub(super) fn marked(program: &Program) -> (String, Program) {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mark = format!("{MARK}={}-{}", std::process::id(), since.as_nanos());
    let mut program = program.clone();
    program.environment.push(mark.clone());
    (mark, program)
}

/// Puts a shell before a command that hides its environment.
pub(crate) fn led(command: Vec<String>) -> Vec<String> {
    let leader = ["/bin/sh", "-c", LEADER, "sh"].map(str::to_owned);
    leader.into_iter().chain(command).collect()
}

impl Lifeline {
    /// Starts beside the program with this mark; `None` where the container has no shell for it.
    pub(super) fn begin(
        engine: &dyn Engine,
        container: &str,
        program: &Program,
        mark: &str,
    ) -> Option<Self> {
        let beside = Program {
            command: ["/bin/sh", "-c", SCRIPT, "sh", mark].map(str::to_owned).to_vec(),
            user: program.user.clone(),
            folder: "/".to_owned(),
            environment: Vec::new(),
            tty: false,
            input: true,
        };
        let execution = engine.prepare(container, &beside).ok()?;
        let socket = engine.run(&execution, false).ok()?;
        Some(Self { socket })
    }

    /// Lets it go: the program has ended.
    pub(super) fn release(mut self) {
        // Without it nobody is found, which takes it a little longer.
        let _ = self.socket.write_all(FAREWELL);
    }
}
