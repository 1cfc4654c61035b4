//! The verbs on holds and stock, one at a time.

use stockhold_core::{
    Basket, HoldId, IdempotencyKey, ItemKey, Outcome, Placed, PolicySet, Quantity, Reason, Settled,
    StockMoved, Ttl,
};

use super::{Adjustment, ConfirmRequest, Engine, Operation, PlaceRequest};
use crate::{Error, Failure, FailureKind};
#[cfg(doc)]
use stockhold_core::Rejection;

impl Engine {
    /// Holds units until a deadline.
    ///
    /// With a Redis it may be refused by copies of the stock items that are young enough
    /// ([`CacheOptions::refuse_within`](crate::CacheOptions)); it is only ever granted by the ledger.
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
        #[cfg(feature = "redis")]
        if let Some(refusal) = self.shared.views.refusal(&request).await {
            self.shared.metrics.refused_by_copies();
            return Err(refusal);
        }
        let placed = self.operate(Operation::Place(request)).await;
        #[cfg(feature = "redis")]
        self.shared.views.learn(&placed);
        match placed? {
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
        self.settle(Operation::Confirm { id, request }).await
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
        self.settle(Operation::Release { id, reason, key }).await
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
        self.settle(Operation::Extend { id, ttl, key }).await
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
    /// let settled = engine.revoke(id, Reason::new("a bot")?, None).await?;
    /// assert_eq!(settled.hold.hold.state, HoldState::Revoked);
    /// # Ok(()) }
    /// ```
    pub async fn revoke(
        &self,
        id: HoldId,
        reason: Reason,
        key: Option<IdempotencyKey>,
    ) -> Result<Settled, Error> {
        self.settle(Operation::Revoke { id, reason, key }).await
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
        self.settle(Operation::Ship { id, lines, key }).await
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
        self.settle(Operation::Cancel { id, lines, key }).await
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
        let item = item.clone();
        match self.operate(Operation::Adjust { item, adjustment, key }).await? {
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
        let item = item.clone();
        match self.operate(Operation::SetPolicy { item, on_hand, safety_stock }).await? {
            Outcome::PolicySet(set) => Ok(*set),
            other => Err(mismatch("set_policy", &other)),
        }
    }

    async fn settle(&self, operation: Operation) -> Result<Settled, Error> {
        match self.operate(operation).await? {
            Outcome::Settled(settled) => Ok(settled),
            other => Err(mismatch("a verb on a hold", &other)),
        }
    }

    async fn operate(&self, operation: Operation) -> Result<Outcome, Error> {
        self.shared.lane.submit(self.command(operation)).await
    }
}

/// The book answers each action with its own sort of outcome; anything else is a bug.
pub(super) fn mismatch(verb: &str, outcome: &Outcome) -> Error {
    let message = format!("{verb} was answered with {outcome:?}");
    Failure::new(FailureKind::Internal, message).into()
}
