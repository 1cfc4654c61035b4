//! The command line.

mod bench;
mod demo;
mod key;
mod serve;
mod verify;

use std::{
    error::Error as _,
    fmt,
    io::{ErrorKind, Write},
    path::PathBuf,
    process::ExitCode,
    str::FromStr,
    sync::Arc,
};

use clap::{Parser, Subcommand};
use stockhold::{
    Failure,
    ledger::{
        Ledger,
        memory::MemoryLedger,
        sqlite::{SqliteLedger, SqliteOptions},
    },
};

use crate::{
    settings::LogFormat,
    telemetry::{self, Log},
};

/// Holds stock for a customer while they pay, and never oversells.
#[derive(Debug, Parser)]
#[command(name = "stockhold", version)]
struct Cli {
    /// What to log, on stderr: warn, info, stockhold=debug, ...
    #[arg(long, env = "RUST_LOG", global = true, value_name = "FILTER")]
    log: Option<String>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Bench(bench::Bench),
    #[command(hide = true)]
    BenchNoop(bench::Noop),
    Demo(demo::Demo),
    Key(key::Key),
    Serve(serve::Serve),
    Verify(verify::Verify),
}

impl Command {
    fn run(self, log: Option<String>) -> Result<Exit, Fault> {
        // The service has settings, which may say something else.
        let _log = match self {
            Self::Serve(_) => None,
            _ => Some(start_log(log.as_deref().unwrap_or("warn"), LogFormat::Text)?),
        };
        match self {
            Self::Bench(bench) => bench.run(),
            Self::BenchNoop(noop) => noop.run(),
            Self::Demo(demo) => demo.run(),
            Self::Key(key) => key.run(),
            Self::Serve(serve) => serve.run(log),
            Self::Verify(verify) => verify.run(),
        }
    }
}

/// Runs what the arguments of the process say.
#[must_use]
pub fn main() -> ExitCode {
    let Cli { log, command } = Cli::parse();
    match command.run(log) {
        Ok(exit) => exit.into(),
        Err(fault) => {
            complain(&fault);
            fault.exit.into()
        }
    }
}

fn start_log(filter: &str, format: LogFormat) -> Result<Log, Fault> {
    telemetry::start(filter, format).map_err(|e| Fault::usage(format!("the log filter: {e}")))
}

#[expect(clippy::print_stderr, reason = "this is where the program speaks to its user")]
fn complain(fault: &Fault) {
    eprintln!("error: {fault}");
}

/// Prints a line. Who stopped listening, as `| head` does, has heard enough.
pub(crate) fn say(line: &str) -> Result<(), Fault> {
    match writeln!(std::io::stdout(), "{line}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Fault::error(format!("cannot print: {error}")))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// How the process ends, apart from clap's own 2 for usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Ok = 0,
    Error = 1,
    Usage = 2,
    InvariantBroken = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command was not carried out.
#[derive(Debug)]
pub(crate) struct Fault {
    exit: Exit,
    message: String,
}

impl Fault {
    /// It could not be done.
    pub(crate) fn error(message: impl Into<String>) -> Self {
        Self { exit: Exit::Error, message: message.into() }
    }

    /// It was not asked for in a way that makes sense.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, message: message.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        match failure.source() {
            Some(source) => Self::error(format!("{failure}: {source}")),
            None => Self::error(failure.to_string()),
        }
    }
}

/// Which ledger: `sqlite:PATH` or `memory:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LedgerUrl {
    /// A ledger that forgets everything in the end.
    Memory,
    /// A ledger in this file.
    Sqlite(PathBuf),
}

impl FromStr for LedgerUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("memory", "")) => Ok(Self::Memory),
            Some(("sqlite", path)) if !path.is_empty() => Ok(Self::Sqlite(path.into())),
            _ => Err("a ledger is sqlite:PATH or memory:".to_owned()),
        }
    }
}

impl fmt::Display for LedgerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory:"),
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
        }
    }
}

/// Opens a ledger; the one place that knows all of them. Blocks.
pub(crate) fn open_ledger(
    url: &LedgerUrl,
    options: SqliteOptions,
) -> Result<Arc<dyn Ledger>, Failure> {
    match url {
        LedgerUrl::Memory => Ok(Arc::new(MemoryLedger::new(options.limits, options.clock))),
        LedgerUrl::Sqlite(path) => Ok(Arc::new(SqliteLedger::open(path, options)?)),
    }
}

/// A runtime for commands that wait for more than one thing.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Fault> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers())
        .enable_all()
        .build()
        .map_err(|e| Fault::error(format!("no threads to be had: {e}")))
}

/// One core is left to the ledger's thread, which is what a hold waits for.
fn workers() -> usize {
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    cores.saturating_sub(1).max(1)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_fit_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_ledger_is_named_by_its_url() {
        for url in ["memory:", "sqlite:stockhold.db", "sqlite:/var/lib/a b.db"] {
            assert_eq!(url.parse::<LedgerUrl>().unwrap().to_string(), url);
        }
        for url in ["", "memory", "memory:x", "sqlite:", "stockhold.db", "redis://x"] {
            assert!(url.parse::<LedgerUrl>().is_err(), "{url}");
        }
    }
}
