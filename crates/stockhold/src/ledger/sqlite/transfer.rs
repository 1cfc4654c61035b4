//! A file as one end of a move; see `ledger/transfer.rs`.

use std::{
    collections::BTreeMap,
    fs::File as LockFile,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use stockhold_core::verify::Report;
use uuid::Uuid;

use super::{
    SqliteOptions, audit,
    failure::{self, During},
    file, keys,
};
use crate::{
    Failure, FailureKind,
    ledger::transfer::{
        Stage,
        end::{End, Mark, Seal, State},
        raced,
        rows::{
            CarriedRow, Chunk, HoldRow, KeyRow, Life, MovementRow, Rows, StepRow, StockRow, bytes,
            hex, number,
        },
    },
};

/// A file, which may not be there.
pub(in crate::ledger) struct File {
    path: PathBuf,
    /// Only for reading, until the file is claimed.
    conn: Option<Connection>,
    /// While it is claimed no server has it.
    lock: Option<LockFile>,
}

impl File {
    pub(in crate::ledger) fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), conn: None, lock: None }
    }

    fn conn(&mut self) -> Result<&mut Connection, Failure> {
        self.conn.as_mut().ok_or_else(|| Failure::new(FailureKind::Closed, "the file is not open"))
    }

    fn read_with<T>(
        &mut self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Failure> {
        read(self.conn()?).map_err(|e| failure::of(e, During::Read))
    }

    /// In a transaction; taken back if it says no.
    fn write_with(
        &mut self,
        write: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<bool>,
    ) -> Result<bool, Failure> {
        let work = self.conn()?.transaction().map_err(of_write)?;
        let is_done = write(&work).map_err(of_write)?;
        if is_done {
            work.commit().map_err(of_write)?;
        }
        Ok(is_done)
    }

    /// The same, with the mark moved.
    fn write_marked(
        &mut self,
        from: &Mark,
        to: &Mark,
        write: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>,
    ) -> Result<(), Failure> {
        let written = self.write_with(|work| {
            let update = "UPDATE moving_in SET stage = ?1, after = ?2 \
                          WHERE stage = ?3 AND after = ?4";
            let moved = work.execute(update, [&to.stage, &to.after, &from.stage, &from.after])?;
            write(work)?;
            Ok(moved == 1)
        });
        if written? { Ok(()) } else { Err(raced()) }
    }
}

fn of_write(error: rusqlite::Error) -> Failure {
    failure::of(error, During::Write)
}

#[async_trait]
impl End for File {
    /// A file without a byte is none to SQLite either.
    async fn look(&mut self) -> Result<Option<State>, Failure> {
        if !std::fs::metadata(&self.path).is_ok_and(|file| file.len() > 0) {
            return Ok(None);
        }
        let conn = file::connect_to_ours(&self.path)?;
        if file::MIGRATIONS.pending_migrations(&conn).is_ok_and(|pending| pending > 0) {
            let message =
                format!("{} has an older schema: start a server once", self.path.display());
            return Err(Failure::new(FailureKind::Incompatible, message));
        }
        self.conn = Some(conn);
        self.read_with(state).map(Some)
    }

    async fn claim(&mut self) -> Result<State, Failure> {
        if self.lock.is_none() {
            self.conn = None;
            let lock = file::take_lock(&self.path)?;
            let conn = file::open_for_writing(&self.path, &SqliteOptions::default())?;
            // There is no thread here that would move the log into the file.
            conn.pragma_update(None, "wal_autocheckpoint", 1_000).map_err(of_write)?;
            (self.conn, self.lock) = (Some(conn), Some(lock));
        }
        self.read_with(state)
    }

    async fn verify(&mut self) -> Result<Report, Failure> {
        self.read_with(audit::verify)
    }

    async fn reseal(&mut self, from: Option<&Seal>, to: Option<&Seal>) -> Result<bool, Failure> {
        self.write_with(|work| {
            let update = "UPDATE ledger SET sealed = ?1, moves_to = ?2, has_moved = ?3 \
                          WHERE sealed IS ?4 AND moves_to IS ?5";
            let has_moved = to.is_some_and(|seal| seal.has_moved);
            let id = |seal: &Seal| seal.to.map(Uuid::into_bytes);
            let ids = [from, to].map(|seal| seal.and_then(id));
            let [from, to] = [from, to].map(|seal| seal.map(|seal| seal.why.as_str()));
            Ok(work.execute(update, params![to, ids[1], has_moved, from, ids[0]])? == 1)
        })
    }

