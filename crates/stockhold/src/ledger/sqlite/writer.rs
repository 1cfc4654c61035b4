//! The one thread that writes.
//!
//! It keeps what is alive in memory: the stock items in use and every active hold, as a
//! [`Book`]. The file is written with every batch, so that the book is only ever a copy; whatever
//! is not in it is read from the file when a command names it. If anybody else has written to the
//! file, or a commit ended in doubt, the book is read anew.

use std::{collections::HashMap, sync::Arc, time::Duration};

use rusqlite::{Connection, OptionalExtension, params};
use stockhold_core::{
    Book, Command, Done, HoldId, HoldView, ItemKey, KeyRecord, Limits, Outcome, Rejection,
    StockView, Timestamp,
};
use tokio::sync::{mpsc, oneshot};

use super::{
    checkpoint::Checkpointer,
    failure::{self, During},
    keys::KeyStore,
    retire,
    rows::{self, Damaged, ItemNumber, WriteBack},
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

/// Stock items stay in memory up to this number, whether they have an active hold or not.
const ITEMS: usize = 50_000;
/// A sign of life is written at most that often, if nothing else is; more often than the sweeper
/// gives one, so that each of its own is written.
const SIGN_OF_LIFE: Duration = Duration::from_millis(500);
/// How often the oldest active hold is looked for, which means to look at all of them.
const RAISE: Duration = Duration::from_secs(30);

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

/// What is in memory, and what is known of the file.
struct Resident {
    book: Book,
    numbers: HashMap<Arc<ItemKey>, ItemNumber>,
    next_item: ItemNumber,
    keys: KeyStore,
    /// No active hold has a lower id; what is read at the next start begins here.
    oldest_active: HoldId,
    raised_at: Timestamp,
    signed_at: Timestamp,
    graces_written: usize,
    /// Beyond that many stock items, those without an active hold are put away.
    most_items: usize,
}

const LAST_ID: HoldId = HoldId::from_bytes([0xff; 16]);

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

impl Resident {
    fn read(conn: &Connection, limits: Limits, now: Timestamp) -> rusqlite::Result<Self> {
        let mut book = Book::new(limits);
        let liveness = rows::liveness(conn)?;
        let (signed_at, graces_written) = (liveness.alive_at(), liveness.graces().len());
        book.set_liveness(liveness);
        book.set_last_movement(max(conn, "SELECT max(id) FROM movement")?);
        let next_item = max(conn, "SELECT max(item) FROM stock")? + 1;
        let keys = KeyStore::open(conn)?;
        let numbers = HashMap::new();
        let oldest = "SELECT oldest_active FROM ledger";
        let oldest_active = HoldId::from_bytes(conn.query_row(oldest, [], |row| row.get(0))?);
        let mut resident = Self {
            book,
            numbers,
            next_item,
            keys,
            oldest_active,
            raised_at: now,
            signed_at,
            graces_written,
            most_items: ITEMS,
        };
        resident.read_active(conn)?;
        if signed_at == Timestamp::default() {
            // A new ledger was never away.
            resident.book.set_liveness(stockhold_core::Liveness::new(now, Vec::new()));
        }
        Ok(resident)
    }

    fn read_active(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        let read = "SELECT id FROM hold WHERE id >= ?1 AND NOT EXISTS \
                    (SELECT 1 FROM transition WHERE transition.hold = hold.id)";
        let mut read = conn.prepare(read)?;
        let mut ids = read.query([self.oldest_active.to_bytes()])?;
        while let Some(row) = ids.next()? {
            let id = HoldId::from_bytes(row.get(0)?);
            if let Err(Damaged(what)) = self.load_hold(conn, id)? {
                tracing::error!(hold = %id, what, "an active hold cannot be read");
            }
        }
        self.raise_oldest_active();
        Ok(())
    }

    /// Brings in hand what the command names, and applies it.
    fn answer(
        &mut self,
        conn: &Connection,
        command: &Command,
        now: Timestamp,
    ) -> rusqlite::Result<Result<Outcome, Rejection>> {
        match self.load(conn, command)? {
            Ok(()) => Ok(self.book.apply(command, now)),
            Err(Damaged(what)) => Ok(Err(Rejection::Damaged { what })),
        }
    }

    fn load(
        &mut self,
        conn: &Connection,
        command: &Command,
    ) -> rusqlite::Result<Result<(), Damaged>> {
        for item in command.action.items() {
            self.load_item(conn, item)?;
        }
        if let Some(id) = command.action.hold()
            && let Err(damaged) = self.load_hold(conn, id)?
        {
            return Ok(Err(damaged));
        }
        let Some((key, _)) = command.key else { return Ok(Ok(())) };
        if self.book.key(key).is_some() {
            return Ok(Ok(()));
        }
        match self.keys.find(conn, key)? {
            Some(record) => self.load_done(conn, record),
            None => Ok(Ok(())),
        }
    }

    fn load_done(
        &mut self,
        conn: &Connection,
        record: KeyRecord,
    ) -> rusqlite::Result<Result<(), Damaged>> {
        self.book.put_key(record);
        match record.done {
            Done::Hold(id) => self.load_hold(conn, id),
            Done::Movement(id) => self.load_movement(conn, id).map(Ok),
        }
    }

    fn load_item(&mut self, conn: &Connection, key: &Arc<ItemKey>) -> rusqlite::Result<()> {
        if self.book.item(key).is_some() {
            return Ok(());
        }
        let read =
            format!("SELECT {} FROM stock WHERE sku = ?1 AND location = ?2", rows::STOCK_COLUMNS);
        let mut read = conn.prepare_cached(&read)?;
        let found = read.query_row([key.sku.as_str(), key.location.as_str()], rows::stock_item);
        if let Some((number, item)) = found.optional()? {
            self.numbers.insert(item.key.clone(), number);
            self.book.put_item(item);
        }
        Ok(())
    }

    fn items(
        &self,
        conn: &Connection,
        query: &StockQuery,
        now: Timestamp,
    ) -> rusqlite::Result<Scan<StockView, ItemKey>> {
        let read = format!(
            "SELECT {} FROM stock WHERE (sku, location) > (?1, ?2) ORDER BY sku, location LIMIT ?3",
            rows::STOCK_COLUMNS
        );
        let mut read = conn.prepare_cached(&read)?;
        let (sku, location) = query.begin();
        let limit = i64::try_from(query.limit).unwrap_or(i64::MAX);
        let rows = read.query_map(params![sku, location, limit], rows::stock_item)?;
        let has_prefix = |key: &ItemKey| key.sku.as_str().starts_with(&query.prefix);
        let rows =
            rows.take_while(|row| row.as_ref().map_or(true, |(_, item)| has_prefix(&item.key)));
        let views = rows.map(|row| {
            let (_, item) = row?;
            Ok(((*item.key).clone(), Some(self.book.view_of_item(item, now))))
        });
        Scan::of(views, query.limit, usize::MAX)
    }

    fn load_hold(
        &mut self,
        conn: &Connection,
        id: HoldId,
    ) -> rusqlite::Result<Result<(), Damaged>> {
        if self.book.hold(id).is_some() {
            return Ok(Ok(()));
        }
        let mut name_of = |number| self.name_of(conn, number);
        match rows::hold(conn, id, &mut name_of)? {
            Some(Ok(hold)) => {
                self.book.put_hold(hold);
                Ok(Ok(()))
            }
            Some(Err(damaged)) => Ok(Err(damaged)),
            None => Ok(Ok(())),
        }
    }

    /// The key of a stock item, which is in hand from then on.
    fn name_of(&mut self, conn: &Connection, number: ItemNumber) -> rusqlite::Result<Arc<ItemKey>> {
        let Some(item) = rows::numbered_item(conn, number)? else {
            return rows::missing_item(number);
        };
        let key = item.key.clone();
        if let Some(known) = self.book.item(&key) {
            return Ok(known.key.clone());
        }
        self.numbers.insert(key.clone(), number);
        self.book.put_item(item);
        Ok(key)
    }

    fn load_movement(&mut self, conn: &Connection, id: i64) -> rusqlite::Result<()> {
        let read = format!("SELECT {} FROM movement WHERE id = ?1", rows::MOVEMENT_COLUMNS);
        let mut read = conn.prepare_cached(&read)?;
        let mut found = read.query([id])?;
        if let Some(row) = found.next()? {
            let item = self.name_of(conn, row.get(1)?)?;
            self.book.put_movement(rows::movement(row, item)?);
        }
        Ok(())
    }

    /// Writes what the batch changed, and the ledger's own row.
    fn write(
        &mut self,
        conn: &Connection,
        batch: &Batch,
        now: Timestamp,
    ) -> rusqlite::Result<super::keys::Pending> {
        self.number_new_items();
        let (book, numbers) = (&self.book, &self.numbers);
        WriteBack { conn, book, numbers }.run()?;
        let keys = self.keys.write(conn, &self.book.changes().keys, now)?;
        self.write_graces(conn)?;
        let oldest_active = self.oldest_active_with_changes();
        let alive_at = self.book.liveness().alive_at().as_millis();
        let update = "UPDATE ledger SET last_batch = ?1, alive_at = ?2, oldest_active = ?3";
        let row = params![batch.id.0, alive_at, oldest_active.to_bytes()];
        conn.prepare_cached(update)?.execute(row)?;
        Ok(keys)
    }

    /// Ids rise, but nobody promises that those of one batch do.
    fn oldest_active_with_changes(&self) -> HoldId {
        self.book.changes().placed.iter().fold(self.oldest_active, |oldest, id| oldest.min(*id))
    }

    fn number_new_items(&mut self) {
        for (item, is_new) in self.book.changed_items() {
            if is_new {
                self.numbers.insert(item.key.clone(), self.next_item);
                self.next_item += 1;
            }
        }
    }

    fn write_graces(&self, conn: &Connection) -> rusqlite::Result<()> {
        let graces = self.book.liveness().graces();
        if graces.is_empty() && self.graces_written == 0 {
            return Ok(());
        }
        conn.execute("DELETE FROM grace", [])?;
        for grace in graces {
            let row = [grace.from, grace.to, grace.until].map(Timestamp::as_millis);
            conn.execute("INSERT INTO grace VALUES (?1, ?2, ?3)", row)?;
        }
        Ok(())
    }

    fn committed(&mut self, keys: Option<super::keys::Pending>) {
        if let Some(keys) = keys {
            self.keys.committed(keys);
            self.signed_at = self.book.liveness().alive_at();
            self.graces_written = self.book.liveness().graces().len();
            self.oldest_active = self.oldest_active_with_changes();
        }
        self.book.commit();
        self.settle_down();
        if self.signed_at.since(self.raised_at) > RAISE {
            self.raised_at = self.signed_at;
            self.raise_oldest_active();
        }
    }

    /// Puts away what nobody needs before the next command names it.
    fn settle_down(&mut self) {
        self.book.forget_settled();
        if self.numbers.len() > self.most_items {
            self.book.forget_idle_items();
            let book = &self.book;
            self.numbers.retain(|key, _| book.item(key).is_some());
            // If most of them are in use, this is not to be done again with every batch.
            self.most_items = ITEMS.max(self.numbers.len().saturating_mul(2));
        }
    }

    fn raise_oldest_active(&mut self) {
        self.oldest_active = self.book.holds().map(|hold| hold.id).min().unwrap_or(LAST_ID);
    }
}

fn max(conn: &Connection, query: &str) -> rusqlite::Result<i64> {
    conn.query_row(query, [], |row| row.get::<_, Option<i64>>(0)).map(Option::unwrap_or_default)
}

fn data_version(conn: &Connection) -> rusqlite::Result<i64> {
    conn.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))
}

/// What a caller is told when the writer is gone.
pub(super) fn gone() -> Failure {
    Failure::new(FailureKind::Closed, "the ledger is closed")
}
