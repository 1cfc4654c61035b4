//! Feeds the rows of the file to the verifier, one at a time.

use rusqlite::{Connection, Row, Rows};
use stockhold_core::{
    HoldId,
    verify::{CarriedRow, HoldRow, ItemRow, LineRow, MovementRow, Report, TransitionRow, Verifier},
};

use super::rows;

/// Recomputes the invariants of the snapshot that the connection sees.
pub(super) fn verify(conn: &Connection) -> rusqlite::Result<Report> {
    let mut verifier = Verifier::new();
    items(conn, &mut verifier)?;
    holds(conn, &mut verifier)?;
    carried(conn, &mut verifier)?;
    movements(conn, &mut verifier)?;
    keys(conn, &mut verifier)?;
    Ok(verifier.finish(rows::liveness(conn)?.swept_to().as_millis()))
}

fn items(conn: &Connection, verifier: &mut Verifier) -> rusqlite::Result<()> {
    let read = "SELECT item, sku || '@' || location, on_hand, held, allocated, lent, safety_stock \
                FROM stock";
    let mut read = conn.prepare(read)?;
    let mut rows = read.query([])?;
    while let Some(row) = rows.next()? {
        verifier.item(ItemRow {
            item: row.get(0)?,
            name: row.get(1)?,
            on_hand: row.get(2)?,
            held: row.get(3)?,
            allocated: row.get(4)?,
            lent: row.get(5)?,
            safety_stock: row.get(6)?,
        });
    }
    Ok(())
}

/// Holds, lines, transitions and the lines of transitions are all sorted by hold: they are merged.
fn holds(conn: &Connection, verifier: &mut Verifier) -> rusqlite::Result<()> {
    let mut holds =
        conn.prepare("SELECT id, created_at, deadline, max_deadline FROM hold ORDER BY id")?;
    let mut lines = conn.prepare("SELECT hold, item, requested FROM line ORDER BY hold, n")?;
    let mut steps = conn.prepare("SELECT hold, n, step, at FROM transition ORDER BY hold, n")?;
    let mut moved =
        conn.prepare("SELECT hold, n, line, units FROM transition_line ORDER BY hold, n, line")?;
    let mut lines = Merge::new(lines.query([])?, |row| {
        Ok(LineRow { item: row.get(1)?, requested: row.get(2)? })
    })?;
    let mut steps = Merge::new(steps.query([])?, transition)?;
    let mut moved = Merge::new(moved.query([])?, |row| {
        Ok((row.get::<_, i64>(1)?, (row.get::<_, i64>(2)?, row.get::<_, i64>(3)?)))
    })?;
    let mut rows = holds.query([])?;
    while let Some(row) = rows.next()? {
        let id: [u8; 16] = row.get(0)?;
        let mut transitions = steps.of(id)?;
        for (n, named) in moved.of(id)? {
            if let Some(step) = transitions.iter_mut().find(|step| step.n == n) {
                step.lines.get_or_insert_default().push(named);
            }
        }
        verifier.hold(&HoldRow {
            id: HoldId::from_bytes(id),
            created_at: row.get(1)?,
            deadline: row.get(2)?,
            max_deadline: row.get(3)?,
            lines: lines.of(id)?,
            transitions,
        });
    }
    Ok(())
}

fn transition(row: &Row<'_>) -> rusqlite::Result<TransitionRow> {
    Ok(TransitionRow { n: row.get(1)?, step: row.get(2)?, at: row.get(3)?, lines: None })
}

/// A file that was not yet opened by a version that removes holds has carried nothing.
fn carried(conn: &Connection, verifier: &mut Verifier) -> rusqlite::Result<()> {
    if !conn.table_exists(None, "carried")? {
        return Ok(());
    }
    let mut read = conn.prepare("SELECT item, shipped FROM carried")?;
    let mut rows = read.query([])?;
    while let Some(row) = rows.next()? {
        verifier.carried(&CarriedRow { item: row.get(0)?, shipped: row.get(1)? });
    }
    Ok(())
}

fn movements(conn: &Connection, verifier: &mut Verifier) -> rusqlite::Result<()> {
    let mut read =
        conn.prepare("SELECT id, item, kind, delta, on_hand_after FROM movement ORDER BY id")?;
    let mut rows = read.query([])?;
    while let Some(row) = rows.next()? {
        verifier.movement(&MovementRow {
            id: row.get(0)?,
            item: row.get(1)?,
            kind: row.get(2)?,
            delta: row.get(3)?,
            on_hand_after: row.get(4)?,
        });
    }
    Ok(())
}

fn keys(conn: &Connection, verifier: &mut Verifier) -> rusqlite::Result<()> {
    let mut read = conn.prepare("SELECT key FROM idempotency ORDER BY key")?;
    let mut rows = read.query([])?;
    while let Some(row) = rows.next()? {
        verifier.key(row.get(0)?);
    }
    Ok(())
}

/// Rows that are sorted by hold, handed out hold by hold. Rows of a hold that is not there are
/// stepped over; foreign keys keep them from being written.
struct Merge<'stmt, T> {
    rows: Rows<'stmt>,
    read: fn(&Row<'_>) -> rusqlite::Result<T>,
    ahead: Option<([u8; 16], T)>,
}

impl<'stmt, T> Merge<'stmt, T> {
    fn new(rows: Rows<'stmt>, read: fn(&Row<'_>) -> rusqlite::Result<T>) -> rusqlite::Result<Self> {
        let mut merge = Self { rows, read, ahead: None };
        merge.step()?;
        Ok(merge)
    }

    fn step(&mut self) -> rusqlite::Result<()> {
        self.ahead = match self.rows.next()? {
            Some(row) => Some((row.get(0)?, (self.read)(row)?)),
            None => None,
        };
        Ok(())
    }

    fn of(&mut self, hold: [u8; 16]) -> rusqlite::Result<Vec<T>> {
        let mut found = Vec::new();
        while let Some((id, value)) = self.ahead.take_if(|(id, _)| *id <= hold) {
            if id == hold {
                found.push(value);
            }
            self.step()?;
        }
        Ok(found)
    }
}
