//! Reads: each sees one moment of the ledger.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use stockhold_core::{HoldId, HoldView, ItemKey, KeyId, Liveness, Movement, StockView, Timestamp};
use tokio_postgres::{
    Client, Error, Row,
    types::{ToSql, Type},
};
use uuid::Uuid;

use super::{
    batch::Desk,
    deadlines::{self, MARKS},
    failure::Trouble,
    hand::Steps,
    life::Life,
    load,
    rows::{self, Damaged, ItemNumber, MOVEMENT_COLUMNS, Names, STOCK_COLUMNS},
    snapshot::{Snapshot, look},
};
use crate::ledger::{
    Due, MovementQuery, Page, StockQuery, Unchanged,
    list::{MOST_MOVEMENTS, Scan},
};

mod holds;

pub(super) use holds::holds;

/// A hold as it is now.
pub(super) async fn hold(desk: &Desk, id: HoldId) -> Result<Option<HoldView>, Trouble> {
    let ids = vec![rows::uuid(id)];
    let (life, found) = look(desk, async |client| HoldRows::read(client, &ids).await).await?;
    let view = found.views(&life)?.pop().map(|(_, view)| view);
    Ok(view.transpose()?)
}

/// A stock item as it is now.
pub(super) async fn stock(desk: &Desk, key: &ItemKey) -> Result<Option<StockView>, Trouble> {
    let named = "stock WHERE sku = $1 AND location = $2";
    let (sku, location) = (key.sku.as_str(), key.location.as_str());
    let params: Params<'_> = vec![(&sku, Type::TEXT), (&location, Type::TEXT)];
    let (life, (stock, next)) =
        look(desk, async |client| stock_rows(client, named, &params).await).await?;
    let mut views = stock_views(&life, &stock, &next)?;
    Ok(views.pop())
}

/// Many of them, in the order in which they are named.
pub(super) async fn stock_of(
    desk: &Desk,
    keys: &[ItemKey],
) -> Result<Vec<Option<StockView>>, Trouble> {
    // One by one by their index: the planner would read the whole table for a few dozen of them.
    let named = "(SELECT found.* FROM unnest($1, $2) AS wanted (sku, location) \
        CROSS JOIN LATERAL (SELECT * FROM stock WHERE stock.sku = wanted.sku \
            AND stock.location = wanted.location LIMIT 1) AS found) AS stock";
    let skus: Vec<_> = keys.iter().map(|key| key.sku.as_str()).collect();
    let locations: Vec<_> = keys.iter().map(|key| key.location.as_str()).collect();
    let params: Params<'_> = vec![(&skus, Type::TEXT_ARRAY), (&locations, Type::TEXT_ARRAY)];
    let (life, (stock, next)) =
        look(desk, async |client| stock_rows(client, named, &params).await).await?;
    let views = stock_views(&life, &stock, &next)?.into_iter();
    let views: HashMap<_, _> = views.map(|view| (Arc::clone(&view.item.key), view)).collect();
    Ok(keys.iter().map(|key| views.get(key).cloned()).collect())
}

/// Which of these items still have these versions.
pub(super) async fn unchanged(desk: &Desk, known: &[(ItemKey, u64)]) -> Result<Unchanged, Trouble> {
    // Each by its index, as above; only those are named that have changed.
    let changed = "SELECT place FROM \
        unnest($1, $2, $3) WITH ORDINALITY AS known (sku, location, version, place) \
        WHERE version IS DISTINCT FROM (SELECT stock.version FROM stock \
            WHERE stock.sku = known.sku AND stock.location = known.location)";
    let skus: Vec<_> = known.iter().map(|(key, _)| key.sku.as_str()).collect();
    let locations: Vec<_> = known.iter().map(|(key, _)| key.location.as_str()).collect();
    let versions: Vec<_> = known.iter().map(|(_, version)| sql_version(*version)).collect();
    let params: Params<'_> = vec![
        (&skus, Type::TEXT_ARRAY),
        (&locations, Type::TEXT_ARRAY),
        (&versions, Type::INT8_ARRAY),
    ];
    let (life, changed) =
        look(desk, async |client| client.query_typed(changed, &params).await).await?;
    let mut are_same = vec![true; known.len()];
    for row in &changed {
        let place: i64 = rows::column(row, 0)?;
        let place = usize::try_from(place.saturating_sub(1)).unwrap_or(usize::MAX);
        if let Some(is_same) = are_same.get_mut(place) {
            *is_same = false;
        }
    }
    Ok(Unchanged { are_same, as_of: life.now })
}

