//! The engine: the verbs that a caller uses.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use stockhold_core::{
    Action, Basket, Command, HoldId, HoldView, IdempotencyKey, ItemKey, Limits, OnExpired, Outcome,
    Owner, Place, Placed, PolicySet, Quantity, Reason, Reference, Rejection, Settled, StockMoved,
    StockView, Ttl, verify::Report,
};
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    Error, Failure, FailureKind, Settings,
    batcher::Lane,
    clock::{Clock, SystemClock},
    ids::IdSource,
    ledger::{Ledger, memory::MemoryLedger},
    sweeper::{Alarm, Sweeper},
};

/// What to hold, for whom and how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaceRequest {
    /// Whom it is for, for example a cart.
    pub owner: Owner,
    /// What to hold.
    pub lines: Basket,
    /// For how long; none: the shop's default of 30 s. Clamped into the shop's range; the answer
    /// carries what was granted.
    pub ttl: Option<Ttl>,
    /// A hold of the same owner to give back in the same step (R13).
    pub replaces: Option<HoldId>,
    /// The shop's own mark.
    pub reference: Option<Reference>,
    /// A name for this request, under which it may be sent again (R11).
    pub key: Option<IdempotencyKey>,
}

impl PlaceRequest {
    /// Holds these lines for this owner, and nothing special.
    #[must_use]
    pub const fn new(owner: Owner, lines: Basket) -> Self {
        Self { owner, lines, ttl: None, replaces: None, reference: None, key: None }
    }
}

/// How to confirm. The default confirms all that was asked for, or fails if the hold has died.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfirmRequest {
    /// What to confirm; none: all that was asked for. The rest is released (R10).
    pub lines: Option<Basket>,
    /// What to do if the hold has died: fail, or take the units again (R8).
    pub on_expired: OnExpired,
    /// Replaces the hold's own reference.
    pub reference: Option<Reference>,
    /// A name for this request, under which it may be sent again (R19).
    pub key: Option<IdempotencyKey>,
}

/// A change of the units on hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Adjustment {
    /// Units arrive; needs a key (R19).
    Receive {
        /// How many; at least 1.
        units: Quantity,
        /// The shop's own mark, for example a delivery note.
        reference: Option<Reference>,
    },
    /// Units appear or vanish; needs a key (R19).
    Delta {
        /// How many; less than 0 to take away.
        delta: Quantity,
        /// Why.
        reason: Reason,
        /// Refuse if fewer would be available afterwards.
        min_available: Option<Quantity>,
    },
    /// Somebody counted (R14).
    Count {
        /// How many there are; 0 or more.
        count: Quantity,
        /// Why.
        reason: Reason,
        /// Refuse if the ledger knows of another number than this.
        if_on_hand: Option<Quantity>,
    },
}

/// Holds stock on a ledger. Clones are handles on the same engine.
///
/// Every verb waits until what it did is durable. Dropping its future before the command was
/// taken into a batch takes it back; afterwards it runs to its end.
///
/// ```
/// # use stockhold::*;
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let engine = Engine::in_memory()?;
/// let mug = ItemKey::at_default(Sku::new("MUG")?);
/// engine.set_policy(&mug, Some(Quantity::new(5)?), None).await?;
///
/// let lines = Basket::new([(mug, Quantity::ONE)])?;
/// let placed = engine.place(PlaceRequest::new(Owner::new("cart_981")?, lines)).await?;
/// let confirmed = engine.confirm(placed.hold.hold.id, ConfirmRequest::default()).await?;
/// assert_eq!(confirmed.hold.hold.state, HoldState::Confirmed);
/// engine.close().await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Engine {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    lane: Lane,
    ledger: Arc<dyn Ledger>,
    ids: Arc<IdSource>,
    stop: watch::Sender<bool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// An engine that nobody has a handle on does what is queued and ends.
impl Drop for Shared {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        self.lane.close();
    }
}

/// What an engine is made of.
#[derive(Debug)]
pub struct EngineBuilder {
    ledger: Arc<dyn Ledger>,
    clock: Arc<dyn Clock>,
    settings: Settings,
    sweeps: bool,
}

impl EngineBuilder {
    /// Gathers and waits as these settings say.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Takes time from this clock; the ledger should have the same.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Expires nothing by itself: for tests, and for an operator who wants to look first. Due
    /// holds are still reclaimed on demand. Somebody has to see to it that the ledger shows a sign
    /// of life, or all holds enjoy the grace of an outage.
    #[must_use]
    pub const fn without_sweeper(mut self) -> Self {
        self.sweeps = false;
        self
    }

