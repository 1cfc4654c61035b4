//! What a holder writes too late, and the database refuses.

use std::sync::atomic::{AtomicBool, Ordering};

use stockhold::lock::FENCE_TABLE;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls};

use super::*;

/// A client of the shop's own, with a table that locks guard.
pub(super) async fn client(shop: &Shop) -> Client {
    let config = shop.postgres().url().parse::<tokio_postgres::Config>().expect("a URL");
    let (client, connection) = config.connect(NoTls).await.expect("connected");
    tokio::spawn(connection);
    let written = "CREATE TABLE IF NOT EXISTS written (n serial, name text, by text)";
    client.batch_execute(&format!("{FENCE_TABLE}; {written}")).await.expect("made");
    client
}

fn written(shop: &Shop) -> String {
    shop.postgres().psql("SELECT string_agg(by, ' ' ORDER BY n) FROM written")
}

/// Writes under a lease, if the database lets it.
pub(super) async fn write(client: &mut Client, lease: &Lease) -> Result<(), LockError> {
    let tx = client.transaction().await.expect("begun");
    lease.guard_tx(&tx).await?;
    let (lock, fence) = (lease.name().as_str(), lease.fence().to_string());
    let row = "INSERT INTO written (name, by) VALUES ($1, $2)";
    tx.execute(row, &[&lock, &fence]).await.expect("written");
    tx.commit().await.expect("committed");
    Ok(())
}

/// The fences under which was written, in that order, each while the others were kept out. They rise.
pub(super) fn fences_of(shop: &Shop, lock: &str) -> Vec<Fence> {
    let rows = format!("SELECT string_agg(by, ' ' ORDER BY n) FROM written WHERE name = '{lock}'");
    let rows = shop.postgres().psql(&rows);
    let fences: Vec<Fence> =
        rows.split_whitespace().map(|by| by.parse().expect("a fence")).collect();
    let is_in_order = fences.is_sorted_by(|a, b| a < b);
    assert!(is_in_order, "somebody has written behind somebody who came later: {rows}");
    fences
}

#[tokio::test]
async fn a_statement_has_as_long_as_the_lease_lasts_or_less_if_that_was_said_before() {
    let shop = Shop::open(Grantor::Postgres).await;
    let lease = had(&shop.locks(), &name("n")).await; // for a minute
    let mut client = client(&shop).await;
    for (before, at_most) in
        [("0", 60_000), ("250ms", 250), ("5s", 5_000), ("2min", 60_000), ("1h", 60_000)]
    {
        let tx = client.transaction().await.expect("begun");
        let said = format!("SET LOCAL statement_timeout = '{before}'");
        tx.batch_execute(&said).await.expect("set");
        lease.guard_tx(&tx).await.expect("it is hers");
        let limit = "SELECT (extract(epoch FROM current_setting('statement_timeout')::interval) \
            * 1000)::bigint";
        let limit: i64 = tx.query_one(limit, &[]).await.expect("told").get(0);
        assert!(limit <= at_most && limit > at_most - 20_000.min(at_most), "{before}: {limit}");
        assert!(at_most == 60_000 || limit == at_most, "{before}: {limit}");
    }
    shop.finish().await;
}

/// Somebody who checks the fence is granted what somebody else holds of whom nobody knows. From then on the database
/// refuses what that one writes.
pub(super) async fn overtake(shop: &Shop, locks: &Locks, stale: &Lease) -> Lease {
    let mut client = client(shop).await;
    let fresh = had(&locks.fenced(), stale.name()).await;
    let (old, new) = (stale.fence(), fresh.fence());
    assert!(new > old && new.epoch > old.epoch, "{old} {new}");
    write(&mut client, &fresh).await.expect("it is the last one");
    expect_refused(&mut client, stale).await;
    fresh
}

/// Its holder believes to have it, before and afterwards: it is the database that knows better.
pub(super) async fn expect_refused(client: &mut Client, stale: &Lease) {
    assert!(!stale.left().is_zero());
    let late = write(client, stale).await;
    assert!(matches!(late, Err(LockError::Lost)), "{late:?}");
    assert!(!stale.left().is_zero());
}

/// Tasks that take one lock in turn, each to write once under it.
pub(super) struct Writers {
    working: Vec<JoinHandle<(usize, Vec<Fence>)>>,
    stop: Arc<AtomicBool>,
}

impl Writers {
    pub(super) const LOCK: &str = "n";

    /// So many, over all instances.
    pub(super) async fn begin(shop: &Shop, writers: usize) -> Self {
        let (mut working, stop) = (Vec::new(), Arc::new(AtomicBool::new(false)));
        for n in 0..writers {
            let locks = shop.locks_of(n % shop.instances.len()).fenced();
            let writing = write_on(locks, client(shop).await, Arc::clone(&stop));
            working.push(tokio::spawn(writing));
        }
        Self { working, stop }
    }

    /// All fences that they were granted, by size; and those under which they have written.
    pub(super) async fn stop(self, shop: &Shop) -> (Vec<Fence>, Vec<Fence>) {
        self.stop.store(true, Ordering::SeqCst);
        let (mut all, mut granted) = (0, Vec::new());
        for worked in self.working {
            let (written, fences) = worked.await.expect("no panic");
            all += written;
            granted.extend(fences);
        }
        let grants = granted.len();
        granted.sort_unstable();
        granted.dedup();
        assert_eq!(granted.len(), grants, "no fence was given twice");
        let written = fences_of(shop, Self::LOCK);
        assert_eq!(written.len(), all);
        (granted, written)
    }
}

