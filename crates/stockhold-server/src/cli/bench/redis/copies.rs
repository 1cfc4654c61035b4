//! Reads and refusals by copies of stock items.

use std::{
    ffi::OsString,
    hint::black_box,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use stockhold::{
    Basket, Engine, Failure, ItemKey, Owner, PlaceRequest, Quantity, Rejection, Sku,
    cache::{Loaded, Loader, TieredCache},
    clock::{Clock, SystemClock},
};
use tokio::task::JoinSet;

use super::{
    super::{
        child::Server,
        http,
        plan::{Items, Job, Kind, MANY},
        report::Settings,
        workload::{Random, Window},
    },
    Beside, Bound, Doing, Fault, NOWHERE, Site, percentiles,
};

/// So many callers at once ask the engine.
const CALLERS: usize = 64;

struct Numbers;

#[async_trait]
impl Loader<String, u64> for Numbers {
    async fn load(&self, keys: Vec<String>) -> Result<Vec<Loaded<u64>>, Failure> {
        Ok(keys.iter().map(|_| Loaded::new(7, 1, SystemClock.wall())).collect())
    }
}

/// A value that is there, beside one of the library that the first level is made of.
pub(super) async fn hit() -> Result<Vec<Beside>, Fault> {
    const ROUNDS: usize = 200;
    let keys: Vec<_> = (0..MANY).map(|n| format!("SKU-{n:06}")).collect();
    let cache = TieredCache::builder("bench", Arc::new(Numbers)).start();
    let bare = moka::sync::Cache::<String, u64>::new(MANY as u64 * 2);
    for key in &keys {
        bare.insert(key.clone(), 7);
        cache.get(key).await.doing("a copy")?;
    }
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let begun = SystemClock.boot();
        for key in &keys {
            black_box(bare.get(key));
        }
        let between = SystemClock.boot();
        for key in &keys {
            black_box(cache.get(key).await.doing("a copy")?);
        }
        theirs.push(between.saturating_sub(begun));
        ours.push(SystemClock.boot().saturating_sub(between));
    }
    let each = |took| percentiles(took).0 * 1e3 / MANY as f64;
    let row = Beside::new("a copy in this process", each(ours), "ns");
    Ok(vec![row.beside("moka, get", each(theirs)).should_be(Bound::RatioAtMost(2.0))])
}

fn item(n: usize) -> Result<ItemKey, Fault> {
    Ok(ItemKey::at_default(Sku::new(Items::Many.sku(n)).doing("a SKU")?))
}

/// How often in a second, with all callers, when all copies are there.
async fn steady_rate<F>(
    length: Duration,
    caller: impl Fn(Window, Arc<AtomicU64>) -> F,
) -> Result<f64, Fault>
where
    F: Future<Output = Result<(), Fault>> + Send + 'static,
{
    rate(length / 4, &caller).await?;
    rate(length, &caller).await
}

async fn rate<F>(
    length: Duration,
    caller: &impl Fn(Window, Arc<AtomicU64>) -> F,
) -> Result<f64, Fault>
where
    F: Future<Output = Result<(), Fault>> + Send + 'static,
{
    let (window, done) = (Window::open(length), Arc::new(AtomicU64::new(0)));
    let mut callers: JoinSet<_> = (0..CALLERS).map(|_| caller(window, Arc::clone(&done))).collect();
    while let Some(ended) = callers.join_next().await {
        ended.doing("a caller")??;
    }
    Ok(done.load(Ordering::Relaxed) as f64 / length.as_secs_f64())
}

/// Looks at the clock and counts once for so many.
const TOGETHER: u64 = 64;

async fn refuse(
    engine: Engine,
    items: usize,
    window: Window,
    done: Arc<AtomicU64>,
) -> Result<(), Fault> {
    let mut random = Random::new();
    while window.is_open_at(SystemClock.boot()) {
        for _ in 0..TOGETHER {
            let owner = Owner::new(random.owner()).doing("an owner")?;
            let lines =
                Basket::new([(item(random.below(items))?, Quantity::ONE)]).doing("a basket")?;
            let told = engine.place(PlaceRequest::new(owner, lines)).await;
            match told.as_ref().err().and_then(|no| no.rejection()) {
                Some(Rejection::InsufficientStock { lines, .. }) if lines.len() == 1 => {}
                _ => return Err(Fault::error(format!("nothing was answered with {told:?}"))),
            }
        }
        done.fetch_add(TOGETHER, Ordering::Relaxed);
        tokio::task::yield_now().await;
    }
    Ok(())
}

async fn refusals_of(engine: &Engine, items: usize, length: Duration) -> Result<f64, Fault> {
    steady_rate(length, |window, done| refuse(engine.clone(), items, window, done)).await
}

/// Places of what is sold out, of one item and of many: with copies, without, and while Redis is gone.
pub(super) async fn refusals(site: &Site<'_>, length: Duration) -> Result<Vec<Beside>, Fault> {
    let mut rows = Vec::new();
    for (items, of) in [(1, "1 SKU"), (MANY, "10,000 SKUs")] {
        let mut rates = Vec::new();
        for redis in [Some(site.redis), None, Some(NOWHERE)] {
            let engine = site.instance(redis).await?;
            rates.push(refusals_of(&engine, items, length).await?);
            engine.close().await?;
        }
        let [on, off, down] = rates[..] else { return Ok(rows) };
        let row = |how: &str, rate| {
            let what = format!("refusals of {of}, {how}");
            Beside::new(what, rate, "/s").beside("without Redis", off)
        };
        rows.push(row("Redis up", on).should_be(Bound::AtLeast(1_000_000.0)));
        rows.push(row("Redis down", down));
    }
    Ok(rows)
}

