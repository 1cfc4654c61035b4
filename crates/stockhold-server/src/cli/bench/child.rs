//! A server in a process of its own, so that its CPU time and its writes are its own.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

use super::{Doing, Fault, process::Of};

/// A running server; killed when it is dropped.
pub(super) struct Server {
    child: Child,
    /// Kept open, so that the server can go on printing.
    stdout: BufReader<ChildStdout>,
    log: PathBuf,
}

impl Server {
    /// Starts this very program with these arguments.
    pub(super) fn start<I>(arguments: I, folder: &Path) -> Result<Self, Fault>
    where
        I: IntoIterator<Item: AsRef<OsStr>>,
    {
        let program = std::env::current_exe().doing("finding this program")?;
        let log = folder.join("server.log");
        let stderr = File::create(&log).doing("a log for the server")?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
        let mut child = command.spawn().doing("starting a server")?;
        let stdout = child.stdout.take().ok_or_else(|| Fault::error("a server without stdout"))?;
        Ok(Self { child, stdout: BufReader::new(stdout), log })
    }

    /// Waits until it says where it listens.
    pub(super) fn address(&mut self) -> Result<String, Fault> {
        loop {
            let mut line = String::new();
            if self.stdout.read_line(&mut line).doing("reading from the server")? == 0 {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                return Err(Fault::error(format!("the server did not start: {}", log.trim())));
            }
            if let Some(address) = address_in(&line) {
                return Ok(address.to_owned());
            }
        }
    }

    pub(super) fn process(&self) -> Of {
        Of::Child(self.child.id())
    }
}

fn address_in(line: &str) -> Option<&str> {
    line.strip_prefix("listening on http://")?.split_whitespace().next()
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has no chance to tidy up: what it answered has to be there nevertheless.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_in_the_line_that_says_it_listens() {
        let line = "listening on http://127.0.0.1:7300 (ledger memory:)\n";
        assert_eq!(address_in(line), Some("127.0.0.1:7300"));
        assert_eq!(address_in("hello\n"), None);
    }
}
