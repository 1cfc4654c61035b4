//! What Redis is for: reads and refusals by copies, and locks; beside what one would write instead.
//!
//! The ledger is a database of its own on the Postgres server. Of Redis, the keys of this run are used, and removed.
//!
//! | file | what is in it |
//! |---|---|
//! | `redis/copies.rs` | reads and refusals, and how soon others hear of a change |
//! | `redis/locks.rs` | a lock beside `SET NX PX`, its hand-over beside polling |
//! | `redis/holds.rs` | holds in Redis alone, as they are usually written |

mod copies;
mod holds;
mod locks;

use std::{path::Path, sync::Arc, time::Duration};

use serde::Serialize;
use stockhold::{
    CacheOptions, Engine,
    ledger::{
        Ledger,
        postgres::{PostgresLedger, PostgresOptions},
    },
    redis::{Redis, RedisUrl},
};
use tokio::runtime::Runtime;

use super::{
    super::runtime,
    Doing, Fault, Progress,
    plan::Items,
    postgres::{Database, PostgresUrl, Server},
    report::Settings,
};

/// A figure beside another one of the same run.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Beside {
    pub(super) what: String,
    pub(super) figure: f64,
    pub(super) unit: &'static str,
    /// What it is compared with, and that one's figure.
    pub(super) beside: Option<(String, f64)>,
    pub(super) bound: Option<Bound>,
}

/// What a figure, or its ratio to the other one, should be.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Bound {
    AtLeast(f64),
    RatioAtMost(f64),
    RatioAtLeast(f64),
}

impl Beside {
    fn new(what: impl Into<String>, figure: f64, unit: &'static str) -> Self {
        Self { what: what.into(), figure, unit, beside: None, bound: None }
    }

    fn beside(self, what: impl Into<String>, figure: f64) -> Self {
        Self { beside: Some((what.into(), figure)), ..self }
    }

    fn should_be(self, bound: Bound) -> Self {
        Self { bound: Some(bound), ..self }
    }

    pub(super) fn ratio(&self) -> Option<f64> {
        let (_, other) = self.beside.as_ref()?;
        super::row::ratio(self.figure, *other)
    }

    /// Whether it is what it should be.
    pub(super) fn is_met(&self) -> Option<bool> {
        let ratio = self.ratio().unwrap_or(f64::NAN);
        Some(match self.bound? {
            Bound::AtLeast(least) => self.figure >= least,
            Bound::RatioAtMost(most) => ratio <= most,
            Bound::RatioAtLeast(least) => ratio >= least,
        })
    }
}

/// Where the ledger and Redis are.
struct Site<'a> {
    database: Database<'a>,
    redis: &'a str,
}

/// Where no Redis is.
const NOWHERE: &str = "redis://127.0.0.1:1";

/// What its keys begin with.
const NAMESPACE: &str = "stockhold-bench";

impl<'a> Site<'a> {
    async fn open(server: &'a Server, redis: &'a str) -> Result<Self, Fault> {
        let name = server.create(None).await?;
        PostgresLedger::connect(&server.url_of(&name), PostgresOptions::default()).await?;
        let database = Database::open(server, name).await?;
        database.stock_up(Items::Gone(10_000)).await?;
        database.stock_up(Items::Hot).await?;
        Ok(Self { database, redis })
    }

    /// An instance that shares copies and locks by the Redis at this URL.
    async fn instance(&self, redis: Option<&str>) -> Result<Engine, Fault> {
        let redis = redis.map(|url| Redis::new(&url.parse::<RedisUrl>()?)).transpose()?;
        let is_there = redis.is_some();
        let namespace = NAMESPACE.to_owned();
        let cache = CacheOptions { redis, namespace, ..CacheOptions::default() };
        let engine = Engine::builder(self.ledger().await?).cache(cache).start()?;
        if is_there {
            self.wait_for_link(&engine).await;
        }
        Ok(engine)
    }

