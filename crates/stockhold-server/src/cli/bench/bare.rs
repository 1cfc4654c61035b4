//! The ceiling: one thread that writes the rows that the ledger writes, in batches of the same
//! size, and moves the log as the ledger does. It has no rules, reads nothing and answers nobody.
//!
//! The statements are those of the ledger's `rows.rs`, `keys.rs` and `writer.rs`; if those change,
//! these have to.

use std::{collections::VecDeque, path::Path, sync::Arc, time::Duration};

use rusqlite::{Connection, OpenFlags, params};
use stockhold::{
    Limits, Timestamp,
    clock::{Clock, LedgerClock, SystemClock},
};

use super::{
    Doing, Fault,
    batches::Batches,
    key_runs::KeyRuns,
    ledger_file::LedgerFile,
    log::Log,
    plan::{Items, Job},
    report::Settings,
    row::Row,
    workload::{Random, Samples, Window},
};

/// Opens a ledger with the pragmas of the ledger, but for the checkpoints, which are SQLite's.
pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.pragma_update(None, "synchronous", "full")?;
    conn.pragma_update(None, "foreign_keys", true)?;
    conn.pragma_update(None, "cache_size", -64 * 1_024)?;
    conn.set_prepared_statement_cache_capacity(64);
    Ok(conn)
}

/// Numbers that rise, as those of the ledger do.
#[derive(Default)]
pub(super) struct Ids(u64);

impl Ids {
    pub(super) fn next(&mut self, now: Timestamp) -> [u8; 16] {
        self.0 += 1;
        let mut id = [0; 16];
        id[..6].copy_from_slice(&now.as_millis().to_be_bytes()[2..]);
        id[6..14].copy_from_slice(&self.0.to_be_bytes());
        id
    }
}

/// When a hold dies, and until when it could be extended.
pub(super) fn deadlines(now: Timestamp, ttl: Duration) -> (i64, i64) {
    let latest = now.after(Limits::default().max_lifetime);
    (now.after(ttl).as_millis(), latest.as_millis())
}

/// Measures, with as much in a batch as there is in these on average.
pub(super) fn measure(
    job: Job,
    settings: &Settings,
    file: &LedgerFile,
    size: Batches,
) -> Result<Row, Fault> {
    let bare = Bare::open(file.path(), job.items, settings.ttl).doing("opening the ledger")?;
    let (samples, written) = bare.run(settings, size).doing("the bare loop")?;
    let mut row = Row::new(job, settings.length, samples);
    row.set_batches(written);
    file.account(&mut row, file.bytes_written()?)?;
    Ok(row)
}

/// Writes that many holds of the hot item that end at once. Nothing is synced on the way.
pub(super) fn preload(path: &Path, holds: u64) -> rusqlite::Result<()> {
    const BATCH: u64 = 1_000;
    const ALL: u64 = u64::MAX;
    let mut bare = Bare::open(path, Items::Hot, Duration::from_millis(100))?;
    bare.conn.pragma_update(None, "synchronous", "off")?;
    let mut left = holds;
    while left > 0 {
        let places = left.min(BATCH);
        bare.batch(places, ALL)?;
        left -= places;
    }
    bare.end_all()?;
    bare.close()
}

struct Bare {
    conn: Connection,
    log: Log,
    clock: LedgerClock,
    ttl: Duration,
    ids: Ids,
    random: Random,
    items: Vec<Item>,
    /// Which items the batch has changed.
    changed: Vec<usize>,
    keys: KeyRuns,
    /// What is held, oldest first: all live equally long.
    active: VecDeque<Active>,
}

struct Item {
    number: i64,
    sku: String,
    on_hand: i64,
    held: i64,
    version: i64,
    is_changed: bool,
}

struct Active {
    id: [u8; 16],
    item: usize,
    deadline: i64,
}

impl Bare {
    fn open(path: &Path, items: Items, ttl: Duration) -> rusqlite::Result<Self> {
        let conn = connect(path)?;
        let log = Log::watch(&conn, connect(path)?)?;
        let alive_at = "SELECT alive_at FROM ledger";
        let alive_at = conn.query_row(alive_at, [], |row| row.get(0))?;
        let alive_at = Timestamp::from_millis(alive_at);
        let clock = LedgerClock::start(Arc::new(SystemClock), alive_at);
        let items = read_items(&conn, items)?;
        let keys = KeyRuns::open(&conn)?;
        let (ids, random) = (Ids::default(), Random::new());
        let (changed, active) = (Vec::new(), VecDeque::new());
        Ok(Self { conn, log, clock, ttl, ids, random, items, changed, keys, active })
    }

    fn run(mut self, settings: &Settings, size: Batches) -> rusqlite::Result<(Samples, Batches)> {
        let (mut samples, mut written) = (Samples::default(), Batches::default());
        let window = Window::open(settings.length);
        let mut before = SystemClock.boot();
        let mut turn = 0;
        while window.is_open_at(before) {
            turn += 1;
            let Batches { places, expiries, .. } = size.after(turn).since(written);
            let Some(batch) = self.batch(places, expiries)? else { continue };
            let after = SystemClock.boot();
            samples.note(&window, batch.places, before, after);
            written.add(batch);
            before = after;
        }
        self.end_all()?;
        self.close()?;
        Ok((samples, written))
    }

