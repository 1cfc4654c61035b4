//! The list of holds, from the newest down.

use std::collections::HashMap;

use stockhold_core::{HoldId, HoldState, HoldView};
use tokio_postgres::{Row, types::Type};

use super::{HoldRows, Params, sql_limit};
use crate::ledger::{
    HoldQuery, Page,
    list::{MOST_HOLDS, Scan},
    postgres::{
        batch::Desk,
        failure::Trouble,
        life::Life,
        rows::{self, Damaged},
        snapshot::Snapshot,
    },
};

/// So many holds are looked at in one go, if not all of them are asked for.
const GO: usize = 1_000;

/// Any holds. There is no index on owners: it would be another random page for each hold. So the
/// holds are looked at one by one, and a page ends early.
const ALL: &str = "SELECT id, owner FROM hold WHERE $1 IS NULL OR id < $1 \
                   ORDER BY id DESC LIMIT $2";

/// Those that are listed as active: all of them ...
const ACTIVE: &str = "SELECT listed.id, owner FROM (SELECT active.hold AS id FROM active \
        WHERE line = 0 AND ($1 IS NULL OR active.hold < $1) ORDER BY id DESC LIMIT $2) AS listed \
    LEFT JOIN hold ON hold.id = listed.id ORDER BY listed.id DESC";

/// ... or those with a line of one SKU.
const ACTIVE_OF_SKU: &str = "SELECT listed.id, owner \
    FROM (SELECT DISTINCT active.hold AS id FROM active \
        WHERE item IN (SELECT item FROM stock WHERE sku = $3) \
            AND ($1 IS NULL OR active.hold < $1) ORDER BY id DESC LIMIT $2) AS listed \
    LEFT JOIN hold ON hold.id = listed.id ORDER BY listed.id DESC";

/// A page of holds, from the newest down.
pub(in super::super) async fn holds(
    desk: &Desk,
    query: &HoldQuery,
) -> Result<Page<HoldView, HoldId>, Trouble> {
    let (mut snapshot, life) = Snapshot::begin(desk).await?;
    let (mut seen, mut found, mut before) = (Vec::new(), 0, query.before);
    loop {
        let go = go(query).min(MOST_HOLDS.saturating_sub(seen.len()));
        let looked_at = look_at(&mut snapshot, query, before, go).await?;
        let views = read(&mut snapshot, &life, query, &looked_at).await?;
        let is_at_end = looked_at.len() < go;
        before = looked_at.last().map(|(id, _)| *id);
        found += views.len();
        seen.extend(with_views(looked_at, views));
        if is_at_end || found >= query.limit || seen.len() >= MOST_HOLDS {
            break;
        }
    }
    snapshot.end().await?;
    let seen = seen.into_iter().map(Ok::<_, Damaged>);
    Ok(Scan::of(seen, query.limit, MOST_HOLDS)?.page())
}

/// If every hold is asked for, none is looked at in vain.
fn go(query: &HoldQuery) -> usize {
    let is_any = query.owner.is_none() && query.state.is_none();
    if is_any { query.limit } else { GO }
}

/// The next holds behind `before`, and whether each is of the owner that is asked for.
async fn look_at(
    snapshot: &mut Snapshot<'_>,
    query: &HoldQuery,
    before: Option<HoldId>,
    go: usize,
) -> Result<Vec<(HoldId, bool)>, Trouble> {
    let statement = match (query.state, &query.sku) {
        (Some(HoldState::Active), None) => ACTIVE,
        (Some(HoldState::Active), Some(_)) => ACTIVE_OF_SKU,
        _ => ALL,
    };
    let (before, go) = (before.map(rows::uuid), sql_limit(go));
    let mut params: Params<'_> = vec![(&before, Type::UUID), (&go, Type::INT8)];
    let sku = query.sku.as_ref().map(stockhold_core::Sku::as_str);
    if sku.is_some() {
        params.push((&sku, Type::TEXT));
    }
    let looked_at =
        snapshot.connection().trip(async |client| client.query_typed(statement, &params).await);
    let is_of_owner = |row: &Row| {
        let owner: Option<&str> = rows::column(row, 1)?;
        Ok((rows::hold_id(row, 0)?, owner.is_some_and(|owner| query.is_of(owner))))
    };
    Ok(looked_at.await?.iter().map(is_of_owner).collect::<Result<_, Damaged>>()?)
}

/// Those of the holds that are asked for. One that cannot be read is told to the operator, and
/// passed over (R16).
async fn read(
    snapshot: &mut Snapshot<'_>,
    life: &Life,
    query: &HoldQuery,
    looked_at: &[(HoldId, bool)],
) -> Result<HashMap<HoldId, HoldView>, Trouble> {
    let wanted = looked_at.iter().filter(|(_, is_of_owner)| *is_of_owner);
    let ids = wanted.map(|(id, _)| rows::uuid(*id)).collect();
    let read = snapshot.connection().trip(async |client| HoldRows::read(client, &ids).await);
    let mut views = HashMap::new();
    for (id, view) in read.await?.views(life)? {
        match view {
            Ok(view) if query.admits(&view) => drop(views.insert(id, view)),
            Ok(_) => {}
            Err(Damaged(what)) => {
                tracing::error!(hold = %id, what, "a hold cannot be read, and is passed over");
            }
        }
    }
    Ok(views)
}

fn with_views(
    looked_at: Vec<(HoldId, bool)>,
    mut views: HashMap<HoldId, HoldView>,
) -> impl Iterator<Item = (HoldId, Option<HoldView>)> {
    looked_at.into_iter().map(move |(id, _)| (id, views.remove(&id)))
}
