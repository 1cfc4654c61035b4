//! Removes holds that are over, a few at a time, and carries what they have shipped.
//!
//! Two things can still happen to such a hold: an expired one is reheld, or replaced. Both write to
//! its row. So here the rows are locked, and what became of the holds is read behind the locks; and
//! whoever finds nothing to write to was late, and meets the ledger without the hold. Rows that are
//! locked already are left for the next time: nobody waits, and no stock row is locked.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use stockhold_core::{Hold, HoldId, Timestamp};
use tokio_postgres::{Client, Error, Row, types::Type};
use uuid::Uuid;

use super::{
    batch::Desk,
    failure::Trouble,
    hand::Steps,
    life::{self, Life},
    link::Connection,
    load,
    rows::{self, Damaged, HOLD_COLUMNS, ItemNumber, Names},
};
use crate::ledger::retire::{Retired, Retirement};

/// Its plans are made for the values at hand, unlike those of a batch.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = '350ms'; \
                     SET LOCAL statement_timeout = '2s'; \
                     SET LOCAL idle_in_transaction_session_timeout = '2s'";
/// No hold has this id; all others come behind it.
const FIRST: HoldId = HoldId::new(Uuid::nil());
/// Batches are looked up by their numbers (R15) for that long.
const BATCHES_KEPT: Duration = Duration::from_secs(3_600);
/// Keys outlive the last step of their hold by that much.
const KEYS_OUTLIVE: Duration = Duration::from_secs(24 * 3_600);
/// So many batches, and as many keys, are removed in one step.
const TIDIED: i64 = 2_000;
/// When there were fewer, nobody looks again for so long.
const TIDY_AGAIN: Duration = Duration::from_secs(600);

/// When there may be old batches and keys again, in ms since 1970.
#[derive(Debug, Default)]
pub(super) struct Tidy(AtomicI64);

/// Looks at up to `limit` holds behind `after`.
pub(super) async fn some(
    desk: &Desk,
    age: Duration,
    after: Option<HoldId>,
    limit: usize,
) -> Result<Retired, Trouble> {
    let mut connection = desk.link.connection().await?;
    let step = step(&mut connection, desk, age, after, limit).await;
    if step.is_err() {
        connection.roll_back().await;
    }
    let (retired, now) = step?;
    match tidy(&mut connection, desk, now, age).await {
        Ok(Tidied::All) => Ok(retired),
        // The next step goes on with it.
        Ok(Tidied::Some) => Ok(Retired { next: retired.next.or(after).or(Some(FIRST)), ..retired }),
        Err(trouble) => {
            connection.roll_back().await;
            let failure = trouble.into_failure();
            tracing::warn!(error = %failure.chain(), "old batches and keys cannot be removed");
            Ok(retired)
        }
    }
}

async fn step(
    connection: &mut Connection<'_>,
    desk: &Desk,
    age: Duration,
    after: Option<HoldId>,
    limit: usize,
) -> Result<(Retired, Timestamp), Trouble> {
    let (after, limit_) =
        (rows::uuid(after.unwrap_or(FIRST)), i64::try_from(limit).unwrap_or(i64::MAX));
    connection.begins();
    let looked_at = connection.trip(async |client| {
        tokio::try_join!(biased;
            client.batch_execute(BEGIN),
            life::read(client),
            oldest(client, after, limit_),
        )
    });
    let ((), life, oldest) = looked_at.await?;
    let life = Life::of(&life, &desk.time)?;
    life.check_open()?;
    let retirement = Retirement { now: life.now, age };
    let seen = Seen::of(&oldest, retirement, limit)?;
    let over = over(connection, desk, &oldest, &seen.ids, retirement).await?;
    connection.trip(async |client| over.remove(client).await).await?;
    connection.has_ended();
    Ok((Retired { holds: over.ids.len(), next: seen.next }, life.now))
}

/// The holds that are old enough to look at.
struct Seen {
    ids: Vec<Uuid>,
    next: Option<HoldId>,
}

