//! What can be asked without changing anything.

use std::sync::Arc;
#[cfg(feature = "redis")]
use std::time::Duration;

use stockhold_core::{HoldId, HoldView, ItemKey, Movement, Rejection, StockView, verify::Report};

use super::{Engine, Shared};
#[cfg(feature = "redis")]
use crate::cache::{Health, Origin};
use crate::{
    Error, Failure,
    batcher::silent,
    clock::within,
    ledger::{Alarms, HoldQuery, MovementQuery, Page, StockQuery},
};

/// Where an answer came from, and how old it may be.
#[cfg(feature = "redis")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Where it was found.
    pub origin: Origin,
    /// Nothing that the ledger was told longer ago is missing from it.
    pub age: Duration,
}

impl Engine {
    /// Why the ledger takes nothing any more, or not yet: the shop moves. None if it is served.
    ///
    /// # Errors
    /// `Unavailable` if the ledger does not answer.
    pub async fn sealed(&self) -> Result<Option<String>, Failure> {
        self.shared.ledger.sealed().await
    }

    /// What somebody should look at; none if nothing of that sort can happen to this ledger.
    ///
    /// ```
    /// # use stockhold::*;
    /// # #[tokio::main] async fn main() -> Result<(), Failure> {
    /// // A ledger that one process has for itself loses nothing, and its clock does not step.
    /// assert_eq!(Engine::in_memory()?.alarms(), None);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn alarms(&self) -> Option<Alarms> {
        self.shared.ledger.alarms()
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