    async fn begin(&mut self, mark: &Mark, why: &str) -> Result<bool, Failure> {
        self.write_with(|work| {
            let Mark { source, label, stage, after } = mark;
            let insert = "INSERT INTO moving_in VALUES (1, ?1, ?2, ?3, ?4)";
            let State { has_rows, seal, mark, .. } = state(work)?;
            if has_rows || seal.is_some() || mark.is_some() {
                return Ok(false);
            }
            work.execute(insert, params![source.as_bytes(), label, stage, after])?;
            work.execute("UPDATE ledger SET sealed = ?1", [why]).map(|_| true)
        })
    }

    async fn count(&mut self, stage: Stage) -> Result<u64, Failure> {
        let count = format!("SELECT count(*) FROM {}", stage.table());
        let rows: i64 = self.read_with(|conn| conn.query_row(&count, [], |row| row.get(0)))?;
        Ok(u64::try_from(rows).unwrap_or(0))
    }

    async fn read(&mut self, stage: Stage, after: &str, most: usize) -> Result<Chunk, Failure> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        self.read_with(|conn| match stage {
            Stage::Stock => stock(conn, after, most),
            Stage::Carried => carried(conn, after, most),
            Stage::Movements => movements(conn, after, most),
            Stage::Holds => holds(conn, after, most),
            Stage::Keys => keys_of(conn, after, most),
        })
    }

    async fn write(&mut self, chunk: &Chunk, from: &Mark, to: &Mark) -> Result<(), Failure> {
        self.write_marked(from, to, |work| match &chunk.rows {
            Rows::Stock(rows) => write_stock(work, rows),
            Rows::Carried(rows) => write_carried(work, rows),
            Rows::Movements(rows) => write_movements(work, rows),
            Rows::Holds(rows) => write_holds(work, rows),
            Rows::Keys(rows) => write_keys(work, rows),
        })
    }

    async fn life(&mut self) -> Result<Life, Failure> {
        self.read_with(|conn| {
            let alive_at = conn.query_row("SELECT alive_at FROM ledger", [], |row| row.get(0))?;
            let mut graces = conn.prepare("SELECT from_at, to_at, until_at FROM grace")?;
            let graces = graces.query_map([], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?]))?;
            Ok(Life { alive_at, graces: graces.collect::<rusqlite::Result<_>>()? })
        })
    }

    /// Keys that came by their random numbers are put in the order of time, in which they are
    /// removed one day.
    async fn finish(&mut self, life: &Life, mark: &Mark) -> Result<(), Failure> {
        self.write_marked(mark, mark, |work| {
            work.execute("UPDATE ledger SET alive_at = ?1", [life.alive_at])?;
            work.execute("DELETE FROM grace", [])?;
            for grace in &life.graces {
                work.execute("INSERT INTO grace VALUES (?1, ?2, ?3)", *grace)?;
            }
            work.execute_batch(
                "DELETE FROM key_run; DELETE FROM complete_run;
                 CREATE TEMP TABLE sorted AS SELECT key, digest, hold, movement, at
                    FROM idempotency ORDER BY at, key;
                 DELETE FROM idempotency;
                 INSERT INTO idempotency SELECT rowid, key, digest, hold, movement, at FROM sorted;
                 DROP TABLE sorted;",
            )?;
            keys::build_runs(work)
        })
    }

    async fn conclude(&mut self, from: &Mark, to: &Mark, why: Option<&str>) -> Result<(), Failure> {
        self.write_marked(from, to, |work| {
            work.execute("UPDATE ledger SET sealed = ?1", [why]).map(drop)
        })
    }
}

fn state(conn: &Connection) -> rusqlite::Result<State> {
    let read = "SELECT id, sealed, moves_to, has_moved, \
        EXISTS (SELECT 1 FROM stock) OR EXISTS (SELECT 1 FROM hold) \
            OR EXISTS (SELECT 1 FROM movement) OR EXISTS (SELECT 1 FROM idempotency) FROM ledger";
    let mark = "SELECT source, label, stage, after FROM moving_in";
    let mark = conn.query_row(mark, [], |row| {
        let source = Uuid::from_bytes(row.get(0)?);
        Ok(Mark { source, label: row.get(1)?, stage: row.get(2)?, after: row.get(3)? })
    });
    let mark = mark.optional()?;
    conn.query_row(read, [], |row| {
        let id = Uuid::from_bytes(row.get(0)?);
        Ok(State { id, has_rows: row.get(4)?, seal: seal(row)?, mark })
    })
}

fn seal(row: &Row<'_>) -> rusqlite::Result<Option<Seal>> {
    let why: Option<String> = row.get(1)?;
    let to = row.get::<_, Option<_>>(2)?.map(Uuid::from_bytes);
    let has_moved = row.get(3)?;
    Ok(why.map(|why| Seal { why, to, has_moved }))
}