impl Seen {
    fn of(oldest: &[Row], retirement: Retirement, limit: usize) -> Result<Self, Damaged> {
        let mut seen = Self { ids: Vec::with_capacity(oldest.len()), next: None };
        for row in oldest {
            if retirement.is_young(rows::timestamp(row, 3)?) {
                return Ok(Self { next: None, ..seen });
            }
            let id = rows::hold_id(row, 0)?;
            seen.ids.push(rows::uuid(id));
            seen.next = Some(id);
        }
        if oldest.len() < limit {
            seen.next = None;
        }
        Ok(seen)
    }
}

async fn oldest(client: &Client, after: Uuid, limit: i64) -> Result<Vec<Row>, Error> {
    let read = format!("SELECT {HOLD_COLUMNS} FROM hold WHERE id > $1 ORDER BY id LIMIT $2");
    client.query_typed(&read, &[(&after, Type::UUID), (&limit, Type::INT8)]).await
}

/// Those of the holds that are over, and locked. They are read twice: without locks first, so that
/// only the rows of holds that are over are ever locked. The ledger may have been sealed before the
/// locks were had, but not behind them.
async fn over(
    connection: &mut Connection<'_>,
    desk: &Desk,
    holds: &[Row],
    ids: &[Uuid],
    retirement: Retirement,
) -> Result<Over, Trouble> {
    let ids = ids.to_vec();
    let steps = connection.trip(async |client| load::transitions(client, &ids).await).await?;
    let over = Over::of(holds, &steps, &ids.into_iter().collect(), retirement)?;
    if over.ids.is_empty() {
        return Ok(over);
    }
    let ids = over.ids;
    let read = connection.trip(async |client| {
        tokio::try_join!(biased;
            lock(client, &ids),
            life::read(client),
            load::transitions(client, &ids),
        )
    });
    let (locked, life, steps) = read.await?;
    Life::of(&life, &desk.time)?.check_open()?;
    let locked = locked.iter().map(|row| rows::column(row, 0)).collect::<Result<_, _>>()?;
    Ok(Over::of(holds, &steps, &locked, retirement)?)
}

async fn lock(client: &Client, ids: &Vec<Uuid>) -> Result<Vec<Row>, Error> {
    let lock = "SELECT id FROM hold WHERE id = ANY($1) ORDER BY id FOR UPDATE SKIP LOCKED";
    client.query_typed(lock, &[(ids, Type::UUID_ARRAY)]).await
}

/// Holds that are over, and what they have shipped.
#[derive(Default)]
struct Over {
    ids: Vec<Uuid>,
    shipped: BTreeMap<ItemNumber, i64>,
}

impl Over {
    /// Of the holds with these ids. A damaged one stays where it is: somebody has to look at it.
    fn of(
        holds: &[Row],
        transitions: &[Row],
        ids: &BTreeSet<Uuid>,
        retirement: Retirement,
    ) -> Result<Self, Damaged> {
        let (mut over, mut steps) = (Self::default(), Steps::of(transitions)?);
        let last_steps = last_steps(transitions)?;
        for row in holds {
            let id: Uuid = rows::column(row, 0)?;
            let Some(last_step) = last_steps.get(&id).filter(|_| ids.contains(&id)) else {
                continue;
            };
            // How its items are called does not matter here.
            match rows::placed(row, &Names::new()).and_then(|placed| steps.lived(placed)) {
                Ok(placed) if retirement.takes(&placed.hold, *last_step) => {
                    over.add(&placed.hold, &placed.items);
                }
                Ok(_) => {}
                Err(Damaged(what)) => {
                    tracing::error!(hold = %id, what, "a hold cannot be read, and is passed over");
                }
            }
        }
        Ok(over)
    }

    fn add(&mut self, hold: &Hold, items: &[ItemNumber]) {
        self.ids.push(rows::uuid(hold.id));
        for (item, line) in items.iter().zip(&hold.lines) {
            if line.shipped.is_positive() {
                let shipped = self.shipped.entry(*item).or_default();
                *shipped = shipped.saturating_add(line.shipped.get());
            }
        }
    }

    /// Removes them, and commits.
    async fn remove(&self, client: &Client) -> Result<(), Error> {
        tokio::try_join!(biased;
            self.carry(client),
            delete(client, "DELETE FROM transition WHERE hold = ANY($1)", &self.ids),
            delete(client, "DELETE FROM hold WHERE id = ANY($1)", &self.ids),
            client.batch_execute("COMMIT"),
        )?;
        Ok(())
    }

