//! Feeds the rows to the verifier from one snapshot, some thousand at a time.
//!
//! Keys are left out: what the verifier says of them, that none is there twice, their table's primary
//! key says as well.

use std::{collections::VecDeque, mem, time::Duration};

use stockhold_core::{
    HoldId,
    verify::{
        CarriedRow, HoldRow, ItemRow, LineRow, ListedRow, MovementRow, Report, TransitionRow,
        Verifier,
    },
};
use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    batch::Desk,
    failure::Trouble,
    rows::{self, Damaged, column},
    snapshot::Snapshot,
};

/// Rows that are fetched at a time.
const FETCHED: usize = 2_000;
/// The first rows may have to be sorted.
const PATIENCE: Duration = Duration::from_secs(600);

/// Recomputes the invariants of one snapshot.
pub(super) async fn verify(desk: &Desk) -> Result<Report, Trouble> {
    let (mut snapshot, life) = Snapshot::begin_long(desk).await?;
    let mut verifier = Verifier::new();
    items(&mut snapshot, &mut verifier).await?;
    holds(&mut snapshot, &mut verifier).await?;
    carried(&mut snapshot, &mut verifier).await?;
    movements(&mut snapshot, &mut verifier).await?;
    snapshot.end().await?;
    Ok(verifier.finish(life.liveness.swept_to().as_millis()))
}

async fn items(snapshot: &mut Snapshot<'_>, verifier: &mut Verifier) -> Result<(), Trouble> {
    let read = "SELECT item, sku || '@' || location, on_hand, held, allocated, lent, safety_stock \
                FROM stock ORDER BY item";
    let mut rows = Rows::open(snapshot, "items", read).await?;
    while let Some(row) = rows.next(snapshot).await? {
        verifier.item(ItemRow {
            item: column(&row, 0)?,
            name: column(&row, 1)?,
            on_hand: column(&row, 2)?,
            held: column(&row, 3)?,
            allocated: column(&row, 4)?,
            lent: column(&row, 5)?,
            safety_stock: column(&row, 6)?,
        });
    }
    Ok(())
}

/// Holds, transitions and the list of active lines are all sorted by hold: they are merged.
async fn holds(snapshot: &mut Snapshot<'_>, verifier: &mut Verifier) -> Result<(), Trouble> {
    let holds = "SELECT id, created_at, deadline, max_deadline, items, units \
                 FROM hold ORDER BY id";
    let steps = "SELECT hold, n, step, at, lines, units FROM transition ORDER BY hold, n";
    let listed = "SELECT hold, item, deadline, line FROM active ORDER BY hold, line";
    let mut holds = Rows::open(snapshot, "holds", holds).await?;
    let mut steps = Merge::open(snapshot, "transitions", steps).await?;
    let mut listed = Merge::open(snapshot, "active_lines", listed).await?;
    while let Some(row) = holds.next(snapshot).await? {
        let id = column(&row, 0)?;
        let steps = steps.of(snapshot, id, verifier).await?;
        let listed = listed.of(snapshot, id, verifier).await?;
        let listed = listed.iter().map(listed_row).collect::<Result<Vec<_>, _>>()?;
        verifier.listed_hold(&hold_row(&row, &steps)?, &listed);
    }
    steps.finish(snapshot, verifier).await?;
    listed.finish(snapshot, verifier).await
}

fn hold_row(row: &Row, steps: &[Row]) -> Result<HoldRow, Damaged> {
    let (items, units): (Vec<i64>, Vec<i64>) = (column(row, 4)?, column(row, 5)?);
    let lines = items.into_iter().zip(units);
    Ok(HoldRow {
        id: rows::hold_id(row, 0)?,
        created_at: column(row, 1)?,
        deadline: column(row, 2)?,
        max_deadline: column(row, 3)?,
        lines: lines.map(|(item, requested)| LineRow { item, requested }).collect(),
        transitions: steps.iter().map(transition_row).collect::<Result<_, _>>()?,
    })
}

fn transition_row(row: &Row) -> Result<TransitionRow, Damaged> {
    let lines: Option<Vec<i64>> = column(row, 4)?;
    let units: Option<Vec<i64>> = column(row, 5)?;
    Ok(TransitionRow {
        n: i64::from(column::<i32>(row, 1)?),
        step: column(row, 2)?,
        at: column(row, 3)?,
        lines: lines.zip(units).map(|(lines, units)| lines.into_iter().zip(units).collect()),
    })
}

