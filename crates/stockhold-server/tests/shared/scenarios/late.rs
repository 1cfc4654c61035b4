//! Scenario 11: money arrives late.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use super::{Clients, N, TTL, at_once, patient, tally};
use crate::{
    shop::Shop,
    shopper::{Shopper, Told},
};

async fn rehold(client: &mut Shopper, hold: &str) -> Told {
    client.confirm_with(hold, &json!({"on_expired": "rehold"}), None).await
}

fn available(problem: &Value) -> Vec<(&str, i64)> {
    let lines = problem["lines"].as_array().unwrap().iter();
    lines.map(|line| (line["sku"].as_str().unwrap(), line["available"].as_i64().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_11_late_payment_and_nobody_else_came() {
    let shop = Shop::open(N);
    shop.stock("MUG", 1).await;
    let hold = shop.keeper(0).place("ann", &[("MUG", 1)], TTL).await.id();
    shop.pass(2 * TTL);
    let sold = rehold(&mut shop.keeper(1), &hold).await.expect_status(200);
    assert_eq!((&sold["state"], &sold["reacquired"]), (&json!("confirmed"), &json!(true)));
    assert_eq!(shop.units(2, "MUG").await, [1, 0, 1, 0]);
    shop.expect_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_11_late_payment_but_another_took_it() {
    let shop = Shop::open(N);
    shop.stock("MUG", 1).await;
    let hold = shop.keeper(0).place("ann", &[("MUG", 1)], TTL).await.id();
    shop.pass(TTL);
    let taken = shop.keeper(1).place("bob", &[("MUG", 1)], TTL).await.id();
    let problem = rehold(&mut shop.keeper(2), &hold).await.expect_status(410);
    assert_eq!(problem["code"], "hold_expired");
    assert_eq!(available(&problem), [("MUG", 0)]);
    assert_eq!(shop.units(3, "MUG").await, [1, 1, 0, 0]);
    assert_eq!(shop.keeper(3).confirm(&taken).await.status(), 200);
    shop.expect_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_11_late_payment_of_a_basket_of_which_one_line_is_left() {
    let shop = Shop::open(N);
    shop.stock("A", 1).await;
    shop.stock("B", 1).await;
    let hold = shop.keeper(0).place("ann", &[("A", 1), ("B", 1)], TTL).await.id();
    shop.pass(TTL);
    shop.keeper(1).place("bob", &[("B", 1)], TTL).await.expect_status(201);
    let problem = rehold(&mut shop.keeper(2), &hold).await.expect_status(410);
    assert_eq!(problem["code"], "hold_expired");
    assert_eq!(available(&problem), [("A", 1), ("B", 0)]);
    assert_eq!(shop.units(3, "A").await, [1, 0, 0, 1]);
    assert_eq!(shop.units(3, "B").await, [1, 1, 0, 0]);
    let steps = format!("SELECT string_agg(step, ',') FROM transition WHERE hold = '{hold}'");
    assert_eq!(shop.sql(&steps), "expire");
    shop.expect_sound();
}

/// Between late payment and the next customer there is a race, and one winner.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_11_late_payment_and_the_next_customer_at_once() {
    const PAIRS: usize = 100;
    const AT_ONCE: usize = 20;
    let shop = Shop::open_with(N, patient);
    let clients = Clients::new();
    let skus: Vec<_> = (0..PAIRS).map(|pair| format!("LAST-{pair}")).collect();
    let mut late = Vec::new();
    for (n, sku) in skus.iter().enumerate() {
        shop.stock(sku, 1).await;
        let hold = clients.nth(&shop, n).place(&format!("late-{n}"), &[(sku, 1)], TTL).await.id();
        late.push((sku.clone(), hold));
    }
    let supply: Vec<_> = skus.iter().map(|sku| (sku.as_str(), 1)).collect();
    clients.expect_honest(&shop, &supply, Duration::ZERO);
    shop.pass(TTL);
    let outcomes = at_once(AT_ONCE, |n| {
        let (mut ann, mut bob) = (clients.nth(&shop, n), clients.nth(&shop, n / N + n + 1));
        let mine: Vec<_> = late.iter().skip(n).step_by(AT_ONCE).cloned().collect();
        async move {
            let mut outcomes = Vec::new();
            for (sku, hold) in mine {
                let lines = [(sku.as_str(), 1)];
                let (paid, placed) =
                    tokio::join!(rehold(&mut ann, &hold), bob.place(&sku, &lines, TTL));
                outcomes.push((paid.status(), placed.status()));
            }
            outcomes
        }
    })
    .await;
    let outcomes = tally(outcomes.concat());
    let [paid, placed] =
        [(200, 409), (410, 201)].map(|which| outcomes.get(&which).copied().unwrap_or(0));
    assert_eq!(paid + placed, PAIRS, "{outcomes:?}");
    let expected: BTreeMap<_, _> = [((200, 409), paid), ((410, 201), placed)].into();
    assert!(paid > 0 && placed > 0, "nobody raced: {expected:?}");
    clients.expect_honest(&shop, &supply, TTL + Duration::from_secs(1));
}
