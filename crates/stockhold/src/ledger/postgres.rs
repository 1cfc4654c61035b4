//! The ledger that many instances share: a Postgres database.
//!
//! Any number of processes, each with as many lanes as it likes, use it at once; none is special,
//! and nothing is to be set up between them. A batch is one transaction in three trips: it locks the
//! stock rows that it names in the order of their numbers, reads what depends on them, and writes
//! what the rules made of it. No statement leaves anything behind in its session, so that a pooler
//! may stand in between.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use stockhold_core::{HoldId, HoldView, ItemKey, Limits, Movement, StockView, verify::Report};
use tokio_postgres::{Config, types::Type};
use uuid::Uuid;

use self::{
    batch::Desk,
    failure::Trouble,
    life::Time,
    link::{Connection, Link},
    schema::Migrated,
};
use super::{
    Applied, ApplyError, Batch, BatchId, Due, HoldQuery, Ledger, MovementQuery, Page, Retired,
    StockQuery,
};
use crate::{Failure, FailureKind};

mod audit;
mod batch;
mod deadlines;
mod failure;
mod hand;
mod life;
mod lines;
mod link;
mod load;
mod retire;
mod rows;
mod schema;
mod snapshot;
mod stuck;
mod views;
mod wanted;
mod watch;
mod write;

/// Begins a batch. An instance that is paused in the middle of one must not hold a hot row for long.
///
/// Every statement of a batch names its rows by an index, a thousand of them at most. Of a table
/// that grew since it was last analysed, the planner may think otherwise, and read the whole of it.
const BEGIN: &str = "BEGIN; SET LOCAL lock_timeout = '500ms'; SET LOCAL statement_timeout = '2s'; \
    SET LOCAL idle_in_transaction_session_timeout = '2s'; SET LOCAL enable_seqscan = off; \
    SET LOCAL enable_bitmapscan = off; SET LOCAL enable_hashjoin = off; \
    SET LOCAL enable_mergejoin = off; SET LOCAL jit = off";

/// How to open a [`PostgresLedger`].
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    /// The bounds of what may be asked.
    pub limits: Limits,
    /// The most connections at once: 8. A lane needs one while it works, a read one for itself.
    pub connections: usize,
    /// Ledger time by hand instead of by the server's clock.
    #[cfg(feature = "conformance")]
    pub clock: Option<Arc<dyn crate::clock::Clock>>,
    /// The number of this instance, instead of a random one: so that a ledger that is opened again
    /// counts as the same.
    #[cfg(feature = "conformance")]
    pub instance: Option<i32>,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            connections: 8,
            #[cfg(feature = "conformance")]
            clock: None,
            #[cfg(feature = "conformance")]
            instance: None,
        }
    }
}

/// The durable ledger of many instances.
///
/// ```no_run
/// use std::sync::Arc;
/// use stockhold::{Engine, ledger::postgres::{PostgresLedger, PostgresOptions}};
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let url = "postgres://shop@db.example/stockhold";
/// let ledger = PostgresLedger::connect(url, PostgresOptions::default()).await?;
/// let engine = Engine::builder(Arc::new(ledger)).start()?;
/// # engine.close().await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct PostgresLedger {
    desk: Arc<Desk>,
}

impl PostgresLedger {
    /// Connects, and brings the schema to this version. Any number of instances may do so at once.
    ///
    /// # Errors
    /// `Invalid` if the URL or the limits are wrong; `Incompatible` if the schema is of a newer
    /// version; `Unavailable` if the server does not answer, or refuses.
    pub async fn connect(url: &str, options: PostgresOptions) -> Result<Self, Failure> {
        let wrong = |e| Failure::new(FailureKind::Invalid, "a limit is wrong").caused_by(e);
        options.limits.check().map_err(wrong)?;
        let config = Config::from_str(url).map_err(|e| {
            Failure::new(FailureKind::Invalid, "this is no URL of a Postgres database").caused_by(e)
        })?;
        let link = Link::new(config, options.connections.max(2))?;
        let mut connection = link.connection().await?;
        migrate(&mut connection).await?;
        let time = time(&mut connection, &options).await.map_err(Trouble::into_failure)?;
        drop(connection);
        #[cfg(feature = "conformance")]
        let instance = options.instance.unwrap_or_else(instance);
        #[cfg(not(feature = "conformance"))]
        let instance = instance();
        let (stuck, watch, lines, tidy) = Default::default();
        let desk = Desk { link, limits: options.limits, time, instance, stuck, watch, lines, tidy };
        Ok(Self { desk: Arc::new(desk) })
    }

    fn check_open(&self) -> Result<(), Failure> {
        if self.desk.link.is_closed() {
            return Err(Failure::new(FailureKind::Closed, "the ledger is closed"));
        }
        Ok(())
    }
}

