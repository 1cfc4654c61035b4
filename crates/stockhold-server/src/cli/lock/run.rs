//! `stockhold lock run`: a command that runs while nobody else runs it.

use std::{
    ffi::OsString, future::poll_fn, io::IsTerminal, os::unix::process::ExitStatusExt,
    process::ExitStatus, sync::Arc, task::Poll, time::Duration,
};

use clap::Args;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use stockhold::{
    FailureKind, LockName,
    clock::{Clock, SystemClock},
    lock::{Lease, LeaseTtl, LockError, Locks},
};
use tokio::{
    process::{Child, Command},
    signal::unix::{self, SignalKind, signal},
    time::timeout,
};

use super::backend::RemoteBackend;
use crate::cli::{
    Doing, Exit, Fault,
    remote::{Remote, one_thread},
    when::{lease_ttl, wait},
};

/// Runs a command while nobody else runs one under the same name.
///
/// Waits for its turn, renews the lock while the command runs, and ends as the command does. If the lock cannot be
/// renewed, the command is ended before the lock is somebody else's: first asked (SIGTERM), then killed; then, and if
/// there was no turn in time, it ends with 125. 126 and 127 say that the command cannot be run, or is not there.
///
/// A machine that stands still for longer than the lock lives cannot notice that in time; and if this program is
/// killed by SIGKILL, the command is as well, but not what that has started. What must not be written twice checks
/// `STOCKHOLD_FENCE`, EPOCH.SEQ: whoever got the lock later has the higher one.
#[derive(Debug, Args)]
#[command(after_help = RUN_EXAMPLES)]
pub(super) struct Run {
    /// What the lock is called.
    name: LockName,

    /// For how long others wait if this machine dies: 100ms to 60s.
    #[arg(long, default_value = "30s", value_parser = lease_ttl, value_name = "TIME")]
    ttl: LeaseTtl,

    /// How long to wait for one's turn; 0s: not at all [default: for as long as it takes]
    #[arg(long, value_parser = wait, value_name = "TIME")]
    wait: Option<Duration>,

    /// The command, and its arguments.
    #[arg(last = true, required = true, num_args = 1.., value_name = "COMMAND")]
    command: Vec<OsString>,
}

const RUN_EXAMPLES: &str = "\
Examples:
  One machine of several makes the nightly report; if it dies, another may begin 10 s later:
    stockhold lock run nightly-report --ttl 10s -- ./report.sh --full
  The command hands its fence to the database, which refuses a lower one than it has seen:
    stockhold lock run reindex -- sh -c 'psql -v fence=$STOCKHOLD_FENCE -f reindex.sql'";

/// The server lets an attempt wait for so long at most: whoever dies meanwhile is granted nothing afterwards.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Between two attempts while the server, or whoever grants its locks, is away.
const AGAIN: Duration = Duration::from_millis(500);
/// A command that is asked to end has a tenth of the lock's life, and so long at most.
const LONGEST_FAREWELL: Duration = Duration::from_secs(2);
/// Whoever is killed is waited for so long.
const LONGEST_DEATH: Duration = Duration::from_secs(2);
/// Nothing runs for longer than that under one lock.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 60 * 60);

impl Run {
    pub(super) fn run(self, remote: &Remote) -> Result<Exit, Fault> {
        one_thread()?.block_on(async {
            let lease = self.turn(remote).await?;
            let ended = self.run_under(&lease).await;
            lease.release().await;
            ended
        })
    }

