//! Brings in hand what a batch names: locks the stock rows, and reads the rest behind the locks.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use stockhold_core::{HoldId, ItemKey, Limits, Quantity};
use tokio_postgres::{Client, Error, Row, types::Type};
use uuid::Uuid;

use super::{
    deadlines,
    failure::Trouble,
    hand::Hand,
    life::{self, Life, Time},
    lines::Lines,
    link::Connection,
    rows::{
        self, HOLD_COLUMNS, ItemNumber, KEY_COLUMNS, MOVEMENT_COLUMNS, STOCK_COLUMNS,
        TRANSITION_COLUMNS,
    },
    stuck::Locked,
    wanted::Wanted,
};
use crate::{
    bug::Bug,
    clock::{Clock, SystemClock},
};

/// The most due holds of one item that are reclaimed on demand at once.
const MOST_DUE: i64 = 2_000;
/// And so many at least, if there are: who is short once is soon short again.
const LEAST_DUE: i64 = 100;
/// The most deadlines of an item that are looked at, to tell when its next hold dies.
const MOST_NEXT: usize = 64;

/// What became of loading.
pub(super) enum Loaded {
    /// Everything is in hand.
    Hand(Box<Hand>, Life),
    /// The ledger was away, and that has to be noted first.
    WasAway,
}

/// The first trip, with nothing locked: the items of the holds that are named, unless they are
/// known already. Begins the transaction, if it is needed at all.
pub(super) async fn begin(
    connection: &mut Connection<'_>,
    wanted: &mut Wanted,
    lines: &Lines,
) -> Result<(), Trouble> {
    let (known, unknown) = lines.find(wanted.holds.iter().copied());
    for noted in known {
        wanted.meet(noted.hold.id, noted.items.to_vec());
        wanted.trust(noted);
    }
    if unknown.is_empty() {
        wanted.is_begun = false;
        return Ok(());
    }
    let ids: Vec<_> = unknown.into_iter().map(rows::uuid).collect();
    let look_up = connection.trip(async |client| {
        let begun = client.batch_execute(super::BEGIN);
        let ((), found) = tokio::try_join!(biased; begun, items_of_holds(client, &ids))?;
        Ok(found)
    });
    for row in &look_up.await? {
        // One that cannot be read here cannot be read later either, and is told then.
        let items = rows::column::<Vec<ItemNumber>>(row, 1).unwrap_or_default();
        wanted.meet(rows::hold_id(row, 0)?, items);
    }
    wanted.is_begun = true;
    Ok(())
}

/// The second trip: locks the stock rows, and reads what depends on them.
pub(super) async fn behind_locks(
    connection: &mut Connection<'_>,
    wanted: &Wanted,
    limits: &Limits,
    time: &Time,
) -> Result<Loaded, Trouble> {
    let lock = Lock::of(wanted);
    let mut begin = if wanted.is_begun { String::new() } else { super::BEGIN.to_owned() };
    if wanted.is_beside {
        begin.push_str(super::BESIDE);
    }
    if !lock.is_empty() {
        begin.push_str(super::LOCKING);
    }
    let keys: Vec<Uuid> =
        wanted.idempotency.iter().map(|key| Uuid::from_bytes(key.to_bytes())).collect();
    let (stock, last_movement, life, keys) = connection
        .trip(async |client| {
            let (_, stock, last_movement, life, keys) = tokio::try_join!(biased;
                client.batch_execute(&begin),
                lock.run(client),
                last_movement(client, wanted.moves),
                life::read(client),
                find_keys(client, &keys),
            )?;
            Ok((stock, last_movement, life, keys))
        })
        .await
        .map_err(Trouble::of_locking)?;
    let life = Life::of(&life, time)?;
    life.check_open()?;
    if life.was_away() {
        return Ok(Loaded::WasAway);
    }
    let mut hand = Hand::new(limits.clone(), life.liveness.clone(), life.now);
    hand.put_stock(&stock);
    hand.put_keys(&keys)?;
    if let Some(last) = last_movement {
        hand.book.set_last_movement(rows::column(&last, 0)?);
    }
    read_on(connection, wanted, &mut hand).await?;
    Ok(Loaded::Hand(Box::new(hand), life))
}

