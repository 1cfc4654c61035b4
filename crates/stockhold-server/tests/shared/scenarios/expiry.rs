//! Holds die on time, once, and for good.

use std::time::Duration;

use serde_json::{Value, json};
use stockhold_testkit::until;

use super::{Clients, LONG, N, TTL, at_once, patient};
use crate::shop::{LEDGER_TIME, Shop};

const HALF_A_SECOND: Duration = Duration::from_millis(500);

/// Scenario 8.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_08_a_hold_of_30_s_is_alive_at_29_5_s_and_dead_at_30_s() {
    let shop = Shop::open(N);
    shop.stock("MUG", 10).await;
    let clients = Clients::new();
    let first = clients.nth(&shop, 0).place("first", &[("MUG", 1)], TTL).await.id();
    let second = clients.nth(&shop, 1).place("second", &[("MUG", 1)], TTL).await.id();
    clients.expect_honest(&shop, &[("MUG", 10)], Duration::ZERO);
    shop.pass_until_near_death(&first, HALF_A_SECOND);
    assert_eq!(clients.nth(&shop, 2).confirm(&first).await.status(), 200);
    shop.pass_until_near_death(&second, Duration::ZERO);
    let late = clients.nth(&shop, 3).confirm(&second).await;
    assert_eq!((late.status(), late.code()), (410, Some("hold_expired")));
    assert_eq!(shop.units(0, "MUG").await, [10, 0, 1, 9]);
    clients.expect_honest(&shop, &[("MUG", 10)], TTL);
}

/// Scenario 8.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_08_ten_thousand_holds_expire_together_each_once() {
    const HOLDS: i64 = 10_000;
    let shop = Shop::open_with(N, patient);
    shop.stock("MUG", HOLDS).await;
    at_once(10, |n| {
        let mut client = shop.keeper(n);
        async move {
            let place = json!({"op": "place", "owner": format!("{n}"), "ttl_ms": 600_000,
                "lines": [{"sku": "MUG", "quantity": 1}]});
            let body = json!({"items": vec![place; 1_000]});
            let told = client.post("/v1/batch", &body, None).await.expect_status(200);
            let is_placed = |item: &Value| item["status"] == 201;
            assert!(told["items"].as_array().unwrap().iter().all(is_placed));
        }
    })
    .await;
    assert_eq!(shop.units(0, "MUG").await, [HOLDS, HOLDS, 0, 0]);

    // At one moment, and late enough for every instance to have learned of it.
    let soon = shop.count(&format!("SELECT {LEDGER_TIME} + 3000 FROM test_clock"));
    for table in ["hold", "active"] {
        shop.sql(&format!("UPDATE {table} SET deadline = {soon}"));
    }
    let over = format!(
        "SELECT CASE WHEN sum(held) = 0 THEN {LEDGER_TIME} ELSE 0 END FROM stock, test_clock GROUP BY ahead"
    );
    let over = until(Duration::from_secs(60), "the end of all holds", || match shop.count(&over) {
        0 => Err("some are held"),
        over => Ok(over),
    });
    assert_eq!(shop.units(1, "MUG").await, [HOLDS, 0, 0, HOLDS]);
    let steps = "SELECT count(*) || '|' || count(DISTINCT hold) || '|' || max(n) || '|' || \
                 (min(at) >= max(deadline)) FROM transition JOIN hold ON id = hold \
                 WHERE step = 'expire'";
    assert_eq!(shop.sql(steps), "10000|10000|1|true");
    shop.expect_sound();
    assert!(over - soon <= 1_000, "restored after {} ms", over - soon);
}

/// Scenario 12. Whoever placed a hold expires it, others only half a second later: an instance that
/// stands still does not.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_12_extend_never_revives() {
    let mut shop = Shop::open(N);
    shop.stock("MUG", 1).await;
    shop.stock("TEE", 1).await;
    let mut ann = shop.keeper(0);
    let mug = ann.place("mug", &[("MUG", 1)], TTL).await.id();
    let tee = ann.place("tee", &[("TEE", 1)], TTL).await.id();
    pause_at_rest(&mut shop, 0);
    shop.pass_until_near_death(&tee, Duration::ZERO);
    let extended = shop.keeper(1).extend(&mug, TTL).await;
    assert_eq!((extended.status(), extended.code()), (410, Some("hold_expired")));
    assert_eq!(shop.count("SELECT count(*) FROM active WHERE line = 0"), 1);
    let [bob, bea] = [
        shop.keeper(2).place("bob", &[("MUG", 1)], TTL).await.id(),
        shop.keeper(3).place("bea", &[("TEE", 1)], TTL).await.id(),
    ];
    for (hold, sku, taken_by) in [(mug, "MUG", bob), (tee, "TEE", bea)] {
        let extended = shop.keeper(3).extend(&hold, TTL).await;
        assert_eq!((extended.status(), extended.code()), (410, Some("hold_expired")));
        assert_eq!(
            shop.keeper(1).get(&format!("/v1/stock/{sku}")).await.expect_status(200)["held"],
            1
        );
        let owners = shop.keeper(1).get(&format!("/v1/holds?state=active&sku={sku}")).await;
        assert_eq!(owners.expect_status(200)["items"][0]["id"], json!(taken_by));
    }
    shop.instances[0].resume();
    shop.expect_sound();
}

/// In no transaction, or others would wait for it.
fn pause_at_rest(shop: &mut Shop, n: usize) {
    let open = "SELECT count(*) FROM pg_stat_activity \
                WHERE state LIKE 'idle in transaction%' AND backend_type = 'client backend'";
    until(Duration::from_secs(10), "an instance at rest", || {
        shop.instances[n].pause();
        if shop.count(open) == 0 {
            return Ok(());
        }
        shop.instances[n].resume();
        Err("it is in a transaction")
    });
}

/// Scenario 12.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_12_the_cap_is_met_exactly() {
    let shop = Shop::open(N);
    shop.stock("MUG", 1).await;
    let (minute, second) = (Duration::from_secs(60), Duration::from_secs(1));
    let placed = 14 * minute + 55 * second;
    let hold = shop.keeper(0).place("ann", &[("MUG", 1)], placed).await.id();
    let life = || {
        let millis = shop.count("SELECT deadline - created_at FROM hold");
        Duration::from_millis(u64::try_from(millis).unwrap())
    };
    assert_eq!(life(), placed);
    shop.pass_until_near_death(&hold, 5 * second);
    shop.keeper(1).extend(&hold, Duration::from_millis(100)).await.expect_status(200);
    assert_eq!(life(), placed);
    shop.keeper(2).extend(&hold, TTL).await.expect_status(200);
    assert_eq!(life(), LONG);
    for (n, time) in [TTL, Duration::from_millis(100)].into_iter().enumerate() {
        let told = shop.keeper(n).extend(&hold, time).await;
        assert_eq!((told.status(), told.code()), (409, Some("max_lifetime")));
        assert_eq!(life(), LONG);
    }
    shop.pass_until_near_death(&hold, second);
    assert_eq!(shop.keeper(3).confirm(&hold).await.status(), 200);
    shop.expect_sound();
}