async fn read(
    engine: Engine,
    copies: bool,
    window: Window,
    done: Arc<AtomicU64>,
) -> Result<(), Fault> {
    let mut random = Random::new();
    while window.is_open_at(SystemClock.boot()) {
        for _ in 0..TOGETHER {
            let item = item(random.below(MANY))?;
            if copies {
                black_box(engine.stock_at_most(&item, None).await.doing("a read")?);
            } else {
                black_box(engine.stock(&item).await.doing("a read")?);
            }
        }
        done.fetch_add(TOGETHER, Ordering::Relaxed);
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// The same of reads.
pub(super) async fn reads(site: &Site<'_>, length: Duration) -> Result<Vec<Beside>, Fault> {
    let of = |how: &str| format!("reads of 10,000 SKUs, {how}");
    let mut rates = Vec::new();
    for (redis, copies) in [(Some(site.redis), true), (Some(NOWHERE), true), (None, false)] {
        let engine = site.instance(redis).await?;
        let caller = |window, done| read(engine.clone(), copies, window, done);
        rates.push(steady_rate(length, caller).await?);
        engine.close().await?;
    }
    let [on, down, off] = rates[..] else { return Ok(Vec::new()) };
    Ok(vec![
        Beside::new(of("copies, Redis up"), on, "/s").beside("the ledger", off),
        Beside::new(of("copies, Redis down"), down, "/s").beside("the ledger", off),
    ])
}

/// A refusal over HTTP, beside a handler that does nothing.
pub(super) fn over_http(
    site: &Site<'_>,
    settings: &Settings,
    folder: &Path,
) -> Result<Vec<Beside>, Fault> {
    let most = settings.callers.iter().copied().filter(|n| *n <= 64).max().unwrap_or(64);
    let (url, redis) = (site.database.url(), site.redis);
    let serve = ["serve", "--listen", "127.0.0.1:0", "--ledger", &url, "--redis", redis];
    let job = |kind| Job::new(kind, Items::Gone(1), most, 0);
    let mut server = Server::start(serve.map(OsString::from), folder)?;
    let refused = http::run(job(Kind::Http), settings, &mut server)?;
    drop(server);
    let nothing = http::measure_doing_nothing(job(Kind::DoNothing), settings, folder)?;
    let row = Beside::new(
        format!("refusals of 1 SKU over HTTP, {most} callers"),
        refused.per_second,
        "/s",
    );
    let bound = Bound::RatioAtLeast(0.8);
    Ok(vec![row.beside("a handler that does nothing", nothing.per_second).should_be(bound)])
}

/// How soon another instance shows what has changed, and how many of its reads do not.
pub(super) async fn changes(site: &Site<'_>, length: Duration) -> Result<Vec<Beside>, Fault> {
    let [writer, reader] =
        [site.instance(Some(site.redis)).await?, site.instance(Some(site.redis)).await?];
    let hot = ItemKey::at_default(Sku::new(Items::Hot.sku(0)).doing("a SKU")?);
    let (seen, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let counted = Arc::new(AtomicU64::new(0));
    let (reading, version) = ((reader.clone(), hot.clone()), Arc::new(AtomicU64::new(0)));
    let reads = tokio::spawn({
        let (seen, stop, counted) = (Arc::clone(&seen), Arc::clone(&stop), Arc::clone(&counted));
        let version = Arc::clone(&version);
        async move {
            let (engine, hot) = reading;
            let mut stale = 0_u64;
            while !stop.load(Ordering::Acquire) {
                // What was answered before this read began.
                let answered = version.load(Ordering::Acquire);
                let (_, view) = engine.stock_at_most(&hot, None).await.doing("a read")?;
                stale += u64::from(view.item.version < answered);
                counted.fetch_add(1, Ordering::Relaxed);
                seen.fetch_max(view.item.version, Ordering::AcqRel);
                tokio::task::yield_now().await;
            }
            Ok::<_, Fault>(stale)
        }
    });
    let (mut took, window) = (Vec::new(), Window::open(length));
    while window.is_open_at(SystemClock.boot()) {
        let owner = Owner::new("bench").doing("an owner")?;
        let lines = Basket::new([(hot.clone(), Quantity::ONE)]).doing("a basket")?;
        writer.place(PlaceRequest::new(owner, lines)).await.doing("a hold")?;
        let (answered, now) = (writer.stock(&hot).await.doing("a read")?, SystemClock.boot());
        version.store(answered.item.version, Ordering::Release);
        while seen.load(Ordering::Acquire) < answered.item.version {
            tokio::task::yield_now().await;
        }
        took.push(SystemClock.boot().saturating_sub(now));
        SystemClock.sleep(Duration::from_millis(5)).await;
    }
    stop.store(true, Ordering::Release);
    let stale = reads.await.doing("reading")??;
    let counted = counted.load(Ordering::Relaxed).max(1);
    for engine in [writer, reader] {
        engine.close().await?;
    }
    let (p50, p99) = percentiles(took);
    let stale = stale as f64 * 1e6 / counted as f64;
    Ok(vec![
        Beside::new("a change is seen elsewhere, p50 after its answer", p50, "us"),
        Beside::new("a change is seen elsewhere, p99 after its answer", p99, "us"),
        Beside::new("reads elsewhere that lack what was answered before", stale, "per million"),
    ])
}
