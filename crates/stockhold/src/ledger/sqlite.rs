//! The embedded ledger: one file, one process, nothing to install.
//!
//! SQLite in WAL mode with `synchronous=FULL`: when a batch is answered, its commit has been
//! synced. One thread writes, a pool of connections reads, and another thread moves the log into
//! the file. A lock on a file beside it keeps a second process from opening the same ledger,
//! while the `sqlite3` shell, `verify` and backups can read it at any time.

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use rusqlite::Connection;
use stockhold_core::{
    HoldId, HoldState, HoldView, ItemKey, Limits, Movement, StockView, Timestamp, verify::Report,
};
use tokio::sync::{mpsc, oneshot};

pub use self::look::FileFacts;
use self::{
    checkpoint::Checkpointer,
    failure::During,
    readers::Readers,
    views::Viewer,
    writer::{Job, Writer},
};
use super::{
    Applied, ApplyError, Batch, BatchId, Due, Granting, HoldQuery, Ledger, MovementQuery, Page,
    Retired, StockQuery,
};
use crate::{
    Failure, FailureKind,
    clock::{Clock, LedgerClock, SystemClock},
};

mod audit;
mod backup;
mod checkpoint;
mod failure;
mod file;
mod keys;
mod look;
mod readers;
mod resident;
mod retire;
mod rows;
#[cfg(feature = "postgres")]
pub(super) mod transfer;
mod views;
mod writer;

/// Questions that wait for the writer at once; a further one waits for its turn to wait.
const MOST_JOBS: usize = 1_024;

/// How to open a [`SqliteLedger`].
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    /// The bounds of what may be asked.
    pub limits: Limits,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// The most reads at once: 4.
    pub readers: usize,
    /// Memory for pages of the file, in MiB: 40.
    pub cache_mib: u32,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        let (limits, clock) = (Limits::default(), Arc::new(SystemClock));
        Self { limits, clock, readers: 4, cache_mib: 40 }
    }
}

/// The embedded, durable ledger.
///
/// ```
/// use std::sync::Arc;
/// use stockhold::{Engine, ledger::sqlite::{SqliteLedger, SqliteOptions}};
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("shop.db");
/// let ledger = SqliteLedger::open(&path, SqliteOptions::default())?;
/// let engine = Engine::builder(Arc::new(ledger)).start()?;
/// # engine.close().await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct SqliteLedger {
    jobs: mpsc::Sender<Job>,
    readers: Readers,
    clock: LedgerClock,
    granting: Granting,
}

impl SqliteLedger {
    /// Opens the ledger at this path, or makes a new one. Blocks while it reads what is alive.
    ///
    /// # Errors
    /// `InUse` if another process has it; `Incompatible` if the file is no ledger, or one of a
    /// newer version; `Invalid` if the limits are wrong, or if the shop has moved to another ledger.
    /// In all these cases nothing was touched.
    /// `Unavailable` if the file cannot be read or written.
    pub fn open(path: impl AsRef<Path>, options: SqliteOptions) -> Result<Self, Failure> {
        let path = path.as_ref();
        let wrong = |e| Failure::new(FailureKind::Invalid, "a limit is wrong").caused_by(e);
        options.limits.check().map_err(wrong)?;
        let lock = file::take_lock(path)?;
        let conn = file::open_for_writing(path, &options)?;
        let unreadable = |e| failure::of(e, During::Open);
        check_open(&conn)?;
        let high_water = rows::liveness(&conn).map_err(unreadable)?.alive_at();
        let clock = LedgerClock::start(Arc::clone(&options.clock), high_water);
        let granting = next_epoch(&conn, clock.now()).map_err(unreadable)?;
        let thread = |e| Failure::new(FailureKind::Unavailable, "no thread to be had").caused_by(e);
        let second = file::connect(path).map_err(unreadable)?;
        let checkpointer = Checkpointer::start(second, path).map_err(thread)?;
        let writer = Writer::open(conn, checkpointer, clock.clone(), options.limits);
        let writer = writer.map_err(unreadable)?;
        let (jobs, queue) = mpsc::channel(MOST_JOBS);
        let work = move || {
            Checkpointer::watch(writer.connection());
            let closed = writer.run(queue);
            // Given back when nothing can be written any more, and before anybody hears of it.
            drop(lock);
            if let Some(closed) = closed {
                closed.tell();
            }
        };
        std::thread::Builder::new().name("ledger".into()).spawn(work).map_err(thread)?;
        Ok(Self { jobs, readers: Readers::new(path, options.readers.max(1)), clock, granting })
    }

    /// Recomputes the invariants of a ledger without opening it for writing: also beside the
    /// server that has it. Blocks.
    ///
    /// # Errors
    /// `Unavailable` if there is no such file; `Incompatible` if it is no ledger of this version.
    pub fn verify_file(path: impl AsRef<Path>) -> Result<Report, Failure> {
        look::in_snapshot(path.as_ref(), |conn, _| audit::verify(conn))
    }

