//! The ledger that many instances share: a Postgres database.
//!
//! Any number of processes, each with as many lanes as it likes, use it at once; none is special,
//! and nothing is to be set up between them. A batch is one transaction in a few trips: it locks the
//! stock rows that it names in the order of their numbers, reads what depends on them, writes what
//! the rules made of it, and commits. No statement leaves anything behind in its session, so that a
//! pooler may stand in between.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use stockhold_core::{
    HoldId, HoldView, ItemKey, KeyId, Limits, Movement, StockView, verify::Report,
};
use tokio_postgres::types::Type;
use tracing::warn;
use uuid::Uuid;

use self::{
    batch::Desk,
    failure::Trouble,
    life::Time,
    link::{Connection, Link},
    schema::Migrated,
};
pub use self::{
    inspect::{Danger, Finding, Route, ServerFacts, advice},
    url::PostgresUrl,
};
use super::{
    Alarms, Applied, ApplyError, Batch, BatchId, Due, Granting, HoldQuery, Ledger, MovementQuery,
    Page, Retired, StockQuery, Unchanged,
};
use crate::{Failure, FailureKind};

mod audit;
mod batch;
mod deadlines;
mod failure;
mod hand;
mod hosts;
mod inspect;
mod leases;
mod life;
mod lines;
mod link;
mod load;
mod names;
mod opening;
mod recent;
mod retire;
mod rows;
mod schema;
mod snapshot;
mod stuck;
mod tls;
#[cfg(feature = "sqlite")]
pub(super) mod transfer;
mod url;
mod views;
mod wanted;
mod watch;
mod witness;
mod write;

/// Begins a transaction that writes. An instance that is paused in the middle of one must not hold a
/// hot row for long.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT begin_batch('350ms')";

/// How to open a [`PostgresLedger`].
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    /// The bounds of what may be asked.
    pub limits: Limits,
    /// The most connections at once: 8. A lane needs one while it works, a read one for itself.
    pub connections: usize,
    /// Go on with a server that can lose what it has answered: with `fsync` or `synchronous_commit`
    /// off, for example. For tests and trials.
    pub allow_unsafe: bool,
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
            allow_unsafe: false,
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
    identity: String,
}

impl PostgresLedger {
    /// Connects, and brings the schema to this version. Any number of instances may do so at once.
    ///
    /// # Errors
    /// `Invalid` if the URL or the limits are wrong, or if the server can lose what it has answered
    /// (but for [`PostgresOptions::allow_unsafe`]); `Incompatible` if the schema is of a newer
    /// version; `Unavailable` if the server does not answer, or refuses, or if the shop has moved.
    pub async fn connect(url: &str, options: PostgresOptions) -> Result<Self, Failure> {
        Self::connect_to(&url.parse()?, options).await
    }

    /// The same with a URL that was read before.
    ///
    /// # Errors
    /// As for [`PostgresLedger::connect`].
    pub async fn connect_to(url: &PostgresUrl, options: PostgresOptions) -> Result<Self, Failure> {
        let wrong = |e| Failure::new(FailureKind::Invalid, "a limit is wrong").caused_by(e);
        options.limits.check().map_err(wrong)?;
        let link = Link::new(url, options.connections.max(2))?;
        let mut connection = link.connection().await?;
        refuse_to_be_unsafe(&mut connection, &options).await?;
        migrate(&mut connection).await?;
        refuse_to_be_sealed(&mut connection).await.map_err(Trouble::into_failure)?;
        let time = time(&mut connection, &options).await.map_err(Trouble::into_failure)?;
        let identity = identity(&mut connection).await.map_err(Trouble::into_failure)?;
        drop(connection);
        let desk = Desk { allow_unsafe: options.allow_unsafe, ..desk(link, options.limits, time) };
        #[cfg(feature = "conformance")]
        let desk = Desk { instance: options.instance.unwrap_or(desk.instance), ..desk };
        Ok(Self { desk: Arc::new(desk), identity })
    }

    /// Recomputes the invariants of a database, and changes nothing: also beside servers that have it
    /// open, on a standby, and of a shop that has moved.
    ///
    /// # Errors
    /// `Incompatible` if the database is no ledger of this version; `Unavailable` if the server
    /// does not answer, or refuses.
    pub async fn verify_at(url: &PostgresUrl) -> Result<Report, Failure> {
        let link = Link::new(&url.anywhere(), 1)?;
        let mut connection = link.connection().await?;
        let found = connection.trip(async |client| schema::version(client).await).await;
        drop(connection);
        check_version(found.map_err(Trouble::into_failure)?)?;
        let desk = desk(link, Limits::default(), Time::Server);
        audit::verify(&desk).await.map_err(Trouble::into_failure)
    }

