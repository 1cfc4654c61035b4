//! The files that are measured on: made once, copied for every row, and looked at afterwards.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use rusqlite::Connection;
use stockhold::{
    Engine, ItemKey, Quantity, Sku,
    ledger::sqlite::{SqliteLedger, SqliteOptions},
};
use tokio::task::JoinSet;

use super::{
    super::runtime,
    Doing, Fault, bare,
    plan::{Items, Job},
    process,
    row::{Row, ratio},
};

/// More than anybody takes in a run.
const PLENTY: i64 = 1_000_000_000;

/// Where ledgers are made and copied.
pub(super) struct Shelf {
    folder: PathBuf,
    empty: PathBuf,
    preloaded: Option<PathBuf>,
}

impl Shelf {
    /// Makes a ledger that has all items, and one with that many ended holds, if any.
    pub(super) fn new(folder: &Path, holds: u64) -> Result<Self, Fault> {
        let empty = folder.join("empty.db");
        runtime()?.block_on(stock_up(&empty))?;
        let preloaded = if holds > 0 { Some(preload(folder, &empty, holds)?) } else { None };
        Ok(Self { folder: folder.to_owned(), empty, preloaded })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A ledger for this row, which nobody else uses.
    pub(super) fn take(&self, job: Job) -> Result<LedgerFile, Fault> {
        let source = match &self.preloaded {
            Some(preloaded) if job.is_preloaded() => preloaded,
            _ => &self.empty,
        };
        LedgerFile::copy(source, self.folder.join("row.db"))
    }
}

async fn stock_up(path: &Path) -> Result<(), Fault> {
    let ledger = SqliteLedger::open(path, SqliteOptions::default())?;
    let engine = Engine::builder(Arc::new(ledger)).start()?;
    let mut tasks = JoinSet::new();
    for (items, on_hand) in [(Items::Hot, PLENTY), (Items::Many, PLENTY), (Items::SoldOut, 0)] {
        let on_hand = Quantity::new(on_hand).doing("a quantity")?;
        for sku in items.skus() {
            let item = ItemKey::at_default(Sku::new(sku).doing("a SKU")?);
            let engine = engine.clone();
            tasks.spawn(async move { engine.set_policy(&item, Some(on_hand), None).await });
        }
    }
    while let Some(set) = tasks.join_next().await {
        set.doing("a task")?.doing("creating a stock item")?;
    }
    Ok(engine.close().await?)
}

fn preload(folder: &Path, empty: &Path, holds: u64) -> Result<PathBuf, Fault> {
    let path = folder.join("preloaded.db");
    fs::copy(empty, &path).doing("copying a ledger")?;
    bare::preload(&path, holds).doing("preloading")?;
    check(&path)?;
    Ok(path)
}

/// The invariants; how many holds were looked at.
fn check(path: &Path) -> Result<u64, Fault> {
    let report = SqliteLedger::verify_file(path)?;
    match report.violations.first() {
        None => Ok(report.holds),
        Some(first) => {
            let found = report.violations_found;
            Err(Fault::error(format!("the ledger has {found} violations: {first}")))
        }
    }
}

/// A copy of a ledger; removed when it is dropped.
pub(super) struct LedgerFile {
    path: PathBuf,
    before: Counts,
    written_before: u64,
}

impl LedgerFile {
    fn copy(source: &Path, path: PathBuf) -> Result<Self, Fault> {
        fs::copy(source, &path).doing("copying a ledger")?;
        // So that the copy is not written out while the row is measured.
        fs::File::open(&path).and_then(|file| file.sync_all()).doing("syncing a ledger")?;
        let before = Counts::of(&path).doing("counting rows")?;
        let written_before = process::Of::Ourselves.bytes_written()?;
        Ok(Self { path, before, written_before })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that this process wrote since the copy was made.
    pub(super) fn bytes_written(&self) -> Result<u64, Fault> {
        Ok(process::Of::Ourselves.bytes_written()?.saturating_sub(self.written_before))
    }

    /// Verifies what was left behind, and notes what a hold cost.
    pub(super) fn account(&self, row: &mut Row, bytes: u64) -> Result<(), Fault> {
        row.holds_verified = Some(check(&self.path)?);
        let after = Counts::of(&self.path).doing("counting rows")?;
        let holds = after.holds.saturating_sub(self.before.holds);
        if row.job.items != Items::SoldOut && holds < row.operations {
            let answered = row.operations;
            return Err(Fault::error(format!("{answered} holds were answered, {holds} are there")));
        }
        row.rows_per_hold = ratio((after.rows - self.before.rows) as f64, holds as f64);
        row.bytes_per_hold = ratio(bytes as f64, holds as f64);
        Ok(())
    }
}

impl Drop for LedgerFile {
    fn drop(&mut self) {
        for suffix in ["", "-wal", "-shm", ".lock"] {
            let mut name = self.path.as_os_str().to_owned();
            name.push(suffix);
            // What is left goes with the folder.
            let _ = fs::remove_file(name);
        }
    }
}

/// What is in a ledger.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    holds: u64,
    /// Of all tables to which a hold adds.
    rows: u64,
}

impl Counts {
    fn of(path: &Path) -> rusqlite::Result<Self> {
        let conn = Connection::open(path)?;
        let count = |table: &str| {
            let query = format!("SELECT count(*) FROM {table}");
            let rows = conn.query_row(&query, [], |row| row.get::<_, i64>(0))?;
            Ok::<_, rusqlite::Error>(u64::try_from(rows).unwrap_or(0))
        };
        let holds = count("hold")?;
        let mut rows = holds;
        for table in ["line", "transition", "idempotency", "key_run"] {
            rows += count(table)?;
        }
        Ok(Self { holds, rows })
    }
}