    /// Copies a ledger to a new file and says how many bytes that has: also beside the server that
    /// has it, which goes on meanwhile. What was answered before is in the copy, and the copy is on
    /// the disk when this returns. Blocks.
    ///
    /// # Errors
    /// `Invalid` if `to` is there already; `Incompatible` if `from` is no ledger of this version;
    /// `Unavailable` if `from` cannot be read or `to` not written, then there is no `to`.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use stockhold::{Engine, ledger::sqlite::{SqliteLedger, SqliteOptions}};
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("shop.db");
    /// let ledger = SqliteLedger::open(&path, SqliteOptions::default())?;
    /// let engine = Engine::builder(Arc::new(ledger)).start()?;
    /// let copy = folder.path().join("backup.db");
    /// SqliteLedger::backup_file(&path, &copy)?;
    /// assert!(SqliteLedger::verify_file(&copy)?.is_clean());
    /// # engine.close().await?;
    /// # Ok(()) }
    /// ```
    pub fn backup_file(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<u64, Failure> {
        backup::write(&file::connect_to_ours(from.as_ref())?, to.as_ref())
    }

    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<T>) -> Job) -> Result<T, Failure> {
        let (answer, answered) = oneshot::channel();
        self.jobs.send(job(answer)).await.map_err(|_| writer::gone())?;
        answered.await.map_err(|_| writer::gone())
    }
}

/// A shop that moves is not served from here any more, or not yet.
fn check_open(conn: &Connection) -> Result<(), Failure> {
    let sealed: rusqlite::Result<Option<String>> =
        conn.query_row("SELECT sealed FROM ledger", [], |row| row.get(0));
    match sealed.map_err(|e| failure::of(e, During::Open))? {
        Some(why) => Err(Failure::new(FailureKind::Invalid, why)),
        None => Ok(()),
    }
}

/// Begins with the seconds of the clock, so that epochs go on rising where a shop has moved to another file, or to one
/// restored from a backup.
fn next_epoch(conn: &Connection, now: Timestamp) -> rusqlite::Result<Granting> {
    let last: i64 = conn.query_row("SELECT lock_epoch FROM ledger", [], |row| row.get(0))?;
    let seconds = now.as_millis() / 1_000;
    let epoch = last.saturating_add(1).max(seconds);
    conn.execute("UPDATE ledger SET lock_epoch = ?1", [epoch])?;
    Ok(Granting::Alone { epoch: epoch.unsigned_abs(), is_first: last == 0 })
}

#[async_trait]
impl Ledger for SqliteLedger {
    async fn apply(&self, batch: Arc<Batch>) -> Result<Applied, ApplyError> {
        let asked = self.ask(|answer| Job::Apply(batch, answer)).await;
        asked.map_err(ApplyError::Unavailable)?
    }

    async fn landed(&self, id: BatchId) -> Result<bool, Failure> {
        let find = move |conn: &Connection| {
            conn.query_row("SELECT last_batch = ?1 FROM ledger", [id.0], |row| row.get(0))
        };
        self.readers.read(find).await
    }

    async fn hold(&self, id: HoldId) -> Result<Option<HoldView>, Failure> {
        let now = self.clock.now();
        let found = self.readers.read(move |conn| Viewer::new(conn, now)?.hold(id)).await?;
        let damaged =
            |what| Failure::new(FailureKind::Internal, "the hold is damaged").caused_by(what);
        found.transpose().map_err(|rows::Damaged(what)| damaged(what))
    }

    async fn stock(&self, key: &ItemKey) -> Result<Option<StockView>, Failure> {
        self.ask(|answer| Job::Stock(key.clone(), answer)).await?
    }

    async fn holds(&self, query: HoldQuery) -> Result<Page<HoldView, HoldId>, Failure> {
        if query.state == Some(HoldState::Active) {
            return self.ask(|answer| Job::Active(query, answer)).await?;
        }
        let now = self.clock.now();
        self.readers.read(move |conn| Viewer::new(conn, now)?.holds(&query)).await
    }

    async fn items(&self, query: StockQuery) -> Result<Page<StockView, ItemKey>, Failure> {
        self.ask(|answer| Job::Items(query, answer)).await?
    }

    async fn movements(&self, query: MovementQuery) -> Result<Page<Movement, i64>, Failure> {
        self.readers.read(move |conn| views::movements(conn, &query)).await
    }

    async fn due(&self, limit: usize) -> Result<Due, Failure> {
        self.ask(|answer| Job::Due(limit, answer)).await?
    }

    async fn retire(
        &self,
        age: Duration,
        after: Option<HoldId>,
        limit: usize,
    ) -> Result<Retired, Failure> {
        self.ask(|answer| Job::Retire { age, after, limit, answer }).await?
    }

    async fn verify(&self) -> Result<Report, Failure> {
        self.readers.read(audit::verify).await
    }

    fn granting(&self) -> Granting {
        self.granting.clone()
    }

    async fn close(&self) -> Result<(), Failure> {
        self.readers.close();
        self.ask(Job::Close).await?
    }
}
