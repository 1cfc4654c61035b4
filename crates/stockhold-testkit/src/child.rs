//! A server process that belongs to one test.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fmt::{self, Display},
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{self, Command, ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    time::{try_until, until},
    user::User,
};

mod nursery;

/// A process with everything that it starts. It is killed when this is dropped, and ends with the
/// process of the test at the latest.
///
/// A process that was not waited for keeps its id, even when it has ended; so a signal never meets
/// somebody else's.
pub struct Child {
    name: &'static str,
    process: process::Child,
    log: PathBuf,
}

/// How a server is to run.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    /// What it is called in messages.
    pub(crate) name: &'static str,
    /// As whom; as ourselves if that is not said.
    pub(crate) user: Option<&'a User>,
    /// What it is sent when the process of the test ends.
    pub(crate) orphaned: &'static str,
    /// Where all that it says is appended.
    pub(crate) log: &'a Path,
}

impl Child {
    /// Starts a program. What it says goes to the log; its standard output too, unless the command
    /// has another place for it.
    pub(crate) fn start(run: &Run<'_>, command: &Command, output: Option<Stdio>) -> Self {
        let log = File::options().create(true).append(true).open(run.log);
        let log = log.unwrap_or_else(|e| panic!("opening {}: {e}", run.log.display()));
        let output = output.unwrap_or_else(|| log.try_clone().expect("a second handle").into());
        let mut wrapped = wrapped(run, command);
        wrapped.stdin(Stdio::null()).stdout(output).stderr(log);
        let process = nursery::spawn(wrapped);
        let process = process.unwrap_or_else(|e| panic!("starting {}: {e}", run.name));
        let mut child = Self { name: run.name, process, log: run.log.to_path_buf() };
        until(SOON, run.name, || child.is_unwrapped());
        child
    }

    /// Whether `setpriv` has done its part.
    fn is_unwrapped(&mut self) -> Result<(), &'static str> {
        // Not by its name: for a moment after it has begun it still has that of our thread.
        let program = fs::read_link(format!("/proc/{}/exe", self.pid())).unwrap_or_default();
        let is_ours = fs::read_link("/proc/self/exe").is_ok_and(|ours| ours == program);
        let wrapped = (is_ours || program.ends_with("setpriv")) && self.ended().is_none();
        if wrapped { Err("it is still setpriv") } else { Ok(()) }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// It and everything that it has started.
    pub(crate) fn family(&self) -> Vec<u32> {
        let mut family = descendants(self.pid());
        family.push(self.pid());
        family
    }

    /// What it has written so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(&self.log).map_or_else(|_| String::new(), |log| lossy(&log))
    }

    /// How it has ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().expect("a child can be asked about")
    }

    /// Sends a signal to this process alone, if it has not ended.
    pub fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            send(self.pid(), signal).expect("one's own child can be sent a signal");
        }
    }

    /// Kills it and everything that it has started (`kill -9`), and waits until all are gone.
    pub fn kill(&mut self) {
        if self.ended().is_some() {
            return;
        }
        self.stop_itself();
        let started = descendants(self.pid());
        started.iter().for_each(|pid| drop(send(*pid, Signal::KILL)));
        drop(self.process.kill());
        drop(self.process.wait());
        for pid in started {
            until(SOON, "the end of what was killed", || is_gone(pid));
        }
    }

    /// Kills it alone (`kill -9`), and waits until what it has started has noticed and ended.
    ///
    /// # Panics
    /// When something of it has not ended after 10 s.
    pub(crate) fn kill_alone(&mut self) {
        let started = descendants(self.pid());
        self.signal(Signal::KILL);
        drop(self.process.wait());
        for pid in started {
            until(SOON, "the end of an orphan", || is_gone(pid));
        }
    }

    /// Freezes it and everything that it has started (`SIGSTOP`). Nothing is told to its peers.
    pub fn pause(&mut self) {
        self.stop_itself();
        descendants(self.pid()).iter().for_each(|pid| drop(send(*pid, Signal::STOP)));
    }

    /// Lets it go on.
    pub fn resume(&mut self) {
        descendants(self.pid()).iter().for_each(|pid| drop(send(*pid, Signal::CONT)));
        self.signal(Signal::CONT);
    }

    /// Sends a signal that should end it, and waits until it has.
    ///
    /// # Panics
    /// When it has not ended within `limit`.
    pub fn end(&mut self, signal: Signal, limit: Duration) -> ExitStatus {
        self.signal(signal);
        until(limit, &format!("the end of {}", self.name), || self.ended().ok_or("it runs"))
    }

    /// The same for a server that is not needed any more: what does not end is killed later.
    pub(crate) fn try_end(&mut self, signal: Signal, limit: Duration) {
        self.signal(signal);
        let _ = try_until(limit, || self.ended().ok_or("it runs"));
    }

    /// Kills one of the processes that it has started (`kill -9`).
    ///
    /// # Panics
    /// When that process is not one of them.
    pub fn kill_one(&self, pid: u32) {
        assert!(descendants(self.pid()).contains(&pid), "{pid} is not of {}", self.name);
        send(pid, Signal::KILL).expect("it was there a moment ago");
    }

    /// Whether it has failed to start: the reason to wait no longer.
    pub(crate) fn must_run(&mut self) {
        if let Some(status) = self.ended() {
            panic!("{} has ended ({status}); it said:\n{}", self.name, self.log());
        }
    }

    /// A process that is stopped starts nothing, and keeps the ids of what it has started.
    fn stop_itself(&mut self) {
        self.signal(Signal::STOP);
        let pid = self.pid();
        until(SOON, "a stopped process", || match Stat::of(pid) {
            Some(Stat { state: 'T' | 't' | 'Z', .. }) | None => Ok(()),
            Some(stat) => Err(format!("{pid} is {}", stat.state)),
        });
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child").field("name", &self.name).field("pid", &self.pid()).finish()
    }
}

