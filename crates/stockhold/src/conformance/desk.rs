//! The desk at which a law is tried: one ledger, and a clock that is moved by hand.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use stockhold_core::{Command, HoldId, HoldState, HoldView, Limits, Outcome, Rejection, StockView};

use super::{Fixture, ask};
use crate::ledger::{Applied, ApplyError, Batch, BatchId, Ledger};

/// A ledger under test, with a few words for what laws do with it.
#[expect(missing_debug_implementations, reason = "a fixture need not have one")]
pub struct Desk<'a> {
    fixture: &'a dyn Fixture,
    ledger: Arc<dyn Ledger>,
    batches: AtomicU64,
}

impl<'a> Desk<'a> {
    /// Opens the fixture's ledger.
    pub async fn open(fixture: &'a dyn Fixture) -> Self {
        let ledger = fixture.open(Limits::default()).await;
        Self { fixture, ledger, batches: AtomicU64::new(1) }
    }

    /// Closes the ledger and opens it again.
    pub async fn reopen(&mut self) {
        self.ledger.close().await.expect("the ledger closes");
        self.open_again().await;
    }

    /// Opens the ledger again that was closed.
    pub async fn open_again(&mut self) {
        self.ledger = self.fixture.open(Limits::default()).await;
    }

    /// The ledger.
    #[must_use]
    pub fn ledger(&self) -> &Arc<dyn Ledger> {
        &self.ledger
    }

    /// A batch with a number of its own.
    pub fn batch(&self, commands: impl IntoIterator<Item = Command>) -> Arc<Batch> {
        let number = u128::from(self.batches.fetch_add(1, Ordering::Relaxed));
        let id = BatchId((number | 0xba7c << 100).to_be_bytes());
        Arc::new(Batch { id, commands: commands.into_iter().collect(), waits: false })
    }

    /// Applies commands as one batch, which succeeds.
    pub async fn applied(&self, commands: impl IntoIterator<Item = Command>) -> Applied {
        let applied = self.ledger.apply(self.batch(commands)).await;
        applied.unwrap_or_else(|error: ApplyError| panic!("not applied: {error:?}"))
    }

    /// The answers to commands that are applied as one batch.
    pub async fn answers(
        &self,
        commands: impl IntoIterator<Item = Command>,
    ) -> Vec<Result<Outcome, Rejection>> {
        self.applied(commands).await.answers
    }

    /// The same in one word each: `ok`, or why not.
    pub async fn words(&self, commands: impl IntoIterator<Item = Command>) -> Vec<&'static str> {
        let word = |answer: &Result<Outcome, Rejection>| match answer {
            Ok(_) => "ok",
            Err(rejection) => rejection.code(),
        };
        self.answers(commands).await.iter().map(word).collect()
    }

    /// Lets time pass with a sign of life every second, as an engine would.
    pub async fn pass(&self, mut time: Duration) {
        while !time.is_zero() {
            let step = time.min(Duration::from_secs(1));
            self.fixture.clock().advance(step);
            self.applied([]).await;
            time = time.saturating_sub(step);
        }
    }

    /// Lets time pass while the ledger is away.
    pub fn pass_silently(&self, time: Duration) {
        self.fixture.clock().advance(time);
    }

    /// A hold that is there.
    pub async fn hold(&self, n: u64) -> HoldView {
        self.find(ask::id(n)).await.unwrap_or_else(|| panic!("there is no hold {n}"))
    }

    /// A hold, if it is there.
    pub async fn find(&self, id: HoldId) -> Option<HoldView> {
        self.ledger.hold(id).await.expect("the ledger answers")
    }

    /// The state of a hold that is there.
    pub async fn state(&self, n: u64) -> HoldState {
        self.hold(n).await.hold.state
    }

    /// A stock item that is there.
    pub async fn stock(&self, sku: &str) -> StockView {
        let view = self.ledger.stock(&ask::item(sku)).await.expect("the ledger answers");
        view.unwrap_or_else(|| panic!("there is no item {sku}"))
    }

    /// On hand, held, allocated and available units of an item.
    pub async fn units(&self, sku: &str) -> [i64; 4] {
        let item = self.stock(sku).await.item;
        [item.on_hand, item.held, item.allocated, item.available()].map(|units| units.get())
    }

    /// The numbers of up to `limit` due holds.
    pub async fn due(&self, limit: usize) -> Vec<HoldId> {
        self.ledger.due(limit).await.expect("the ledger answers").holds
    }

    /// In how long the next hold dies.
    pub async fn next_due(&self) -> Option<Duration> {
        self.ledger.due(0).await.expect("the ledger answers").next_due
    }

    /// Whether a batch is in the ledger.
    pub async fn landed(&self, id: BatchId) -> bool {
        self.ledger.landed(id).await.expect("the ledger answers")
    }

    /// Panics with what is broken, if anything is.
    pub async fn verify(&self) {
        let report = self.ledger.verify().await.expect("the ledger answers");
        assert!(report.is_clean(), "{:#?}", report.violations);
    }
}