fn stock(conn: &Connection, after: &str, most: i64) -> rusqlite::Result<Chunk> {
    let read = "SELECT item, sku, location, on_hand, held, allocated, lent, safety_stock, version, \
                touched_at FROM stock WHERE item > ?1 ORDER BY item LIMIT ?2";
    let mut read = conn.prepare_cached(read)?;
    let rows = read.query_map(params![number(after), most], |row| {
        let mut values = [0; 7];
        for (n, value) in values.iter_mut().enumerate() {
            *value = row.get(n + 3)?;
        }
        Ok(StockRow { item: row.get(0)?, sku: row.get(1)?, location: row.get(2)?, values })
    })?;
    let rows = rows.collect::<rusqlite::Result<_>>()?;
    Ok(Chunk::of(rows, Rows::Stock, |row| row.item.to_string()))
}

fn carried(conn: &Connection, after: &str, most: i64) -> rusqlite::Result<Chunk> {
    let read = "SELECT item, shipped FROM carried WHERE item > ?1 ORDER BY item LIMIT ?2";
    let mut read = conn.prepare_cached(read)?;
    let rows = read.query_map(params![number(after), most], |row| {
        Ok(CarriedRow { item: row.get(0)?, shipped: row.get(1)? })
    })?;
    let rows = rows.collect::<rusqlite::Result<_>>()?;
    Ok(Chunk::of(rows, Rows::Carried, |row| row.item.to_string()))
}

fn movements(conn: &Connection, after: &str, most: i64) -> rusqlite::Result<Chunk> {
    let read = "SELECT id, item, kind, delta, on_hand_after, reason, reference, at FROM movement \
                WHERE id > ?1 ORDER BY id LIMIT ?2";
    let mut read = conn.prepare_cached(read)?;
    let rows = read.query_map(params![number(after), most], |row| {
        Ok(MovementRow {
            id: row.get(0)?,
            item: row.get(1)?,
            kind: row.get(2)?,
            delta: row.get(3)?,
            on_hand_after: row.get(4)?,
            reason: row.get(5)?,
            reference: row.get(6)?,
            at: row.get(7)?,
        })
    })?;
    let rows = rows.collect::<rusqlite::Result<_>>()?;
    Ok(Chunk::of(rows, Rows::Movements, |row| row.id.to_string()))
}

fn holds(conn: &Connection, after: &str, most: i64) -> rusqlite::Result<Chunk> {
    let read = "SELECT id, owner, reference, created_at, deadline, max_deadline, replaced_by \
                FROM hold WHERE id > ?1 ORDER BY id LIMIT ?2";
    let mut read = conn.prepare_cached(read)?;
    let rows = read.query_map(params![bytes(after), most], |row| {
        Ok(HoldRow {
            id: row.get(0)?,
            owner: row.get(1)?,
            reference: row.get(2)?,
            times: [row.get(3)?, row.get(4)?, row.get(5)?],
            replaced_by: row.get(6)?,
            items: Vec::new(),
            units: Vec::new(),
            steps: Vec::new(),
        })
    })?;
    let mut holds: BTreeMap<[u8; 16], HoldRow> = BTreeMap::new();
    for hold in rows {
        let hold = hold?;
        holds.insert(hold.id, hold);
    }
    let Some(last) = holds.keys().next_back().copied() else {
        return Ok(Chunk::of(Vec::new(), Rows::Holds, |row: &HoldRow| hex(row.id)));
    };
    read_lines(conn, after, last, &mut holds)?;
    read_steps(conn, after, last, &mut holds)?;
    Ok(Chunk::of(holds.into_values().collect(), Rows::Holds, |row| hex(row.id)))
}

type Holds = BTreeMap<[u8; 16], HoldRow>;

fn read_lines(
    conn: &Connection,
    after: &str,
    last: [u8; 16],
    holds: &mut Holds,
) -> rusqlite::Result<()> {
    let read = "SELECT hold, item, requested FROM line WHERE hold > ?1 AND hold <= ?2 \
                ORDER BY hold, n";
    let mut read = conn.prepare_cached(read)?;
    let mut rows = read.query(params![bytes(after), last])?;
    while let Some(row) = rows.next()? {
        if let Some(hold) = holds.get_mut(&row.get::<_, [u8; 16]>(0)?) {
            hold.items.push(row.get(1)?);
            hold.units.push(row.get(2)?);
        }
    }
    Ok(())
}