    /// Starts the engine on the current tokio runtime.
    ///
    /// # Errors
    /// `Invalid` names the setting that is wrong.
    pub fn start(self) -> Result<Engine, Failure> {
        self.settings.check()?;
        let Self { ledger, clock, settings, sweeps } = self;
        let ids = Arc::new(IdSource::new(Arc::clone(&clock)));
        let alarm = Arc::new(Alarm::new(Arc::clone(&clock)));
        let lane = Lane::new(
            Arc::clone(&ledger),
            Arc::clone(&clock),
            Arc::clone(&ids),
            Arc::clone(&alarm),
            settings.clone(),
        );
        let (stop, stopped) = watch::channel(false);
        let mut tasks = vec![tokio::spawn(lane.clone().run())];
        if sweeps {
            let (ledger, lane, broken) = (Arc::clone(&ledger), lane.clone(), HashMap::new());
            let sweeper = Sweeper { ledger, lane, clock, alarm, settings, broken };
            tasks.push(tokio::spawn(sweeper.run(stopped)));
        }
        let tasks = Mutex::new(tasks);
        Ok(Engine { shared: Arc::new(Shared { lane, ledger, ids, stop, tasks }) })
    }
}

impl Engine {
    /// An engine on this ledger.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use stockhold::{*, clock::SystemClock, ledger::memory::MemoryLedger};
    /// # #[tokio::main] async fn main() -> Result<(), Failure> {
    /// let ledger = MemoryLedger::new(Limits::default(), Arc::new(SystemClock));
    /// let settings = Settings { batch_commands: 500, ..Settings::default() };
    /// let engine = Engine::builder(Arc::new(ledger)).settings(settings).start()?;
    /// # engine.close().await }
    /// ```
    #[must_use]
    pub fn builder(ledger: Arc<dyn Ledger>) -> EngineBuilder {
        let (clock, settings) = (Arc::new(SystemClock), Settings::default());
        EngineBuilder { ledger, clock, settings, sweeps: true }
    }

    /// An engine that forgets everything in the end: for tests of the shop that embeds it.
    ///
    /// # Errors
    /// None in practice: the default settings are right.
    pub fn in_memory() -> Result<Self, Failure> {
        let ledger = MemoryLedger::new(Limits::default(), Arc::new(SystemClock));
        Self::builder(Arc::new(ledger)).start()
    }

    /// Holds units until a deadline.
    ///
    /// # Errors
    /// [`Rejection::InsufficientStock`], [`Rejection::UnknownSku`]; under a known key
    /// [`Rejection::HoldEnded`] or [`Rejection::IdempotencyKeyReused`]; with `replaces` the
    /// reasons for which the old hold cannot be replaced.
    ///
    /// ```
    /// # use stockhold::*;
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let engine = Engine::in_memory()?;
    /// # let mug = ItemKey::at_default(Sku::new("MUG")?);
    /// # engine.set_policy(&mug, Some(Quantity::ONE), None).await?;
    /// let lines = Basket::new([(mug, Quantity::ONE)])?;
    /// let request = PlaceRequest {
    ///     ttl: Ttl::from_millis(60_000),
    ///     key: Some(IdempotencyKey::new("8e03978e")?),
    ///     ..PlaceRequest::new(Owner::new("cart_981")?, lines)
    /// };
    /// let first = engine.place(request.clone()).await?;
    /// let again = engine.place(request).await?; // the reply was lost: send it again
    /// assert!(again.replayed && again.hold.hold.id == first.hold.hold.id);
    /// # Ok(()) }
    /// ```
    pub async fn place(&self, request: PlaceRequest) -> Result<Placed, Error> {
        let PlaceRequest { owner, lines, ttl, replaces, reference, key } = request;
        let id = self.shared.ids.hold();
        let action = Action::Place(Place { id, owner, ttl, lines, replaces, reference });
        match self.submit(action, key.as_ref()).await? {
            Outcome::Placed(placed) => Ok(placed),
            other => Err(mismatch("place", &other)),
        }
    }

