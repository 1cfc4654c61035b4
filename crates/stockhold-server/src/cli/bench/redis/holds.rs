//! Holds of one item in Redis alone, as they are usually written: fast, and gone with its data.

use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::{Script, aio::MultiplexedConnection, cmd};
use stockhold::clock::{Clock, SystemClock};
use tokio::task::JoinSet;

use super::{
    super::{
        engine::Till,
        plan::{Items, Job, Kind},
        report::Settings,
        workload::{Random, Window},
    },
    Beside, Doing, Fault, Site,
};

const CALLERS: u32 = 64;
const LOCK: &str = "stockhold-bench:lock";
const STOCK: &str = "stockhold-bench:stock";
const PLENTY: i64 = 1_000_000_000;

/// The one script that is usually written: it takes a unit, and a hold that dies by itself. Nobody gives its unit back.
static TAKE: LazyLock<Script> = LazyLock::new(|| Script::new(TAKE_TEXT));

const TAKE_TEXT: &str = "local left = tonumber(redis.call('GET', KEYS[1]) or '0') \
    if left < tonumber(ARGV[2]) then return 0 end \
    redis.call('DECRBY', KEYS[1], ARGV[2]) \
    redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[3]) \
    return 1";

pub(super) async fn measure(site: &Site<'_>, settings: &Settings) -> Result<Vec<Beside>, Fault> {
    let job = Job::new(Kind::Engine, Items::Hot, CALLERS, 0);
    let till = Till::open(job, settings.length, settings.ttl, site.ledger().await?).await?;
    let held = till.measure().await?.samples.operations as f64 / settings.length.as_secs_f64();
    till.close().await?;
    let mut client = site.client().await?;
    let checked = rate(&client, settings.length, lock_check_set).await?;
    let scripted = rate(&client, settings.length, one_script).await?;
    let () = cmd("DEL").arg(LOCK).arg(STOCK).exec_async(&mut client).await.doing("DEL")?;
    let row = |what: &str, figure| {
        let what = format!("holds of 1 SKU, 64 callers: {what}");
        Beside::new(what, figure, "/s")
    };
    let durable = |figure| row("engine, durable", figure);
    Ok(vec![
        durable(held).beside("lock-check-set in Redis, not durable", checked),
        durable(held).beside("one script in Redis, not durable", scripted),
    ])
}

/// How many in a second.
async fn rate<F>(
    client: &MultiplexedConnection,
    length: Duration,
    hold: fn(MultiplexedConnection, u64) -> F,
) -> Result<f64, Fault>
where
    F: Future<Output = Result<bool, Fault>> + Send + 'static,
{
    let mut stock = client.clone();
    let () = cmd("SET").arg(STOCK).arg(PLENTY).query_async(&mut stock).await.doing("SET")?;
    let (window, done) = (Window::open(length), Arc::new(AtomicU64::new(0)));
    let mut callers: JoinSet<Result<(), Fault>> = (0..CALLERS)
        .map(|_| {
            let (client, done) = (client.clone(), Arc::clone(&done));
            async move {
                let mut random = Random::new();
                while window.is_open_at(SystemClock.boot()) {
                    let is_held = hold(client.clone(), random.next()).await?;
                    done.fetch_add(u64::from(is_held), Ordering::Relaxed);
                }
                Ok(())
            }
        })
        .collect();
    while let Some(ended) = callers.join_next().await {
        ended.doing("a caller")??;
    }
    Ok(done.load(Ordering::Relaxed) as f64 / length.as_secs_f64())
}

/// What the algorithm did that this project grew from: three attempts to have the lock, 100 ms apart.
async fn lock_check_set(mut client: MultiplexedConnection, _: u64) -> Result<bool, Fault> {
    const ATTEMPTS: usize = 3;
    const PAUSE: Duration = Duration::from_millis(100);
    for _ in 0..ATTEMPTS {
        let mut set = cmd("SET");
        set.arg(LOCK).arg("1").arg("NX").arg("EX").arg(30);
        let locked: Option<String> = set.query_async(&mut client).await.doing("SET NX EX")?;
        if locked.is_none() {
            SystemClock.sleep(PAUSE).await;
            continue;
        }
        let left: i64 = cmd("GET").arg(STOCK).query_async(&mut client).await.doing("GET")?;
        if left > 0 {
            let mut set = cmd("SET");
            set.arg(STOCK).arg(left - 1);
            let () = set.query_async(&mut client).await.doing("SET")?;
        }
        let () = cmd("DEL").arg(LOCK).query_async(&mut client).await.doing("DEL")?;
        return Ok(left > 0);
    }
    Ok(false)
}

async fn one_script(mut client: MultiplexedConnection, number: u64) -> Result<bool, Fault> {
    let hold = format!("stockhold-bench:hold:{number:016x}");
    let mut take = TAKE.key(STOCK);
    take.key(hold).arg("owner").arg(1).arg(5_000);
    let taken: i64 = take.invoke_async(&mut client).await.doing("a script")?;
    Ok(taken == 1)
}
