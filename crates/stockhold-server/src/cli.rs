//! The command line.

mod answer;
mod backup;
mod basket;
mod bench;
mod completions;
mod demo;
mod disk;
mod doctor;
mod fault;
mod hold;
mod key;
mod ledger_file;
mod ledger_url;
mod lock;
mod migrate_ledger;
mod movements;
mod openapi;
mod pages;
mod path;
mod refusal;
mod remote;
mod repeat;
mod serve;
mod stock;
mod table;
mod url;
mod verify;
mod when;

use std::{
    io::{ErrorKind, Write},
    process::ExitCode,
};

use clap::{CommandFactory, Parser, Subcommand};

pub use self::ledger_url::{LedgerUrl, LedgerUrlParser};
use self::{fault::Doing, remote::Remote};
pub(crate) use self::{
    fault::{Exit, Fault},
    ledger_url::{Opening, open_ledger},
};
use crate::{
    settings::LogFormat,
    telemetry::{self, Log},
};

/// Holds stock for a customer while they pay, and never oversells.
#[derive(Debug, Parser)]
#[command(name = "stockhold", version, after_help = AFTER_HELP)]
struct Cli {
    /// What to log, on stderr: warn, info, stockhold=debug, ...
    #[arg(long, env = "RUST_LOG", global = true, value_name = "FILTER")]
    log: Option<String>,

    #[command(flatten)]
    remote: Remote,

    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Examples:
  A flash sale on a throw-away ledger, and the proof that nothing was sold twice:
    stockhold demo
  The service, on this machine only:
    stockhold serve --ledger sqlite:shop.db
  Ten mugs, of which a cart takes two:
    stockhold stock set MUG --on-hand 10
    stockhold hold place --owner cart-981 --line MUG=2

It ends with 0 if it was done, 1 if not, 2 if the command makes no sense, 3 if there is not enough
stock, 4 if the hold has expired, 5 if an invariant is broken; `lock run` as its command does, or
with 125 if it did not have the lock. `stockhold help COMMAND` says more.";

#[derive(Debug, Subcommand)]
enum Command {
    Backup(backup::Backup),
    Bench(bench::Bench),
    #[command(hide = true)]
    BenchInstance(bench::Instance),
    #[command(hide = true)]
    BenchNoop(bench::Noop),
    Completions(completions::Completions),
    Demo(demo::Demo),
    Doctor(doctor::Doctor),
    #[command(name = "hold")]
    Hold(hold::HoldCommand),
    Key(key::Key),
    #[command(name = "lock")]
    Lock(lock::LockCommand),
    #[command(hide = true)]
    LockInstead(lock::Instead),
    #[command(name = "migrate-ledger")]
    MigrateLedger(migrate_ledger::MigrateLedger),
    Movements(movements::Movements),
    #[command(name = "openapi")]
    OpenApi(openapi::OpenApi),
    Serve(serve::Serve),
    #[command(name = "stock")]
    Stock(stock::StockCommand),
    Verify(verify::Verify),
}

impl Command {
    fn run(self, log: Option<String>, remote: &Remote) -> Result<Exit, Fault> {
        // The service has settings, which may say something else.
        let _log = match self {
            Self::Serve(_) => None,
            _ => Some(start_log(log.as_deref().unwrap_or("warn"), LogFormat::Text)?),
        };
        match self {
            Self::Backup(backup) => backup.run(),
            Self::Bench(bench) => bench.run(),
            Self::BenchInstance(instance) => instance.run(),
            Self::BenchNoop(noop) => noop.run(),
            Self::Completions(completions) => completions.run(Cli::command()),
            Self::Demo(demo) => demo.run(),
            Self::Doctor(doctor) => doctor.run(remote),
            Self::Hold(hold) => hold.run(remote),
            Self::Key(key) => key.run(),
            Self::Lock(lock) => lock.run(remote),
            Self::LockInstead(instead) => instead.run(),
            Self::MigrateLedger(migrate) => migrate.run(),
            Self::Movements(movements) => movements.run(remote),
            Self::OpenApi(openapi) => openapi.run(),
            Self::Serve(serve) => serve.run(log),
            Self::Stock(stock) => stock.run(remote),
            Self::Verify(verify) => verify.run(),
        }
    }
}

/// Runs what the arguments of the process say.
#[must_use]
pub fn main() -> ExitCode {
    let Cli { log, remote, command } = Cli::parse();
    match command.run(log, &remote) {
        Ok(exit) => exit.into(),
        Err(fault) => {
            if let Some(answer) = &fault.answer {
                // If nobody listens, there is still the exit code.
                let _ = say(answer);
            }
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
    use super::*;

    #[test]
    fn the_arguments_fit_together() {
        Cli::command().debug_assert();
    }

    /// All commands that can be given, by what is typed.
    fn commands(command: &clap::Command, typed: &str, found: &mut Vec<(String, clap::Command)>) {
        for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
            let typed = format!("{typed} {}", inner.get_name());
            commands(inner, &typed, found);
            found.push((typed, inner.clone()));
        }
    }

    #[test]
    fn every_command_and_option_says_what_it_is_for() {
        let mut found = Vec::new();
        commands(&Cli::command(), "stockhold", &mut found);
        assert!(found.len() > 25, "{}", found.len());
        for (typed, command) in found {
            assert!(command.get_about().is_some(), "{typed}");
            for option in command.get_arguments() {
                assert!(option.get_help().is_some(), "{typed}: {}", option.get_id());
            }
        }
    }

    #[test]
    fn no_option_of_a_command_has_the_id_of_one_of_all_commands() {
        let all: Vec<_> = Cli::command().get_arguments().map(|a| a.get_id().clone()).collect();
        let mut found = Vec::new();
        commands(&Cli::command(), "stockhold", &mut found);
        for (typed, command) in found {
            let clash = command.get_arguments().find(|option| all.contains(option.get_id()));
            assert!(clash.is_none(), "{typed}: {clash:?}");
        }
    }
}