    fn check_open(&self) -> Result<(), Failure> {
        if self.desk.link.is_closed() {
            return Err(Failure::new(FailureKind::Closed, "the ledger is closed"));
        }
        Ok(())
    }
}

fn desk(link: Link, limits: Limits, time: Time) -> Desk {
    let (stuck, watch, lines, numbers, floor, tidy) = Default::default();
    let (allow_unsafe, instance) = (false, instance());
    Desk { link, limits, time, allow_unsafe, instance, stuck, watch, lines, numbers, floor, tidy }
}

/// The number that was made with the ledger, and that of its database: one that was restored beside it has
/// another.
async fn identity(connection: &mut Connection<'_>) -> Result<String, Trouble> {
    let read =
        "SELECT id || '.' || oid FROM ledger, pg_database WHERE datname = current_database()";
    let row = connection.trip(async |client| client.query_typed_one(read, &[]).await).await?;
    Ok(rows::column(&row, 0)?)
}

/// A shop that moves is not served from here any more, or not yet.
async fn refuse_to_be_sealed(connection: &mut Connection<'_>) -> Result<(), Trouble> {
    let row = connection.trip(async |client| life::read(client).await).await?;
    life::Life::of(&row, &Time::Server)?.check_open()
}

/// What is only a risk is told in the log.
async fn refuse_to_be_unsafe(
    connection: &mut Connection<'_>,
    options: &PostgresOptions,
) -> Result<(), Failure> {
    let facts = inspect::look(connection).await.map_err(Trouble::into_failure)?;
    for Finding { name, danger, found, next } in facts.findings(options.connections) {
        match danger {
            Danger::None => {}
            Danger::Unsafe if !options.allow_unsafe => {
                let message = format!("{name}: {found}; what to do: {next}");
                return Err(Failure::new(FailureKind::Invalid, message));
            }
            Danger::Risk | Danger::Unsafe => {
                warn!(name, found, next, "Postgres is not as it should be")
            }
        }
    }
    Ok(())
}

fn check_version(found: Option<i32>) -> Result<(), Failure> {
    let incompatible = |message: String| Err(Failure::new(FailureKind::Incompatible, message));
    match found {
        Some(schema::THIS_VERSION) => Ok(()),
        Some(version) if version > schema::THIS_VERSION => is_newer(version),
        Some(_) => incompatible("the database has an older schema: start a server once".to_owned()),
        None => incompatible(
            "there is no ledger in this database: a server makes the tables when it starts"
                .to_owned(),
        ),
    }
}

fn is_newer(version: i32) -> Result<(), Failure> {
    let message = format!(
        "the database has version {version} of the schema, which this program does not know: \
         install a newer one"
    );
    Err(Failure::new(FailureKind::Incompatible, message))
}

async fn migrate(connection: &mut Connection<'_>) -> Result<(), Failure> {
    let migrated = connection
        .trip_within(schema::PATIENCE, async |client| schema::migrate(client).await)
        .await;
    let failure = |trouble| match trouble {
        Trouble::Locked(failure) => {
            let message = "another instance migrates the schema, and has not ended: start again";
            Failure::new(FailureKind::Unavailable, message).caused_by(failure)
        }
        other => other.into_failure(),
    };
    match migrated.map_err(failure)? {
        Migrated::ToThisVersion => Ok(()),
        Migrated::IsNewer { version } => is_newer(version),
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
        let mut connection = self.desk.link.connection_soon().await?;
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

    async fn stock_of(&self, keys: &[ItemKey]) -> Result<Vec<Option<StockView>>, Failure> {
        self.check_open()?;
        views::stock_of(&self.desk, keys).await.map_err(Trouble::into_failure)
    }

    async fn unchanged(&self, known: &[(ItemKey, u64)]) -> Result<Unchanged, Failure> {
        self.check_open()?;
        views::unchanged(&self.desk, known).await.map_err(Trouble::into_failure)
    }

    async fn knows(&self, keys: &[KeyId]) -> Result<Vec<bool>, Failure> {
        self.check_open()?;
        views::knows(&self.desk, keys).await.map_err(Trouble::into_failure)
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

    async fn sealed(&self) -> Result<Option<String>, Failure> {
        self.check_open()?;
        let looked = snapshot::look(&self.desk, async |_| Ok(())).await;
        let (life, ()) = looked.map_err(Trouble::into_failure)?;
        Ok(life.into_sealed())
    }

    fn alarms(&self) -> Option<Alarms> {
        Some(Alarms {
            clock_steps: self.desk.watch.steps(),
            lost_batches: self.desk.link.witness.lost(),
            unconfirmed_commits: self.desk.link.unconfirmed(),
        })
    }

    fn identity(&self) -> Option<&str> {
        Some(&self.identity)
    }

    fn granting(&self) -> Granting {
        Granting::Together(Arc::new(leases::PostgresLeases(Arc::clone(&self.desk))))
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