/// Holds that are named, and due holds of items that run short.
async fn read_on(
    connection: &mut Connection<'_>,
    wanted: &Wanted,
    hand: &mut Hand,
) -> Result<(), Trouble> {
    let trusted = hand.put_trusted(wanted);
    let named = wanted.holds.iter().copied().filter(|id| !trusted.contains(id));
    let named: BTreeSet<HoldId> = named.chain(hand.holds_of_keys()).collect();
    let (named, movements) = (uuids(&named), hand.movements_of_keys());
    let short = Short::of(hand, wanted.short(hand.items()));
    if !(named.is_empty() && movements.is_empty() && short.items.is_empty()) {
        let read = connection.trip(async |client| {
            tokio::try_join!(biased;
                holds(client, &named),
                transitions(client, &named),
                find_movements(client, &movements),
                short.due(client),
            )
        });
        let (holds, transitions, movements, due) = read.await?;
        hand.put_named(&holds, &transitions, wanted)?;
        hand.put_movements(&movements);
        read_due(connection, wanted, hand, &due).await?;
    }
    let mut all_short = short.map;
    if reholds_run_short(hand, wanted, &mut all_short) {
        let short = Short::of(hand, all_short.clone());
        let due = connection.trip(async |client| short.due(client).await).await?;
        read_due(connection, wanted, hand, &due).await?;
    }
    let told: Vec<_> = hand.told(wanted, &all_short).into_iter().collect();
    if told.is_empty() {
        return Ok(());
    }
    let next = Next { items: told, marks: marks(hand), limit: next_limit(wanted) };
    let deadlines = connection.trip(async |client| next.run(client).await).await?;
    Ok(hand.put_deadlines(&deadlines)?)
}

async fn read_due(
    connection: &mut Connection<'_>,
    wanted: &Wanted,
    hand: &mut Hand,
    due: &[Row],
) -> Result<(), Trouble> {
    let mut ids = BTreeSet::new();
    for row in due {
        let id = rows::hold_id(row, 0)?;
        if hand.book.hold(id).is_none() {
            ids.insert(id);
        }
    }
    if ids.is_empty() {
        return Ok(());
    }
    let ids = uuids(&ids);
    let read = connection.trip(
        async |client| tokio::try_join!(biased; holds(client, &ids), transitions(client, &ids)),
    );
    let (holds, transitions) = read.await?;
    Ok(hand.put_due(&holds, &transitions, wanted)?)
}

/// Holds that may be reheld ask for units that nobody could know of before they were read.
fn reholds_run_short(hand: &Hand, wanted: &Wanted, short: &mut BTreeMap<ItemNumber, i64>) -> bool {
    let known = short.len();
    for hold in wanted.reholds.iter().filter_map(|id| hand.book.hold(*id)) {
        for line in &hold.lines {
            let item = hand.numbers.get(&line.item).zip(hand.book.item(&line.item));
            let Some((number, item)) = item else { continue };
            let asked = wanted.asked_of(&line.item).checked_add(line.requested);
            let missing = asked.and_then(|asked| asked.checked_sub(item.available()));
            let missing = missing.map_or(MOST_DUE, Quantity::get);
            if missing > 0 {
                short.entry(*number).or_insert(missing);
            }
        }
    }
    short.len() > known
}

fn marks(hand: &Hand) -> Vec<i64> {
    let marks = hand.book.liveness().marks().into_iter().chain([hand.now]);
    marks.map(|at| at.as_millis()).collect()
}

/// One more than could go in this batch.
fn next_limit(wanted: &Wanted) -> i64 {
    i64::try_from(wanted.holds.len().saturating_add(1).min(MOST_NEXT)).unwrap_or(1)
}

fn uuids(ids: &BTreeSet<HoldId>) -> Vec<Uuid> {
    ids.iter().copied().map(rows::uuid).collect()
}

