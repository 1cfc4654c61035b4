//! The ceiling: one connection that calls a function which writes the rows of a batch, and commits.
//! What is written comes from the server itself, so that no client works beside it.
//!
//! The rows are those of the ledger's `write.rs`; if those change, `bare.sql` has to.

use std::time::Duration;

use stockhold::{
    Limits,
    clock::{Clock, SystemClock},
};
use tokio_postgres::{Client, Statement};

use super::{
    super::{
        batches::Batches,
        plan::Job,
        report::Settings,
        row::Row,
        workload::{Samples, Window, millis},
    },
    Asking, Fault,
    database::Database,
    server::connect,
};

/// As many as the engine puts into a batch when enough are waiting.
const PLACES: i32 = 1_000;

pub(super) async fn measure(
    job: Job,
    settings: &Settings,
    database: &Database<'_>,
) -> Result<Row, Fault> {
    let mut bare = Bare::open(database, settings.ttl).await?;
    let (mut samples, mut written) = (Samples::default(), Batches::default());
    let window = Window::open(settings.length);
    let mut before = SystemClock.boot();
    while window.is_open_at(before) {
        let batch = bare.batch(PLACES).await?;
        let after = SystemClock.boot();
        samples.note(&window, batch.places, before, after);
        written.add(batch);
        before = after;
    }
    bare.end_all(settings.ttl).await?;
    let mut row = Row::new(job, settings.length, samples);
    row.set_batches(written);
    Ok(row)
}

/// Writes that many holds that end at once. Nothing is synced on the way.
pub(super) async fn preload(database: &Database<'_>, holds: u64) -> Result<(), Fault> {
    const BATCH: u64 = 10_000;
    const TTL: Duration = Duration::from_millis(100);
    let mut bare = Bare::open(database, TTL).await?;
    let off = "SET synchronous_commit = off";
    bare.client.batch_execute(off).await.asking("setting synchronous_commit")?;
    let mut left = holds;
    while left > 0 {
        let places = left.min(BATCH);
        bare.batch(i32::try_from(places).unwrap_or(i32::MAX)).await?;
        left -= places;
    }
    bare.end_all(TTL).await
}

struct Bare {
    client: Client,
    call: Statement,
    number: i64,
    ttl: i64,
    lifetime: i64,
    first_item: i64,
    items: i64,
    /// Up to which deadline all have ended.
    ended_upto: i64,
}

impl Bare {
    async fn open(database: &Database<'_>, ttl: Duration) -> Result<Self, Fault> {
        let client = connect(&database.url()).await?;
        let make = "DROP FUNCTION IF EXISTS stockhold_bench.batch; SET enable_seqscan = off";
        let schema = "CREATE SCHEMA IF NOT EXISTS stockhold_bench";
        for statement in [schema, make, include_str!("bare.sql")] {
            client.batch_execute(statement).await.asking("making the bare batch")?;
        }
        let call = "SELECT upto, ended FROM stockhold_bench.batch($1, $2, $3, $4, $5, $6, $7)";
        let call = client.prepare(call).await.asking("preparing the bare batch")?;
        let items = "SELECT min(item), count(*), (SELECT count(*) FROM batch) FROM stock";
        let row = client.query_one(items, &[]).await.asking("counting stock items")?;
        let in_millis = |duration| i64::try_from(millis(duration)).unwrap_or(i64::MAX);
        Ok(Self {
            client,
            call,
            number: row.get(2),
            ttl: in_millis(ttl),
            lifetime: in_millis(Limits::default().max_lifetime),
            first_item: row.get(0),
            items: row.get(1),
            ended_upto: 0,
        })
    }

    /// Writes so many places, and the ends of all that are due.
    async fn batch(&mut self, places: i32) -> Result<Batches, Fault> {
        self.number += 1;
        let Self { number, ttl, lifetime, first_item, items, ended_upto, .. } = self;
        let row = self
            .client
            .query_one(&self.call, &[number, &places, ttl, lifetime, first_item, items, ended_upto])
            .await
            .asking("the bare batch")?;
        self.ended_upto = row.get(0);
        let expiries = u64::try_from(row.get::<_, i64>(1)).unwrap_or(0);
        Ok(Batches { batches: 1, places: u64::try_from(places).unwrap_or(0), expiries })
    }

    /// Waits until nothing is held any more.
    async fn end_all(&mut self, ttl: Duration) -> Result<(), Fault> {
        const PAUSE: Duration = Duration::from_millis(50);
        const PATIENCE: Duration = Duration::from_secs(60);
        let latest = SystemClock.boot().saturating_add(ttl).saturating_add(PATIENCE);
        loop {
            let left = "SELECT EXISTS (SELECT FROM active)";
            let left = self.client.query_one(left, &[]).await.asking("counting holds")?;
            if !left.get::<_, bool>(0) {
                return Ok(());
            }
            if SystemClock.boot() > latest {
                return Err(Fault::error("the bare batch does not come to an end"));
            }
            SystemClock.sleep(PAUSE).await;
            self.batch(0).await?;
        }
    }
}
