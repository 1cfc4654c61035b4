//! What the engine tells a monitoring system is what has happened.

use std::time::Duration;

use prometheus_client::{encoding::text::encode, registry::Registry};
use stockhold::{FailureKind, Settings, fault::Fault, ledger::Alarms};

use crate::{
    batcher::busy,
    fixture::{Kind, Sqlite},
    shop::{
        MILLISECOND, SECOND, Shop, all, done, eventually, lasting, part, request, settle, word,
    },
};

on_each_ledger! { one_thread:
    the_invariants_are_recomputed_when_it_is_time
    commands_are_counted_by_what_became_of_them
    units_are_counted_by_what_became_of_them
    what_waits_and_what_is_active_is_told
    what_fails_is_counted_too
    what_is_an_alarm_of_a_shared_ledger_is_told_of_no_other
}

/// The numbers of the engine by their names and labels, as Prometheus reads them.
struct Numbers(String);

impl Numbers {
    fn of(shop: &Shop) -> Self {
        let (mut registry, mut text) = (Registry::default(), String::new());
        shop.engine.metrics().register(&mut registry);
        encode(&mut text, &registry).expect("it is written");
        Self(text)
    }

    /// Whether there is such a number, whatever it is.
    fn has(&self, name: &str) -> bool {
        self.0.contains(&format!("# TYPE {name} "))
    }

    /// The number behind this name; 0 if it was never told.
    fn get(&self, name: &str) -> f64 {
        let mut lines = self.0.lines().filter(|line| !line.starts_with('#'));
        let found = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        found.map_or(0.0, |number| number.parse().expect("a number"))
    }

    fn commands(&self, command: &str, outcome: &str) -> f64 {
        let labels = format!("{{command=\"{command}\",outcome=\"{outcome}\"}}");
        self.get(&format!("stockhold_commands_total{labels}"))
    }

    fn units(&self, transition: &str) -> f64 {
        self.get(&format!("stockhold_units_total{{transition=\"{transition}\"}}"))
    }
}

async fn the_invariants_are_recomputed_when_it_is_time(kind: Kind) {
    const HOUR: Duration = Duration::from_secs(3_600);
    const NAME: &str = "stockhold_invariant_violations";
    let shop = Shop::open_with(kind, |builder| {
        let settings = Settings { verify_every: HOUR, ..Settings::default() };
        builder.settings(settings).without_sweeper()
    });
    let shop = shop.await;
    shop.create("MUG", 2).await;
    settle().await;
    shop.clock.advance(HOUR - SECOND);
    settle().await;
    assert!(!Numbers::of(&shop).has(NAME));
    shop.clock.advance(SECOND);
    eventually("they are recomputed", async || Numbers::of(&shop).has(NAME)).await;
    assert!(Numbers::of(&shop).0.contains(&format!("{NAME}_total{{invariant=\"I1\"}} 0\n")));
    shop.finish().await;
}

async fn commands_are_counted_by_what_became_of_them(kind: Kind) {
    let shop = Shop::without_sweeper(kind).await;
    shop.create("MUG", 2).await;
    let id = shop.hold("a", &[("MUG", 1)]).await;
    shop.hold("b", &[("MUG", 1)]).await;
    for _ in 0..3 {
        assert_eq!(word(&shop.place("c", &[("MUG", 1)]).await), "insufficient_stock");
    }
    shop.confirm(id).await.expect("it is confirmed");
    assert_eq!(word(&shop.release(id).await), "already_confirmed");
    let numbers = Numbers::of(&shop);
    assert_eq!(numbers.commands("place", "ok"), 2.0);
    assert_eq!(numbers.commands("place", "insufficient_stock"), 3.0);
    assert_eq!(numbers.commands("confirm", "ok"), 1.0);
    assert_eq!(numbers.commands("release", "already_confirmed"), 1.0);
    assert_eq!(numbers.commands("set_policy", "ok"), 1.0);
    assert_eq!(numbers.get("stockhold_batch_commands_count"), 8.0);
    assert_eq!(numbers.get("stockhold_batch_commands_sum"), 8.0);
    assert_eq!(numbers.get("stockhold_commit_seconds_count"), 8.0);
    assert_eq!(numbers.get("stockhold_queue_seconds_count"), 8.0);
    assert!(!numbers.0.contains("_total_total"));
    shop.finish().await;
}

async fn units_are_counted_by_what_became_of_them(kind: Kind) {
    let shop = Shop::without_sweeper(kind).await;
    shop.create("MUG", 20).await;
    let paid = shop.hold("a", &[("MUG", 5)]).await;
    shop.engine.confirm(paid, part(&[("MUG", 3)])).await.expect("it is confirmed");
    shop.confirm(paid).await.expect_err("it was confirmed in part");
    shop.engine.ship(paid, None, None).await.expect("it is shipped");
    let place = lasting(2_000, request("b", &[("MUG", 7)]));
    shop.engine.place(place).await.expect("it is granted");
    shop.pass(3 * SECOND).await;
    shop.hold("c", &[("MUG", 17)]).await; // b is in the way, and a second late
    let numbers = Numbers::of(&shop);
    let units = ["place", "confirm", "release", "ship", "expire", "cancel", "revoke", "rehold"];
    assert_eq!(units.map(|step| numbers.units(step)), [29.0, 3.0, 2.0, 3.0, 7.0, 0.0, 0.0, 0.0]);
    assert_eq!(numbers.get("stockhold_expiry_lateness_seconds_sum"), 1.0);
    assert_eq!(numbers.get("stockhold_expiry_lateness_seconds_count"), 1.0);
    shop.finish().await;
}

