//! An engine begins, ends, and gives its holds numbers.

use std::{sync::Arc, time::Duration};

use stockhold::{
    Adjustment, Engine, FailureKind, HoldId, Limits, Reason, Settings,
    clock::SystemClock,
    conformance::ask::{item, units},
    fault::{Fault, Gate},
    ledger::{HoldQuery, MovementQuery, StockQuery, memory::MemoryLedger},
};

use crate::{
    batcher::busy,
    fixture::Kind,
    shop::{MILLISECOND, SECOND, Shop, all, done, key, settle, word},
};

const DAY: Duration = Duration::from_secs(24 * 3_600);

on_each_ledger! { one_thread:
    ids_rise_with_time
    close_does_what_is_queued_and_takes_nothing_more
    after_close_every_verb_says_closed
    a_closed_engine_can_be_closed_again_without_harm
    close_does_not_wait_for_ever
    a_ping_is_answered_by_the_ledger
}

async fn ids_rise_with_time(kind: Kind) {
    let shop = Shop::open(kind).await;
    shop.create("MUG", 1_000).await;
    let mut last = HoldId::from_bytes([0; 16]);
    for n in 0..100 {
        let id = shop.hold("x", &[("MUG", 1)]).await;
        assert!(id > last);
        last = id;
        if n % 10 == 0 {
            shop.clock.advance(MILLISECOND);
        }
    }
    shop.finish().await;
}

async fn close_does_what_is_queued_and_takes_nothing_more(kind: Kind) {
    let shop = Shop::open(kind).await;
    shop.create("MUG", 1_000).await;
    let (gate, first) = busy(&shop).await;
    let place = |n: usize| {
        shop.meanwhile(move |shop| async move {
            word(&shop.place(&format!("{n}"), &[("MUG", 1)]).await)
        })
    };
    let queued: Vec<_> = (0..100).map(place).collect();
    settle().await;
    let closing = shop.meanwhile(|shop| async move { shop.engine.close().await });
    settle().await;
    assert!(!closing.is_finished());
    assert_eq!(word(&shop.place("late", &[("MUG", 1)]).await), "closed");
    gate.open();
    done(first).await;
    assert_eq!(all(queued).await, ["ok"; 100]);
    done(closing).await.expect("it closes");
    let applied: usize = shop.ledger.take_seen().iter().map(|batch| batch.commands.len()).sum();
    assert_eq!(applied, 101);
}

async fn after_close_every_verb_says_closed(kind: Kind) {
    let shop = Shop::open(kind).await;
    shop.create("MUG", 10).await;
    let id = shop.hold("ann", &[("MUG", 1)]).await;
    shop.engine.close().await.expect("it closes");
    let (engine, mug, reason) = (&shop.engine, item("MUG"), Reason::new("why").expect("a reason"));
    let receive = Adjustment::Receive { units: units(1), reference: None };
    let words = [
        word(&shop.place("ben", &[("MUG", 1)]).await),
        word(&shop.confirm(id).await),
        word(&shop.release(id).await),
        word(&shop.extend(id, 1_000).await),
        word(&engine.revoke(id, reason, None).await),
        word(&engine.ship(id, None, None).await),
        word(&engine.cancel(id, None, None).await),
        word(&engine.adjust(&mug, receive, Some(key("k"))).await),
        word(&engine.set_policy(&mug, None, None).await),
        word(&engine.hold(id).await),
        word(&engine.stock(&mug).await),
        word(&engine.holds(HoldQuery::default()).await),
        word(&engine.items(StockQuery::default()).await),
        word(&engine.movements(MovementQuery::default()).await),
    ];
    assert_eq!(words, ["closed"; 14]);
    assert_eq!(engine.ping().await.expect_err("it fails").kind, FailureKind::Closed);
    assert_eq!(engine.verify().await.expect_err("it fails").kind, FailureKind::Closed);
}

async fn a_closed_engine_can_be_closed_again_without_harm(kind: Kind) {
    let shop = Shop::open(kind).await;
    shop.engine.close().await.expect("it closes");
    assert_eq!(shop.engine.close().await.expect_err("it fails").kind, FailureKind::Closed);
}

async fn close_does_not_wait_for_ever(kind: Kind) {
    let settings = Settings { command_deadline: 60 * SECOND, ..Settings::default() };
    let shop = Shop::open_with(kind, |builder| builder.settings(settings)).await;
    shop.create("MUG", 10).await;
    let gate = Gate::closed();
    shop.ledger.take_seen();
    shop.ledger.next(Fault::Delayed(gate.clone()));
    let place = |shop: Shop| async move { word(&shop.place("ann", &[("MUG", 1)]).await) };
    let taken = shop.meanwhile(place);
    shop.seen(1).await;
    let queued = shop.meanwhile(place);
    settle().await;
    let closing = shop.meanwhile(|shop| async move { shop.engine.close().await });
    for _ in 0..29 {
        settle().await;
        shop.clock.advance(SECOND);
    }
    settle().await;
    assert!(!closing.is_finished());
    shop.clock.advance(SECOND);
    let failure = done(closing).await.expect_err("the ledger is silent");
    assert_eq!(failure.kind, FailureKind::Unavailable);
    assert_eq!(all(vec![taken, queued]).await, ["unavailable"; 2]); // and not that nothing was done
    gate.open();
}

async fn a_ping_is_answered_by_the_ledger(kind: Kind) {
    let shop = Shop::open(kind).await;
    shop.engine.ping().await.expect("it answers");
    shop.ledger.fail_due(1);
    assert_eq!(shop.engine.ping().await.expect_err("it is away").kind, FailureKind::Unavailable);
    shop.finish().await;
}

#[tokio::test]
async fn a_setting_that_makes_no_sense_is_named() {
    let wrong = |settings: Settings| {
        let ledger = Arc::new(MemoryLedger::new(Limits::default(), Arc::new(SystemClock)));
        let failure = Engine::builder(ledger).settings(settings).start().expect_err("it fails");
        assert_eq!(failure.kind, FailureKind::Invalid);
        failure.message
    };
    let batch_commands = wrong(Settings { batch_commands: 2, ..Settings::default() });
    assert!(batch_commands.contains("batch_commands"));
    assert!(wrong(Settings { max_waiting: 0, ..Settings::default() }).contains("max_waiting"));
    assert!(wrong(Settings { sweep_batch: 0, ..Settings::default() }).contains("sweep_batch"));
    let retention = DAY - SECOND;
    assert!(wrong(Settings { retention, ..Settings::default() }).contains("retention"));
    let retention_pause = Duration::ZERO;
    let pause = wrong(Settings { retention_pause, ..Settings::default() });
    assert!(pause.contains("retention_pause"));
    for heartbeat in [Duration::ZERO, 2 * SECOND + MILLISECOND] {
        assert!(wrong(Settings { heartbeat, ..Settings::default() }).contains("heartbeat"));
    }
}