    /// A stock item as it was not longer ago than that: a copy answers if there is one that is young enough,
    /// else the ledger. Without a bound any copy may answer that is served at all (30 s; 5 min, marked as
    /// stale, while the ledger does not answer).
    ///
    /// What this engine has changed and answered is in it. A copy is never what a hold is decided on.
    ///
    /// # Errors
    /// [`Rejection::UnknownSku`].
    ///
    /// ```
    /// # use stockhold::*;
    /// use stockhold::cache::Origin;
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let engine = Engine::in_memory()?;
    /// # let mug = ItemKey::at_default(Sku::new("MUG")?);
    /// # engine.set_policy(&mug, Some(Quantity::ONE), None).await?;
    /// let (first, _) = engine.stock_at_most(&mug, None).await?;
    /// let (again, view) = engine.stock_at_most(&mug, None).await?;
    /// assert_eq!((first.origin, again.origin), (Origin::Source, Origin::L1));
    /// assert_eq!(view.item.available(), Quantity::ONE);
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "redis")]
    pub async fn stock_at_most(
        &self,
        item: &ItemKey,
        age: Option<Duration>,
    ) -> Result<(Told, StockView), Error> {
        let told = self.shared.views.stock(item, age).await.map_err(|failure| failure.again())?;
        let unknown = || Rejection::UnknownSku { items: vec![Arc::new(item.clone())] };
        told.ok_or_else(|| unknown().into())
    }

    /// A page of [`Engine::items`], each as by [`Engine::stock_at_most`]. Items that were created elsewhere no longer
    /// ago than that, or than a second without a bound, may be missing; if nobody could say which there are, all of the
    /// page is told as stale.
    ///
    /// # Errors
    /// `Invalid` if `limit` is not from 1 to 1,000. `Unavailable` if the ledger has to be asked, for the page or for one
    /// of its items, and does not answer.
    ///
    /// ```
    /// # use stockhold::{*, ledger::StockQuery};
    /// use stockhold::cache::Origin;
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let engine = Engine::in_memory()?;
    /// # let mug = ItemKey::at_default(Sku::new("MUG")?);
    /// # engine.set_policy(&mug, Some(Quantity::ONE), None).await?;
    /// engine.items_at_most(StockQuery::default(), None).await?;
    /// let page = engine.items_at_most(StockQuery::default(), None).await?;
    /// let (told, view) = &page.items[0];
    /// assert_eq!((told.origin, view.item.available()), (Origin::L1, Quantity::ONE));
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "redis")]
    pub async fn items_at_most(
        &self,
        query: StockQuery,
        age: Option<Duration>,
    ) -> Result<Page<(Told, StockView), ItemKey>, Error> {
        query.check()?;
        let page = self.shared.views.items(&query, age).await;
        Ok(page.map_err(|failure| failure.again())?)
    }

    /// How copies of stock items fare.
    #[cfg(feature = "redis")]
    #[must_use]
    pub fn cache(&self) -> Health {
        self.shared.views.cache.health()
    }

    /// Holds, newest first, a page at a time. A page may have fewer holds than were asked for,
    /// even none, and still have a `next`: no page looks at more than 10,000 holds.
    ///
    /// # Errors
    /// `Invalid` if `limit` is not from 1 to 1,000, or if `sku` is given for another state than
    /// active.
    ///
    /// ```
    /// # use stockhold::{*, ledger::HoldQuery};
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let engine = Engine::in_memory()?;
    /// # let mug = ItemKey::at_default(Sku::new("MUG")?);
    /// # engine.set_policy(&mug, Some(Quantity::ONE), None).await?;
    /// # let lines = Basket::new([(mug, Quantity::ONE)])?;
    /// # engine.place(PlaceRequest::new(Owner::new("ann")?, lines)).await?;
    /// let of_ann = HoldQuery { owner: Some(Owner::new("ann")?), ..HoldQuery::default() };
    /// let page = engine.holds(of_ann.clone()).await?;
    /// assert_eq!((page.items.len(), page.next), (1, None));
    /// # Ok(()) }
    /// ```
    pub async fn holds(&self, query: HoldQuery) -> Result<Page<HoldView, HoldId>, Error> {
        query.check()?;
        Ok(self.shared.ledger.holds(query).await?)
    }

    /// Stock items by SKU and location, a page at a time.
    ///
    /// # Errors
    /// `Invalid` if `limit` is not from 1 to 1,000.
    ///
    /// ```
    /// # use stockhold::{*, ledger::StockQuery};
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let engine = Engine::in_memory()?;
    /// for sku in ["TEE-RED", "TEE-BLUE", "MUG"] {
    ///     engine.set_policy(&ItemKey::at_default(Sku::new(sku)?), None, None).await?;
    /// }
    /// let tees = StockQuery { prefix: "TEE-".to_owned(), ..StockQuery::default() };
    /// let page = engine.items(tees).await?;
    /// assert_eq!(page.items[0].item.key.sku.as_str(), "TEE-BLUE");
    /// assert_eq!((page.items.len(), page.next), (2, None));
    /// # Ok(()) }
    /// ```
    pub async fn items(&self, query: StockQuery) -> Result<Page<StockView, ItemKey>, Error> {
        query.check()?;
        Ok(self.shared.ledger.items(query).await?)
    }

    /// The history of stock, oldest first, a page at a time. The page always has a `next`; at the
    /// end it is the last number there is, and whoever asks on from there finds what comes next.
    /// With a SKU, no page looks at more than 50,000 movements: it is at the end if `next` is what
    /// it was asked to begin `after`.
    ///
    /// # Errors
    /// `Invalid` if `limit` is not from 1 to 1,000.
    ///
    /// ```
    /// # use stockhold::{*, ledger::MovementQuery};
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let engine = Engine::in_memory()?;
    /// # let mug = ItemKey::at_default(Sku::new("MUG")?);
    /// engine.set_policy(&mug, Some(Quantity::ONE), None).await?;
    /// let page = engine.movements(MovementQuery::default()).await?;
    /// assert_eq!((page.items[0].delta, page.next), (Quantity::ONE, Some(1)));
    /// # Ok(()) }
    /// ```
    pub async fn movements(&self, query: MovementQuery) -> Result<Page<Movement, i64>, Error> {
        query.check()?;
        Ok(self.shared.ledger.movements(query).await?)
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
        let report = self.shared.ledger.verify().await?;
        self.shared.metrics.verified(&report);
        Ok(report)
    }

    /// Waits for a sign of life of the ledger: its one writer has answered a question.
    ///
    /// # Errors
    /// `Unavailable` if it has not answered within the command deadline; `Closed` after a close.
    ///
    /// ```
    /// # use stockhold::*;
    /// # #[tokio::main] async fn main() -> Result<(), Failure> {
    /// # let engine = Engine::in_memory()?;
    /// engine.ping().await?;
    /// # Ok(()) }
    /// ```
    pub async fn ping(&self) -> Result<(), Failure> {
        let Shared { ledger, clock, settings, .. } = &*self.shared;
        let limit = settings.command_deadline;
        let answered = within(&**clock, limit, ledger.due(0)).await;
        answered.unwrap_or_else(|| Err(silent(limit)))?;
        Ok(())
    }
}