    async fn turn(&self, remote: &Remote) -> Result<Lease, Fault> {
        let connected = remote.connection().await;
        let (connection, url) = connected.map_err(|fault| fault.ending(Exit::NoLock))?;
        let wait = LONGEST_WAIT.min(remote.timeout() / 2);
        let until = SystemClock.boot().saturating_add(self.wait.unwrap_or(LONGEST));
        let locks = Locks::new(Arc::new(RemoteBackend::new(connection, url, wait, until)));
        loop {
            let patience = until.saturating_sub(SystemClock.boot());
            let error = match locks.acquire(&self.name, self.ttl, patience).await {
                // The time that it has waited has gone from the lease.
                Ok(lease) => match lease.renew().await {
                    Ok(()) => return Ok(lease),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            let passes = match &error {
                LockError::Unavailable(failure) => failure.kind == FailureKind::Unavailable,
                LockError::Lost => true,
                LockError::Busy { .. } => false,
            };
            if !passes || patience <= AGAIN {
                return Err(not_had(&self.name, &error));
            }
            SystemClock.sleep(AGAIN).await;
        }
    }

    async fn run_under(&self, lease: &Lease) -> Result<Exit, Fault> {
        let mut child = Process::spawn(&self.command, &self.name, lease)?;
        let alive = lease.keep_alive(LONGEST);
        let farewell = (self.ttl.get() / 10).min(LONGEST_FAREWELL);
        let status = tokio::select! {
            status = child.wait() => status?,
            () = lease.ends_within(farewell) => return child.end(lease, &self.name).await,
        };
        drop(alive);
        Ok(Exit::Of(code(status)))
    }
}

/// What a shell says of it.
fn code(status: ExitStatus) -> u8 {
    let signal = || status.signal().map(|signal| signal.saturating_add(128));
    let code = status.code().or_else(signal).unwrap_or(1);
    u8::try_from(code).unwrap_or(u8::MAX)
}

fn not_had(name: &LockName, error: &LockError) -> Fault {
    let words = match error {
        LockError::Busy { left } => format!(
            "somebody else has the lock {name}, for {left:.1?} unless it is renewed: see stockhold lock inspect {name}"
        ),
        LockError::Unavailable(failure) => failure.message.clone(),
        LockError::Lost => format!("the lock {name} was lost before the command began"),
    };
    Fault::new(Exit::NoLock, words)
}

/// What the command is told when this process is.
fn passed_on() -> [(SignalKind, Signal); 6] {
    [
        (SignalKind::terminate(), Signal::TERM),
        (SignalKind::hangup(), Signal::HUP),
        (SignalKind::interrupt(), Signal::INT),
        (SignalKind::quit(), Signal::QUIT),
        (SignalKind::user_defined1(), Signal::USR1),
        (SignalKind::user_defined2(), Signal::USR2),
    ]
}

/// The next that comes of these.
async fn next(listening: &mut [(unix::Signal, Signal)]) -> Signal {
    poll_fn(|cx| {
        let mut came = listening
            .iter_mut()
            .filter_map(|(signal, told)| signal.poll_recv(cx).is_ready().then_some(*told));
        came.next().map_or(Poll::Pending, Poll::Ready)
    })
    .await
}

/// The command, with all that it starts, if it is not somebody's at a terminal: there, it has to stay in the group of
/// the terminal to be typed to.
struct Process {
    child: Child,
    /// Also when it has ended: what it has left behind may not have.
    id: Option<Pid>,
    has_group: bool,
}

impl Process {
    fn spawn(command: &[OsString], name: &LockName, lease: &Lease) -> Result<Self, Fault> {
        let has_group = !std::io::stdin().is_terminal();
        // By this name it is found also where another version has been installed since.
        let mut run = Command::new("/proc/self/exe");
        let this_process = std::process::id().to_string();
        run.args([super::INSTEAD, "--of", &this_process, "--"]).args(command).kill_on_drop(true);
        run.env("STOCKHOLD_LOCK", name.as_str());
        run.env("STOCKHOLD_FENCE", lease.fence().to_string());
        if has_group {
            run.process_group(0);
        }
        let child = run.spawn().doing("no process to be had")?;
        let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Ok(Self { child, id, has_group })
    }

    /// Until it ends. What this process is told by a signal, it is told as well.
    async fn wait(&mut self) -> Result<ExitStatus, Fault> {
        let listen = |(kind, told)| Ok((signal(kind).doing("no signals to be had")?, told));
        let mut listening =
            passed_on().map(listen).into_iter().collect::<Result<Vec<_>, Fault>>()?;
        loop {
            tokio::select! {
                status = self.child.wait() => return status.doing("waiting for the command"),
                told = next(&mut listening) => self.pass_on(told),
            }
        }
    }

    fn pass_on(&self, signal: Signal) {
        // These a terminal tells it as well.
        let is_typed = matches!(signal, Signal::INT | Signal::QUIT);
        if self.has_group || !is_typed {
            self.tell(signal);
        }
    }

    fn tell(&self, signal: Signal) {
        // If it has ended by now, there is nobody to be told.
        let _ = match self.id {
            Some(id) if self.has_group => kill_process_group(id, signal),
            Some(id) if self.child.id().is_some() => kill_process(id, signal),
            _ => Ok(()),
        };
    }

    /// The lock is lost, or about to be: it is asked to end, and killed before another one begins.
    async fn end(mut self, lease: &Lease, name: &LockName) -> Result<Exit, Fault> {
        self.tell(Signal::TERM);
        tokio::select! {
            _ = self.child.wait() => {}
            () = lease.ends_within(Duration::ZERO) => {}
        }
        // Also what it has started, and left behind.
        self.tell(Signal::KILL);
        // A process that is killed ends as soon as the kernel comes to it; unless it is another user's, or waits for a
        // disk.
        let ended = timeout(LONGEST_DEATH, self.child.wait()).await;
        let words = match ended {
            Ok(_) => ": the command was ended",
            Err(_) => ", and the command cannot be ended: it still runs",
        };
        Err(Fault::new(Exit::NoLock, format!("the lock {name} could not be kept{words}")))
    }
}
