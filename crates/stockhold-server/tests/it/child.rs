//! The program as a child process, which belongs to one test.

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use crate::support::{Connection, JSON, Reply, request};

pub(crate) fn stockhold(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stockhold"));
    command.args(args);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("STOCKHOLD_")) {
        command.env_remove(name);
    }
    command.env_remove("RUST_LOG");
    command
}

pub(crate) fn run(args: &[&str]) -> Output {
    stockhold(args).output().unwrap()
}

/// A server that is killed when a test fails.
pub(crate) struct Serving {
    child: Child,
    pub(crate) address: String,
    pub(crate) line: String,
}

impl Serving {
    pub(crate) fn start(ledger: &str) -> Self {
        Self::start_with(ledger, &["--listen", "127.0.0.1:0"])
    }

    pub(crate) fn start_with(ledger: &str, args: &[&str]) -> Self {
        let mut command = stockhold(&["serve", "--ledger", ledger]);
        command.args(args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.split_once("://").and_then(|(_, rest)| rest.split(' ').next());
        Self { address: address.unwrap_or_default().to_owned(), child, line }
    }

    pub(crate) async fn ask(&self, method: &str, path: &str, body: &str) -> Reply {
        let mut connection = Connection::open(&self.address).await;
        connection.send(&request(&self.address, method, path, &[JSON], body.as_bytes())).await;
        connection.reply().await
    }

    /// The memory that it has, in KiB.
    pub(crate) fn memory(&self) -> u64 {
        let status = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(status).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Sends a signal; answers the exit code and what was complained about.
    pub(crate) fn end(mut self, signal: &str) -> (Option<i32>, String) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &id]).status().unwrap().success());
        let status = self.child.wait().unwrap();
        let mut complaints = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut complaints).unwrap();
        (status.code(), complaints)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The ledger in this file.
pub(crate) fn url(path: &Path) -> String {
    format!("sqlite:{}", path.display())
}