    /// The customer has paid: moves held units to allocated.
    ///
    /// # Errors
    /// [`Rejection::HoldExpired`], [`Rejection::AlreadyConfirmed`] and the other cells of the
    /// confirm row in the table of states and verbs; [`Rejection::MoreThanHeld`],
    /// [`Rejection::NotInHold`], [`Rejection::NotFound`].
    ///
    /// ```
    /// # use stockhold::*;
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let engine = Engine::in_memory()?;
    /// # let mug = ItemKey::at_default(Sku::new("MUG")?);
    /// # engine.set_policy(&mug, Some(Quantity::ONE), None).await?;
    /// # let lines = Basket::new([(mug, Quantity::ONE)])?;
    /// # let placed = engine.place(PlaceRequest::new(Owner::new("cart")?, lines)).await?;
    /// # let id = placed.hold.hold.id;
    /// let paid = ConfirmRequest {
    ///     on_expired: OnExpired::Rehold, // the money is here: try again if the hold has died
    ///     reference: Some(Reference::new("order-4711")?),
    ///     ..ConfirmRequest::default()
    /// };
    /// let settled = engine.confirm(id, paid).await?;
    /// assert!(!settled.reacquired);
    /// # Ok(()) }
    /// ```
    pub async fn confirm(&self, id: HoldId, request: ConfirmRequest) -> Result<Settled, Error> {
        let ConfirmRequest { lines, on_expired, reference, key } = request;
        self.settle(Action::Confirm { id, lines, on_expired, reference }, key.as_ref()).await
    }

    /// Gives all held units back.
    ///
    /// # Errors
    /// [`Rejection::AlreadyConfirmed`]: use [`Engine::cancel`]; [`Rejection::NotFound`].
    ///
    /// ```
    /// # use stockhold::*;
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let engine = Engine::in_memory()?;
    /// # let mug = ItemKey::at_default(Sku::new("MUG")?);
    /// # engine.set_policy(&mug, Some(Quantity::ONE), None).await?;
    /// # let lines = Basket::new([(mug.clone(), Quantity::ONE)])?;
    /// # let placed = engine.place(PlaceRequest::new(Owner::new("cart")?, lines)).await?;
    /// # let id = placed.hold.hold.id;
    /// engine.release(id, Some(Reason::new("left the checkout")?), None).await?;
    /// assert_eq!(engine.stock(&mug).await?.item.available(), Quantity::ONE);
    /// # Ok(()) }
    /// ```
    pub async fn release(
        &self,
        id: HoldId,
        reason: Option<Reason>,
        key: Option<IdempotencyKey>,
    ) -> Result<Settled, Error> {
        self.settle(Action::Release { id, reason }, key.as_ref()).await
    }

    /// Moves the deadline to `ttl` from now; never to an earlier time, and never past the longest
    /// life of a hold (R9).
    ///
    /// # Errors
    /// [`Rejection::HoldExpired`], [`Rejection::MaxLifetime`] and the other cells of the extend
    /// row; [`Rejection::NotFound`].
    ///
    /// ```
    /// # use stockhold::*;
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let engine = Engine::in_memory()?;
    /// # let mug = ItemKey::at_default(Sku::new("MUG")?);
    /// # engine.set_policy(&mug, Some(Quantity::ONE), None).await?;
    /// # let lines = Basket::new([(mug, Quantity::ONE)])?;
    /// # let placed = engine.place(PlaceRequest::new(Owner::new("cart")?, lines)).await?;
    /// # let id = placed.hold.hold.id;
    /// let two_minutes = Ttl::from_millis(120_000).expect("in range");
    /// let settled = engine.extend(id, two_minutes, None).await?;
    /// assert!(settled.hold.expires_at > placed.hold.expires_at);
    /// # Ok(()) }
    /// ```
    pub async fn extend(
        &self,
        id: HoldId,
        ttl: Ttl,
        key: Option<IdempotencyKey>,
    ) -> Result<Settled, Error> {
        self.settle(Action::Extend { id, ttl }, key.as_ref()).await
    }

    /// Takes all held units away, whatever the customer wants: an operator's verb.
    ///
    /// # Errors
    /// [`Rejection::AlreadyConfirmed`], [`Rejection::NotFound`].
    ///
    /// ```
    /// # use stockhold::*;
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let engine = Engine::in_memory()?;
    /// # let mug = ItemKey::at_default(Sku::new("MUG")?);
    /// # engine.set_policy(&mug, Some(Quantity::ONE), None).await?;
    /// # let lines = Basket::new([(mug, Quantity::ONE)])?;
    /// # let placed = engine.place(PlaceRequest::new(Owner::new("bot")?, lines)).await?;
    /// # let id = placed.hold.hold.id;
    /// let settled = engine.revoke(id, Reason::new("a bot")?).await?;
    /// assert_eq!(settled.hold.hold.state, HoldState::Revoked);
    /// # Ok(()) }
    /// ```
    pub async fn revoke(&self, id: HoldId, reason: Reason) -> Result<Settled, Error> {
        self.settle(Action::Revoke { id, reason }, None).await
    }

