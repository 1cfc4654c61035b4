//! Brings in hand what a batch names: locks the stock rows, and reads the rest behind the locks.

use std::collections::{BTreeMap, BTreeSet};

use stockhold_core::{HoldId, ItemKey, Limits, Quantity};
use tokio_postgres::{Client, Error, Row, types::Type};
use uuid::Uuid;

use super::{
    deadlines,
    failure::Trouble,
    hand::Hand,
    life::{Life, Time},
    lines::Lines,
    link::Connection,
    opening::Opening,
    rows::{self, HOLD_COLUMNS, ItemNumber, MOVEMENT_COLUMNS, TRANSITION_COLUMNS},
    wanted::Wanted,
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

/// The first trip, if it is needed at all, with nothing locked and outside of the transaction: the
/// items of the holds that are named, unless they are known already.
pub(super) async fn look_up(
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
        return Ok(());
    }
    let ids: Vec<_> = unknown.into_iter().map(rows::uuid).collect();
    let found = connection.trip(async |client| items_of_holds(client, &ids).await);
    for row in &found.await? {
        // One that cannot be read here cannot be read later either, and is told then.
        let items = rows::column::<Vec<ItemNumber>>(row, 1).unwrap_or_default();
        wanted.meet(rows::hold_id(row, 0)?, items);
    }
    Ok(())
}

/// The second trip: begins the transaction, locks the stock rows, and reads what depends on them.
pub(super) async fn behind_locks(
    connection: &mut Connection<'_>,
    wanted: &Wanted,
    limits: &Limits,
    time: &Time,
) -> Result<Loaded, Trouble> {
    let opening = Opening::of(wanted);
    connection.begins();
    let opened = connection.trip(async |client| opening.run(client).await);
    let opened = opened.await.map_err(Trouble::of_locking)?;
    let life = Life::of(&opened.row, time)?;
    life.check_open()?;
    if life.was_away() {
        return Ok(Loaded::WasAway);
    }
    let mut hand = Hand::new(limits.clone(), life.liveness.clone(), life.now);
    hand.put_opened(&opened)?;
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
            // Steps first: of a hold that is removed in between, nothing is left to be read.
            tokio::try_join!(biased;
                transitions(client, &named),
                holds(client, &named),
                find_movements(client, &movements),
                short.due(client),
            )
        });
        let (transitions, holds, movements, due) = read.await?;
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
        async |client| tokio::try_join!(biased; transitions(client, &ids), holds(client, &ids)),
    );
    let (transitions, holds) = read.await?;
    Ok(hand.put_due(&holds, &transitions, wanted)?)
}

/// Holds that may be reheld ask for units that nobody could know of before they were read. Whether
/// more is short than was known.
fn reholds_run_short(hand: &Hand, wanted: &Wanted, short: &mut BTreeMap<ItemNumber, i64>) -> bool {
    let mut asked: BTreeMap<&ItemKey, Option<Quantity>> = BTreeMap::new();
    let holds = wanted.reholds.iter().filter_map(|id| hand.book.hold(*id));
    for line in holds.flat_map(|hold| &hold.lines) {
        let asked = asked.entry(&line.item).or_insert_with(|| Some(wanted.asked_of(&line.item)));
        *asked = asked.and_then(|asked| asked.checked_add(line.requested).ok());
    }
    let mut is_more = false;
    for (key, asked) in asked {
        let Some((number, item)) = hand.numbers.get(key).zip(hand.book.item(key)) else { continue };
        let missing = asked.and_then(|asked| asked.checked_sub(item.available()).ok());
        let missing = missing.map_or(MOST_DUE, Quantity::get);
        let known = short.get(number).copied().unwrap_or(0);
        if missing > known {
            short.insert(*number, missing);
            is_more = true;
        }
    }
    is_more
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