/// Until it is told to stop: how often it has written, and the fences that it was granted.
async fn write_on(locks: Locks, mut client: Client, stop: Arc<AtomicBool>) -> (usize, Vec<Fence>) {
    let (mut written, mut fences) = (0, Vec::new());
    while !stop.load(Ordering::SeqCst) {
        let lease = match locks.acquire(&name(Writers::LOCK), ttl(5_000), PATIENCE).await {
            Ok(lease) => lease,
            Err(LockError::Unavailable(_)) => {
                SystemClock.sleep(5 * MILLISECOND).await;
                continue;
            }
            Err(other) => panic!("{other}"),
        };
        fences.push(lease.fence());
        if write(&mut client, &lease).await.is_ok() {
            written += 1;
        }
        lease.release().await;
    }
    (written, fences)
}

#[tokio::test]
async fn whoever_was_granted_the_lock_later_has_the_last_word() {
    let shop = Shop::open(Grantor::Redis).await;
    let (mut old, mut new) = (client(&shop).await, client(&shop).await);
    let locks = shop.locks().fenced();
    let stale = locks.try_acquire(&name("n"), ttl(60_000)).await.expect("it is free");
    // Its lease is lost with all data of Redis, and it does not know.
    shop.redis().cli(&["FLUSHALL"]);
    let fresh =
        locks.try_acquire(&name("n"), ttl(60_000)).await.expect("nobody knows of the other");
    assert!(fresh.fence() > stale.fence() && fresh.fence().epoch > stale.fence().epoch);

    let tx = new.transaction().await.expect("begun");
    fresh.guard_tx(&tx).await.expect("it is the last one");
    tx.execute("INSERT INTO written (by) VALUES ('fresh')", &[]).await.expect("written");
    tx.commit().await.expect("committed");

    let tx = old.transaction().await.expect("begun");
    let late = stale.guard_tx(&tx).await;
    assert!(matches!(late, Err(LockError::Lost)), "{late:?}");
    tx.rollback().await.expect("rolled back");
    assert_eq!(written(&shop), "fresh");

    let tx = new.transaction().await.expect("begun");
    fresh.guard_tx(&tx).await.expect("the same holder, once more");
    tx.commit().await.expect("committed");
    shop.finish().await;
}

#[tokio::test]
async fn two_who_write_at_once_write_one_after_the_other() {
    let shop = Shop::open(Grantor::Redis).await;
    let (mut old, mut new) = (client(&shop).await, client(&shop).await);
    let locks = shop.locks().fenced();
    let stale = locks.try_acquire(&name("n"), ttl(60_000)).await.expect("it is free");
    let tx = old.transaction().await.expect("begun");
    stale.guard_tx(&tx).await.expect("nobody else has it");
    shop.redis().cli(&["FLUSHALL"]);
    let fresh =
        locks.try_acquire(&name("n"), ttl(60_000)).await.expect("nobody knows of the other");
    let waiting = tokio::spawn(async move {
        let tx = new.transaction().await.expect("begun");
        fresh.guard_tx(&tx).await.expect("it is the last one");
        tx.execute("INSERT INTO written (by) VALUES ('fresh')", &[]).await.expect("written");
        tx.commit().await.expect("committed");
        fresh
    });
    SystemClock.sleep(100 * MILLISECOND).await; // it waits for the other one's transaction
    assert!(!waiting.is_finished());
    tx.execute("INSERT INTO written (by) VALUES ('stale')", &[]).await.expect("written");
    tx.commit().await.expect("committed before the other began to write");
    waiting.await.expect("no panic");
    assert_eq!(written(&shop), "stale fresh");
    shop.finish().await;
}

#[tokio::test]
async fn a_statement_does_not_outlive_the_lease() {
    let shop = Shop::open(Grantor::Postgres).await;
    let mut client = client(&shop).await;
    let lease = shop.locks().try_acquire(&name("n"), ttl(300)).await.expect("it is free");
    let tx = client.transaction().await.expect("begun");
    lease.guard_tx(&tx).await.expect("it is there");
    let begun = SystemClock.boot();
    let late = tx.batch_execute("SELECT pg_sleep(10)").await;
    assert!(late.is_err() && since(begun) < Duration::from_secs(2), "{:?}", since(begun));
    drop(tx);
    let tx = client.transaction().await.expect("begun");
    assert!(matches!(lease.guard_tx(&tx).await, Err(LockError::Lost)), "it is over");
    drop(tx);
    shop.finish().await;
}

#[tokio::test]
async fn nothing_is_granted_twice_and_written_while_redis_is_flushed_a_hundred_times() {
    let shop = Shop::of(Grantor::Redis, 2).await;
    let writers = Writers::begin(&shop, 8).await;
    for _ in 0..100 {
        shop.redis().cli(&["FLUSHALL"]);
        SystemClock.sleep(10 * MILLISECOND).await;
    }
    SystemClock.sleep(500 * MILLISECOND).await; // it goes on afterwards
    let (granted, written) = writers.stop(&shop).await;
    let epochs = granted.last().expect("some").epoch - granted[0].epoch;
    assert!(epochs >= 50, "{epochs} epochs");
    assert!(written.len() > 100, "{} of {}", written.len(), granted.len());
    shop.expect_ends();
}
