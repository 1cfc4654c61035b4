//! A lock beside `SET NX PX`, and its hand-over beside polling.

use std::time::Duration;

use redis::{aio::MultiplexedConnection, cmd};
use stockhold::{
    Engine, LockName,
    clock::{Clock, SystemClock},
    lock::{LeaseTtl, LockError},
};
use tokio::runtime::{Handle, Runtime};

use super::{Beside, Bound, Doing, Fault, Site, percentiles};

const ROUNDS: usize = 3_000;
const HAND_OVERS: usize = 1_000;
const POLLED: usize = 40;
const POLL: Duration = Duration::from_millis(50);
const KEY: &str = "stockhold-bench:plain";

fn ttl() -> Result<LeaseTtl, Fault> {
    Ok(LeaseTtl::new(Duration::from_secs(30))?)
}

fn name() -> Result<LockName, Fault> {
    LockName::new("bench").doing("a name")
}

async fn timed<T>(ask: impl Future<Output = T>, took: &mut Vec<Duration>) -> T {
    let begun = SystemClock.boot();
    let answer = ask.await;
    took.push(SystemClock.boot().saturating_sub(begun));
    answer
}

/// Whoever waits has threads of its own, as another process has them.
pub(super) fn measure(runtime: &Runtime, site: &Site<'_>) -> Result<Vec<Beside>, Fault> {
    let elsewhere = super::runtime()?;
    let here = runtime.block_on(site.instance(Some(site.redis)))?;
    let there = elsewhere.block_on(site.instance(Some(site.redis)))?;
    let rows = runtime.block_on(async {
        let mut client = site.client().await?;
        let mut rows = acquire(&here, &mut client).await?;
        rows.extend(hand_over(&here, (elsewhere.handle(), &there), &mut client).await?);
        Ok::<_, Fault>(rows)
    })?;
    elsewhere.block_on(there.close())?;
    runtime.block_on(here.close())?;
    Ok(rows)
}

async fn set_nx(client: &mut MultiplexedConnection) -> Result<bool, Fault> {
    let mut set = cmd("SET");
    set.arg(KEY).arg("0123456789abcdef0123456789abcdef").arg("NX").arg("PX").arg(30_000);
    let set: Option<String> = set.query_async(client).await.doing("SET NX PX")?;
    Ok(set.is_some())
}

async fn del(client: &mut MultiplexedConnection) -> Result<(), Fault> {
    cmd("DEL").arg(KEY).query_async(client).await.doing("DEL")
}

/// One after the other, so that all three meet the same machine.
async fn acquire(
    engine: &Engine,
    client: &mut MultiplexedConnection,
) -> Result<Vec<Beside>, Fault> {
    let (mut pings, mut sets, mut locks) = (Vec::new(), Vec::new(), Vec::new());
    let (name, ttl) = (name()?, ttl()?);
    for _ in 0..ROUNDS {
        let pong: String =
            timed(cmd("PING").query_async(client), &mut pings).await.doing("PING")?;
        drop(pong);
        timed(set_nx(client), &mut sets).await?;
        del(client).await?;
        let lease = timed(engine.locks().try_acquire(&name, ttl), &mut locks).await;
        lease.doing("a lock")?.release().await;
    }
    let [ping, set, lock] = [pings, sets, locks].map(|took| percentiles(took).0);
    Ok(vec![
        Beside::new("PING, p50", ping, "us"),
        Beside::new("acquiring a lock, p50", lock, "us")
            .beside("SET NX PX", set)
            .should_be(Bound::RatioAtMost(1.4)),
    ])
}

async fn hand_over(
    here: &Engine,
    (elsewhere, there): (&Handle, &Engine),
    client: &mut MultiplexedConnection,
) -> Result<Vec<Beside>, Fault> {
    let (mut pings, mut pushed) = (Vec::new(), Vec::new());
    let (name, ttl) = (name()?, ttl()?);
    for _ in 0..HAND_OVERS {
        let pong: String =
            timed(cmd("PING").query_async(client), &mut pings).await.doing("PING")?;
        drop(pong);
        let lease =
            here.locks().acquire(&name, ttl, Duration::from_secs(10)).await.doing("a lock")?;
        let waiting = elsewhere.spawn({
            let (locks, name) = (there.locks().clone(), name.clone());
            async move {
                let lease = locks.acquire(&name, ttl, Duration::from_secs(10)).await?;
                let had = SystemClock.boot();
                lease.release().await;
                Ok::<_, LockError>(had)
            }
        });
        SystemClock.sleep(Duration::from_millis(5)).await; // it waits
        let given = SystemClock.boot();
        lease.release().await;
        let had = waiting.await.doing("waiting")?.doing("a lock")?;
        pushed.push(had.saturating_sub(given));
    }
    let mut polled = Vec::new();
    for round in 0..POLLED {
        set_nx(client).await?;
        let mut other = client.clone();
        let waiting = tokio::spawn(async move {
            while !set_nx(&mut other).await? {
                SystemClock.sleep(POLL).await;
            }
            Ok::<_, Fault>(SystemClock.boot())
        });
        // Somewhere between two looks.
        SystemClock.sleep(POLL + POLL * u32::try_from(round).unwrap_or(0) / 40).await;
        let given = SystemClock.boot();
        del(client).await?;
        polled.push(waiting.await.doing("waiting")??.saturating_sub(given));
        del(client).await?;
    }
    let [ping, push, poll] = [pings, pushed, polled].map(|took| percentiles(took).0);
    let row = |beside: &str, figure| {
        Beside::new("a lock is handed over, p50", push, "us").beside(beside, figure)
    };
    Ok(vec![row("PING", ping).should_be(Bound::RatioAtMost(5.0)), row("polling every 50 ms", poll)])
}
