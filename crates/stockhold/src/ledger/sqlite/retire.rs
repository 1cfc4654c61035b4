//! Removes holds that are over, a few at a time, and carries what they have shipped.

use rusqlite::{Connection, OptionalExtension, params};
use stockhold_core::{Hold, HoldId};

use super::rows::{self, ItemNumber};
use crate::ledger::retire::{Retired, Retirement};

/// Looks at up to `limit` holds behind `after`, in a transaction of the caller's.
pub(super) fn some(
    conn: &Connection,
    retirement: Retirement,
    after: Option<HoldId>,
    limit: usize,
) -> rusqlite::Result<Retired> {
    let mut retired = Retired::default();
    let mut seen = 0;
    for (id, created_at) in oldest(conn, after, limit)? {
        if retirement.is_young(created_at) {
            return Ok(Retired { next: None, ..retired });
        }
        if remove_if_over(conn, retirement, id)? {
            retired.holds += 1;
        }
        seen += 1;
        retired.next = Some(id);
    }
    if seen < limit {
        retired.next = None;
    }
    Ok(retired)
}

fn oldest(
    conn: &Connection,
    after: Option<HoldId>,
    limit: usize,
) -> rusqlite::Result<Vec<(HoldId, stockhold_core::Timestamp)>> {
    let read = "SELECT id, created_at FROM hold WHERE id > ?1 ORDER BY id LIMIT ?2";
    let mut read = conn.prepare_cached(read)?;
    // Nothing is lower than no bytes at all.
    let after = after.map_or_else(Vec::new, |id| id.to_bytes().to_vec());
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = read.query_map(params![after, limit], |row| {
        Ok((HoldId::from_bytes(row.get(0)?), rows::timestamp(row, 1)?))
    })?;
    rows.collect()
}

/// A damaged hold stays where it is: somebody has to look at it.
fn remove_if_over(conn: &Connection, retirement: Retirement, id: HoldId) -> rusqlite::Result<bool> {
    let last = "SELECT at FROM transition WHERE hold = ?1 ORDER BY n DESC LIMIT 1";
    let mut last = conn.prepare_cached(last)?;
    let last = last.query_row([id.to_bytes()], |row| rows::timestamp(row, 0)).optional()?;
    let Some(last_step) = last else { return Ok(false) };
    let mut items = Vec::new();
    // Its items are wanted by number; how they are called does not matter here.
    let mut name_of = |number| {
        items.push(number);
        rows::missing_item(number)
    };
    match rows::sound(id, rows::hold(conn, id, &mut name_of))? {
        Some(hold) if retirement.takes(&hold, last_step) => {
            carry(conn, &hold, &items)?;
            remove(conn, id)?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

fn carry(conn: &Connection, hold: &Hold, items: &[ItemNumber]) -> rusqlite::Result<()> {
    let add = "INSERT INTO carried VALUES (?1, ?2) \
               ON CONFLICT (item) DO UPDATE SET shipped = shipped + excluded.shipped";
    let mut add = conn.prepare_cached(add)?;
    for (line, item) in hold.lines.iter().zip(items) {
        if line.shipped.is_positive() {
            add.execute([*item, line.shipped.get()])?;
        }
    }
    Ok(())
}

fn remove(conn: &Connection, id: HoldId) -> rusqlite::Result<()> {
    for delete in [
        "DELETE FROM transition_line WHERE hold = ?1",
        "DELETE FROM transition WHERE hold = ?1",
        "DELETE FROM line WHERE hold = ?1",
        "DELETE FROM hold WHERE id = ?1",
    ] {
        conn.prepare_cached(delete)?.execute([id.to_bytes()])?;
    }
    Ok(())
}