/// Which keys are there.
pub(super) async fn knows(desk: &Desk, keys: &[KeyId]) -> Result<Vec<bool>, Trouble> {
    let ids: Vec<_> = keys.iter().map(|key| Uuid::from_bytes(key.to_bytes())).collect();
    let find = "SELECT key FROM find_keys($1)";
    let (_, found) =
        look(desk, async |client| client.query_typed_one(find, &[(&ids, Type::UUID_ARRAY)]).await)
            .await?;
    let known: Option<HashSet<Uuid>> =
        rows::column::<Option<Vec<Uuid>>>(&found, 0)?.map(|keys| keys.into_iter().collect());
    Ok(ids.iter().map(|id| known.as_ref().is_some_and(|known| known.contains(id))).collect())
}

/// Stock items in the order of their names, up to the first that is not one of them: those that
/// are lie next to each other.
pub(super) async fn items(
    desk: &Desk,
    query: &StockQuery,
) -> Result<Page<StockView, ItemKey>, Trouble> {
    let page = "stock WHERE (sku, location) > ($1, $2) ORDER BY sku, location LIMIT $3";
    let ((sku, location), limit) = (query.begin(), sql_limit(query.limit));
    let params: Params<'_> =
        vec![(&sku, Type::TEXT), (&location, Type::TEXT), (&limit, Type::INT8)];
    let (life, (stock, next)) =
        look(desk, async |client| stock_rows(client, page, &params).await).await?;
    let views = stock_views(&life, &stock, &next)?.into_iter();
    let views = views.take_while(|view| query.admits(&view.item.key));
    let rows = views.map(|view| Ok::<_, Damaged>(((*view.item.key).clone(), Some(view))));
    Ok(Scan::of(rows, query.limit, usize::MAX)?.page())
}

/// Movements in the order of their numbers.
pub(super) async fn movements(
    desk: &Desk,
    query: &MovementQuery,
) -> Result<Page<Movement, i64>, Trouble> {
    let (_, (found, last)) = look(desk, async |client| movement_rows(client, query).await).await?;
    let mut items = Vec::with_capacity(found.len());
    for row in &found {
        items.push(rows::movement(row, &name_of_movement(row)?)?);
    }
    let is_full = items.len() >= query.limit;
    let last = if is_full { items.last().map(|m| m.id) } else { rows::column(&last, 0)? };
    Ok(Scan { items, last, is_at_end: false }.page_after(query.after))
}

/// Holds that are due, and when the next one will be.
pub(super) async fn due(desk: &Desk, limit: usize) -> Result<Due, Trouble> {
    desk.watch.check()?;
    let (mut snapshot, life) = Snapshot::begin_to_sweep(desk).await?;
    let floor = desk.floor.get(&life, &desk.time);
    let asked = deadlines::Asked::of(&life, limit, floor);
    let read = snapshot.connection().trip(async |client| {
        tokio::try_join!(biased;
            asked.due(client, desk.instance),
            asked.next(client, desk.instance),
        )
    });
    let (due, next) = read.await?;
    snapshot.end().await?;
    if limit > 0 {
        desk.floor.note(&life, floor, &due);
    }
    for row in &due {
        desk.lines.check(rows::hold_id(row, 0)?, rows::timestamp(row, 1)?);
    }
    Ok(deadlines::found(&life, &due, &next)?)
}

type Params<'a> = Vec<(&'a (dyn ToSql + Sync), Type)>;

/// The stock items of what stands behind `FROM`, and deadlines that may be their next ones.
async fn stock_rows(
    client: &Client,
    from: &str,
    params: &Params<'_>,
) -> Result<(Vec<Row>, Vec<Row>), Error> {
    let stock = format!("SELECT {STOCK_COLUMNS} FROM {from}");
    let told = format!("(SELECT item FROM {from})");
    let next = deadlines::next_of_items(&told, MARKS, "1");
    tokio::try_join!(biased;
        client.query_typed(&stock, params),
        client.query_typed(&next, params),
    )
}

fn stock_views(life: &Life, stock: &[Row], next: &[Row]) -> Result<Vec<StockView>, Damaged> {
    let next = next_due_at(&life.liveness, next)?;
    let view = |row| {
        let (number, item) = rows::stock_item(row)?;
        let (next_due_at, as_of) = (next.get(&number).copied(), life.now.max(item.touched_at));
        Ok(StockView { item, next_due_at, as_of })
    };
    stock.iter().map(view).collect()
}