async fn migrate(connection: &mut Connection<'_>) -> Result<(), Failure> {
    let migrated = connection.trip(async |client| schema::migrate(client).await).await;
    match migrated.map_err(Trouble::into_failure)? {
        Migrated::ToThisVersion => Ok(()),
        Migrated::IsNewer { version } => {
            let message = format!(
                "the database has version {version} of the schema, which this program does not know: \
                 install a newer one"
            );
            Err(Failure::new(FailureKind::Incompatible, message))
        }
    }
}

#[cfg(feature = "conformance")]
async fn time(connection: &mut Connection<'_>, options: &PostgresOptions) -> Result<Time, Trouble> {
    let Some(clock) = &options.clock else { return Ok(Time::Server) };
    let row = connection.trip(async |client| life::read(client).await).await?;
    let high_water = life::Life::of(&row, &Time::Server)?.liveness.alive_at();
    Ok(Time::Hand(crate::clock::LedgerClock::start(Arc::clone(clock), high_water)))
}

#[cfg(not(feature = "conformance"))]
#[expect(clippy::unused_async, reason = "asks the ledger where a test may move its clock")]
async fn time(_: &mut Connection<'_>, _: &PostgresOptions) -> Result<Time, Trouble> {
    Ok(Time::Server)
}

/// Random: two instances with the same one would only expire each other's holds sooner.
fn instance() -> i32 {
    let [a, b, c, d, ..] = RandomState::new().build_hasher().finish().to_le_bytes();
    i32::from_le_bytes([a, b, c, d])
}

#[async_trait]
impl Ledger for PostgresLedger {
    async fn apply(&self, batch: Arc<Batch>) -> Result<Applied, ApplyError> {
        self.check_open().map_err(ApplyError::Unavailable)?;
        let desk = Arc::clone(&self.desk);
        // In a task of its own: whoever stops waiting does not stop the batch.
        let applying = tokio::spawn(async move { desk.apply(&batch).await });
        let gone =
            |e| Failure::new(FailureKind::Unavailable, "a batch ended in doubt").caused_by(e);
        applying.await.map_err(|e| ApplyError::Unavailable(gone(e)))?
    }

    /// Writes, so that the answer waits for a standby as the batch itself should have.
    async fn landed(&self, id: BatchId) -> Result<bool, Failure> {
        self.check_open()?;
        let mut connection = self.desk.link.connection().await?;
        let unconfirmed = self.desk.link.unconfirmed();
        let id = Uuid::from_bytes(id.0);
        let touch = "UPDATE batch SET at = at WHERE id = $1";
        let found = connection
            .trip(async |client| client.execute_typed(touch, &[(&id, Type::UUID)]).await)
            .await
            .map_err(Trouble::into_failure)?;
        if self.desk.link.unconfirmed() != unconfirmed {
            return Err(failure::unconfirmed());
        }
        Ok(found == 1)
    }

    async fn hold(&self, id: HoldId) -> Result<Option<HoldView>, Failure> {
        self.check_open()?;
        views::hold(&self.desk, id).await.map_err(Trouble::into_failure)
    }

    async fn stock(&self, key: &ItemKey) -> Result<Option<StockView>, Failure> {
        self.check_open()?;
        views::stock(&self.desk, key).await.map_err(Trouble::into_failure)
    }

    async fn holds(&self, query: HoldQuery) -> Result<Page<HoldView, HoldId>, Failure> {
        self.check_open()?;
        views::holds(&self.desk, &query).await.map_err(Trouble::into_failure)
    }

    async fn items(&self, query: StockQuery) -> Result<Page<StockView, ItemKey>, Failure> {
        self.check_open()?;
        views::items(&self.desk, &query).await.map_err(Trouble::into_failure)
    }

    async fn movements(&self, query: MovementQuery) -> Result<Page<Movement, i64>, Failure> {
        self.check_open()?;
        views::movements(&self.desk, &query).await.map_err(Trouble::into_failure)
    }

    async fn due(&self, limit: usize) -> Result<Due, Failure> {
        self.check_open()?;
        views::due(&self.desk, limit).await.map_err(Trouble::into_failure)
    }

    async fn retire(
        &self,
        age: Duration,
        after: Option<HoldId>,
        limit: usize,
    ) -> Result<Retired, Failure> {
        self.check_open()?;
        let desk = Arc::clone(&self.desk);
        // In a task of its own: whoever stops waiting leaves no transaction behind.
        let retiring = tokio::spawn(async move { retire::some(&desk, age, after, limit).await });
        let gone = |e| Failure::new(FailureKind::Unavailable, "a step was lost").caused_by(e);
        retiring.await.map_err(gone)?.map_err(Trouble::into_failure)
    }

    async fn verify(&self) -> Result<Report, Failure> {
        self.check_open()?;
        audit::verify(&self.desk).await.map_err(Trouble::into_failure)
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn close(&self) -> Result<(), Failure> {
        self.check_open()?;
        self.desk.link.close();
        Ok(())
    }
}
