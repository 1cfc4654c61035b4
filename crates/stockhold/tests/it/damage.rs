//! Somebody damages rows by hand: who meets them fails alone (R16).

use std::sync::Arc;

use rusqlite::Connection;
use stockhold::{
    EngineBuilder, HoldState, Limits,
    conformance::{Desk, Fixture, ask},
    ledger::sqlite::{SqliteLedger, SqliteOptions},
};

use crate::{
    batcher::busy,
    fixture::Sqlite,
    shop::{SECOND, Shop, all, eventually, settle, word},
};

/// Opens a shop on a file, and a shell beside it.
async fn shop_and_shell(
    with: impl FnOnce(EngineBuilder) -> EngineBuilder,
) -> (Shop, Connection, Arc<Sqlite>) {
    let fixture = Arc::new(Sqlite::default());
    let shop = Shop::open_on(Arc::clone(&fixture) as Arc<dyn Fixture>, with).await;
    let shell = Connection::open(fixture.path()).expect("a shell");
    (shop, shell, fixture)
}

/// Scenario 19.
#[tokio::test]
async fn a_hold_of_an_item_that_was_deleted_stops_nobody() {
    const HOLDS: usize = 9_999;
    let (shop, shell, fixture) = shop_and_shell(|builder| builder).await;
    shop.create("MUG", 9_999).await;
    shop.create("GONE", 1).await;
    let broken = shop.hold("cart", &[("GONE", 1)]).await;
    let hold = |shop: Shop, _| async move { shop.hold("cart", &[("MUG", 1)]).await };
    let holds = shop.at_once(HOLDS, hold).await;
    let delete = "PRAGMA foreign_keys = OFF; DELETE FROM stock WHERE sku = 'GONE'";
    shell.execute_batch(delete).expect("it is damaged");
    shop.pass(30 * SECOND).await;
    shop.within_a_second("the others are swept", async || shop.units("MUG").await[1] == 0).await;
    for id in holds {
        assert_eq!(shop.state(id).await, HoldState::Expired);
    }
    assert_eq!(word(&shop.confirm(broken).await), "internal");
    assert_eq!(word(&shop.place("next", &[("MUG", 1)]).await), "ok");
    assert_eq!(word(&shop.place("next", &[("GONE", 1)]).await), "unknown_sku");
    let report = SqliteLedger::verify_file(fixture.path()).expect("it can be read");
    let named = |subject: &str| report.violations.iter().any(|v| v.subject.contains(subject));
    assert!(named(&broken.to_string()), "{:#?}", report.violations);
    shop.engine.close().await.expect("it closes");
}

/// Scenario 22.
#[tokio::test]
async fn a_row_that_cannot_be_written_fails_one_command_of_a_thousand() {
    let (shop, shell, _fixture) = shop_and_shell(EngineBuilder::without_sweeper).await;
    shop.create("MUG", 10_000).await;
    shop.create("BAD", 10_000).await;
    let damage = "PRAGMA ignore_check_constraints = ON; \
                  UPDATE stock SET safety_stock = -5 WHERE sku = 'BAD'";
    shell.execute_batch(damage).expect("it is damaged");
    let (gate, _first) = busy(&shop).await;
    let place = |n: usize| {
        let sku = if n == 637 { "BAD" } else { "MUG" };
        shop.meanwhile(move |shop| async move { word(&shop.place("cart", &[(sku, 1)]).await) })
    };
    let waiting: Vec<_> = (0..1_000).map(place).collect();
    settle().await;
    gate.open();
    let words = all(waiting).await;
    assert_eq!(words[637], "internal");
    assert_eq!(words.iter().filter(|word| **word == "ok").count(), 999);
    assert_eq!(shop.units("MUG").await, [10_000, 1_000, 0, 9_000]);
    let seen = shop.ledger.take_seen();
    assert_eq!(seen[1].commands.len(), 1_000);
    assert!(seen.len() <= 2 + 2 * 10, "{} batches", seen.len());
    // The next thousand are one batch again.
    let (gate, _first) = busy(&shop).await;
    let waiting: Vec<_> = (0..1_000).filter(|n| *n != 637).map(place).collect();
    settle().await;
    gate.open();
    assert_eq!(all(waiting).await, ["ok"; 999]);
    assert_eq!(shop.ledger.take_seen().len(), 2);
    shop.engine.close().await.expect("it closes");
}

/// Rows that somebody else has written are seen by the next command.
#[tokio::test]
async fn a_change_by_hand_is_seen_at_once() {
    let (shop, shell, _fixture) = shop_and_shell(|builder| builder).await;
    shop.create("MUG", 1).await;
    shell.execute("UPDATE stock SET on_hand = 7", []).expect("it is changed");
    shop.hold("ann", &[("MUG", 7)]).await;
    assert_eq!(shop.units("MUG").await, [7, 7, 0, 0]);
    shop.engine.close().await.expect("it closes");
}

#[tokio::test]
async fn a_second_opener_is_told_that_the_ledger_is_in_use() {
    let fixture = Sqlite::default();
    let first = fixture.open(Limits::default()).await;
    let second = SqliteLedger::open(fixture.path(), SqliteOptions::default());
    assert_eq!(second.expect_err("it fails").kind, stockhold::FailureKind::InUse);
    first.close().await.expect("it closes");
}

/// As a process ends that has no time to close.
#[tokio::test]
async fn what_was_answered_outlives_a_ledger_that_was_not_closed() {
    let fixture = Sqlite::default();
    let desk = Desk::open(&fixture).await;
    desk.answers([ask::create("MUG", 5), ask::place(1, &[("MUG", 2)])]).await;
    let before = desk.hold(1).await;
    drop(desk);
    let again = || {
        let clock = Arc::new(fixture.clock().clone());
        SqliteLedger::open(fixture.path(), SqliteOptions { clock, ..SqliteOptions::default() })
    };
    eventually("it lets go of the file", async || again().is_ok()).await;
    let freed = async || match again() {
        Ok(ledger) => {
            let ledger: Arc<dyn stockhold::ledger::Ledger> = Arc::new(ledger);
            assert_eq!(ledger.hold(ask::id(1)).await.expect("it answers").as_ref(), Some(&before));
            true
        }
        Err(_) => false, // the one that was just dropped
    };
    eventually("it lets go of the file", freed).await;
}
