//! Which ledger, for commands that need no server.

use std::path::Path;

use super::{Fault, LedgerUrl};

/// Which ledger; it may be open in a server meanwhile.
#[derive(Debug, clap::Args)]
pub(super) struct LedgerFile {
    /// Which ledger: sqlite:PATH
    #[arg(
        long,
        env = "STOCKHOLD_LEDGER",
        hide_env_values = true,
        default_value = "sqlite:stockhold.db",
        value_name = "URL"
    )]
    ledger: LedgerUrl,
}

/// The same where it may be in Postgres as well.
#[derive(Debug, clap::Args)]
pub(super) struct LedgerAnywhere {
    /// Which ledger: sqlite:PATH or postgres://...
    #[arg(
        long,
        env = "STOCKHOLD_LEDGER",
        hide_env_values = true,
        default_value = "sqlite:stockhold.db",
        value_name = "URL"
    )]
    pub(super) ledger: LedgerUrl,
}

impl LedgerFile {
    pub(super) fn path(&self) -> Result<&Path, Fault> {
        match &self.ledger {
            LedgerUrl::Sqlite(path) => Ok(path),
            LedgerUrl::Memory => Err(in_memory()),
            LedgerUrl::Postgres(_) => Err(Fault::usage(
                "--ledger: this is for a ledger in a file; docs/operations.md says how to back up \
                 Postgres",
            )),
        }
    }
}

pub(super) fn in_memory() -> Fault {
    Fault::usage("--ledger: a ledger in memory is gone with its server")
}
