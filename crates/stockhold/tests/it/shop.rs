//! An engine on a ledger that can be made to fail, with a clock that is moved by hand.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use stockhold::{
    Adjustment, Basket, ConfirmRequest, Engine, EngineBuilder, Error, HoldId, HoldState, HoldView,
    IdempotencyKey, Limits, OnExpired, Owner, PlaceRequest, Placed, Reason, Reference, Settled,
    Ttl,
    clock::{Clock, ManualClock, SystemClock},
    conformance::{
        Fixture,
        ask::{self, item, units},
    },
    fault::FaultLedger,
    ledger::{Batch, BatchId, Ledger},
};
use stockhold_core::{Action, Command};
use tokio::task::{JoinHandle, yield_now};

use crate::fixture::Kind;

pub(crate) use stockhold::conformance::eventually;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MILLISECOND: Duration = Duration::from_millis(1);

/// A shop that is open.
#[derive(Clone)]
pub(crate) struct Shop {
    pub(crate) engine: Engine,
    pub(crate) ledger: Arc<FaultLedger>,
    pub(crate) clock: ManualClock,
    /// Keeps the ledger's folder as long as the shop is there.
    fixture: Arc<dyn Fixture>,
    beats: Arc<AtomicU64>,
}

impl Shop {
    pub(crate) async fn open(kind: Kind) -> Self {
        Self::open_with(kind, |builder| builder).await
    }

    pub(crate) async fn without_sweeper(kind: Kind) -> Self {
        Self::open_with(kind, EngineBuilder::without_sweeper).await
    }

    pub(crate) async fn open_with(
        kind: Kind,
        with: impl FnOnce(EngineBuilder) -> EngineBuilder,
    ) -> Self {
        Self::open_on(kind.fixture(), with).await
    }

    pub(crate) async fn open_on(
        fixture: Arc<dyn Fixture>,
        with: impl FnOnce(EngineBuilder) -> EngineBuilder,
    ) -> Self {
        let clock = fixture.clock().clone();
        let ledger = Arc::new(FaultLedger::new(fixture.open(Limits::default()).await));
        let builder = Engine::builder(Arc::clone(&ledger) as Arc<dyn Ledger>);
        let engine = with(builder.clock(Arc::new(clock.clone()))).start().expect("it starts");
        Self { engine, ledger, clock, fixture, beats: Arc::default() }
    }

    /// Every story ends here: the rows are in order.
    pub(crate) async fn finish(self) {
        let report = self.engine.verify().await.expect("the ledger answers");
        assert!(report.is_clean(), "{:#?}", report.violations);
        self.engine.close().await.expect("it closes");
        drop(self.fixture);
    }

    pub(crate) async fn create(&self, sku: &str, on_hand: i64) {
        let set = self.engine.set_policy(&item(sku), Some(units(on_hand)), None).await;
        assert!(set.expect("it is created").created);
    }

    pub(crate) async fn place(&self, owner: &str, lines: &[(&str, i64)]) -> Result<Placed, Error> {
        self.engine.place(request(owner, lines)).await
    }

    /// Places a hold that is granted.
    pub(crate) async fn hold(&self, owner: &str, lines: &[(&str, i64)]) -> HoldId {
        self.place(owner, lines).await.expect("it is granted").hold.hold.id
    }

    pub(crate) async fn confirm(&self, id: HoldId) -> Result<Settled, Error> {
        self.engine.confirm(id, ConfirmRequest::default()).await
    }

    pub(crate) async fn release(&self, id: HoldId) -> Result<Settled, Error> {
        self.engine.release(id, None, None).await
    }

    pub(crate) async fn extend(&self, id: HoldId, millis: u64) -> Result<Settled, Error> {
        self.engine.extend(id, ask::ttl(millis), None).await
    }

    pub(crate) async fn count(&self, sku: &str, count: i64) -> Result<(), Error> {
        let (count, reason) = (units(count), Reason::new("counted").expect("a reason"));
        let adjustment = Adjustment::Count { count, reason, if_on_hand: None };
        self.engine.adjust(&item(sku), adjustment, None).await.map(drop)
    }

    pub(crate) async fn view(&self, id: HoldId) -> HoldView {
        self.engine.hold(id).await.expect("it is there")
    }

    pub(crate) async fn state(&self, id: HoldId) -> HoldState {
        self.view(id).await.hold.state
    }

    /// On hand, held, allocated and available units.
    pub(crate) async fn units(&self, sku: &str) -> [i64; 4] {
        let item = self.engine.stock(&item(sku)).await.expect("it is there").item;
        [item.on_hand, item.held, item.allocated, item.available()].map(|units| units.get())
    }

    /// Lets time pass while somebody sees to it that the ledger shows signs of life.
    pub(crate) async fn pass(&self, mut time: Duration) {
        while !time.is_zero() {
            let step = time.min(2 * SECOND);
            self.clock.advance(step);
            let number = u128::from(self.beats.fetch_add(1, Ordering::Relaxed));
            let id = BatchId((number | 0xbea7 << 100).to_be_bytes());
            let beat = Arc::new(Batch { id, commands: Vec::new(), waits: false });
            self.ledger.inner().apply(beat).await.expect("the ledger lives");
            time = time.saturating_sub(step);
        }
    }

