//! Many verbs at once.

use stockhold::{
    Adjustment, ConfirmRequest, HoldId, HoldState, Load, LoadMode, Loaded, Operation, Outcome,
    PlaceRequest, Reason, Settings,
    conformance::ask::{item, units},
};

use crate::{
    batcher::busy,
    fixture::Kind,
    shop::{Shop, done, key, keyed, number_of, request, settle, word},
};

on_each_ledger! { one_thread:
    operations_see_each_other_and_fail_alone
    operations_of_one_sort_share_a_transaction
    what_does_not_fit_is_refused_and_the_rest_is_done
    a_batch_that_is_sent_twice_is_done_once
    five_hundred_rows_share_a_transaction
    a_list_can_be_loaded_again
}

fn words(answers: &[Result<Outcome, stockhold::Error>]) -> Vec<&'static str> {
    answers.iter().map(word).collect()
}

fn create(sku: &str, on_hand: i64) -> Operation {
    let (item, on_hand) = (item(sku), Some(units(on_hand)));
    Operation::SetPolicy { item, on_hand, safety_stock: None }
}

fn place(owner: &str) -> Operation {
    Operation::Place(request(owner, &[("MUG", 1)]))
}

fn confirm(id: HoldId) -> Operation {
    Operation::Confirm { id, request: ConfirmRequest::default() }
}

async fn operations_see_each_other_and_fail_alone(kind: Kind) {
    let shop = Shop::open(kind).await;
    shop.create("MUG", 3).await;
    let [a, b, c] = [
        shop.hold("a", &[("MUG", 1)]).await,
        shop.hold("b", &[("MUG", 1)]).await,
        shop.hold("c", &[("MUG", 1)]).await,
    ];
    let reason = || Reason::new("why").expect("a reason");
    let delta = Adjustment::Delta { delta: units(1), reason: reason(), min_available: None };
    let operations = vec![
        place("too many"),
        Operation::Release { id: a, reason: None, key: None },
        place("now"),
        confirm(b),
        confirm(b),
        Operation::Ship { id: b, lines: None, key: None },
        Operation::Adjust { item: item("MUG"), adjustment: delta.clone(), key: None },
        Operation::Adjust { item: item("MUG"), adjustment: delta, key: Some(key("k")) },
        Operation::Extend { id: a, ttl: stockhold::conformance::ask::ttl(60_000), key: None },
        Operation::Revoke { id: c, reason: reason(), key: Some(key("k")) },
        Operation::Cancel { id: c, lines: None, key: None },
        create("MUG", 3),
        create("TEE", 3),
    ];
    let expected = [
        "insufficient_stock",
        "ok",
        "ok",
        "ok",
        "ok",
        "ok",
        "idempotency_key_required",
        "ok",
        "already_released",
        "ok",
        "not_confirmed",
        "ok",
        "ok",
    ];
    assert_eq!(words(&shop.engine.batch(operations).await), expected);
    assert_eq!(shop.units("MUG").await, [3, 1, 0, 2]);
    assert_eq!(shop.state(c).await, HoldState::Revoked);
    assert!(shop.engine.batch(vec![]).await.is_empty());
    shop.finish().await;
}

async fn operations_of_one_sort_share_a_transaction(kind: Kind) {
    let shop = Shop::without_sweeper(kind).await;
    shop.create("MUG", 1_000).await;
    shop.ledger.take_seen();
    let places = || (0..300).map(|n| place(&n.to_string()));
    let operations = places().chain([create("A", 1), create("B", 1)]).chain(places()).collect();
    let answers = shop.engine.batch(operations).await;
    assert_eq!(number_of("ok", &answers), 602);
    let ids = answers.iter().filter_map(|answer| match answer {
        Ok(Outcome::Placed(placed)) => Some(placed.hold.hold.id),
        _ => None,
    });
    assert!(ids.is_sorted());
    let sizes: Vec<_> = shop.ledger.take_seen().iter().map(|b| b.commands.len()).collect();
    assert_eq!(sizes, [300, 2, 300]);
    shop.finish().await;
}

