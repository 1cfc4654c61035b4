//! What a holder writes too late, and the database refuses.

use stockhold::lock::FENCE_TABLE;
use tokio_postgres::{Client, NoTls};

use super::*;

/// A client of the shop's own, with a table that a lock guards.
async fn client(shop: &Shop) -> Client {
    let config = shop.postgres().url().parse::<tokio_postgres::Config>().expect("a URL");
    let (client, connection) = config.connect(NoTls).await.expect("connected");
    tokio::spawn(connection);
    let tables = format!("{FENCE_TABLE}; CREATE TABLE IF NOT EXISTS written (n serial, by text)");
    client.batch_execute(&tables).await.expect("made");
    client
}

fn written(shop: &Shop) -> String {
    shop.postgres().psql("SELECT string_agg(by, ' ' ORDER BY n) FROM written")
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
    let shop = Arc::new(Shop::of(Grantor::Redis, 2).await);
    drop(client(&shop).await);
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut working = Vec::new();
    for n in 0..8 {
        let (locks, stop) = (shop.locks_of(n % 2).fenced(), Arc::clone(&stop));
        let mut client = client(&shop).await;
        working.push(tokio::spawn(async move {
            let (mut written, mut fences) = (0, Vec::new());
            while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                let patience = Duration::from_secs(20);
                let lease = match locks.acquire(&name("n"), ttl(5_000), patience).await {
                    Ok(lease) => lease,
                    Err(LockError::Unavailable(_)) => continue,
                    Err(other) => panic!("{other}"),
                };
                fences.push(lease.fence());
                let tx = client.transaction().await.expect("begun");
                if lease.guard_tx(&tx).await.is_ok() {
                    let write = "INSERT INTO written (by) VALUES ($1)";
                    tx.execute(write, &[&lease.fence().to_string()]).await.expect("written");
                    tx.commit().await.expect("committed");
                    written += 1;
                }
                lease.release().await;
            }
            (written, fences)
        }));
    }
    for _ in 0..100 {
        shop.redis().cli(&["FLUSHALL"]);
        SystemClock.sleep(10 * MILLISECOND).await;
    }
    SystemClock.sleep(500 * MILLISECOND).await; // it goes on afterwards
    stop.store(true, std::sync::atomic::Ordering::SeqCst);
    let (mut all, mut fences) = (0, Vec::new());
    for worked in working {
        let (written, granted) = worked.await.expect("no panic");
        all += written;
        fences.extend(granted);
    }
    let granted = fences.len();
    fences.sort_unstable();
    fences.dedup();
    assert_eq!(fences.len(), granted, "no fence was given twice");
    let epochs = fences.last().expect("some").epoch - fences[0].epoch;
    assert!(epochs >= 50, "{epochs} epochs");
    // In the order in which they were written, each while the others were kept out.
    let rows = shop.postgres().psql("SELECT string_agg(by, ' ' ORDER BY n) FROM written");
    let rows: Vec<Fence> = rows.split(' ').map(|by| by.parse().expect("a fence")).collect();
    assert!(rows.len() == all && all > 100, "{all} of {granted}");
    assert!(rows.is_sorted(), "nobody has written behind somebody who came later");
    shop.expect_ends();
}