/// When the next hold of each item dies: rows of item and deadline.
fn next_due_at(
    liveness: &Liveness,
    deadlines: &[Row],
) -> Result<HashMap<ItemNumber, Timestamp>, Damaged> {
    let mut next: HashMap<ItemNumber, Timestamp> = HashMap::new();
    for row in deadlines {
        let dies_at = liveness.effective(rows::timestamp(row, 1)?);
        let earliest = next.entry(rows::column(row, 0)?).or_insert(dies_at);
        *earliest = dies_at.min(*earliest);
    }
    Ok(next)
}

/// The movements of a page with the names of their items; and the last that was looked at.
async fn movement_rows(client: &Client, query: &MovementQuery) -> Result<(Vec<Row>, Row), Error> {
    let looked_at = "SELECT * FROM movement WHERE id > $1 ORDER BY id LIMIT $2";
    let found = format!(
        "SELECT {MOVEMENT_COLUMNS}, stock.sku, stock.location FROM ({looked_at}) AS movement \
         LEFT JOIN stock ON stock.item = movement.item \
         WHERE $3 IS NULL OR stock.sku = $3 ORDER BY movement.id LIMIT $4"
    );
    let last = format!("SELECT max(id) FROM ({looked_at}) AS movement");
    let (most, limit) = (sql_limit(MOST_MOVEMENTS), sql_limit(query.limit));
    let sku = query.sku.as_ref().map(stockhold_core::Sku::as_str);
    let params: Params<'_> = vec![
        (&query.after, Type::INT8),
        (&most, Type::INT8),
        (&sku, Type::TEXT),
        (&limit, Type::INT8),
    ];
    let of_last: Params<'_> = vec![(&query.after, Type::INT8), (&most, Type::INT8)];
    tokio::try_join!(biased;
        client.query_typed(&found, &params),
        client.query_typed_one(&last, &of_last),
    )
}

fn name_of_movement(row: &Row) -> Result<Names, Damaged> {
    let sku: Option<&str> = rows::column(row, 8)?;
    if sku.is_none() {
        return Ok(Names::new());
    }
    Ok(Names::from([(rows::column(row, 1)?, rows::item_key(row, 8)?)]))
}

/// Holds as they are now, or why they cannot be read.
type Views = Vec<(HoldId, Result<HoldView, Damaged>)>;

/// The rows of some holds.
struct HoldRows {
    holds: Vec<Row>,
    transitions: Vec<Row>,
    items: Vec<Row>,
}

impl HoldRows {
    async fn read(client: &Client, ids: &Vec<Uuid>) -> Result<Self, Error> {
        let (transitions, holds, items) = tokio::try_join!(biased;
            load::transitions(client, ids),
            load::holds(client, ids),
            items_of_holds(client, ids),
        )?;
        Ok(Self { holds, transitions, items })
    }

    /// The holds as they are now, or why they cannot be read.
    fn views(&self, life: &Life) -> Result<Views, Damaged> {
        let (mut names, mut touched) = (Names::new(), HashMap::new());
        for row in &self.items {
            match rows::stock_item(row) {
                Ok((number, item)) => {
                    touched.insert(number, item.touched_at);
                    names.insert(number, item.key);
                }
                Err(Damaged(what)) => tracing::error!(what, "a stock item cannot be read"),
            }
        }
        let mut steps = Steps::of(&self.transitions)?;
        let mut view = |row: &Row| {
            let placed = steps.lived(rows::placed(row, &names)?)?;
            let touched = placed.items.iter().filter_map(|item| touched.get(item)).copied();
            let now = touched.fold(life.now.max(placed.hold.created_at), Timestamp::max);
            Ok(HoldView::at(now, Arc::new(placed.hold), life.liveness.clone()))
        };
        self.holds.iter().map(|row| Ok((rows::hold_id(row, 0)?, view(row)))).collect()
    }
}

async fn items_of_holds(client: &Client, ids: &Vec<Uuid>) -> Result<Vec<Row>, Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let read = format!(
        "SELECT {STOCK_COLUMNS} FROM stock \
         WHERE item IN (SELECT unnest(items) FROM hold WHERE id = ANY($1))"
    );
    client.query_typed(&read, &[(ids, Type::UUID_ARRAY)]).await
}

/// No item has the highest one: it counts up from 1.
fn sql_version(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}

fn sql_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