    /// For a while; a Redis that is nowhere has none.
    async fn wait_for_link(&self, engine: &Engine) {
        use stockhold::clock::{Clock, SystemClock};
        for _ in 0..200 {
            if engine.cache().is_linked {
                return;
            }
            SystemClock.sleep(Duration::from_millis(5)).await;
        }
    }

    async fn ledger(&self) -> Result<Arc<dyn Ledger>, Fault> {
        let url = self.database.url();
        Ok(Arc::new(PostgresLedger::connect(&url, PostgresOptions::default()).await?))
    }

    /// A client as a developer would have one.
    async fn client(&self) -> Result<::redis::aio::MultiplexedConnection, Fault> {
        let client = ::redis::Client::open(self.redis).doing("the URL of Redis")?;
        client.get_multiplexed_async_connection().await.doing("connecting to Redis")
    }

    /// Removes what would stay in Redis.
    async fn tidy(&self) -> Result<(), Fault> {
        let mut client = self.client().await?;
        let identity = self.ledger().await?.identity().unwrap_or_default().to_owned();
        for bucket in 0..64 {
            // The server of the row over HTTP has a name of its own.
            for (kind, namespace) in [
                ("rule", NAMESPACE),
                ("mark", NAMESPACE),
                ("rule", "stockhold"),
                ("mark", "stockhold"),
            ] {
                let key = format!("{kind}{{{namespace}:{identity}/{bucket}}}");
                let removed: ::redis::RedisResult<i64> =
                    ::redis::cmd("DEL").arg(key).query_async(&mut client).await;
                removed.doing("tidying up in Redis")?;
            }
        }
        Ok(())
    }
}

/// Measures all of it.
pub(super) fn measure(
    postgres: &PostgresUrl,
    redis: &str,
    settings: &Settings,
    folder: &Path,
) -> Result<Vec<Beside>, Fault> {
    let runtime = runtime()?;
    let server = runtime.block_on(Server::reach(postgres))?;
    let measured = measure_on(&runtime, &server, redis, settings, folder);
    // Also if a row failed: nothing is left on the server.
    let tidied = runtime.block_on(server.drop_all());
    let measured = measured?;
    tidied.map(|()| measured)
}

fn measure_on(
    runtime: &Runtime,
    server: &Server,
    redis: &str,
    settings: &Settings,
    folder: &Path,
) -> Result<Vec<Beside>, Fault> {
    let progress = Progress::new(7);
    let site = runtime.block_on(Site::open(server, redis))?;
    // Where nobody has locks by any other Redis.
    let other = runtime.block_on(Site::open(server, redis))?;
    let mut rows = Vec::new();
    let mut step = |what: &str, measured: Result<Vec<Beside>, Fault>| {
        progress.show(what);
        rows.extend(measured?);
        progress.step();
        Ok::<_, Fault>(())
    };
    let length = settings.length;
    step("a copy in this process", runtime.block_on(copies::hit()))?;
    step("refusals", runtime.block_on(copies::refusals(&site, length)))?;
    step("reads", runtime.block_on(copies::reads(&site, length)))?;
    step("refusals over HTTP", copies::over_http(&site, settings, folder))?;
    step("changes", runtime.block_on(copies::changes(&site, length)))?;
    step("locks", locks::measure(runtime, &other))?;
    step("holds", runtime.block_on(holds::measure(&site, settings)))?;
    runtime.block_on(async {
        site.tidy().await?;
        other.tidy().await
    })?;
    Ok(rows)
}

/// The median, and what 99 of 100 stay under, in microseconds.
fn percentiles(mut took: Vec<Duration>) -> (f64, f64) {
    took.sort_unstable();
    let last = took.len().saturating_sub(1);
    let at = |percent: usize| {
        took.get(last * percent / 100).map_or(f64::NAN, |took| took.as_secs_f64() * 1e6)
    };
    (at(50), at(99))
}