async fn what_does_not_fit_is_refused_and_the_rest_is_done(kind: Kind) {
    let settings = Settings { max_waiting: 10, ..Settings::default() };
    let shop = Shop::open_with(kind, |b| b.without_sweeper().settings(settings)).await;
    shop.create("MUG", 1_000).await;
    let operations: Vec<_> = (0..25).map(|n| place(&n.to_string())).collect();
    let answers = shop.engine.batch(operations.into_iter().chain([create("A", 1)]).collect()).await;
    let expected = [vec!["ok"; 10], vec!["overloaded"; 15], vec!["ok"]].concat();
    assert_eq!(words(&answers), expected);
    shop.finish().await;
}

async fn a_batch_that_is_sent_twice_is_done_once(kind: Kind) {
    let shop = Shop::open(kind).await;
    shop.create("MUG", 10).await;
    let place = |k: &str| Operation::Place(keyed(k, request("ann", &[("MUG", 1)])));
    let batch = vec![place("1"), place("2"), place("1")];
    let first = shop.engine.batch(batch.clone()).await;
    let again = shop.engine.batch(batch).await;
    let told = |answers: &[Result<Outcome, stockhold::Error>]| {
        let told = answers.iter().map(|answer| match answer {
            Ok(Outcome::Placed(placed)) => (placed.hold.hold.id, placed.replayed),
            other => panic!("{other:?}"),
        });
        told.collect::<Vec<_>>()
    };
    let (first, again) = (told(&first), told(&again));
    assert_eq!(first[2], (first[0].0, true));
    assert_eq!(again, [(first[0].0, true), (first[1].0, true), (first[0].0, true)]);
    assert_eq!(shop.units("MUG").await, [10, 2, 0, 8]);
    shop.finish().await;
}

fn row(n: usize, on_hand: i64) -> Load {
    Load { item: item(&format!("SKU-{n}")), on_hand: units(on_hand), safety_stock: None }
}

async fn five_hundred_rows_share_a_transaction(kind: Kind) {
    let shop = Shop::without_sweeper(kind).await;
    shop.create("MUG", 10).await;
    let (gate, first) = busy(&shop).await;
    let rows: Vec<_> = (0..1_200).map(|n| row(n, 1)).collect();
    let loading =
        shop.meanwhile(|shop| async move { shop.engine.load(rows, LoadMode::Create).await });
    let beside = shop.meanwhile(|shop| async move {
        let place: PlaceRequest = request("ann", &[("MUG", 1)]);
        word(&shop.engine.place(place).await)
    });
    settle().await;
    gate.open();
    done(first).await;
    let loaded = done(loading).await;
    assert!(loaded.iter().all(|row| matches!(row, Ok(Loaded::Created))));
    assert_eq!(done(beside).await, "ok");
    let sizes: Vec<_> = shop.ledger.take_seen().iter().map(|b| b.commands.len()).collect();
    assert_eq!(sizes, [1, 501, 500, 200]);
    assert_eq!(shop.units("SKU-1199").await, [1, 0, 0, 1]);
    shop.finish().await;
}

async fn a_list_can_be_loaded_again(kind: Kind) {
    let shop = Shop::open(kind).await;
    let list = |on_hand| (0..3).map(|n| row(n, on_hand)).collect::<Vec<_>>();
    let load = async |rows, mode| {
        let loaded = shop.engine.load(rows, mode).await;
        let word = |row: &Result<Loaded, _>| match row {
            Ok(loaded) => loaded.as_str(),
            Err(_) => word(row),
        };
        loaded.iter().map(word).collect::<Vec<_>>()
    };
    assert_eq!(load(list(5), LoadMode::Create).await, ["created"; 3]);
    assert_eq!(load(list(5), LoadMode::Create).await, ["unchanged"; 3]);
    assert_eq!(load(list(6), LoadMode::Create).await, ["already_exists"; 3]);
    assert_eq!(load(list(6), LoadMode::Count).await, ["counted"; 3]);
    let bad = vec![row(0, 6), row(1, -1), row(9, 1)];
    assert_eq!(load(bad, LoadMode::Count).await, ["unchanged", "quantity_too_small", "created"]);
    assert_eq!(shop.units("SKU-2").await, [6, 0, 0, 6]);
    shop.finish().await;
}
