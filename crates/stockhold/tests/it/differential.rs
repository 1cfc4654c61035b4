//! The same random history, on memory and on each other ledger: they give the same answers, to the
//! letter.

mod history;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};
use stockhold::{
    HoldState, Limits, Owner, Rejection, Sku,
    clock::ManualClock,
    conformance::{Fixture, ask, listed_holds, listed_items, listed_movements},
    ledger::{
        Applied, Batch, BatchId, HoldQuery, Ledger, MovementQuery, StockQuery, memory::MemoryLedger,
    },
};
use stockhold_core::{Action, Command, Outcome};
use stockhold_testkit::PostgresServer;

use self::history::{Event, History, SKUS, Teller, histories};
use crate::{
    fixture::{Postgres, Sqlite},
    shop::SECOND,
};

proptest! {
    #![proptest_config(config(32))]

    #[test]
    fn sqlite_answers_as_memory_does(history in histories()) {
        on_a_runtime(compare(&history, &Sqlite::default()));
    }
}

proptest! {
    #![proptest_config(config(1_000))]

    #[test]
    fn slow_sqlite_answers_as_memory_does(history in histories()) {
        on_a_runtime(compare(&history, &Sqlite::default()));
    }
}

#[test]
fn postgres_answers_as_memory_does() {
    compare_on_postgres(16);
}

#[test]
fn slow_postgres_answers_as_memory_does() {
    compare_on_postgres(200);
}

/// Each history in a database of its own, on one server.
fn compare_on_postgres(histories_: u32) {
    let server = Arc::new(PostgresServer::start());
    let number = AtomicUsize::new(1);
    let mut runner = TestRunner::new(config(histories_));
    let tell = |history| {
        let number = number.fetch_add(1, Ordering::Relaxed);
        on_a_runtime(compare(&history, &Postgres::on(&server, format!("shop_{number}"))));
        Ok(())
    };
    runner.run(&histories(), tell).expect("they answer the same");
}

/// A comparison that never meets a corner proves nothing about it.
#[test]
fn the_histories_reach_the_corners() {
    let mut runner = TestRunner::deterministic();
    let mut reached = BTreeSet::new();
    for _ in 0..400 {
        let history = histories().new_tree(&mut runner).expect("a history").current();
        on_a_runtime(collect(&history, &mut reached));
    }
    let corners = [
        "active",
        "confirmed",
        "released",
        "expired",
        "revoked",
        "shipped",
        "cancelled",
        "place replayed",
        "verb replayed",
        "movement replayed",
        "reacquired",
        "spared",
        "not_found",
        "unknown_sku",
        "insufficient_stock",
        "hold_ended",
        "hold_expired",
        "already_confirmed",
        "already_released",
        "revoked hold",
        "already_cancelled",
        "already_shipped",
        "not_confirmed",
        "nothing_open",
        "max_lifetime",
        "not_in_hold",
        "more_than_held",
        "more_than_open",
        "idempotency_key_reused",
        "idempotency_key_required",
        "already_exists",
        "would_go_below",
        "on_hand_differs",
        "created",
        "counted",
        "unchanged",
        "reopened",
        "retired",
    ];
    let missed: Vec<_> = corners.into_iter().filter(|corner| !reached.contains(corner)).collect();
    assert!(missed.is_empty(), "never reached: {missed:?}");
}

fn config(cases: u32) -> Config {
    Config { cases, failure_persistence: None, ..Config::default() }
}

fn on_a_runtime<T>(story: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(story)
}

async fn compare(history: &History, fixture: &dyn Fixture) {
    let clock = fixture.clock().clone();
    let model: Arc<dyn Ledger> =
        Arc::new(MemoryLedger::new(Limits::default(), Arc::new(clock.clone())));
    let mut pair = Pair { model, real: fixture.open(Limits::default()).await, batches: 0 };
    let mut teller = Teller::default();
    pair.apply(teller.stock_up()).await;
    for event in &history.0 {
        match event {
            Event::Batch(asks) => {
                pair.apply(teller.commands(asks)).await;
            }
            Event::Wait(time) => pair.pass(&clock, *time).await,
            Event::Outage(time) => {
                clock.advance(*time);
                pair.compare_stock().await; // reads do not end the outage
            }
            Event::Reopen => {
                pair.apply(vec![]).await; // closed without a silence before it ...
                pair.real.close().await.expect("it closes");
                pair.real = fixture.open(Limits::default()).await;
                pair.apply(vec![]).await; // ... and without one after it
            }
            Event::Retire(age, step) => pair.retire(*age, *step).await,
        }
        pair.compare_stock().await;
    }
    pair.sweep().await;
    pair.compare_everything(&teller).await;
}

/// Two ledgers that should not differ.
struct Pair {
    model: Arc<dyn Ledger>,
    real: Arc<dyn Ledger>,
    batches: u128,
}

impl Pair {
    async fn apply(&mut self, commands: Vec<Command>) {
        self.batches += 1;
        let batch =
            Arc::new(Batch { id: BatchId(self.batches.to_be_bytes()), commands, waits: false });
        let [model, real] = [&self.model, &self.real].map(|ledger| ledger.apply(batch.clone()));
        let (model, real) = (model.await.expect("applied"), real.await.expect("applied"));
        for (command, answers) in batch.commands.iter().zip(model.answers.iter().zip(&real.answers))
        {
            assert_eq!(answers.0, answers.1, "{command:?}");
            let is_damaged = matches!(answers.0, Err(Rejection::Damaged { .. }));
            assert!(!is_damaged, "{command:?}: {:?}", answers.0);
        }
        if !self.real.is_shared() {
            assert_eq!(model.next_due, real.next_due);
        }
    }