    /// In the order of the items, which all instances keep.
    async fn carry(&self, client: &Client) -> Result<(), Error> {
        if self.shipped.is_empty() {
            return Ok(());
        }
        let add = "INSERT INTO carried SELECT * FROM unnest($1, $2) \
            ON CONFLICT (item) DO UPDATE SET shipped = carried.shipped + excluded.shipped";
        let (items, shipped): (Vec<i64>, Vec<i64>) =
            self.shipped.iter().map(|(item, units)| (*item, *units)).unzip();
        let params = [(&items as _, Type::INT8_ARRAY), (&shipped as _, Type::INT8_ARRAY)];
        client.execute_typed(add, &params).await.map(drop)
    }
}

async fn delete(client: &Client, statement: &str, ids: &Vec<Uuid>) -> Result<(), Error> {
    if ids.is_empty() {
        return Ok(());
    }
    client.execute_typed(statement, &[(ids, Type::UUID_ARRAY)]).await.map(drop)
}

/// The time of the last step of each hold; the steps come in their order.
fn last_steps(transitions: &[Row]) -> Result<HashMap<Uuid, Timestamp>, Damaged> {
    let last = |row| Ok((rows::column(row, 0)?, rows::timestamp(row, 3)?));
    transitions.iter().map(last).collect()
}

/// What is left of the batches and keys that are old.
enum Tidied {
    /// Some of them.
    Some,
    /// None, or it is not the time to look.
    All,
}

/// Removes some of the batches that nobody asks for any more, and of the keys that no retry may
/// still come with. All that is removed is old, so it does not matter who is at it, nor how often.
async fn tidy(
    connection: &mut Connection<'_>,
    desk: &Desk,
    now: Timestamp,
    age: Duration,
) -> Result<Tidied, Trouble> {
    if now.as_millis() < desk.tidy.0.load(Ordering::Relaxed) {
        return Ok(Tidied::All);
    }
    let batches = Old::batches(before(now, BATCHES_KEPT));
    let keys = Old::keys(before(now, age.saturating_add(KEYS_OUTLIVE)));
    let removed = [batches.remove(connection, desk).await?, keys.remove(connection, desk).await?];
    if removed.iter().any(|rows| *rows >= TIDIED.unsigned_abs()) {
        return Ok(Tidied::Some);
    }
    desk.tidy.0.store(now.after(TIDY_AGAIN).as_millis(), Ordering::Relaxed);
    Ok(Tidied::All)
}

/// Rows of a table that are old, found by an index.
struct Old {
    table: &'static str,
    which: String,
    before: i64,
}

impl Old {
    /// Batches are numbered by the clocks of their instances. Of one whose clock was fast, they wait
    /// until that time has come.
    fn batches(before: i64) -> Self {
        let first_of_then = Uuid::from_u128(u128::from(before.unsigned_abs()) << 80);
        let which = format!("id < '{first_of_then}' AND at < $1 ORDER BY id");
        Self { table: "batch", which, before }
    }

    fn keys(before: i64) -> Self {
        Self { table: "idempotency", which: "at < $1 ORDER BY at".to_owned(), before }
    }

    /// Removes some, in a transaction of their own. Of a ledger that is sealed nothing is removed.
    async fn remove(&self, connection: &mut Connection<'_>, desk: &Desk) -> Result<u64, Trouble> {
        let Self { table, which, before } = self;
        let delete = format!(
            "DELETE FROM {table} WHERE ctid = ANY(ARRAY(\
                SELECT ctid FROM {table} WHERE {which} LIMIT $2 FOR UPDATE SKIP LOCKED))"
        );
        let params = [(before as _, Type::INT8), (&TIDIED as _, Type::INT8)];
        connection.begins();
        let removed = connection.trip(async |client| {
            tokio::try_join!(biased;
                client.batch_execute(BEGIN),
                client.execute_typed(&delete, &params),
                life::read(client),
            )
        });
        let ((), removed, life) = removed.await?;
        Life::of(&life, &desk.time)?.check_open()?;
        connection.trip(async |client| client.batch_execute("COMMIT").await).await?;
        connection.has_ended();
        Ok(removed)
    }
}

fn before(now: Timestamp, age: Duration) -> i64 {
    let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
    now.as_millis().saturating_sub(age)
}
