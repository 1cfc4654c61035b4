//! The keeper: what has been over for long enough goes, and nobody notices.

use std::time::Duration;

use stockhold::{
    EngineBuilder, HoldId, Settings,
    clock::{Clock, SystemClock},
};

use crate::{
    fixture::{Kind, Sqlite},
    shop::{SECOND, Shop, eventually, settle, word},
};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);

on_each_ledger! { one_thread:
    a_hold_is_kept_for_its_time_and_no_longer
    many_holds_go_in_one_pass
    a_hold_is_placed_between_two_steps
    it_goes_on_after_the_ledger_was_away
    it_stops_when_the_engine_closes
}

fn for_a_day(builder: EngineBuilder) -> EngineBuilder {
    let settings = Settings { retention: DAY, ..Settings::default() };
    builder.settings(settings).without_sweeper()
}

async fn is_there(shop: &Shop, id: HoldId) -> bool {
    match word(&shop.engine.hold(id).await) {
        "ok" => true,
        "not_found" => false,
        other => panic!("{other}"),
    }
}

/// Lets the keeper go through what there is.
async fn rest(shop: &Shop) {
    // It has to ask the database several times, for its lock as well.
    for _ in 0..10 {
        settle().await;
        shop.ledger.inner().due(0).await.expect("the ledger answers");
    }
    settle().await;
}

/// Waits until something is so after the next look of the keeper. It may lie down only after the hour has begun: on a
/// busy machine the ledger answers late. So more than one hour may have to pass.
async fn within_hours(shop: &Shop, what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    for _ in 0..3 {
        shop.clock.advance(HOUR);
        let begun = SystemClock.boot();
        while SystemClock.boot() - begun < 5 * SECOND {
            if is_so().await {
                return;
            }
            settle().await;
        }
    }
    panic!("waited in vain: {what}");
}

async fn a_hold_is_kept_for_its_time_and_no_longer(kind: Kind) {
    let shop = Shop::open_with(kind, for_a_day).await;
    shop.create("MUG", 10).await;
    let (over, paid) = (shop.hold("a", &[("MUG", 1)]).await, shop.hold("b", &[("MUG", 1)]).await);
    shop.release(over).await.expect("it is released");
    shop.confirm(paid).await.expect("it is confirmed");
    shop.clock.advance(DAY - SECOND);
    rest(&shop).await;
    assert!(is_there(&shop, over).await);
    shop.clock.advance(SECOND);
    rest(&shop).await;
    assert!(is_there(&shop, over).await); // it is looked at once an hour
    within_hours(&shop, "it is removed", async || !is_there(&shop, over).await).await;
    assert!(is_there(&shop, paid).await);
    assert_eq!(shop.units("MUG").await, [10, 0, 1, 9]);
    shop.finish().await;
}

async fn many_holds_go_in_one_pass(kind: Kind) {
    let shop = Shop::open_with(kind, for_a_day).await;
    shop.create("MUG", 10_000).await;
    let over = |shop: Shop, _| async move {
        let id = shop.hold("a", &[("MUG", 1)]).await;
        shop.release(id).await.expect("it is released");
    };
    shop.at_once(999, over).await;
    let stays = shop.hold("b", &[("MUG", 1)]).await;
    shop.confirm(stays).await.expect("it is confirmed");
    shop.clock.advance(DAY + HOUR);
    let all_gone = async || shop.engine.verify().await.expect("it answers").holds == 1;
    eventually("they are removed", all_gone).await;
    assert!(is_there(&shop, stays).await);
    shop.finish().await;
}

/// Whoever wants a hold does not wait until all the old ones are gone.
async fn a_hold_is_placed_between_two_steps(kind: Kind) {
    let shop = Shop::open_with(kind, for_a_day).await;
    shop.create("MUG", 10_000).await;
    let over = |shop: Shop, _| async move {
        let id = shop.hold("a", &[("MUG", 1)]).await;
        shop.release(id).await.expect("it is released");
    };
    shop.at_once(3_000, over).await;
    shop.clock.advance(DAY + HOUR);
    shop.hold("b", &[("MUG", 1)]).await;
    let left = shop.engine.verify().await.expect("it answers").holds;
    assert!(left > 1_000, "{left} holds were left when it was placed");
    let all_gone = async || shop.engine.verify().await.expect("it answers").holds == 1;
    eventually("the old ones are removed", all_gone).await;
    shop.finish().await;
}

async fn it_goes_on_after_the_ledger_was_away(kind: Kind) {
    let shop = Shop::open_with(kind, for_a_day).await;
    shop.create("MUG", 10).await;
    let over = shop.hold("a", &[("MUG", 1)]).await;
    shop.release(over).await.expect("it is released");
    rest(&shop).await;
    shop.ledger.fail_retire(1);
    shop.clock.advance(DAY);
    rest(&shop).await;
    assert!(is_there(&shop, over).await);
    within_hours(&shop, "it is removed", async || !is_there(&shop, over).await).await;
    shop.finish().await;
}

async fn it_stops_when_the_engine_closes(kind: Kind) {
    let shop = Shop::open_with(kind, for_a_day).await;
    rest(&shop).await;
    shop.engine.close().await.expect("it closes"); // and does not wait for the next hour
}

/// R16.
#[tokio::test]
async fn a_damaged_hold_stays_and_stops_nobody() {
    let fixture = std::sync::Arc::new(Sqlite::default());
    let shop = Shop::open_on(fixture.clone(), EngineBuilder::without_sweeper).await;
    shop.create("MUG", 9).await;
    for _ in 0..3 {
        let id = shop.hold("ann", &[("MUG", 2)]).await;
        shop.release(id).await.expect("it is released");
    }
    let shell = rusqlite::Connection::open(fixture.path()).expect("a shell");
    let damage = "UPDATE transition SET step = 'ship' WHERE hold = (SELECT min(hold) FROM line); \
                  UPDATE hold SET reference = char(7) WHERE id = (SELECT max(hold) FROM line)";
    shell.execute_batch(damage).expect("it is damaged");
    let retired = shop.ledger.inner().retire(Duration::ZERO, None, 10).await.expect("it answers");
    assert_eq!(retired.holds, 1);
    let left = "SELECT count(*) FROM hold";
    assert_eq!(shell.query_row(left, [], |row| row.get::<_, i64>(0)).expect("a number"), 2);
    shop.engine.close().await.expect("it closes");
}

/// If what it has shipped were not carried, the history of stock would not add up without it.
#[tokio::test]
async fn what_a_removed_hold_has_shipped_is_missed_if_it_is_not_carried() {
    let fixture = std::sync::Arc::new(Sqlite::default());
    let shop = Shop::open_on(fixture.clone(), EngineBuilder::without_sweeper).await;
    shop.create("MUG", 5).await;
    let id = shop.hold("ann", &[("MUG", 2)]).await;
    shop.confirm(id).await.expect("it is confirmed");
    shop.engine.ship(id, None, None).await.expect("it is shipped");
    let retired = shop.ledger.inner().retire(Duration::ZERO, None, 10).await.expect("it answers");
    assert_eq!(retired.holds, 1);
    assert!(shop.engine.verify().await.expect("it answers").is_clean());
    let shell = rusqlite::Connection::open(fixture.path()).expect("a shell");
    assert_eq!(shell.execute("DELETE FROM carried", []).expect("it is damaged"), 1);
    let report = shop.engine.verify().await.expect("it answers");
    let detail = "its movements ship 2, but its holds have shipped 0";
    assert_eq!(report.violations[0].detail, detail);
    shop.engine.close().await.expect("it closes");
}
