//! What a developer would write instead: one transaction per hold.
//!
//! All callers share one connection behind a mutex. That is the kindest way for SQLite: with a
//! connection each they would wait for each other in SQLite's busy loop, which sleeps.

use std::{
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use rusqlite::{Connection, OptionalExtension, params};
use stockhold::{
    Timestamp,
    clock::{Clock, SystemClock},
};

use super::{
    Doing, Fault,
    bare::{self, Ids},
    ledger_file::LedgerFile,
    plan::{Job, Kind},
    report::Settings,
    row::Row,
    workload::{Random, Samples, Window},
};

/// How units are taken.
#[derive(Clone, Copy)]
enum Taking {
    /// (a) `SELECT`, decide, `UPDATE`.
    Selecting,
    /// (b) one `UPDATE` that changes nothing if there is too little.
    Guarded,
}

pub(super) fn measure(job: Job, settings: &Settings, file: &LedgerFile) -> Result<Row, Fault> {
    let taking = if job.kind == Kind::Selecting { Taking::Selecting } else { Taking::Guarded };
    let conn = bare::connect(file.path()).doing("opening the ledger")?;
    let desk = Desk {
        till: Mutex::new(Till { conn, ids: Ids::default() }),
        skus: job.items.skus(),
        taking,
        ttl: settings.ttl,
        window: Window::open(settings.length),
    };
    let samples = run(&desk, job.callers)?;
    // Closing moves the log into the file, which is part of the work.
    drop(desk);
    let mut row = Row::new(job, settings.length, samples);
    file.account(&mut row, file.bytes_written()?)?;
    Ok(row)
}

fn run(desk: &Desk, callers: u32) -> Result<Samples, Fault> {
    const STACK: usize = 256 * 1_024;
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for _ in 0..callers {
            let thread = thread::Builder::new().stack_size(STACK);
            threads.push(thread.spawn_scoped(scope, || desk.call()).doing("a thread")?);
        }
        let mut samples = Samples::default();
        for thread in threads {
            let of_one = thread.join().map_err(|_| Fault::error("a caller has panicked"))?;
            samples.add(of_one.doing("a hold")?);
        }
        Ok(samples)
    })
}

/// What the callers share.
struct Desk {
    till: Mutex<Till>,
    skus: Vec<String>,
    taking: Taking,
    ttl: Duration,
    window: Window,
}

struct Till {
    conn: Connection,
    ids: Ids,
}

impl Desk {
    fn call(&self) -> rusqlite::Result<Samples> {
        let (mut random, mut samples) = (Random::new(), Samples::default());
        loop {
            let (owner, key, digest) = (random.owner(), random.bytes(), random.bytes());
            let sku = &self.skus[random.below(self.skus.len())];
            let before = SystemClock.boot();
            let mut till = self.till.lock().unwrap_or_else(PoisonError::into_inner);
            if !self.window.is_open_at(SystemClock.boot()) {
                return Ok(samples);
            }
            let now = SystemClock.wall();
            let id = till.ids.next(now);
            till.hold(self.taking, &Hold { id, sku, owner, key, digest, now, ttl: self.ttl })?;
            drop(till);
            samples.note(&self.window, 1, before, SystemClock.boot());
        }
    }
}

struct Hold<'a> {
    id: [u8; 16],
    sku: &'a str,
    owner: String,
    key: [u8; 16],
    digest: [u8; 16],
    now: Timestamp,
    ttl: Duration,
}

impl Till {
    fn hold(&self, taking: Taking, hold: &Hold<'_>) -> rusqlite::Result<()> {
        self.run("BEGIN IMMEDIATE")?;
        let item = match taking {
            Taking::Selecting => self.select_and_update(hold)?,
            Taking::Guarded => self.update_guarded(hold)?,
        };
        let Some(item) = item else { return self.run("ROLLBACK") };
        self.insert(hold, item)?;
        self.run("COMMIT")
    }

    fn run(&self, sql: &str) -> rusqlite::Result<()> {
        self.conn.prepare_cached(sql)?.execute([]).map(|_| ())
    }

    fn select_and_update(&self, hold: &Hold<'_>) -> rusqlite::Result<Option<i64>> {
        let select = "SELECT item, on_hand - allocated - held - lent - safety_stock FROM stock \
                      WHERE sku = ?1 AND location = 'default'";
        let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get::<_, i64>(1)?));
        let (item, available) = self.conn.prepare_cached(select)?.query_row([hold.sku], read)?;
        if available < 1 {
            return Ok(None);
        }
        let update = "UPDATE stock SET held = held + 1, version = version + 1, touched_at = ?2 \
                      WHERE item = ?1";
        self.conn.prepare_cached(update)?.execute(params![item, hold.now.as_millis()])?;
        Ok(Some(item))
    }

    fn update_guarded(&self, hold: &Hold<'_>) -> rusqlite::Result<Option<i64>> {
        let update = "UPDATE stock SET held = held + 1, version = version + 1, touched_at = ?2 \
                      WHERE sku = ?1 AND location = 'default' \
                      AND on_hand - allocated - held - lent - safety_stock >= 1 RETURNING item";
        let row = params![hold.sku, hold.now.as_millis()];
        self.conn.prepare_cached(update)?.query_row(row, |row| row.get(0)).optional()
    }

    fn insert(&self, hold: &Hold<'_>, item: i64) -> rusqlite::Result<()> {
        let (id, now) = (hold.id, hold.now.as_millis());
        let (deadline, latest) = bare::deadlines(hold.now, hold.ttl);
        let row = params![id, hold.owner, now, deadline, latest];
        let insert = "INSERT INTO hold VALUES (?1, ?2, NULL, ?3, ?4, ?5, NULL)";
        self.conn.prepare_cached(insert)?.execute(row)?;
        let insert = "INSERT INTO line VALUES (?1, 0, ?2, 1)";
        self.conn.prepare_cached(insert)?.execute(params![id, item])?;
        let insert = "INSERT INTO idempotency VALUES (NULL, ?1, ?2, ?3, NULL, ?4)";
        let row = params![hold.key, hold.digest, id, now];
        self.conn.prepare_cached(insert)?.execute(row).map(|_| ())
    }
}
