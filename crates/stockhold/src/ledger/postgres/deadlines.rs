//! Deadlines of active holds: when the next one dies, and which have died.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use stockhold_core::{HoldId, Liveness, Timestamp};
use tokio_postgres::{Client, Error, Row, types::Type};

use super::{
    life::{Life, Time},
    rows::{self, Damaged},
};
use crate::{
    clock::{Clock, SystemClock},
    ledger::Due,
};

/// A hold that another instance placed is left to that one for so long after it has died.
const OTHERS: Duration = Duration::from_millis(500);
/// When to look again if there may be one that was not looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// So many of the next deadlines are looked at, to find one of this instance among them.
const LOOKED_AT: usize = 64;

/// The first `limit` deadlines behind each mark, of each item that is told: rows of item, deadline,
/// hold. All three are SQL: two tables of one column, and a number.
pub(super) fn next_of_items(told: &str, marks: &str, limit: &str) -> String {
    format!(
        "SELECT told.item, next.deadline, next.hold FROM {told} AS told (item) \
         CROSS JOIN {marks} AS mark (after) \
         CROSS JOIN LATERAL (SELECT deadline, hold FROM active WHERE active.item = told.item \
             AND active.deadline > mark.after ORDER BY active.deadline LIMIT {limit}) AS next"
    )
}

/// The marks of [`Liveness::marks`] in SQL, for whoever has not read the graces yet. That there are
/// more of them does no harm: what lies behind each is a deadline like any other.
pub(super) const MARKS: &str = "(SELECT (-9223372036854775808)::bigint \
                                 UNION ALL SELECT unnest(graces) FROM ledger)";

/// Below which deadline no active hold was left a moment ago. Where many die, their index entries
/// stay until Postgres cleans up, and whoever looks from the beginning passes all of them.
#[derive(Debug, Default)]
pub(super) struct Floor(Mutex<Option<Below>>);

#[derive(Clone, Copy, Debug)]
struct Below {
    deadline: Timestamp,
    /// Until when it counts, by the time since boot: a hold may come late, or a grace may end.
    until: Duration,
}

/// For how long nobody looks below the floor.
const FLOOR: Duration = Duration::from_millis(500);
/// It is always that far behind: what was just placed, for a short life, may not be visible yet.
const BEHIND: Duration = Duration::from_millis(1_000);

impl Floor {
    /// Where to begin to look, if not at the beginning.
    pub(super) fn get(&self, life: &Life, time: &Time) -> Option<Timestamp> {
        let is_usual = matches!(time, Time::Server) && life.liveness.graces().is_empty();
        let below = self.below().filter(|below| is_usual && below.until > SystemClock.boot());
        below.map(|below| below.deadline)
    }

    /// This was found by looking from there.
    pub(super) fn note(&self, life: &Life, from: Option<Timestamp>, due: &[Row]) {
        let mut below = self.below();
        let from_floor = below.filter(|_| from.is_some()).map(|below| below.until);
        let until = from_floor.unwrap_or_else(|| SystemClock.boot().saturating_add(FLOOR));
        let first = due.first().and_then(|row| rows::timestamp(row, 1).ok());
        let deadline = before(life.now, BEHIND).min(first.unwrap_or(life.now));
        *below = Some(Below { deadline: before(deadline, Duration::from_millis(1)), until });
    }

    fn below(&self) -> MutexGuard<'_, Option<Below>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The due holds, and when the next one dies.
pub(super) struct Asked {
    after: Vec<i64>,
    upto: Vec<i64>,
    /// Of each range, whether it is for the holds of this instance or for those of all others.
    own: Vec<bool>,
    marks: Vec<i64>,
    limit: i64,
}

impl Asked {
    pub(super) fn of(life: &Life, limit: usize, floor: Option<Timestamp>) -> Self {
        let floor = floor.map_or(i64::MIN, Timestamp::as_millis);
        let marks = life.liveness.marks().into_iter().map(|at| at.as_millis().max(floor));
        let marks = marks.collect();
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut asked = Self { after: vec![], upto: vec![], own: vec![], marks, limit };
        asked.add(&life.liveness, life.now, true, floor);
        asked.add(&life.liveness, before(life.now, OTHERS), false, floor);
        asked
    }

    fn add(&mut self, liveness: &Liveness, now: Timestamp, own: bool, floor: i64) {
        for (after, upto) in liveness.due_ranges(now) {
            self.after.push(after.as_millis().max(floor));
            self.upto.push(upto.as_millis());
            self.own.push(own);
        }
    }

    pub(super) async fn due(&self, client: &Client, instance: i32) -> Result<Vec<Row>, Error> {
        let due = "SELECT due.hold, due.deadline FROM unnest($1, $2, $3) AS span (after, upto, own) \
            CROSS JOIN LATERAL (SELECT deadline, hold FROM active WHERE line = 0 \
                AND deadline > span.after AND deadline <= span.upto \
                AND (instance = $4) = span.own ORDER BY deadline, hold LIMIT $5) AS due \
            ORDER BY due.deadline, due.hold LIMIT $5";
        let params = [
            (&self.after as _, Type::INT8_ARRAY),
            (&self.upto as _, Type::INT8_ARRAY),
            (&self.own as _, Type::BOOL_ARRAY),
            (&instance as _, Type::INT4),
            (&self.limit as _, Type::INT8),
        ];
        client.query_typed(due, &params).await
    }

    /// The next deadlines behind each mark: rows of mark, deadline, and whose hold it is.
    pub(super) async fn next(&self, client: &Client, instance: i32) -> Result<Vec<Row>, Error> {
        let next = format!(
            "SELECT mark.after, next.deadline, next.instance = $2 FROM unnest($1) AS mark (after) \
             CROSS JOIN LATERAL (SELECT deadline, instance FROM active WHERE line = 0 \
                 AND deadline > mark.after ORDER BY deadline LIMIT {LOOKED_AT}) AS next"
        );
        let params = [(&self.marks as _, Type::INT8_ARRAY), (&instance as _, Type::INT4)];
        client.query_typed(&next, &params).await
    }
}

/// What was found. A hold of another instance counts half a second later, because only then is it
/// to be expired here.
pub(super) fn found(life: &Life, due: &[Row], next: &[Row]) -> Result<Due, Damaged> {
    let holds = due.iter().map(|row| rows::hold_id(row, 0)).collect::<Result<Vec<HoldId>, _>>()?;
    let mut earliest: Option<Timestamp> = None;
    for behind_mark in next.chunk_by(|a, b| mark(a) == mark(b)) {
        for (n, row) in (1..).zip(behind_mark) {
            let dies_at = life.liveness.effective(rows::timestamp(row, 1)?);
            let is_own: bool = rows::column(row, 2)?;
            let at = match n {
                _ if is_own => dies_at,
                // Behind the last that was looked at there may be one of this instance.
                LOOKED_AT => dies_at.max(life.now.after(LOOK_AGAIN)),
                _ => dies_at.after(OTHERS),
            };
            earliest = Some(earliest.map_or(at, |earliest| earliest.min(at)));
        }
    }
    Ok(Due { holds, next_due: earliest.map(|at| at.since(life.now)) })
}

fn mark(row: &Row) -> Option<i64> {
    rows::column(row, 0).ok()
}

fn before(at: Timestamp, duration: Duration) -> Timestamp {
    let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millis(at.as_millis().saturating_sub(millis))
}