    /// Writes a batch; none if there is nothing to write.
    fn batch(&mut self, places: u64, most_ends: u64) -> rusqlite::Result<Option<Batches>> {
        let now = self.clock.now();
        let ended = self.end(now, most_ends);
        if places == 0 && ended.is_empty() {
            return Ok(None);
        }
        let placed: Vec<_> = (0..places).map(|_| self.place(now)).collect();
        self.conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        self.write_stock(now)?;
        self.write_placed(&placed, now)?;
        self.write_ended(&ended, now)?;
        self.write_keys(&placed, now)?;
        self.write_ledger(now)?;
        self.conn.prepare_cached("COMMIT")?.execute([])?;
        self.keys.committed();
        self.log.after_commit(&self.conn)?;
        self.active.extend(placed);
        Ok(Some(Batches { batches: 1, places, expiries: ended.len() as u64 }))
    }

    fn place(&mut self, now: Timestamp) -> Active {
        let item = self.random.below(self.items.len());
        self.change(item, 1);
        let (deadline, _) = deadlines(now, self.ttl);
        Active { id: self.ids.next(now), item, deadline }
    }

    /// Takes what is due out of the hands.
    fn end(&mut self, now: Timestamp, most: u64) -> Vec<[u8; 16]> {
        let due = self.active.partition_point(|active| active.deadline <= now.as_millis());
        let due = due.min(usize::try_from(most).unwrap_or(usize::MAX));
        let ended: Vec<_> = self.active.drain(..due).collect();
        for active in &ended {
            self.change(active.item, -1);
        }
        ended.into_iter().map(|active| active.id).collect()
    }

    fn change(&mut self, at: usize, units: i64) {
        let item = &mut self.items[at];
        (item.held, item.version) = (item.held + units, item.version + 1);
        if !item.is_changed {
            item.is_changed = true;
            self.changed.push(at);
        }
    }

    fn write_stock(&mut self, now: Timestamp) -> rusqlite::Result<()> {
        let update = "UPDATE stock SET on_hand = ?4, held = ?5, allocated = ?6, lent = ?7, \
                      safety_stock = ?8, version = ?9, touched_at = ?10 \
                      WHERE item = ?1 AND sku = ?2 AND location = ?3";
        let (mut update, at) = (self.conn.prepare_cached(update)?, now.as_millis());
        // As `rows.rs` does: in the order in which they lie in the file.
        self.changed.sort_unstable();
        for changed in self.changed.drain(..) {
            self.items[changed].is_changed = false;
            let Item { number, sku, on_hand, held, version, .. } = &self.items[changed];
            let row = params![number, sku, "default", on_hand, held, 0, 0, 0, version, at];
            update.execute(row)?;
        }
        Ok(())
    }

    fn write_placed(&mut self, placed: &[Active], now: Timestamp) -> rusqlite::Result<()> {
        let hold = "INSERT INTO hold VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let mut hold = self.conn.prepare_cached(hold)?;
        let mut line = self.conn.prepare_cached("INSERT INTO line VALUES (?1, ?2, ?3, ?4)")?;
        let none = None::<&str>;
        let (_, latest) = deadlines(now, self.ttl);
        for Active { id, item, deadline } in placed {
            let owner = self.random.owner();
            hold.execute(params![id, owner, none, now.as_millis(), deadline, latest, none])?;
            line.execute(params![id, 0, self.items[*item].number, 1])?;
        }
        Ok(())
    }

    fn write_ended(&self, ended: &[[u8; 16]], now: Timestamp) -> rusqlite::Result<()> {
        let insert = "INSERT INTO transition VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let (mut insert, none) = (self.conn.prepare_cached(insert)?, None::<&str>);
        for id in ended {
            insert.execute(params![id, 1, "expire", now.as_millis(), none, none])?;
        }
        Ok(())
    }

    fn write_keys(&mut self, placed: &[Active], now: Timestamp) -> rusqlite::Result<()> {
        let insert = "INSERT INTO idempotency VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let mut insert = self.conn.prepare_cached(insert)?;
        for Active { id, .. } in placed {
            let (key, digest) = (self.random.bytes(), self.random.bytes());
            let seq = self.keys.push(key);
            insert.execute(params![seq, key, digest, id, None::<i64>, now.as_millis()])?;
        }
        self.keys.write(&self.conn, placed.len())
    }

    fn write_ledger(&mut self, now: Timestamp) -> rusqlite::Result<()> {
        let update = "UPDATE ledger SET last_batch = ?1, alive_at = ?2, oldest_active = ?3";
        let oldest = self.active.front().map_or([0; 16], |active| active.id);
        let row = params![self.random.bytes(), now.as_millis(), oldest];
        self.conn.prepare_cached(update)?.execute(row).map(|_| ())
    }

    /// Waits until nothing is held any more.
    fn end_all(&mut self) -> rusqlite::Result<()> {
        /// As many as the engine ends in a batch when nothing else is to be done.
        const SWEEP: u64 = 1_000;
        while let Some(oldest) = self.active.front() {
            let deadline = Timestamp::from_millis(oldest.deadline);
            std::thread::sleep(deadline.since(self.clock.now()));
            self.batch(0, SWEEP)?;
        }
        Ok(())
    }

    fn close(self) -> rusqlite::Result<()> {
        let Self { conn, log, .. } = self;
        log.stop();
        conn.close().map_err(|(_, e)| e)
    }
}

fn read_items(conn: &Connection, items: Items) -> rusqlite::Result<Vec<Item>> {
    let read = "SELECT item, on_hand, held, version FROM stock WHERE sku = ?1";
    let mut read = conn.prepare(read)?;
    let item = |sku: String| {
        read.query_row([&sku], |row| {
            let (number, on_hand) = (row.get(0)?, row.get(1)?);
            let (held, version) = (row.get(2)?, row.get(3)?);
            Ok(Item { number, sku: sku.clone(), on_hand, held, version, is_changed: false })
        })
    };
    items.skus().into_iter().map(item).collect()
}
