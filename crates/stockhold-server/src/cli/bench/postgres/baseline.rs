//! What a developer would write instead: one transaction per hold, over a connection for each
//! caller, as far as the server has them.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use stockhold::clock::{Clock, SystemClock};
use tokio::{sync::Semaphore, task::JoinSet};
use tokio_postgres::{Client, Error, Statement, types::ToSql};

use super::{
    super::{
        Doing,
        plan::{Job, Kind},
        report::Settings,
        row::Row,
        workload::{Random, Samples, Window, millis},
    },
    Asking, Fault,
    database::Database,
    server::connect,
};

const TABLES: &str = "\
    CREATE SCHEMA stockhold_bench; \
    CREATE TABLE stockhold_bench.stock ( \
        sku text PRIMARY KEY, available bigint NOT NULL CHECK (available >= 0) \
    ) WITH (fillfactor = 70); \
    CREATE TABLE stockhold_bench.hold ( \
        id uuid PRIMARY KEY, sku text NOT NULL, units bigint NOT NULL, owner text NOT NULL, \
        key uuid NOT NULL UNIQUE, created_at timestamptz NOT NULL, deadline timestamptz NOT NULL); \
    CREATE TABLE stockhold_bench.unit ( \
        id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, sku text NOT NULL, hold uuid); \
    CREATE INDEX unit_free ON stockhold_bench.unit (sku) WHERE hold IS NULL";

pub(super) async fn measure(
    job: Job,
    settings: &Settings,
    database: &Database<'_>,
) -> Result<Row, Fault> {
    set_up(job, settings.length, database).await?;
    let counter = Arc::new(Counter::open(job, settings.ttl, database).await?);
    let (window, mut callers) = (Window::open(settings.length), JoinSet::new());
    for _ in 0..job.callers {
        callers.spawn(call(Arc::clone(&counter), window));
    }
    let mut samples = Samples::default();
    while let Some(of_one) = callers.join_next().await {
        samples.add(of_one.doing("a caller")??);
    }
    Ok(Row::new(job, settings.length, samples))
}

/// A row per unit needs as many rows as will be taken.
async fn set_up(job: Job, length: Duration, database: &Database<'_>) -> Result<(), Fault> {
    const IN_A_SECOND: i64 = 20_000;
    let (sku, client) = (job.items.sku(0), database.client());
    client.batch_execute(TABLES).await.asking("making tables")?;
    let stock = "INSERT INTO stockhold_bench.stock VALUES ($1, 1000000000)";
    client.execute(stock, &[&sku]).await.asking("creating stock")?;
    if job.kind == Kind::UnitRows {
        let seconds = i64::try_from(length.as_secs()).unwrap_or(i64::MAX);
        let units = seconds.saturating_add(1).saturating_mul(IN_A_SECOND);
        let insert = "INSERT INTO stockhold_bench.unit (sku) \
                      SELECT $1 FROM generate_series(1, $2::bigint)";
        client.execute(insert, &[&sku, &units]).await.asking("creating units")?;
    }
    database.settle().await
}

async fn call(counter: Arc<Counter>, window: Window) -> Result<Samples, Fault> {
    let (mut random, mut samples) = (Random::new(), Samples::default());
    loop {
        let (owner, before) = (random.owner(), SystemClock.boot());
        let turn = counter.turns.acquire().await.doing("a connection")?;
        if !window.is_open_at(SystemClock.boot()) {
            return Ok(samples);
        }
        let Some(clerk) = counter.clerks().pop() else {
            return Err(Fault::error("a connection is missing"));
        };
        let held = clerk.hold(&counter.sku, &owner).await.asking("a hold")?;
        counter.clerks().push(clerk);
        drop(turn);
        if !held {
            return Err(Fault::error("a baseline ran out of units"));
        }
        samples.note(&window, 1, before, SystemClock.boot());
    }
}

/// What the callers share.
struct Counter {
    sku: String,
    turns: Semaphore,
    clerks: Mutex<Vec<Clerk>>,
}

impl Counter {
    async fn open(job: Job, ttl: Duration, database: &Database<'_>) -> Result<Self, Fault> {
        let callers = usize::try_from(job.callers).unwrap_or(usize::MAX);
        let connections = callers.min(database.server().free_connections().await?);
        let mut clerks = Vec::new();
        for _ in 0..connections {
            let client = connect(&database.url()).await?;
            clerks.push(Clerk::new(job.kind, ttl, client).await.asking("preparing statements")?);
        }
        let (sku, turns) = (job.items.sku(0), Semaphore::new(connections));
        Ok(Self { sku, turns, clerks: Mutex::new(clerks) })
    }

    fn clerks(&self) -> std::sync::MutexGuard<'_, Vec<Clerk>> {
        self.clerks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection, and what is said on it.
struct Clerk {
    client: Client,
    begin: Statement,
    take: Take,
    insert: Statement,
    commit: Statement,
    ttl: i64,
}

/// How a unit is taken.
enum Take {
    /// (a)
    Selecting { select: Statement, update: Statement },
    /// (b), and (c): one statement that finds nothing if there is none.
    Guarded(Statement),
}

impl Clerk {
    async fn new(kind: Kind, ttl: Duration, client: Client) -> Result<Self, Error> {
        let select = "SELECT available FROM stockhold_bench.stock WHERE sku = $1 FOR UPDATE";
        let update = "UPDATE stockhold_bench.stock SET available = available - 1 WHERE sku = $1";
        let guarded = "UPDATE stockhold_bench.stock SET available = available - 1 \
                       WHERE sku = $1 AND available >= 1";
        let unit = "UPDATE stockhold_bench.unit SET hold = gen_random_uuid() WHERE id = ( \
                    SELECT id FROM stockhold_bench.unit WHERE sku = $1 AND hold IS NULL \
                    LIMIT 1 FOR UPDATE SKIP LOCKED)";
        let take = match kind {
            Kind::Selecting => Take::Selecting {
                select: client.prepare(select).await?,
                update: client.prepare(update).await?,
            },
            Kind::UnitRows => Take::Guarded(client.prepare(unit).await?),
            _ => Take::Guarded(client.prepare(guarded).await?),
        };
        let insert = "INSERT INTO stockhold_bench.hold VALUES (gen_random_uuid(), $1, 1, $2, \
                      gen_random_uuid(), now(), now() + $3 * interval '1 ms')";
        Ok(Self {
            begin: client.prepare("BEGIN").await?,
            take,
            insert: client.prepare(insert).await?,
            commit: client.prepare("COMMIT").await?,
            ttl: i64::try_from(millis(ttl)).unwrap_or(i64::MAX),
            client,
        })
    }

    /// Whether there was a unit.
    async fn hold(&self, sku: &str, owner: &str) -> Result<bool, Error> {
        self.run(&self.begin, &[]).await?;
        let taken = match &self.take {
            Take::Guarded(update) => self.run(update, &[&sku]).await? == 1,
            Take::Selecting { select, update } => {
                let available = self.client.query_one(select, &[&sku]).await?.get::<_, i64>(0);
                available >= 1 && self.run(update, &[&sku]).await? == 1
            }
        };
        if taken {
            let ttl = self.ttl as f64;
            self.run(&self.insert, &[&sku, &owner, &ttl]).await?;
        }
        self.run(&self.commit, &[]).await?;
        Ok(taken)
    }

    async fn run(&self, what: &Statement, with: &[&(dyn ToSql + Sync)]) -> Result<u64, Error> {
        self.client.execute(what, with).await
    }
}
