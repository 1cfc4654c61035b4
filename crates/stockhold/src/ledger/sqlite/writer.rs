//! The one thread that writes.
//!
//! It keeps what is alive in memory, as a book. The file is written with every batch, so that the
//! book is only ever a copy. If anybody else has written to the file, or a commit ended in doubt,
//! the book is read anew.

use std::{sync::Arc, time::Duration};

use rusqlite::Connection;
use stockhold_core::{HoldId, HoldView, ItemKey, Limits, StockView, Timestamp};
use tokio::sync::{mpsc, oneshot};

use super::{
    checkpoint::Checkpointer,
    failure::{self, During},
    resident::Resident,
    retire,
};
use crate::{
    Failure, FailureKind,
    clock::LedgerClock,
    ledger::{
        Applied, ApplyError, Batch, Due, HoldQuery, Page, StockQuery,
        list::{Scan, active_page},
        retire::{Retired, Retirement},
    },
};

/// A sign of life is written at most that often, if nothing else is; more often than the sweeper
/// gives one, so that each of its own is written.
const SIGN_OF_LIFE: Duration = Duration::from_millis(500);
/// What the writer is asked.
pub(super) enum Job {
    Apply(Arc<Batch>, oneshot::Sender<Result<Applied, ApplyError>>),
    Due(usize, oneshot::Sender<Result<Due, Failure>>),
    Stock(ItemKey, oneshot::Sender<Result<Option<StockView>, Failure>>),
    Active(HoldQuery, oneshot::Sender<Result<Page<HoldView, HoldId>, Failure>>),
    Items(StockQuery, oneshot::Sender<Result<Page<StockView, ItemKey>, Failure>>),
    Retire {
        age: Duration,
        after: Option<HoldId>,
        limit: usize,
        answer: oneshot::Sender<Result<Retired, Failure>>,
    },
    Close(oneshot::Sender<Result<(), Failure>>),
}

/// The file is closed, and somebody waits to hear of it.
pub(super) struct Closed {
    result: Result<(), Failure>,
    answer: oneshot::Sender<Result<(), Failure>>,
}

impl Closed {
    pub(super) fn tell(self) {
        drop(self.answer.send(self.result));
    }
}

pub(super) struct Writer {
    conn: Connection,
    checkpointer: Checkpointer,
    clock: LedgerClock,
    limits: Limits,
    resident: Resident,
    /// Changes when somebody else has written to the file.
    data_version: i64,
    /// The book has to be read anew before it is used again.
    stale: bool,
}

impl Writer {
    /// Reads the ledger. `conn` has its pragmas set and its schema migrated.
    pub(super) fn open(
        conn: Connection,
        checkpointer: Checkpointer,
        clock: LedgerClock,
        limits: Limits,
    ) -> rusqlite::Result<Self> {
        conn.set_prepared_statement_cache_capacity(64);
        let resident = Resident::read(&conn, limits.clone(), clock.now())?;
        let data_version = data_version(&conn)?;
        Ok(Self { conn, checkpointer, clock, limits, resident, data_version, stale: false })
    }

    pub(super) const fn connection(&self) -> &Connection {
        &self.conn
    }

    /// Works until it is told to close, or nobody can ask any more.
    pub(super) fn run(mut self, mut jobs: mpsc::Receiver<Job>) -> Option<Closed> {
        while let Some(job) = jobs.blocking_recv() {
            // Whoever asked may have gone away; then nobody wants the answer.
            match job {
                Job::Apply(batch, answer) => drop(answer.send(self.apply(&batch))),
                Job::Due(limit, answer) => drop(answer.send(Ok(self.due(limit)))),
                Job::Stock(key, answer) => drop(answer.send(self.stock(key))),
                Job::Active(query, answer) => drop(answer.send(Ok(self.active(&query)))),
                Job::Items(query, answer) => drop(answer.send(self.items(&query))),
                Job::Retire { age, after, limit, answer } => {
                    drop(answer.send(self.retire(age, after, limit)));
                }
                Job::Close(answer) => {
                    jobs.close();
                    return Some(Closed { result: self.close(), answer });
                }
            }
        }
        None
    }

    fn apply(&mut self, batch: &Batch) -> Result<Applied, ApplyError> {
        self.begin().map_err(|e| ApplyError::Unavailable(failure::of(e, During::Begin)))?;
        let now = self.clock.now();
        self.resident.book.advance(now);
        match self.apply_within(batch, now) {
            Ok(applied) => self.commit(applied),
            Err(error) => {
                self.roll_back();
                Err(failure::while_applying(error))
            }
        }
    }

