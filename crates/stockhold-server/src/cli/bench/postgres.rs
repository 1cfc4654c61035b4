//! The same over a Postgres server, beside what a developer would write on that server, and beside
//! what it can write by itself.
//!
//! Every row has a database of its own on the server, made from a template and dropped afterwards.
//!
//! | file | what is in it |
//! |---|---|
//! | `postgres/url.rs` | where the server is, and its databases |
//! | `postgres/server.rs` | the server: its databases, and who is connected |
//! | `postgres/facts.rs` | what it is and how it is set up, and how long a commit takes |
//! | `postgres/database.rs` | a row's database: its stock, and what was left behind |
//! | `postgres/baseline.rs` | what a developer would write instead |
//! | `postgres/bare.rs`, `postgres/bare.sql` | the ceiling: the same rows, written by the server itself |
//! | `postgres/instances.rs` | several processes that share the load |

mod bare;
mod baseline;
mod database;
mod facts;
mod instances;
mod server;
mod url;

use std::sync::Arc;

use stockhold::ledger::postgres::{PostgresLedger, PostgresOptions};

pub(in super::super) use self::instances::Instance;
pub(super) use self::{database::Database, facts::Facts, server::Server, url::PostgresUrl};
use super::{
    super::runtime,
    Doing, Fault, Progress,
    engine::{Measured, Till},
    plan::{Items, Job, Kind},
    report::Settings,
    row::Row,
    workload::percentiles,
};

/// Measures all rows, and says on what.
pub(super) fn measure(
    url: &PostgresUrl,
    jobs: &[Job],
    settings: &Settings,
) -> Result<(Vec<Row>, Facts), Fault> {
    runtime()?.block_on(async {
        let server = Server::reach(url).await?;
        let measured = tokio::select! {
            measured = measure_all(&server, jobs, settings) => measured,
            _ = tokio::signal::ctrl_c() => Err(Fault::error("interrupted")),
        };
        // Also if a row failed: nothing is left on the server.
        let tidied = server.drop_all().await;
        let measured = measured?;
        tidied.map(|()| measured)
    })
}

async fn measure_all(
    server: &Server,
    jobs: &[Job],
    settings: &Settings,
) -> Result<(Vec<Row>, Facts), Fault> {
    let progress = Progress::new(jobs.len());
    progress.show("preparing databases");
    let facts = Facts::of(server).await?;
    let shelf = Shelf::new(server, jobs, settings).await?;
    let mut rows = Vec::with_capacity(jobs.len());
    for job in jobs {
        progress.show(&job.to_string());
        let row = Box::pin(shelf.measure_one(*job, settings)).await?;
        progress.finished(&row);
        rows.push(row);
    }
    Ok((rows, facts))
}

/// Where databases come from.
struct Shelf<'a> {
    server: &'a Server,
    empty: String,
    preloaded: Option<String>,
}

impl<'a> Shelf<'a> {
    /// Makes a ledger without stock, and one with that many ended holds, if any row wants it.
    async fn new(server: &'a Server, jobs: &[Job], settings: &Settings) -> Result<Self, Fault> {
        let empty = server.create(None).await?;
        let url = server.url_of(&empty);
        PostgresLedger::connect(&url, PostgresOptions::default()).await?;
        let preloaded = match jobs.iter().find(|job| job.is_preloaded()) {
            None => None,
            Some(_) => {
                let name = server.create(Some(&empty)).await?;
                let database = Database::open(server, name.clone()).await?;
                database.stock_up(Items::Hot).await?;
                bare::preload(&database, settings.preload).await?;
                database.settle().await?;
                Some(name)
            }
        };
        Ok(Self { server, empty, preloaded })
    }

    async fn measure_one(&self, job: Job, settings: &Settings) -> Result<Row, Fault> {
        let database = self.take(job).await?;
        let url = database.url();
        let measuring = async {
            match job.kind {
                Kind::Engine if job.instances > 1 => {
                    let measured = instances::measure(job, settings, url).await?;
                    Ok(row_of(job, settings, measured))
                }
                Kind::Engine => engine(job, settings, &url).await,
                Kind::Bare => bare::measure(job, settings, &database).await,
                Kind::Selecting | Kind::Guarded | Kind::UnitRows => {
                    baseline::measure(job, settings, &database).await
                }
                Kind::Http | Kind::DoNothing => {
                    Err(Fault::usage("over Postgres nothing is measured over HTTP"))
                }
            }
        };
        let (mut row, connections) =
            Box::pin(self.server.watched(database.name(), measuring)).await?;
        row.connections = Some(connections);
        match job.kind {
            Kind::Engine | Kind::Bare => database.account(&mut row).await?,
            _ => database.count_baseline(&row).await?,
        }
        self.server.drop(database.name()).await?;
        Ok(row)
    }

    /// A database for this row, which nobody else uses.
    async fn take(&self, job: Job) -> Result<Database<'a>, Fault> {
        let preloaded = self.preloaded.as_ref().filter(|_| job.is_preloaded());
        let name = self.server.create(Some(preloaded.unwrap_or(&self.empty))).await?;
        let mut database = Database::open(self.server, name).await?;
        if preloaded.is_none() {
            database.stock_up(job.items).await?;
        }
        database.begin().await?;
        Ok(database)
    }
}

async fn engine(job: Job, settings: &Settings, url: &str) -> Result<Row, Fault> {
    let ledger = Arc::new(PostgresLedger::connect(url, PostgresOptions::default()).await?);
    let till = Till::open(job, settings.length, settings.ttl, ledger).await?;
    let measured = till.measure().await?;
    till.close().await?;
    Ok(row_of(job, settings, measured))
}

fn row_of(job: Job, settings: &Settings, measured: Measured) -> Row {
    let Measured { samples, batches, took } = measured;
    let mut row = Row::new(job, settings.length, samples);
    row.set_batches(batches);
    let took = percentiles(took);
    (row.kept_p50_us, row.kept_p99_us) = (took.map(|(p50, _)| p50), took.map(|(_, p99)| p99));
    row
}

/// Says what a server said, which its error keeps to itself.
trait Asking<T> {
    fn asking(self, what: &str) -> Result<T, Fault>;
}

impl<T> Asking<T> for Result<T, tokio_postgres::Error> {
    fn asking(self, what: &str) -> Result<T, Fault> {
        let said = |e: tokio_postgres::Error| match e.as_db_error() {
            Some(said) => said.message().to_owned(),
            None => e.to_string(),
        };
        self.map_err(said).doing(what)
    }
}
