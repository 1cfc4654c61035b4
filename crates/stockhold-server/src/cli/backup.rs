//! `stockhold backup`: a copy of a ledger, also while it is in use.

use std::path::PathBuf;

use serde::Serialize;
use stockhold::ledger::sqlite::SqliteLedger;

use super::{Doing, Exit, Fault, ledger_file::LedgerFile, say};

/// Copies a ledger into a new file, also while a server has it open.
///
/// The copy is one consistent moment, and there only when it is complete. It is a ledger like any
/// other: stop the server, put it in the place of the old file, and start the server again.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Backup {
    /// The new file; it must not exist.
    path: PathBuf,

    #[command(flatten)]
    ledger: LedgerFile,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  Every night, while the shop is open:
    stockhold backup /backup/shop-$(date +%F).db --ledger sqlite:/var/lib/stockhold/shop.db
  Is the copy sound?
    stockhold verify --ledger sqlite:/backup/shop-2026-11-23.db";

impl Backup {
    pub(super) fn run(self) -> Result<Exit, Fault> {
        let bytes = SqliteLedger::backup_file(self.ledger.path()?, &self.path)?;
        say(&if self.json { self.as_json(bytes)? } else { self.as_text(bytes) })?;
        Ok(Exit::Ok)
    }

    fn as_text(&self, bytes: u64) -> String {
        let mib = bytes.div_ceil(1 << 20);
        format!("{} is complete ({mib} MiB); to check it: stockhold verify", self.path.display())
    }

    fn as_json(&self, bytes: u64) -> Result<String, Fault> {
        #[derive(Serialize)]
        struct Done<'a> {
            path: &'a std::path::Path,
            bytes: u64,
        }
        serde_json::to_string(&Done { path: &self.path, bytes }).doing("writing JSON")
    }
}