    fn begin(&mut self) -> rusqlite::Result<()> {
        self.conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let version = data_version(&self.conn)?;
        if self.stale || version != self.data_version {
            let read = Resident::read(&self.conn, self.limits.clone(), self.clock.now());
            self.resident = read.inspect_err(|_| self.roll_back_file())?;
            (self.stale, self.data_version) = (false, version);
        }
        Ok(())
    }

    /// Applies and writes; nothing is committed yet.
    fn apply_within(&mut self, batch: &Batch, now: Timestamp) -> rusqlite::Result<Written> {
        let mut answers = Vec::with_capacity(batch.commands.len());
        for command in &batch.commands {
            answers.push(self.resident.answer(&self.conn, command, now)?);
        }
        let applied = Applied::to(&self.resident.book, answers, now);
        let is_quiet = !self.resident.book.is_changed();
        if is_quiet && now.since(self.resident.signed_at) < SIGN_OF_LIFE {
            return Ok(Written { applied, keys: None });
        }
        let keys = self.resident.write(&self.conn, batch, now)?;
        Ok(Written { applied, keys: Some(keys) })
    }

    fn commit(&mut self, written: Written) -> Result<Applied, ApplyError> {
        let Written { applied, keys } = written;
        if let Err(error) = self.commit_file() {
            self.roll_back();
            let failure = failure::of(error, During::Commit);
            return Err(ApplyError::Unknown { applied: Box::new(applied), failure });
        }
        self.resident.committed(keys);
        self.checkpointer.after_commit(&self.conn);
        Ok(applied)
    }

    /// After a commit in doubt nobody knows whether the book is as the file.
    fn commit_file(&mut self) -> rusqlite::Result<usize> {
        let committed = self.conn.prepare_cached("COMMIT").and_then(|mut c| c.execute([]));
        committed.inspect_err(|_| self.stale = true)
    }

    fn roll_back(&mut self) {
        self.resident.book.rollback();
        self.resident.settle_down();
        self.roll_back_file();
    }

    fn roll_back_file(&self) {
        if !self.conn.is_autocommit() && self.conn.execute_batch("ROLLBACK").is_err() {
            tracing::error!("a transaction could not be rolled back");
        }
    }

    /// The book has no hold that is over, so only the file changes.
    fn retire(
        &mut self,
        age: Duration,
        after: Option<HoldId>,
        limit: usize,
    ) -> Result<Retired, Failure> {
        self.begin().map_err(|e| failure::of(e, During::Begin))?;
        let retirement = Retirement { now: self.clock.now(), age };
        let retired = retire::some(&self.conn, retirement, after, limit);
        let retired = retired.map_err(|e| failure::of(e, During::Write));
        let committed = retired.and_then(|retired| match self.commit_file() {
            Ok(_) => Ok(retired),
            Err(e) => Err(failure::of(e, During::Commit)),
        });
        match &committed {
            Ok(_) => self.checkpointer.after_commit(&self.conn),
            Err(_) => self.roll_back_file(),
        }
        committed
    }

    fn due(&self, limit: usize) -> Due {
        let (book, now) = (&self.resident.book, self.clock.now());
        let next_due = book.next_deadline().map(|at| at.since(now));
        Due { holds: book.due(now, limit), next_due }
    }

    fn stock(&mut self, key: ItemKey) -> Result<Option<StockView>, Failure> {
        let key = Arc::new(key);
        self.resident.load_item(&self.conn, &key).map_err(|e| failure::of(e, During::Read))?;
        Ok(self.resident.book.stock_view(&key, self.clock.now()).ok())
    }

    fn active(&self, query: &HoldQuery) -> Page<HoldView, HoldId> {
        active_page(&self.resident.book, query, self.clock.now())
    }

    /// Rows come from the file, so that a long list does not fill the memory; deadlines from the
    /// book, which has every active hold.
    fn items(&self, query: &StockQuery) -> Result<Page<StockView, ItemKey>, Failure> {
        let scan = self.resident.items(&self.conn, query, self.clock.now());
        scan.map(Scan::page).map_err(|e| failure::of(e, During::Read))
    }

    /// Leaves one file behind, without a log beside it.
    fn close(self) -> Result<(), Failure> {
        let Self { conn, checkpointer, .. } = self;
        checkpointer.stop();
        conn.close().map_err(|(_, e)| failure::of(e, During::Close))
    }
}

/// A batch that is written and not yet committed.
struct Written {
    applied: Applied,
    keys: Option<super::keys::Pending>,
}

fn data_version(conn: &Connection) -> rusqlite::Result<i64> {
    conn.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))
}

/// What a caller is told when the writer is gone.
pub(super) fn gone() -> Failure {
    Failure::new(FailureKind::Closed, "the ledger is closed")
}
