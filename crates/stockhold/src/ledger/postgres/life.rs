//! Ledger time, and the ledger's own row: when it was last alive, and what that spares (R17).

use std::time::Duration;

use stockhold_core::{Grace, Liveness, Timestamp};
use tokio_postgres::{Client, Error, Row, types::Type};

use super::{
    failure::Trouble,
    link::Connection,
    rows::{self, Damaged},
};
#[cfg(feature = "conformance")]
use crate::clock::LedgerClock;
use crate::{
    Failure, FailureKind,
    clock::{Clock, SystemClock},
    crash::Point,
};

/// A sign of life is written at most that often; more often than a sweeper gives one, so that each
/// of its own is written.
const SIGN_OF_LIFE: Duration = Duration::from_millis(500);

/// Nobody waits for the sign of somebody else: the lanes of a shop would stand in a row for it.
const UNLESS_LOCKED: &str = "FOR NO KEY UPDATE SKIP LOCKED";
#[cfg(feature = "conformance")]
const WHEN_FREE: &str = "FOR NO KEY UPDATE";

/// Where ledger time comes from.
#[derive(Clone, Debug)]
pub(super) enum Time {
    /// The clock of the Postgres server: one for all instances.
    Server,
    /// A clock that a test moves by hand.
    #[cfg(feature = "conformance")]
    Hand(LedgerClock),
}

/// What the ledger's own row says, and what time it was.
#[derive(Clone, Debug)]
pub(super) struct Life {
    pub(super) now: Timestamp,
    /// What the server's own clock showed.
    pub(super) server_now: Timestamp,
    /// When that was, by the time since boot.
    pub(super) read_at: Duration,
    pub(super) liveness: Liveness,
    sealed: Option<String>,
    sign_after: Duration,
    lock: &'static str,
}

/// `clock_timestamp`, never `now`: a wait for a lock would make that old. A batch asks for the same as
/// it begins (`functions.sql`). A test can let time pass for all instances, and moves `alive_at` as
/// well, or that would be an outage.
const READ: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint, \
                    alive_at, graces, sealed, test_ahead() FROM ledger";

/// Reads the row. To be asked after the last lock was had.
pub(super) async fn read(client: &Client) -> Result<Row, Error> {
    client.query_typed_one(READ, &[]).await
}

impl Life {
    pub(super) fn of(row: &Row, time: &Time) -> Result<Self, Damaged> {
        let server_now = rows::timestamp(row, 0)?;
        let ahead = Duration::from_millis(rows::column::<i64>(row, 4)?.unsigned_abs());
        let (now, sign_after, lock) = match time {
            Time::Server => (server_now.after(ahead), SIGN_OF_LIFE, UNLESS_LOCKED),
            // As the other ledgers do, so that they can be compared. Time that is moved by hand
            // can pass by seconds while another batch is about to write an old sign.
            #[cfg(feature = "conformance")]
            Time::Hand(clock) => (clock.now(), Duration::from_millis(1), WHEN_FREE),
        };
        let (liveness, sealed) = (rows::liveness(row, 1)?, rows::column(row, 3)?);
        let read_at = SystemClock.boot();
        Ok(Self { now, server_now, read_at, liveness, sealed, sign_after, lock })
    }

    /// # Errors
    /// Nothing may be written any more: the shop has moved.
    pub(super) fn check_open(&self) -> Result<(), Trouble> {
        match &self.sealed {
            None => Ok(()),
            Some(why) => Err(Trouble::Away(Failure::new(FailureKind::Unavailable, why.as_str()))),
        }
    }

    /// Why nothing may be written.
    pub(super) fn into_sealed(self) -> Option<String> {
        self.sealed
    }

    /// Whether the ledger was away, and nobody has noted it yet. A new one was never away, but has
    /// no sign of life either.
    pub(super) fn was_away(&self) -> bool {
        self.now.since(self.liveness.alive_at()) > Grace::SHORTEST_GAP
    }

    /// The sign of life that is due, if one is; `liveness` is this one, brought to now.
    pub(super) fn sign(&self, liveness: &Liveness) -> Option<Sign> {
        self.wants_sign().then(|| Sign {
            now: self.now.as_millis(),
            graces: rows::graces(&self.liveness),
            graces_now: rows::graces(liveness),
            lock: self.lock,
        })
    }

    fn wants_sign(&self) -> bool {
        self.now.since(self.liveness.alive_at()) >= self.sign_after
    }

    pub(super) fn is_new(&self) -> bool {
        self.liveness.alive_at() == Timestamp::default()
    }
}

/// Writes a sign of life, if nobody else is at it. It never bridges an outage: whoever finds one has
/// to note it first. Graces that are over are forgotten, if nobody has written others meanwhile.
pub(super) async fn sign(client: &Client, sign: &Sign) -> Result<u64, Error> {
    let longest = i64::try_from(Grace::SHORTEST_GAP.as_millis()).unwrap_or(i64::MAX);
    let statement = format!(
        "UPDATE ledger SET alive_at = $1, \
            graces = CASE WHEN graces = $3 THEN $4 ELSE graces END \
         WHERE one IN (SELECT one FROM ledger \
            WHERE alive_at < $1 AND alive_at >= $1 - $2 {})",
        sign.lock
    );
    let params = [
        (&sign.now as _, Type::INT8),
        (&longest as _, Type::INT8),
        (&sign.graces as _, Type::INT8_ARRAY),
        (&sign.graces_now as _, Type::INT8_ARRAY),
    ];
    client.execute_typed(&statement, &params).await
}

/// That the ledger is alive.
pub(super) struct Sign {
    now: i64,
    /// As they were read.
    graces: Vec<i64>,
    /// Those that may still spare a hold.
    graces_now: Vec<i64>,
    lock: &'static str,
}

/// Notes an outage, in a transaction of its own: one instance gives the grace, for all alike, before
/// any of them lets a hold expire.
pub(super) async fn note_outage(
    connection: &mut Connection<'_>,
    time: &Time,
) -> Result<(), Trouble> {
    connection.begins();
    let read = connection.trip(async |client| {
        client.batch_execute(super::BEGIN).await?;
        client.query_typed("SELECT one FROM ledger FOR UPDATE", &[]).await?;
        read(client).await
    });
    let life = Life::of(&read.await?, time)?;
    let mut liveness = life.liveness.clone();
    if life.is_new() {
        liveness = Liveness::new(life.now, Vec::new());
    }
    liveness.advance(life.now);
    let (alive_at, graces) = (liveness.alive_at().as_millis(), rows::graces(&liveness));
    let update = "UPDATE ledger SET alive_at = $1, graces = $2";
    let write = connection.trip(async |client| {
        client
            .execute_typed(update, &[(&alive_at, Type::INT8), (&graces, Type::INT8_ARRAY)])
            .await?;
        Point::InOutage.pass();
        client.batch_execute("COMMIT").await
    });
    write.await?;
    connection.has_ended();
    Ok(())
}
