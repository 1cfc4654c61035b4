//! Somebody sits on a row.

use std::time::Duration;

use stockhold::clock::{Clock, SystemClock};
use stockhold_testkit::until;
use tokio::task::JoinSet;

use super::{Clients, LONG, N, at_once, patient, timed};
use crate::{
    shop::Shop,
    shopper::{Shopper, Told},
};

/// Scenario 23. Nobody waits as long as the row is locked, though it is wanted all the time: the
/// deadline of commands is 1 s here.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_23_a_stuck_row_delays_others_once_and_its_own_commands_until_their_deadline() {
    const LOCK_TIMEOUT: Duration = Duration::from_millis(500);
    const DEADLINE: Duration = Duration::from_secs(1);
    /// Between two attempts, and on the way.
    const LITTLE: Duration = Duration::from_millis(250);
    const WATCHED: Duration = Duration::from_secs(5);
    const IS_LOCKED: &str = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    let shop = Shop::open_with(N, |command| {
        patient(command);
        command.env("STOCKHOLD_ENGINE_COMMAND_DEADLINE", "1s");
    });
    // Rows are locked in this order: A is locked by those who wait for the stuck one.
    for sku in ["A", "STUCK", "B"] {
        shop.stock(sku, 1_000_000).await;
    }
    let clients = Clients::new();
    let lock =
        "BEGIN; SELECT FROM stock WHERE sku = 'STUCK' FOR UPDATE; SELECT pg_sleep(6.5); COMMIT";
    let url = shop.postgres.url();
    let shop = &shop;
    std::thread::scope(|scope| {
        let locking = scope.spawn(|| shop.postgres.psql_at(&url, lock));
        until(Duration::from_secs(10), "a lock", || {
            if shop.count(IS_LOCKED) == 1 { Ok(()) } else { Err("not yet") }
        });
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                let stuck: JoinSet<_> =
                    (0..N).map(|n| want_for(clients.nth(shop, n), n, WATCHED)).collect();
                let others = at_once(2 * N, |n| {
                    let client = clients.nth(shop, n);
                    let sku = if n < N { "A" } else { "B" };
                    place_for(client, n, sku, WATCHED)
                })
                .await;
                assert!(shop.count(IS_LOCKED) == 1, "it was not locked for that long");
                for waits in others {
                    let long = |wait: &&Duration| **wait > LOCK_TIMEOUT / 2;
                    let long: Vec<_> = waits.iter().filter(long).collect();
                    assert!(long.len() <= 1, "of {} some waited {long:?}", waits.len());
                    assert!(long.iter().all(|wait| **wait < LOCK_TIMEOUT), "{long:?}");
                }
                for (told, time) in stuck.join_all().await.concat() {
                    assert_eq!((told.status(), told.code()), (503, Some("unavailable")));
                    assert!(time < DEADLINE + LITTLE, "{time:?}");
                }
            });
        });
        locking.join().unwrap().unwrap();
    });
    // Under their keys: none of them was done while nobody knew.
    for n in 0..N {
        let told = clients.nth(shop, n).place(&format!("stuck-{n}-0"), &[("STUCK", 1)], LONG).await;
        assert_eq!((told.status(), told.is_replayed()), (201, false), "{told:?}");
    }
    assert_eq!(shop.units(0, "STUCK").await, [1_000_000, 4, 0, 999_996]);
    clients.expect_honest(shop, &["STUCK", "A", "B"].map(|sku| (sku, 1_000_000)), Duration::ZERO);
}

/// Asks for what is stuck, again and again for so long, whenever it was told that it is; what it was
/// told, and how long that took.
async fn want_for(mut client: Shopper, n: usize, time: Duration) -> Vec<(Told, Duration)> {
    let end = SystemClock.boot() + time;
    let mut told = Vec::new();
    while SystemClock.boot() < end {
        let key = format!("stuck-{n}-{}", told.len());
        told.push(timed(client.place(&key, &[("STUCK", 1)], LONG)).await);
    }
    told
}

/// Places holds one after the other for so long; how long each took.
async fn place_for(mut client: Shopper, n: usize, sku: &str, time: Duration) -> Vec<Duration> {
    let end = SystemClock.boot() + time;
    let mut waits = Vec::new();
    while SystemClock.boot() < end {
        let key = format!("{sku}-{n}-{}", waits.len());
        let (told, wait) = timed(client.place(&key, &[(sku, 1)], LONG)).await;
        assert_eq!(told.status(), 201, "{told:?}");
        waits.push(wait);
    }
    waits
}