fn listed_row(row: &Row) -> Result<ListedRow, Damaged> {
    let line = i64::from(column::<i32>(row, 3)?);
    Ok(ListedRow { item: column(row, 1)?, deadline: column(row, 2)?, line })
}

async fn carried(snapshot: &mut Snapshot<'_>, verifier: &mut Verifier) -> Result<(), Trouble> {
    let read = "SELECT item, shipped FROM carried ORDER BY item";
    let mut rows = Rows::open(snapshot, "carried_units", read).await?;
    while let Some(row) = rows.next(snapshot).await? {
        verifier.carried(&CarriedRow { item: column(&row, 0)?, shipped: column(&row, 1)? });
    }
    Ok(())
}

async fn movements(snapshot: &mut Snapshot<'_>, verifier: &mut Verifier) -> Result<(), Trouble> {
    let read = "SELECT id, item, kind, delta, on_hand_after FROM movement ORDER BY id";
    let mut rows = Rows::open(snapshot, "movements", read).await?;
    while let Some(row) = rows.next(snapshot).await? {
        verifier.movement(&MovementRow {
            id: column(&row, 0)?,
            item: column(&row, 1)?,
            kind: column(&row, 2)?,
            delta: column(&row, 3)?,
            on_hand_after: column(&row, 4)?,
        });
    }
    Ok(())
}

/// The rows of a query, fetched as they are wanted: a cursor, since several are read side by side.
struct Rows {
    fetch: String,
    ahead: VecDeque<Row>,
    is_at_end: bool,
}

impl Rows {
    async fn open(snapshot: &mut Snapshot<'_>, name: &str, query: &str) -> Result<Self, Trouble> {
        let declare = format!("DECLARE {name} NO SCROLL CURSOR FOR {query}");
        snapshot.connection().trip(async |client| client.batch_execute(&declare).await).await?;
        let fetch = format!("FETCH {FETCHED} FROM {name}");
        Ok(Self { fetch, ahead: VecDeque::new(), is_at_end: false })
    }

    async fn next(&mut self, snapshot: &mut Snapshot<'_>) -> Result<Option<Row>, Trouble> {
        if self.ahead.is_empty() && !self.is_at_end {
            let fetch =
                async |client: &tokio_postgres::Client| client.query_typed(&self.fetch, &[]).await;
            self.ahead = snapshot.connection().trip_within(PATIENCE, fetch).await?.into();
            self.is_at_end = self.ahead.len() < FETCHED;
        }
        Ok(self.ahead.pop_front())
    }
}

/// Rows that are sorted by hold, handed out hold by hold. There are no foreign keys, so there may be
/// rows of holds that are not there.
struct Merge {
    what: &'static str,
    rows: Rows,
    ahead: Option<(Uuid, Row)>,
}

impl Merge {
    async fn open(
        snapshot: &mut Snapshot<'_>,
        what: &'static str,
        query: &str,
    ) -> Result<Self, Trouble> {
        let rows = Rows::open(snapshot, what, query).await?;
        let mut merge = Self { what, rows, ahead: None };
        merge.step(snapshot).await?;
        Ok(merge)
    }

    /// The rows of this hold.
    async fn of(
        &mut self,
        snapshot: &mut Snapshot<'_>,
        hold: Uuid,
        verifier: &mut Verifier,
    ) -> Result<Vec<Row>, Trouble> {
        let mut found = Vec::new();
        while let Some((id, row)) = self.ahead.take_if(|(id, _)| *id <= hold) {
            if id == hold {
                found.push(row);
            } else {
                self.stray(id, verifier);
            }
            self.step(snapshot).await?;
        }
        Ok(found)
    }

    /// There are no more holds.
    async fn finish(
        mut self,
        snapshot: &mut Snapshot<'_>,
        verifier: &mut Verifier,
    ) -> Result<(), Trouble> {
        while let Some((id, _)) = mem::take(&mut self.ahead) {
            self.stray(id, verifier);
            self.step(snapshot).await?;
        }
        Ok(())
    }

    fn stray(&self, hold: Uuid, verifier: &mut Verifier) {
        verifier.stray(&format!("one of the {}", self.what), HoldId::new(hold));
    }

    async fn step(&mut self, snapshot: &mut Snapshot<'_>) -> Result<(), Trouble> {
        self.ahead = match self.rows.next(snapshot).await? {
            Some(row) => Some((column(&row, 0)?, row)),
            None => None,
        };
        Ok(())
    }
}
