//! Somebody sits on a row.

use std::time::Duration;

use stockhold::clock::{Clock, SystemClock};
use stockhold_testkit::until;
use tokio::task::JoinSet;

use super::{Clients, LONG, N, at_once, patient, timed};
use crate::{shop::Shop, shopper::Shopper};

/// Scenario 23. Nobody waits as long as the row is locked: the deadline of commands is 2 s here.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_23_a_stuck_row_delays_others_once_and_its_own_commands_until_their_deadline() {
    const LOCK_TIMEOUT: Duration = Duration::from_millis(500);
    const DEADLINE: Duration = Duration::from_secs(2);
    let shop = Shop::open_with(N, |command| {
        patient(command);
        command.env("STOCKHOLD_ENGINE_COMMAND_DEADLINE", "2s");
    });
    // Rows are locked in this order: A is locked by those who wait for the stuck one.
    for sku in ["A", "STUCK", "B"] {
        shop.stock(sku, 1_000_000).await;
    }
    let clients = Clients::new();
    let lock =
        "BEGIN; SELECT FROM stock WHERE sku = 'STUCK' FOR UPDATE; SELECT pg_sleep(5); COMMIT";
    let url = shop.postgres.url();
    let shop = &shop;
    std::thread::scope(|scope| {
        let locking = scope.spawn(|| shop.postgres.psql_at(&url, lock));
        let is_locked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        until(Duration::from_secs(10), "a lock", || {
            if shop.count(is_locked) == 1 { Ok(()) } else { Err("not yet") }
        });
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                let mut stuck = JoinSet::new();
                for n in 0..N {
                    let mut client = clients.nth(shop, n);
                    let place = async move {
                        timed(client.place(&format!("stuck-{n}"), &[("STUCK", 1)], LONG)).await
                    };
                    stuck.spawn(place);
                }
                let others = at_once(2 * N, |n| {
                    let client = clients.nth(shop, n);
                    let sku = if n < N { "A" } else { "B" };
                    place_for(client, n, sku, DEADLINE)
                })
                .await;
                for waits in others {
                    let long = |wait: &&Duration| **wait > LOCK_TIMEOUT / 2;
                    let long: Vec<_> = waits.iter().filter(long).collect();
                    assert!(long.len() <= 1, "of {} some waited {long:?}", waits.len());
                    assert!(long.iter().all(|wait| **wait < LOCK_TIMEOUT), "{long:?}");
                }
                for (told, time) in stuck.join_all().await {
                    assert_eq!((told.status(), told.code()), (503, Some("unavailable")));
                    assert!(time < DEADLINE + LOCK_TIMEOUT, "{time:?}");
                }
            });
        });
        assert!(!locking.is_finished(), "it was not locked for that long");
        locking.join().unwrap().unwrap();
    });
    for n in 0..N {
        let told = clients.nth(shop, n).place(&format!("stuck-{n}"), &[("STUCK", 1)], LONG).await;
        assert_eq!(told.status(), 201, "{told:?}");
    }
    assert_eq!(shop.units(0, "STUCK").await, [1_000_000, 4, 0, 999_996]);
    clients.expect_honest(shop, &["STUCK", "A", "B"].map(|sku| (sku, 1_000_000)), Duration::ZERO);
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