    /// Waits until the sweeper has done it, within a second on the clock. The clock goes on in
    /// small steps, because the sweeper may just have been about to sleep when time passed. If the
    /// ledger itself had to put something off, it goes on as the time of the ledger does.
    pub(crate) async fn within_a_second(&self, what: &str, mut is_so: impl AsyncFnMut() -> bool) {
        let (mut steps, before) = (0..100, self.ledger.setbacks());
        let is_so = async || {
            let done = is_so().await;
            settle().await;
            if !done && steps.next().is_some() {
                self.clock.advance(10 * MILLISECOND);
            } else if !done && self.ledger.setbacks() > before {
                SystemClock.sleep(10 * MILLISECOND).await;
                self.clock.advance(10 * MILLISECOND);
            }
            done
        };
        eventually(what, is_so).await;
    }

    /// Runs it at the same time as what follows.
    pub(crate) fn meanwhile<T, F>(&self, story: impl FnOnce(Self) -> F) -> JoinHandle<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        tokio::spawn(story(self.clone()))
    }

    /// Runs it so many times at once.
    pub(crate) async fn at_once<T, F>(
        &self,
        times: usize,
        story: impl Fn(Self, usize) -> F,
    ) -> Vec<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let tasks: Vec<_> = (0..times).map(|n| tokio::spawn(story(self.clone(), n))).collect();
        all(tasks).await
    }

    /// Waits until the ledger was handed that many batches since they were last taken.
    pub(crate) async fn seen(&self, batches: usize) {
        eventually("the ledger sees a batch", async || self.ledger.seen() >= batches).await;
    }
}

/// The answers of tasks, in their order.
pub(crate) async fn all<T>(tasks: Vec<JoinHandle<T>>) -> Vec<T> {
    let mut answers = Vec::with_capacity(tasks.len());
    for task in tasks {
        answers.push(done(task).await);
    }
    answers
}

/// The answer of a task.
pub(crate) async fn done<T>(task: JoinHandle<T>) -> T {
    task.await.expect("the task ends well")
}

/// Lets every task that can run do so: on the runtime of `#[tokio::test]`, which has one thread,
/// a task that was spawned has queued its command then. (A yield lets 61 tasks run.)
pub(crate) async fn settle() {
    for _ in 0..1_000 {
        yield_now().await;
    }
}

pub(crate) fn request(owner: &str, lines: &[(&str, i64)]) -> PlaceRequest {
    PlaceRequest::new(Owner::new(owner).expect("an owner"), ask::basket(lines))
}

pub(crate) fn keyed(key: &str, request: PlaceRequest) -> PlaceRequest {
    PlaceRequest { key: Some(self::key(key)), ..request }
}

pub(crate) fn lasting(millis: u64, request: PlaceRequest) -> PlaceRequest {
    PlaceRequest { ttl: Ttl::from_millis(millis), ..request }
}

pub(crate) fn replacing(old: HoldId, request: PlaceRequest) -> PlaceRequest {
    PlaceRequest { replaces: Some(old), ..request }
}

pub(crate) fn key(text: &str) -> IdempotencyKey {
    IdempotencyKey::new(text).expect("a key")
}

pub(crate) fn part(lines: &[(&str, i64)]) -> ConfirmRequest {
    let lines: Option<Basket> = Some(ask::basket(lines));
    ConfirmRequest { lines, ..ConfirmRequest::default() }
}

pub(crate) fn rehold() -> ConfirmRequest {
    ConfirmRequest { on_expired: OnExpired::Rehold, ..ConfirmRequest::default() }
}

pub(crate) fn for_order(reference: &str) -> ConfirmRequest {
    let reference = Some(Reference::new(reference).expect("a reference"));
    ConfirmRequest { reference, ..ConfirmRequest::default() }
}

/// An answer in one word: `ok`, the code of the rejection, or the kind of the failure.
pub(crate) fn word<T>(answer: &Result<T, Error>) -> &'static str {
    match answer {
        Ok(_) => "ok",
        Err(Error::Failed(failure)) => failure.kind.code(),
        Err(no) => no.rejection().map_or("", |rejection| rejection.code()),
    }
}

/// How many of the answers are this word.
pub(crate) fn number_of<T>(word: &str, answers: &[Result<T, Error>]) -> usize {
    answers.iter().filter(|answer| self::word(answer) == word).count()
}

/// Whom a command places a hold for.
pub(crate) fn owner(command: &Command) -> Option<&str> {
    match &command.action {
        Action::Place(place) => Some(place.owner.as_str()),
        _ => None,
    }
}

/// Numbers that look random and are the same in every run (`SplitMix64`).
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: usize) -> Self {
        Self(u64::try_from(seed).expect("a seed"))
    }

    /// One of `0..bound`.
    pub(crate) fn index(&mut self, bound: u64) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % bound).expect("a small number")
    }
}