/// All stock rows of the batch, locked in the order of their numbers, which all instances keep:
/// hence no deadlock.
struct Lock<'a> {
    items: Vec<ItemNumber>,
    skus: Vec<&'a str>,
    locations: Vec<&'a str>,
}

impl<'a> Lock<'a> {
    fn of(wanted: &'a Wanted) -> Self {
        let keys = || wanted.keys_of_items.iter();
        Self {
            items: wanted.items.iter().copied().collect(),
            skus: keys().map(|key| key.sku.as_str()).collect(),
            locations: keys().map(|key| key.location.as_str()).collect(),
        }
    }

    fn is_empty(&self) -> bool {
        self.items.is_empty() && self.skus.is_empty()
    }

    async fn run(&self, client: &Client) -> Result<Vec<Row>, Error> {
        if Bug::NoLock.is_made() {
            return self.select(client, "").await;
        }
        self.query(client, &format!("SELECT {STOCK_COLUMNS} FROM lock_stock($1, $2, $3) AS stock"))
            .await
    }

    /// The same with another lock, or none; and which transaction has locked the row.
    async fn select(&self, client: &Client, lock: &str) -> Result<Vec<Row>, Error> {
        let select = format!(
            "SELECT {STOCK_COLUMNS}, stock.xmax::text FROM stock WHERE item IN (\
                SELECT unnest($1) UNION \
                SELECT named.item FROM unnest($2, $3) AS name (sku, location) \
                JOIN stock AS named ON named.sku = name.sku AND named.location = name.location) \
             ORDER BY item {lock}"
        );
        self.query(client, &select).await
    }

    async fn query(&self, client: &Client, select: &str) -> Result<Vec<Row>, Error> {
        if self.is_empty() {
            return Ok(Vec::new());
        }
        let params = [
            (&self.items as _, Type::INT8_ARRAY),
            (&self.skus as _, Type::TEXT_ARRAY),
            (&self.locations as _, Type::TEXT_ARRAY),
        ];
        client.query_typed(select, &params).await
    }
}

async fn last_movement(client: &Client, moves: bool) -> Result<Option<Row>, Error> {
    if !moves {
        return Ok(None);
    }
    let lock = "SELECT last_movement FROM counter FOR NO KEY UPDATE";
    client.query_typed_one(lock, &[]).await.map(Some)
}

async fn find_keys(client: &Client, keys: &Vec<Uuid>) -> Result<Vec<Row>, Error> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let find = format!("SELECT {KEY_COLUMNS} FROM idempotency WHERE key = ANY($1)");
    client.query_typed(&find, &[(keys, Type::UUID_ARRAY)]).await
}

async fn items_of_holds(client: &Client, ids: &Vec<Uuid>) -> Result<Vec<Row>, Error> {
    let read = "SELECT id, items FROM hold WHERE id = ANY($1)";
    client.query_typed(read, &[(ids, Type::UUID_ARRAY)]).await
}

pub(super) async fn holds(client: &Client, ids: &Vec<Uuid>) -> Result<Vec<Row>, Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let read = format!("SELECT {HOLD_COLUMNS} FROM hold WHERE id = ANY($1)");
    client.query_typed(&read, &[(ids, Type::UUID_ARRAY)]).await
}

pub(super) async fn transitions(client: &Client, ids: &Vec<Uuid>) -> Result<Vec<Row>, Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let read = format!(
        "SELECT {TRANSITION_COLUMNS} FROM transition WHERE hold = ANY($1) ORDER BY hold, n"
    );
    client.query_typed(&read, &[(ids, Type::UUID_ARRAY)]).await
}

async fn find_movements(client: &Client, ids: &Vec<i64>) -> Result<Vec<Row>, Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let find = format!("SELECT {MOVEMENT_COLUMNS} FROM movement WHERE id = ANY($1)");
    client.query_typed(&find, &[(ids, Type::INT8_ARRAY)]).await
}