async fn what_waits_and_what_is_active_is_told(kind: Kind) {
    let settings = Settings { batch_commands: 10, ..Settings::default() };
    let shop = Shop::open_with(kind, |b| b.without_sweeper().settings(settings)).await;
    shop.create("MUG", 100).await;
    let (gate, first) = busy(&shop).await;
    let place = |_| shop.meanwhile(|shop| async move { shop.hold("x", &[("MUG", 1)]).await });
    let waiting: Vec<_> = (0..15).map(place).collect();
    settle().await;
    shop.clock.advance(200 * MILLISECOND);
    let stuck = stockhold::fault::Gate::closed();
    shop.ledger.next(Fault::Delayed(stuck.clone()));
    gate.open();
    shop.seen(2).await;
    let numbers = Numbers::of(&shop);
    assert_eq!(numbers.get("stockhold_queue_length{queue=\"place\"}"), 5.0);
    assert_eq!(numbers.get("stockhold_queue_length{queue=\"settle\"}"), 0.0);
    assert_eq!(numbers.get("stockhold_queue_seconds_sum"), 0.2);
    stuck.open();
    done(first).await;
    all(waiting).await;
    let numbers = Numbers::of(&shop);
    assert_eq!(numbers.get("stockhold_queue_length{queue=\"place\"}"), 0.0);
    // A shared ledger would have to count them: then there is no number, rather than a wrong one.
    let is_shared = shop.ledger.inner().is_shared();
    assert_eq!(numbers.has("stockhold_holds_active"), !is_shared);
    assert_eq!(numbers.get("stockhold_holds_active"), if is_shared { 0.0 } else { 16.0 });
    assert_eq!(numbers.get("stockhold_commit_seconds_sum"), 0.2); // the first waited at the gate
    shop.finish().await;
}

async fn what_fails_is_counted_too(kind: Kind) {
    let settings = Settings { max_waiting: 1, ..Settings::default() };
    let shop = Shop::open_with(kind, |b| b.without_sweeper().settings(settings)).await;
    shop.create("MUG", 100).await;
    shop.ledger.next(Fault::Unavailable);
    assert_eq!(word(&shop.place("x", &[("MUG", 1)]).await), "unavailable");
    shop.ledger.poison(|_| true);
    assert_eq!(word(&shop.place("x", &[("MUG", 1)]).await), "internal");
    shop.ledger.heal();
    let (gate, first) = busy(&shop).await;
    let waiting = shop.meanwhile(|shop| async move { shop.hold("x", &[("MUG", 1)]).await });
    settle().await;
    assert_eq!(word(&shop.place("x", &[("MUG", 1)]).await), "overloaded");
    gate.open();
    all(vec![first, waiting]).await;
    let numbers = Numbers::of(&shop);
    let outcomes = ["ok", "unavailable", "internal", "overloaded"];
    assert_eq!(outcomes.map(|outcome| numbers.commands("place", outcome)), [2.0, 1.0, 1.0, 1.0]);
    shop.finish().await;
}

async fn what_is_an_alarm_of_a_shared_ledger_is_told_of_no_other(kind: Kind) {
    let shop = Shop::without_sweeper(kind).await;
    let alarms = shop.ledger.inner().is_shared().then(Alarms::default);
    assert_eq!(shop.engine.alarms(), alarms);
    let numbers = Numbers::of(&shop);
    for name in ["clock_steps", "lost_batches", "unconfirmed_commits"] {
        assert_eq!(numbers.has(&format!("stockhold_{name}")), alarms.is_some(), "{name}");
    }
    shop.finish().await;
}

#[tokio::test]
async fn broken_invariants_are_counted_when_they_are_found() {
    let fixture = std::sync::Arc::new(Sqlite::default());
    let shop = Shop::open_on(fixture.clone(), |builder| builder).await;
    shop.create("MUG", 5).await;
    // Nobody has looked: then it is not said that none was found.
    assert!(!Numbers::of(&shop).has("stockhold_invariant_violations"));
    assert!(shop.engine.verify().await.expect("it answers").is_clean());
    let name = "stockhold_invariant_violations_total{invariant=\"I4\"}";
    assert!(Numbers::of(&shop).0.contains(&format!("{name} 0")));
    let shell = rusqlite::Connection::open(fixture.path()).expect("a shell");
    shell.execute("UPDATE stock SET on_hand = 6", []).expect("it is damaged");
    assert!(!shop.engine.verify().await.expect("it answers").is_clean());
    assert_eq!(Numbers::of(&shop).get(name), 1.0);
    shop.engine.close().await.expect("it closes");
    assert_eq!(shop.engine.verify().await.expect_err("it fails").kind, FailureKind::Closed);
}
