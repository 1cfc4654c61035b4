//! A `stockhold` server in a process of its own.

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, ExitStatus},
    time::Duration,
};

use rustix::process::Signal;

use crate::{
    child::{Child, Run},
    folder::Folder,
    time::until,
};

/// A running server, which is killed when this is dropped.
#[derive(Debug)]
pub struct ServerProcess {
    child: Child,
    address: String,
    line: String,
    _folder: Folder,
}

/// The program with these arguments, without what the environment of the test says about it.
#[must_use]
pub fn command(program: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).env_remove("RUST_LOG");
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("STOCKHOLD_")) {
            command.env_remove(name);
        }
    }
    command
}

impl ServerProcess {
    /// Starts a server, and waits until it says where it listens. Give it `--listen 127.0.0.1:0`
    /// for a port of its own.
    ///
    /// # Panics
    /// When it does not say that within 30 s: with what it said instead.
    #[must_use]
    pub fn start(command: &Command) -> Self {
        let folder = Folder::new(None, None);
        let (said, log) = (folder.join("said"), folder.join("log"));
        let output = File::create(&said).expect("a file for what a server says");
        let run = Run { name: "stockhold", user: None, orphaned: "KILL", log: &log };
        let mut child = Child::start(&run, command, Some(output.into()));
        let line = until(START, "a server that listens", || first_line(&said, &mut child));
        let address = line.split_once("://").and_then(|(_, rest)| rest.split(' ').next());
        let address = address.unwrap_or_default().to_owned();
        Self { child, address, line, _folder: folder }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The line that says so.
    #[must_use]
    pub fn line(&self) -> &str {
        &self.line
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// What it has written to standard error.
    #[must_use]
    pub fn log(&self) -> String {
        self.child.log()
    }

    /// How it has ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.ended()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.child.kill();
    }

    /// Freezes it (`SIGSTOP`).
    pub fn pause(&mut self) {
        self.child.pause();
    }

    /// Lets it go on.
    pub fn resume(&mut self) {
        self.child.resume();
    }

    /// Sends a signal that should end it; answers how it has ended.
    ///
    /// # Panics
    /// When it has not ended after 60 s.
    pub fn end(&mut self, signal: Signal) -> ExitStatus {
        self.child.end(signal, STOP)
    }

    /// Ends it in good order.
    ///
    /// # Panics
    /// As [`end`](Self::end).
    pub fn stop(&mut self) -> ExitStatus {
        self.end(Signal::TERM)
    }
}

const START: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(60);

fn first_line(said: &Path, child: &mut Child) -> Result<String, &'static str> {
    child.must_run();
    let said = fs::read_to_string(said).unwrap_or_default();
    match said.split_inclusive('\n').next() {
        Some(line) if line.ends_with('\n') => Ok(line.to_owned()),
        _ => Err("it says nothing"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(script: &str) -> ServerProcess {
        ServerProcess::start(&command(Path::new("sh"), &["-c", script]))
    }

    const SERVER: &str = "echo complaint >&2; echo 'listening on http://127.0.0.1:7300 (x)'; \
                          trap 'exit 3' TERM; while :; do sleep 0.01; done";

    #[test]
    fn a_server_says_where_it_listens_and_how_it_ends() {
        let mut server = server(SERVER);
        assert_eq!(server.address(), "127.0.0.1:7300");
        assert_eq!(server.line(), "listening on http://127.0.0.1:7300 (x)\n");
        assert_eq!(server.log(), "complaint\n");
        assert_eq!(server.stop().code(), Some(3));
    }

    #[test]
    fn a_killed_server_says_nothing_more() {
        let mut server = server(SERVER);
        server.kill();
        assert_eq!(server.end(Signal::TERM).code(), None);
    }

    #[test]
    #[should_panic(expected = "stockhold has ended (exit status: 7); it said:\nno such ledger")]
    fn a_server_that_does_not_start_says_why() {
        let _ = server("echo no such ledger >&2; exit 7");
    }
}