    /// Confirmed units leave the house; without `lines` all that are open. With `lines` it needs
    /// a key (R19).
    ///
    /// # Errors
    /// [`Rejection::NotConfirmed`], [`Rejection::MoreThanOpen`] and the other cells of the ship
    /// row; [`Rejection::NotFound`].
    ///
    /// ```
    /// # use stockhold::*;
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let engine = Engine::in_memory()?;
    /// # let mug = ItemKey::at_default(Sku::new("MUG")?);
    /// # engine.set_policy(&mug, Some(Quantity::ONE), None).await?;
    /// # let lines = Basket::new([(mug.clone(), Quantity::ONE)])?;
    /// # let placed = engine.place(PlaceRequest::new(Owner::new("cart")?, lines)).await?;
    /// # let id = placed.hold.hold.id;
    /// # engine.confirm(id, ConfirmRequest::default()).await?;
    /// engine.ship(id, None, None).await?;
    /// assert_eq!(engine.stock(&mug).await?.item.on_hand, Quantity::ZERO);
    /// # Ok(()) }
    /// ```
    pub async fn ship(
        &self,
        id: HoldId,
        lines: Option<Basket>,
        key: Option<IdempotencyKey>,
    ) -> Result<Settled, Error> {
        self.settle(Action::Ship { id, lines }, key.as_ref()).await
    }

    /// Confirmed units go back to sale; without `lines` all that are open. With `lines` it needs
    /// a key (R19).
    ///
    /// # Errors
    /// [`Rejection::NotConfirmed`], [`Rejection::MoreThanOpen`] and the other cells of the cancel
    /// row; [`Rejection::NotFound`].
    ///
    /// ```
    /// # use stockhold::*;
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let engine = Engine::in_memory()?;
    /// # let mug = ItemKey::at_default(Sku::new("MUG")?);
    /// # engine.set_policy(&mug, Some(Quantity::ONE), None).await?;
    /// # let lines = Basket::new([(mug.clone(), Quantity::ONE)])?;
    /// # let placed = engine.place(PlaceRequest::new(Owner::new("cart")?, lines)).await?;
    /// # let id = placed.hold.hold.id;
    /// # engine.confirm(id, ConfirmRequest::default()).await?;
    /// engine.cancel(id, None, None).await?;
    /// assert_eq!(engine.stock(&mug).await?.item.available(), Quantity::ONE);
    /// # Ok(()) }
    /// ```
    pub async fn cancel(
        &self,
        id: HoldId,
        lines: Option<Basket>,
        key: Option<IdempotencyKey>,
    ) -> Result<Settled, Error> {
        self.settle(Action::Cancel { id, lines }, key.as_ref()).await
    }

    /// Changes the units on hand, and writes the movement that says so.
    ///
    /// # Errors
    /// [`Rejection::UnknownSku`], [`Rejection::WouldGoBelow`], [`Rejection::OnHandDiffers`],
    /// [`Rejection::IdempotencyKeyRequired`], [`Rejection::IdempotencyKeyReused`].
    ///
    /// ```
    /// # use stockhold::*;
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let engine = Engine::in_memory()?;
    /// # let mug = ItemKey::at_default(Sku::new("MUG")?);
    /// # engine.set_policy(&mug, None, None).await?;
    /// let delivery = Adjustment::Receive { units: Quantity::new(100)?, reference: None };
    /// let key = IdempotencyKey::new("delivery-note-17")?;
    /// let moved = engine.adjust(&mug, delivery, Some(key)).await?;
    /// assert_eq!(moved.movement.on_hand_after.get(), 100);
    /// # Ok(()) }
    /// ```
    pub async fn adjust(
        &self,
        item: &ItemKey,
        adjustment: Adjustment,
        key: Option<IdempotencyKey>,
    ) -> Result<StockMoved, Error> {
        let item = Arc::new(item.clone());
        let action = match adjustment {
            Adjustment::Receive { units, reference } => Action::Receive { item, units, reference },
            Adjustment::Delta { delta, reason, min_available } => {
                Action::Adjust { item, delta, reason, min_available }
            }
            Adjustment::Count { count, reason, if_on_hand } => {
                Action::Count { item, count, reason, if_on_hand }
            }
        };
        match self.submit(action, key.as_ref()).await? {
            Outcome::StockMoved(moved) => Ok(*moved),
            other => Err(mismatch("adjust", &other)),
        }
    }