const SOON: Duration = Duration::from_secs(10);

/// The program under `setpriv`, which changes who it is, what happens to it when its parent dies,
/// and then becomes the program.
fn wrapped(run: &Run<'_>, command: &Command) -> Command {
    let mut wrapped = Command::new("setpriv");
    wrapped.args(["--pdeathsig", run.orphaned]);
    if let Some(user) = run.user {
        let (uid, gid) = (format!("--reuid={}", user.uid), format!("--regid={}", user.gid));
        wrapped.args([&uid, &gid, "--clear-groups"]);
    }
    wrapped.arg("--").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        set(&mut wrapped, name, value);
    }
    if let Some(folder) = command.get_current_dir() {
        wrapped.current_dir(folder);
    }
    wrapped
}

fn set(command: &mut Command, name: &OsStr, value: Option<&OsStr>) {
    match value {
        Some(value) => command.env(name, value),
        None => command.env_remove(name),
    };
}

fn send(pid: u32, signal: Signal) -> io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(kill_process(pid, signal)?)
}

/// What `/proc` says about a process.
struct Stat {
    state: char,
    parent: u32,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
        Self::parse(&lossy(&text))
    }

    /// The name in the second field may hold anything, so what follows is found from its end.
    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?.chars().next()?;
        Some(Self { state, parent: fields.next()?.parse().ok()? })
    }
}

/// All that a process has started, and what those have.
fn descendants(pid: u32) -> Vec<u32> {
    let mut children = BTreeMap::<u32, Vec<u32>>::new();
    for entry in fs::read_dir("/proc").expect("/proc is there").flatten() {
        let Some(child) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if let Some(stat) = Stat::of(child) {
            children.entry(stat.parent).or_default().push(child);
        }
    }
    let (mut found, mut next) = (Vec::new(), vec![pid]);
    while let Some(parent) = next.pop() {
        let of_parent = children.remove(&parent).unwrap_or_default();
        found.extend(&of_parent);
        next.extend(of_parent);
    }
    found
}

fn is_gone(pid: u32) -> Result<(), impl Display> {
    match Stat::of(pid) {
        None | Some(Stat { state: 'Z' | 'X', .. }) => Ok(()),
        Some(stat) => Err(format!("{pid} is {}", stat.state)),
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> (tempfile::TempDir, Child) {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let run = Run { name: "a shell", user: None, orphaned: "KILL", log: &log };
        let child = Child::start(&run, Command::new("sh").args(["-c", script]), None);
        (folder, child)
    }

    fn one_descendant(child: &Child) -> u32 {
        let pid = child.pid();
        until(SOON, "a descendant", || match descendants(pid)[..] {
            [one] => Ok(one),
            ref all => Err(format!("{all:?}")),
        })
    }

    #[test]
    fn whatever_a_child_has_started_is_killed_with_it() {
        let (_folder, mut child) = shell("setsid sleep 600; true");
        let sleeper = one_descendant(&child);
        child.kill();
        assert!(is_gone(sleeper).is_ok());
        assert!(child.ended().is_some());
    }

    #[test]
    fn a_paused_child_does_nothing_until_it_is_resumed() {
        let (_folder, mut child) = shell("trap 'kill $!' TERM; sleep 600 & wait");
        let sleeper = one_descendant(&child);
        child.pause();
        let state = |pid| Stat::of(pid).unwrap().state;
        until(SOON, "a stop", || (state(sleeper) == 'T').then_some(()).ok_or("not yet"));
        child.signal(Signal::TERM);
        assert_eq!((state(child.pid()), child.ended()), ('T', None));
        child.resume();
        until(SOON, "an end", || child.ended().ok_or("not yet"));
    }

    #[test]
    fn a_child_ends_with_the_process_that_has_forgotten_it() {
        const FORGETFUL: &str = "STOCKHOLD_TESTKIT_FORGETFUL";
        if std::env::var_os(FORGETFUL).is_some() {
            let (_folder, child) = shell("exec sleep 600");
            io::Write::write_fmt(&mut io::stdout(), format_args!("child {}\n", child.pid()))
                .unwrap();
            std::mem::forget(child);
            return;
        }
        let this_test = "child::tests::a_child_ends_with_the_process_that_has_forgotten_it";
        let mut process = Command::new(std::env::current_exe().unwrap());
        process.args(["--exact", this_test, "--nocapture"]).env(FORGETFUL, "yes");
        let said = lossy(&process.output().unwrap().stdout);
        let pid = said.split_once("child ").unwrap().1.split_whitespace().next().unwrap();
        until(SOON, "the end of the child", || is_gone(pid.parse().unwrap()));
    }

    #[test]
    fn a_child_that_does_not_end_is_told() {
        let (_folder, mut child) = shell("trap '' TERM; echo ready; while :; do sleep 1; done");
        until(SOON, "a shell", || child.log().contains("ready").then_some(()).ok_or("not yet"));
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            child.end(Signal::TERM, Duration::from_millis(50))
        }));
        assert!(ended.is_err());
    }

    #[test]
    fn a_name_with_brackets_and_spaces_is_read() {
        let stat = Stat::parse("12 (a ) b) S 7 12 12 0").unwrap();
        assert_eq!((stat.state, stat.parent), ('S', 7));
    }

    #[test]
    #[should_panic(expected = "is not of a shell")]
    fn nobody_elses_process_is_killed() {
        let (_folder, child) = shell("exec sleep 600");
        child.kill_one(process::id());
    }
}
