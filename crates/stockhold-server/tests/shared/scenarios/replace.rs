//! Scenario 21: one hold instead of another.

use std::collections::BTreeMap;

use serde_json::json;

use super::{N, TTL, at_once, patient, tally};
use crate::{
    shop::Shop,
    shopper::{Shopper, Told},
};

async fn place(client: &mut Shopper, owner: &str, replaces: Option<&str>) -> Told {
    let lines = json!([{"sku": "MUG", "quantity": 1}]);
    let body =
        json!({"owner": owner, "ttl_ms": TTL.as_millis(), "lines": lines, "replaces": replaces});
    client.post("/v1/holds", &body, None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_21_the_new_hold_takes_the_units_of_the_old_one() {
    let shop = Shop::open(N);
    shop.stock("MUG", 1).await;
    let old = place(&mut shop.keeper(0), "ann", None).await.id();
    let stranger = place(&mut shop.keeper(1), "bob", Some(&old)).await;
    assert_eq!((stranger.status(), stranger.code()), (404, Some("not_found")));
    let new = place(&mut shop.keeper(2), "ann", Some(&old)).await;
    assert_eq!(new.status(), 201, "{new:?}");
    let released = shop.keeper(3).get(&format!("/v1/holds/{old}")).await.expect_status(200);
    assert_eq!(released["state"], "released");
    let heir = format!("SELECT replaced_by FROM hold WHERE id = '{old}'");
    assert_eq!(shop.sql(&heir), new.id());
    assert_eq!(shop.units(3, "MUG").await, [1, 1, 0, 0]);
    for on_expired in ["fail", "rehold"] {
        let body = json!({"on_expired": on_expired});
        let told = shop.keeper(1).confirm_with(&old, &body, None).await;
        assert_eq!((told.status(), told.code()), (409, Some("already_released")));
    }
    assert_eq!(shop.keeper(0).confirm(&new.id()).await.status(), 200);
    shop.expect_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_21_of_two_tabs_at_once_one_replaces_fifty_times() {
    let shop = Shop::open_with(N, patient);
    shop.stock("MUG", 1).await;
    let mut held = place(&mut shop.keeper(0), "ann", None).await.id();
    for round in 0..50 {
        let told = at_once(2, |tab| {
            let (mut client, held) = (shop.keeper(round + tab), held.clone());
            async move { place(&mut client, "ann", Some(&held)).await }
        })
        .await;
        let answers = tally(told.iter().map(|told| (told.status(), told.code())));
        let expected = BTreeMap::from([((201, None), 1), ((409, Some("already_released")), 1)]);
        assert_eq!(answers, expected);
        held = told.iter().find(|told| told.status() == 201).unwrap().id();
    }
    assert_eq!(shop.units(1, "MUG").await, [1, 1, 0, 0]);
    shop.expect_sound();
}