fn read_steps(
    conn: &Connection,
    after: &str,
    last: [u8; 16],
    holds: &mut Holds,
) -> rusqlite::Result<()> {
    let read = "SELECT t.hold, t.n, t.step, t.at, t.reference, t.reason, l.line, l.units \
                FROM transition t LEFT JOIN transition_line l USING (hold, n) \
                WHERE t.hold > ?1 AND t.hold <= ?2 ORDER BY t.hold, t.n, l.line";
    let mut read = conn.prepare_cached(read)?;
    let mut rows = read.query(params![bytes(after), last])?;
    while let Some(row) = rows.next()? {
        let Some(hold) = holds.get_mut(&row.get::<_, [u8; 16]>(0)?) else { continue };
        let n = row.get(1)?;
        if hold.steps.last().is_none_or(|step| step.n != n) {
            hold.steps.push(StepRow {
                n,
                step: row.get(2)?,
                at: row.get(3)?,
                reference: row.get(4)?,
                reason: row.get(5)?,
                lines: Vec::new(),
                units: Vec::new(),
            });
        }
        if let (Some(line), Some(step)) = (row.get::<_, Option<i64>>(6)?, hold.steps.last_mut()) {
            step.lines.push(line);
            step.units.push(row.get(7)?);
        }
    }
    Ok(())
}

fn keys_of(conn: &Connection, after: &str, most: i64) -> rusqlite::Result<Chunk> {
    let read = "SELECT seq, key, digest, hold, movement, at FROM idempotency \
                WHERE seq > ?1 ORDER BY seq LIMIT ?2";
    let mut read = conn.prepare_cached(read)?;
    let mut last = None;
    let rows = read.query_map(params![number(after), most], |row| {
        last = Some(row.get::<_, i64>(0)?.to_string());
        Ok(KeyRow {
            key: row.get(1)?,
            digest: row.get(2)?,
            hold: row.get(3)?,
            movement: row.get(4)?,
            at: row.get(5)?,
        })
    })?;
    let rows = Rows::Keys(rows.collect::<rusqlite::Result<_>>()?);
    Ok(Chunk { rows, last })
}

fn write_stock(work: &Connection, rows: &[StockRow]) -> rusqlite::Result<()> {
    let insert = "INSERT INTO stock VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    let mut insert = work.prepare_cached(insert)?;
    for StockRow { item, sku, location, values: [a, b, c, d, e, f, g] } in rows {
        insert.execute(params![item, sku, location, a, b, c, d, e, f, g])?;
    }
    Ok(())
}

fn write_carried(work: &Connection, rows: &[CarriedRow]) -> rusqlite::Result<()> {
    let mut insert = work.prepare_cached("INSERT INTO carried VALUES (?1, ?2)")?;
    for CarriedRow { item, shipped } in rows {
        insert.execute([item, shipped])?;
    }
    Ok(())
}

fn write_movements(work: &Connection, rows: &[MovementRow]) -> rusqlite::Result<()> {
    let insert = "INSERT INTO movement VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let mut insert = work.prepare_cached(insert)?;
    for row in rows {
        let MovementRow { id, item, kind, delta, on_hand_after, reason, reference, at } = row;
        insert.execute(params![id, item, kind, delta, on_hand_after, reason, reference, at])?;
    }
    Ok(())
}

fn write_holds(work: &Connection, rows: &[HoldRow]) -> rusqlite::Result<()> {
    let hold = "INSERT INTO hold VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let mut hold = work.prepare_cached(hold)?;
    let mut line = work.prepare_cached("INSERT INTO line VALUES (?1, ?2, ?3, ?4)")?;
    let mut step = work.prepare_cached("INSERT INTO transition VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
    let mut moved = work.prepare_cached("INSERT INTO transition_line VALUES (?1, ?2, ?3, ?4)")?;
    for row in rows {
        let (id, [created_at, deadline, max_deadline]) = (row.id, row.times);
        let (owner, reference) = (&row.owner, &row.reference);
        hold.execute(params![
            id,
            owner,
            reference,
            created_at,
            deadline,
            max_deadline,
            row.replaced_by
        ])?;
        for (n, (item, units)) in (0_i64..).zip(row.items.iter().zip(&row.units)) {
            line.execute(params![id, n, item, units])?;
        }
        for StepRow { n, step: word, at, reference, reason, lines, units } in &row.steps {
            step.execute(params![id, n, word, at, reference, reason])?;
            for (line, units) in lines.iter().zip(units) {
                moved.execute(params![id, n, line, units])?;
            }
        }
    }
    Ok(())
}

fn write_keys(work: &Connection, rows: &[KeyRow]) -> rusqlite::Result<()> {
    let insert = "INSERT INTO idempotency (key, digest, hold, movement, at) \
                  VALUES (?1, ?2, ?3, ?4, ?5)";
    let mut insert = work.prepare_cached(insert)?;
    for KeyRow { key, digest, hold, movement, at } in rows {
        insert.execute(params![key, digest, hold, movement, at])?;
    }
    Ok(())
}