    /// Creates a stock item, or sets how many units of it are kept back from sale.
    ///
    /// # Errors
    /// [`Rejection::AlreadyExists`] if `on_hand` is given and the item has another number.
    ///
    /// ```
    /// # use stockhold::*;
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let engine = Engine::in_memory()?;
    /// let mug = ItemKey::at_default(Sku::new("MUG")?);
    /// let (ten, two) = (Quantity::new(10)?, Quantity::new(2)?);
    /// let set = engine.set_policy(&mug, Some(ten), Some(two)).await?;
    /// assert!(set.created && set.item.item.available().get() == 8);
    /// # Ok(()) }
    /// ```
    pub async fn set_policy(
        &self,
        item: &ItemKey,
        on_hand: Option<Quantity>,
        safety_stock: Option<Quantity>,
    ) -> Result<PolicySet, Error> {
        let item = Arc::new(item.clone());
        match self.submit(Action::SetPolicy { item, on_hand, safety_stock }, None).await? {
            Outcome::PolicySet(set) => Ok(*set),
            other => Err(mismatch("set_policy", &other)),
        }
    }

    /// A hold as it is now; one that is due shows as expired.
    ///
    /// # Errors
    /// [`Rejection::NotFound`].
    ///
    /// ```
    /// # use stockhold::*;
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let engine = Engine::in_memory()?;
    /// let unknown = HoldId::from_bytes([0; 16]);
    /// assert!(engine.hold(unknown).await.is_err());
    /// # Ok(()) }
    /// ```
    pub async fn hold(&self, id: HoldId) -> Result<HoldView, Error> {
        let hold = self.shared.ledger.hold(id).await?;
        hold.ok_or_else(|| Rejection::NotFound { id }.into())
    }

    /// A stock item as it is now.
    ///
    /// # Errors
    /// [`Rejection::UnknownSku`].
    ///
    /// ```
    /// # use stockhold::*;
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let engine = Engine::in_memory()?;
    /// # let mug = ItemKey::at_default(Sku::new("MUG")?);
    /// # engine.set_policy(&mug, Some(Quantity::ONE), None).await?;
    /// let mug = engine.stock(&mug).await?;
    /// assert_eq!(mug.item.available(), Quantity::ONE);
    /// # Ok(()) }
    /// ```
    pub async fn stock(&self, item: &ItemKey) -> Result<StockView, Error> {
        let view = self.shared.ledger.stock(item).await?;
        let unknown = || Rejection::UnknownSku { items: vec![Arc::new(item.clone())] };
        view.ok_or_else(|| unknown().into())
    }

    /// Recomputes the invariants from the rows of the ledger, by code that shares nothing with
    /// the rules.
    ///
    /// # Errors
    /// `Unavailable` if the ledger cannot be read.
    ///
    /// ```
    /// # use stockhold::*;
    /// # #[tokio::main] async fn main() -> Result<(), Failure> {
    /// # let engine = Engine::in_memory()?;
    /// assert!(engine.verify().await?.is_clean());
    /// # Ok(()) }
    /// ```
    pub async fn verify(&self) -> Result<Report, Failure> {
        self.shared.ledger.verify().await
    }

    /// Takes no more commands, does what is queued, and gives the ledger back.
    ///
    /// # Errors
    /// `Unavailable` if the ledger could not be closed in order; what was answered is durable.
    pub async fn close(&self) -> Result<(), Failure> {
        self.shared.stop.send_replace(true);
        self.shared.lane.close();
        for task in self.take_tasks() {
            // A task that panicked has nothing left to wait for.
            let _ = task.await;
        }
        self.shared.ledger.close().await
    }

    fn take_tasks(&self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut self.shared.tasks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn settle(&self, action: Action, key: Option<&IdempotencyKey>) -> Result<Settled, Error> {
        match self.submit(action, key).await? {
            Outcome::Settled(settled) => Ok(settled),
            other => Err(mismatch("a verb on a hold", &other)),
        }
    }

    async fn submit(&self, action: Action, key: Option<&IdempotencyKey>) -> Result<Outcome, Error> {
        let command = match key {
            Some(key) => Command::keyed(action, key),
            None => Command::new(action),
        };
        self.shared.lane.submit(command).await
    }
}

/// The book answers each action with its own sort of outcome; anything else is a bug.
fn mismatch(verb: &str, outcome: &Outcome) -> Error {
    let message = format!("{verb} was answered with {outcome:?}");
    Failure::new(FailureKind::Internal, message).into()
}
