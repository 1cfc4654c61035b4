//! Two instances on one ledger: what one remembers of a hold, the other may have changed.

use std::{sync::Arc, time::Duration};

use stockhold::{
    HoldState, Limits,
    clock::ManualClock,
    conformance::{Fixture, ask},
    ledger::{Batch, BatchId, Ledger},
};
use stockhold_core::{Command, Outcome};

use crate::{fixture::Postgres, shop::SECOND};

struct Two {
    fixture: Postgres,
    ledgers: [Arc<dyn Ledger>; 2],
    batches: u128,
}

impl Two {
    async fn open() -> Self {
        let fixture = Postgres::default();
        let ledgers = [
            fixture.open_as(1, Limits::default()).await,
            fixture.open_as(2, Limits::default()).await,
        ];
        Self { fixture, ledgers, batches: 0 }
    }

    fn clock(&self) -> &ManualClock {
        self.fixture.clock()
    }

    /// Through one of the two. Nothing is refused.
    async fn apply(&mut self, instance: usize, commands: Vec<Command>) -> Vec<Outcome> {
        self.batches += 1;
        let id = BatchId(self.batches.to_be_bytes());
        let batch = Arc::new(Batch { id, commands, waits: false });
        let applied = self.ledgers[instance].apply(batch).await.expect("applied");
        applied.answers.into_iter().map(|answer| answer.expect("not refused")).collect()
    }

    async fn pass(&mut self, time: Duration) {
        for _ in 0..time.as_secs() {
            self.clock().advance(SECOND);
            self.apply(0, vec![]).await;
        }
    }

    /// Held and allocated.
    async fn units(&self) -> [i64; 2] {
        let view = self.ledgers[0].stock(&ask::item("MUG")).await.expect("answered");
        let item = view.expect("it is there").item;
        [item.held, item.allocated].map(|units| units.get())
    }

    async fn expect_sound(&self) {
        let report = self.ledgers[0].verify().await.expect("answered");
        assert!(report.is_clean(), "{:#?}", report.violations);
    }
}

fn state(outcome: &Outcome) -> HoldState {
    match outcome {
        Outcome::Settled(settled) => settled.hold.hold.state,
        other => panic!("{other:?}"),
    }
}

/// Whether or not units of others are still held, of which it could be taken.
#[tokio::test]
async fn a_hold_that_another_instance_has_confirmed_does_not_expire() {
    for others in [0, 1] {
        let mut shop = Two::open().await;
        shop.apply(0, vec![ask::create("MUG", 3), ask::place(1, &[("MUG", 1)])]).await;
        for n in 0..others {
            shop.apply(0, vec![ask::place_for(600_000, 10 + n, &[("MUG", 1)])]).await;
        }
        shop.apply(1, vec![ask::confirm(1)]).await;
        shop.pass(31 * SECOND).await;
        let told = shop.apply(0, vec![ask::expire(1)]).await;
        assert_eq!(state(&told[0]), HoldState::Confirmed);
        assert_eq!(shop.units().await, [i64::try_from(others).expect("few"), 1]);
        shop.expect_sound().await;
    }
}

#[tokio::test]
async fn a_hold_that_another_instance_gave_more_time_does_not_expire() {
    let mut shop = Two::open().await;
    shop.apply(0, vec![ask::create("MUG", 1), ask::place(1, &[("MUG", 1)])]).await;
    shop.apply(1, vec![ask::extend(1, 60_000)]).await;
    shop.pass(31 * SECOND).await;
    let told = shop.apply(0, vec![ask::expire(1)]).await;
    assert_eq!(state(&told[0]), HoldState::Active);
    shop.pass(29 * SECOND).await;
    let told = shop.apply(0, vec![ask::expire(1)]).await;
    assert_eq!(state(&told[0]), HoldState::Expired);
    assert_eq!(shop.units().await, [0, 0]);
    shop.expect_sound().await;
}
