//! What a hold comes to: confirmed once, or released, whoever asks how often.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::json;
use tokio::sync::Barrier;

use super::{Clients, LONG, N, TTL, at_once, patient, tally};
use crate::shop::Shop;

/// Scenario 9.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_09_twenty_confirms_at_once_sell_one_hold_once() {
    let shop = Shop::open_with(N, patient);
    shop.stock("MUG", 60).await;
    let clients = Clients::new();
    let hold = clients.nth(&shop, 0).place("ann", &[("MUG", 3)], LONG).await.id();
    let told = at_once(20, |n| {
        let (mut client, hold) = (clients.nth(&shop, n), hold.clone());
        async move { client.confirm_with(&hold, &json!({"reference": "order-7"}), None).await }
    })
    .await;
    for told in &told {
        let hold = told.expect_status(200);
        assert_eq!(
            (&hold["state"], &hold["lines"][0]["confirmed"]),
            (&json!("confirmed"), &json!(3))
        );
    }
    assert_eq!(shop.units(1, "MUG").await, [60, 0, 3, 57]);
    assert_eq!(shop.count("SELECT count(*) FROM transition"), 1);

    let two = json!({"lines": [{"sku": "MUG", "quantity": 2}], "reference": "order-7"});
    for other in [two, json!({"reference": "order-8"})] {
        let told = clients.nth(&shop, 3).confirm_with(&hold, &other, None).await;
        assert_eq!((told.status(), told.code()), (409, Some("already_confirmed")), "{other}");
    }
    assert_eq!(shop.units(2, "MUG").await, [60, 0, 3, 57]);
    clients.expect_honest(&shop, &[("MUG", 60)], Duration::ZERO);
}

/// Scenario 10.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_10_release_rules() {
    let shop = Shop::open(N);
    shop.stock("MUG", 10).await;
    let clients = Clients::new();
    let mut holds = Vec::new();
    for (n, units) in [1, 2, 3].into_iter().enumerate() {
        let key = format!("ann-{n}");
        holds.push(clients.nth(&shop, n).place(&key, &[("MUG", units)], TTL).await.id());
    }
    for n in 0..2 {
        let released = clients.nth(&shop, n).release(&holds[0]).await.expect_status(200);
        assert_eq!(released["state"], "released");
    }
    clients.nth(&shop, 2).confirm(&holds[2]).await.expect_status(200);
    let after_confirm = clients.nth(&shop, 3).release(&holds[2]).await;
    assert_eq!((after_confirm.status(), after_confirm.code()), (409, Some("already_confirmed")));
    assert_eq!(shop.units(0, "MUG").await, [10, 2, 3, 5]);
    clients.expect_honest(&shop, &[("MUG", 10)], Duration::ZERO);
    shop.pass(TTL);
    let after_death = clients.nth(&shop, 3).release(&holds[1]).await.expect_status(200);
    assert_eq!(after_death["state"], "expired");
    assert_eq!(shop.units(0, "MUG").await, [10, 0, 3, 7]);
    clients.expect_honest(&shop, &[("MUG", 10)], TTL);
}

/// Scenario 10.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_10_of_a_release_and_a_confirm_at_once_one_happens_a_thousand_times() {
    const PAIRS: usize = 1_000;
    let shop = Shop::open_with(N, patient);
    shop.stock("MUG", 1_000).await;
    let (clients, start) = (Clients::new(), Arc::new(Barrier::new(PAIRS)));
    let outcomes = at_once(PAIRS, |n| {
        let (mut payer, mut quitter) = (clients.nth(&shop, n), clients.nth(&shop, n / N + n + 1));
        let start = Arc::clone(&start);
        async move {
            let hold = payer.place(&format!("{n}"), &[("MUG", 1)], LONG).await.id();
            quitter.get(&format!("/v1/holds/{hold}")).await.expect_status(200);
            start.wait().await;
            let (paid, quit) = tokio::join!(payer.confirm(&hold), quitter.release(&hold));
            [paid, quit].map(|told| (told.status(), told.code().unwrap_or("").to_owned()))
        }
    })
    .await;
    let ok = (200, String::new());
    let sold = [ok.clone(), (409, "already_confirmed".to_owned())];
    let given_back = [(409, "already_released".to_owned()), ok];
    let mut outcomes = tally(outcomes);
    let [sold, given_back] =
        [sold, given_back].map(|outcome| outcomes.remove(&outcome).unwrap_or(0));
    assert_eq!((outcomes, sold + given_back), (BTreeMap::new(), PAIRS));
    assert!(sold > 0 && given_back > 0, "{sold} were sold: nobody raced");
    let sold = i64::try_from(sold).unwrap();
    assert_eq!(shop.units(0, "MUG").await, [1_000, 0, sold, 1_000 - sold]);
    assert_eq!(shop.count("SELECT count(*) FROM transition"), 1_000);
    clients.expect_honest(&shop, &[("MUG", 1_000)], Duration::ZERO);
}

/// Scenario 13.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_13_partial_confirm() {
    let shop = Shop::open(N);
    shop.stock("MUG", 10).await;
    let clients = Clients::new();
    let hold = clients.nth(&shop, 0).place("ann", &[("MUG", 5)], TTL).await.id();
    assert_eq!(shop.units(1, "MUG").await, [10, 5, 0, 5]);
    let of = |units: i64| json!({"lines": [{"sku": "MUG", "quantity": units}]});
    let sold = clients.nth(&shop, 1).confirm_with(&hold, &of(3), None).await.expect_status(200);
    let line = &sold["lines"][0];
    assert_eq!((&line["confirmed"], &line["released"]), (&json!(3), &json!(2)));
    assert_eq!(shop.units(2, "MUG").await, [10, 0, 3, 7]);
    assert_eq!(shop.count("SELECT count(*) FROM transition"), 1);
    let rest = clients.nth(&shop, 3).confirm_with(&hold, &of(2), None).await;
    assert_eq!((rest.status(), rest.code()), (409, Some("already_confirmed")));
    assert_eq!(shop.units(0, "MUG").await, [10, 0, 3, 7]);
    clients.expect_honest(&shop, &[("MUG", 10)], Duration::ZERO);
}
