//! The file of a ledger, for commands that need no server.

use std::path::Path;

use super::{Fault, LedgerUrl};

/// Which ledger; it may be open in a server meanwhile.
#[derive(Debug, clap::Args)]
pub(super) struct LedgerFile {
    /// Which ledger: sqlite:PATH
    #[arg(
        long,
        env = "STOCKHOLD_LEDGER",
        default_value = "sqlite:stockhold.db",
        value_name = "URL"
    )]
    ledger: LedgerUrl,
}

impl LedgerFile {
    pub(super) fn path(&self) -> Result<&Path, Fault> {
        match &self.ledger {
            LedgerUrl::Sqlite(path) => Ok(path),
            LedgerUrl::Memory => {
                Err(Fault::usage("--ledger: a ledger in memory is gone with its server"))
            }
        }
    }
}
