//! The program as a child process, which belongs to one test.

use std::{
    path::Path,
    process::{Command, Output},
};

use stockhold_testkit::{ServerProcess, Signal, process};

use crate::support::{Connection, JSON, Reply, request};

pub(crate) fn stockhold(args: &[&str]) -> Command {
    process::command(Path::new(env!("CARGO_BIN_EXE_stockhold")), args)
}

pub(crate) fn run(args: &[&str]) -> Output {
    stockhold(args).output().unwrap()
}

/// A server that is killed when a test fails.
pub(crate) struct Serving {
    process: ServerProcess,
    pub(crate) address: String,
    pub(crate) line: String,
}

impl Serving {
    pub(crate) fn start(ledger: &str) -> Self {
        Self::start_with(ledger, &["--listen", "127.0.0.1:0"])
    }

    pub(crate) fn start_with(ledger: &str, args: &[&str]) -> Self {
        let mut command = stockhold(&["serve", "--ledger", ledger]);
        let process = ServerProcess::start(command.args(args));
        Self { address: process.address().to_owned(), line: process.line().to_owned(), process }
    }

    pub(crate) async fn ask(&self, method: &str, path: &str, body: &str) -> Reply {
        let mut connection = Connection::open(&self.address).await;
        connection.send(&request(&self.address, method, path, &[JSON], body.as_bytes())).await;
        connection.reply().await
    }

    /// The memory that it has, in KiB.
    pub(crate) fn memory(&self) -> u64 {
        let status = format!("/proc/{}/status", self.process.pid());
        let status = std::fs::read_to_string(status).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Sends a signal; answers the exit code and what was complained about.
    pub(crate) fn end(mut self, signal: Signal) -> (Option<i32>, String) {
        let code = self.process.end(signal).code();
        (code, self.process.log())
    }
}

/// The ledger in this file.
pub(crate) fn url(path: &Path) -> String {
    format!("sqlite:{}", path.display())
}