/// Items that run short, by how many units; and which of their holds are due.
struct Short {
    map: BTreeMap<ItemNumber, i64>,
    items: Vec<ItemNumber>,
    limits: Vec<i64>,
    after: Vec<i64>,
    upto: Vec<i64>,
}

impl Short {
    fn of(hand: &Hand, map: BTreeMap<ItemNumber, i64>) -> Self {
        let ranges = hand.book.liveness().due_ranges(hand.now).into_iter();
        let (after, upto) = ranges.map(|(a, b)| (a.as_millis(), b.as_millis())).unzip();
        let items = map.keys().copied().collect();
        let limits = map.values().map(|units| (*units).clamp(LEAST_DUE, MOST_DUE)).collect();
        Self { map, items, limits, after, upto }
    }

    async fn due(&self, client: &Client) -> Result<Vec<Row>, Error> {
        if self.items.is_empty() {
            return Ok(Vec::new());
        }
        let due = "SELECT due.hold FROM unnest($1, $2) AS short (item, units) \
            CROSS JOIN unnest($3, $4) AS span (after, upto) \
            CROSS JOIN LATERAL (SELECT hold FROM active WHERE active.item = short.item \
                AND active.deadline > span.after AND active.deadline <= span.upto \
                ORDER BY active.deadline LIMIT short.units) AS due";
        let params = [&self.items, &self.limits, &self.after, &self.upto];
        let params = params.map(|values| (values as _, Type::INT8_ARRAY));
        client.query_typed(due, &params).await
    }
}

/// The next deadlines of items.
struct Next {
    items: Vec<ItemNumber>,
    marks: Vec<i64>,
    limit: i64,
}

impl Next {
    async fn run(&self, client: &Client) -> Result<Vec<Row>, Error> {
        let next = deadlines::next_of_items("unnest($1)", "unnest($2)", "$3");
        let params = [
            (&self.items as _, Type::INT8_ARRAY),
            (&self.marks as _, Type::INT8_ARRAY),
            (&self.limit as _, Type::INT8),
        ];
        client.query_typed(&next, &params).await
    }
}

/// A transaction that has a row for longer than this is not just selling something.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Which of the wanted stock rows nobody gets for a while. One that many want is locked whenever one
/// looks, each time by another transaction: who wants it need not wait with those whose row is stuck.
pub(super) async fn locked_elsewhere(
    connection: &mut Connection<'_>,
    wanted: &Wanted,
) -> Result<Locked, Trouble> {
    let first = locked_now(connection, wanted).await?;
    let mut stuck = first.clone();
    if first.len() > 1 {
        SystemClock.sleep(LOOK_AGAIN).await;
        let again = locked_now(connection, wanted).await?;
        let is_same = |number: &ItemNumber, holder: &str| {
            again.get(number).is_some_and(|(_, now)| now == holder)
        };
        stuck.retain(|number, (_, holder)| is_same(number, holder));
    }
    // All of them, rather than to try the same again at once.
    let locked = if stuck.is_empty() { first } else { stuck };
    Ok(Locked(locked.into_iter().map(|(number, (key, _))| (number, key)).collect()))
}

/// Locked rows, each with the transaction that has locked it.
type Holders = HashMap<ItemNumber, (Arc<ItemKey>, String)>;

/// The locks that this takes end with the statement.
async fn locked_now(connection: &mut Connection<'_>, wanted: &Wanted) -> Result<Holders, Trouble> {
    let lock = Lock::of(wanted);
    let read = connection.trip(async |client| {
        tokio::try_join!(biased;
            lock.select(client, ""),
            lock.select(client, "FOR NO KEY UPDATE SKIP LOCKED"),
        )
    });
    let (all, free) = read.await?;
    let mut locked = HashMap::new();
    for row in &all {
        let (number, item) = rows::stock_item(row)?;
        locked.insert(number, (item.key, rows::column(row, 10)?));
    }
    for row in &free {
        locked.remove(&rows::column(row, 0)?);
    }
    Ok(locked)
}
