//! What readers ask for: a hold, a list of holds, a list of movements; each in one snapshot.

use std::{collections::HashMap, sync::Arc};

use rusqlite::{Connection, Row, params};
use stockhold_core::{HoldId, HoldView, ItemKey, Liveness, Movement, Timestamp};

use super::rows::{self, Damaged, ItemNumber};
use crate::ledger::{
    HoldQuery, MovementQuery, Page,
    list::{MOST_HOLDS, MOST_MOVEMENTS, Scan},
};

/// Looks at holds as they are at one moment.
pub(super) struct Viewer<'a> {
    conn: &'a Connection,
    now: Timestamp,
    liveness: Liveness,
    items: Items<'a>,
}

impl<'a> Viewer<'a> {
    pub(super) fn new(conn: &'a Connection, now: Timestamp) -> rusqlite::Result<Self> {
        Ok(Self { conn, now, liveness: rows::liveness(conn)?, items: Items::new(conn) })
    }

    /// A hold as it is now.
    pub(super) fn hold(
        &mut self,
        id: HoldId,
    ) -> rusqlite::Result<Option<Result<HoldView, Damaged>>> {
        let mut latest = self.now;
        let mut name_of = |number| {
            let (key, touched_at) = self.items.find(number)?;
            latest = latest.max(touched_at);
            Ok(key)
        };
        let found = rows::hold(self.conn, id, &mut name_of)?;
        Ok(found.map(|hold| {
            hold.map(|hold| {
                let now = latest.max(hold.created_at);
                HoldView::at(now, Arc::new(hold), self.liveness.clone())
            })
        }))
    }

    /// Holds from the newest down. There is no index on owners: a random page for each hold would
    /// be what a hold costs most. So the holds are looked at one by one, and a page ends early.
    pub(super) fn holds(mut self, query: &HoldQuery) -> rusqlite::Result<Page<HoldView, HoldId>> {
        let read = "SELECT id, owner FROM hold WHERE id < ?1 ORDER BY id DESC LIMIT ?2";
        let mut read = self.conn.prepare_cached(read)?;
        // One byte more than an id has, so that it is higher than all.
        let before = query.before.map_or_else(|| vec![0xff; 17], |id| id.to_bytes().to_vec());
        let rows = read.query_map(params![before, limit(MOST_HOLDS)], |row| {
            let id = HoldId::from_bytes(row.get(0)?);
            let is_of_owner = query.is_of(row.get_ref(1)?.as_str()?);
            Ok((id, if is_of_owner { self.admitted(id, query)? } else { None }))
        })?;
        Ok(Scan::of(rows, query.limit, MOST_HOLDS)?.page())
    }

    fn admitted(&mut self, id: HoldId, query: &HoldQuery) -> rusqlite::Result<Option<HoldView>> {
        let found = rows::sound(id, self.hold(id))?;
        Ok(found.filter(|view| query.admits(view)))
    }
}

/// Movements in the order of their numbers; for the same reason there is no index on their items.
pub(super) fn movements(
    conn: &Connection,
    query: &MovementQuery,
) -> rusqlite::Result<Page<Movement, i64>> {
    let read = format!(
        "SELECT {} FROM movement WHERE movement.id > ?1 ORDER BY movement.id LIMIT ?2",
        rows::MOVEMENT_COLUMNS
    );
    let mut read = conn.prepare_cached(&read)?;
    let mut items = Items::new(conn);
    let rows = read.query_map(params![query.after, limit(MOST_MOVEMENTS)], |row: &Row<'_>| {
        let (key, _) = items.find(row.get(1)?)?;
        let is_admitted = query.admits(&key.sku);
        Ok((row.get(0)?, is_admitted.then(|| rows::movement(row, key)).transpose()?))
    })?;
    Ok(Scan::of(rows, query.limit, MOST_MOVEMENTS)?.page_after(query.after))
}

fn limit(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

/// The stock items of one snapshot, each read once.
struct Items<'a> {
    conn: &'a Connection,
    known: HashMap<ItemNumber, (Arc<ItemKey>, Timestamp)>,
}

impl<'a> Items<'a> {
    fn new(conn: &'a Connection) -> Self {
        Self { conn, known: HashMap::new() }
    }

    /// The key of an item, and when it was changed last.
    fn find(&mut self, number: ItemNumber) -> rusqlite::Result<(Arc<ItemKey>, Timestamp)> {
        if let Some(known) = self.known.get(&number) {
            return Ok(known.clone());
        }
        let found = match rows::numbered_item(self.conn, number)? {
            Some(item) => (item.key, item.touched_at),
            None => (rows::missing_item(number)?, Timestamp::default()),
        };
        self.known.insert(number, found.clone());
        Ok(found)
    }
}