    async fn pass(&mut self, clock: &ManualClock, mut time: Duration) {
        while !time.is_zero() {
            let step = time.min(SECOND);
            clock.advance(step);
            self.apply(vec![]).await;
            time -= step;
        }
    }

    async fn retire(&self, age: Duration, step: usize) {
        let mut after = None;
        loop {
            let [model, real] = [&self.model, &self.real].map(|l| l.retire(age, after, step));
            let (model, real) = (model.await.expect("retired"), real.await.expect("retired"));
            assert_eq!(model, real);
            after = model.next;
            if after.is_none() {
                return;
            }
        }
    }

    /// Nobody has done so yet: in a history holds may be long overdue.
    async fn sweep(&mut self) {
        let due = self.model.due(usize::MAX).await.expect("answered").holds;
        let expires = due.into_iter().map(|id| Command::new(Action::Expire { id }));
        self.apply(expires.collect()).await;
    }

    async fn compare_stock(&self) {
        for sku in SKUS {
            let item = ask::item(sku);
            let (model, real) = (self.model.stock(&item).await, self.real.stock(&item).await);
            assert_eq!(model.expect("answered"), real.expect("answered"));
        }
        let (model, real) = (self.model.due(20).await, self.real.due(20).await);
        let (model, real) = (model.expect("answered"), real.expect("answered"));
        assert_eq!((model.holds, model.next_due), (real.holds, real.next_due));
    }

    /// In pages of two and three, so that the seams between pages are compared as well.
    async fn compare_lists(&self) {
        for state in [None].into_iter().chain(HoldState::ALL.map(Some)) {
            for owner in [None, Owner::new("ann").ok()] {
                let query = HoldQuery { owner, state, limit: 3, ..HoldQuery::default() };
                self.compare_holds(query).await;
            }
        }
        let (sku, state) = (Sku::new("B").ok(), Some(HoldState::Active));
        self.compare_holds(HoldQuery { sku, state, limit: 2, ..HoldQuery::default() }).await;
        let query = StockQuery { limit: 2, ..StockQuery::default() };
        let [model, real] = [&self.model, &self.real].map(|ledger| listed_items(ledger, &query));
        assert_eq!(model.await, real.await);
        for sku in [None, Sku::new("A").ok()] {
            let query = MovementQuery { sku, limit: 3, ..MovementQuery::default() };
            let [model, real] = [&self.model, &self.real].map(|l| listed_movements(l, &query));
            assert_eq!(model.await, real.await);
        }
    }

    async fn compare_holds(&self, query: HoldQuery) {
        let [model, real] = [&self.model, &self.real].map(|ledger| listed_holds(ledger, &query));
        assert_eq!(model.await, real.await, "{query:?}");
    }

    async fn compare_everything(&self, teller: &Teller) {
        for id in teller.holds() {
            let (model, real) = (self.model.hold(id).await, self.real.hold(id).await);
            assert_eq!(model.expect("answered"), real.expect("answered"));
        }
        self.compare_lists().await;
        let (model, real) = (self.model.verify().await, self.real.verify().await);
        let (model, real) = (model.expect("answered"), real.expect("answered"));
        assert!(model.is_clean(), "{:#?}", model.violations);
        assert!(real.is_clean(), "{:#?}", real.violations);
        assert_eq!(
            (model.items, model.holds, model.movements),
            (real.items, real.holds, real.movements)
        );
    }
}

/// Tells the history to a memory ledger, and notes what was answered.
async fn collect(history: &History, reached: &mut BTreeSet<&'static str>) {
    let clock = ManualClock::default();
    let ledger = MemoryLedger::new(Limits::default(), Arc::new(clock.clone()));
    let mut teller = Teller::default();
    let apply = async |commands| {
        let batch = Arc::new(Batch { id: BatchId([1; 16]), commands, waits: false });
        ledger.apply(batch).await.expect("applied")
    };
    apply(teller.stock_up()).await;
    for event in &history.0 {
        match event {
            Event::Batch(asks) => note(&apply(teller.commands(asks)).await, reached),
            Event::Wait(time) => {
                for _ in 0..time.as_millis().div_ceil(1_000) {
                    clock.advance((*time).min(SECOND));
                    apply(vec![]).await;
                }
            }
            Event::Outage(time) => clock.advance(*time),
            Event::Reopen => {
                reached.insert("reopened");
            }
            Event::Retire(age, _) => {
                let retired = ledger.retire(*age, None, usize::MAX).await.expect("retired");
                if retired.holds > 0 {
                    reached.insert("retired");
                }
            }
        }
    }
}

fn note(applied: &Applied, reached: &mut BTreeSet<&'static str>) {
    for answer in &applied.answers {
        match answer {
            Ok(Outcome::Placed(placed)) if placed.replayed => {
                reached.insert("place replayed");
            }
            Ok(Outcome::Settled(settled)) => {
                let hold = &settled.hold.hold;
                reached.insert(hold.state.as_str());
                if hold.state == HoldState::Active && settled.hold.expires_at > hold.deadline {
                    reached.insert("spared");
                }
                if settled.replayed {
                    reached.insert("verb replayed");
                }
                if settled.reacquired {
                    reached.insert("reacquired");
                }
            }
            Ok(Outcome::StockMoved(moved)) if moved.replayed => {
                reached.insert("movement replayed");
            }
            Ok(Outcome::Loaded(loaded)) => {
                reached.insert(loaded.as_str());
            }
            Ok(Outcome::Placed(_) | Outcome::StockMoved(_) | Outcome::PolicySet(_)) => {}
            Err(Rejection::Revoked { .. }) => {
                reached.insert("revoked hold");
            }
            Err(rejection) => {
                reached.insert(rejection.code());
            }
        }
    }
}
